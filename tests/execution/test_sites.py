"""What the cards of real sites make of a job: the whole script that would be submitted, compared with a file.

`LAMBDA_HAT_WRITE_GOLDEN=1 pytest tests/execution/test_sites.py` writes the files anew.
"""

from __future__ import annotations

import os
import socket
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from parsl.providers.kubernetes import kube
from parsl.providers.pbspro import pbspro
from parsl.providers.slurm import slurm

from lambda_hat.config.card import BatchCard, SlurmCard
from lambda_hat.config.load import load_card
from lambda_hat.execution.parsl.cards import load_parsl_config_from_card
from tests.sites import SITES, filled_in

GOLDEN = Path(__file__).parent / "golden"
COMMAND = "start-the-manager"
NOW = SimpleNamespace(time=lambda: 0)


class Made:
    """Stands for the classes of the package `kubernetes`, and remembers what is made of each."""

    CoreV1Api = object

    def __getattr__(self, name: str) -> Any:
        return lambda **values: {key: value for key, value in values.items() if value not in (None, [], [None])}


@pytest.fixture
def job_of(tmp_path, monkeypatch):
    """The script or pod that Parsl makes of a card, with words in the place of what depends on the machine."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(slurm, "time", NOW)
    monkeypatch.setattr(pbspro, "time", NOW)
    monkeypatch.setattr(kube, "_kubernetes_enabled", True)
    monkeypatch.setattr(kube, "config", SimpleNamespace(load_kube_config=lambda: None), raising=False)
    monkeypatch.setattr(kube, "client", Made(), raising=False)
    monkeypatch.setattr(kube, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="0" * 32)))
    run_dir, scripts = tmp_path / "run" / "parsl_runinfo", tmp_path / "scripts"
    scripts.mkdir()

    def generic(text: str) -> str:
        places = {"SCRIPTS": scripts, "RUN": run_dir.parent, "ENVIRONMENT": Path(sysconfig.get_path("scripts"))}
        for name, path in places.items():
            text = text.replace(str(path), f"/{name}")
        return text

    def job(card: Any) -> str:
        (executor,) = load_parsl_config_from_card(card, run_dir).executors
        provider: Any = executor.provider
        made: list[Any] = []
        if isinstance(card, BatchCard):
            provider.script_dir = str(scripts)
            answer = "Submitted batch job 7" if isinstance(card, SlurmCard) else "7.server"
            monkeypatch.setattr(provider, "execute_wait", lambda command: (made.append(command), (0, answer, ""))[1])
            provider.submit(COMMAND, 1)
            (script,) = scripts.glob("parsl*")
            return generic(script.read_text() + f"# submitted by: {' '.join(made[0].split())}\n")
        provider.kube_client = SimpleNamespace(
            create_namespaced_pod=lambda **pod: (made.append(pod), SimpleNamespace(status=""))[1]
        )
        provider.submit(COMMAND, 1)
        return generic(yaml.safe_dump(made[0], sort_keys=False, width=120))

    return job


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_the_job_of_a_site_is_as_written_down(job_of, path):
    job = job_of(load_card(filled_in(path), parsl_card=str(path)).card)
    golden = GOLDEN / f"{path.stem}.txt"
    if os.environ.get("LAMBDA_HAT_WRITE_GOLDEN"):
        golden.write_text(job)
    assert job.splitlines() == golden.read_text().splitlines()


def test_every_written_job_is_of_a_site():
    assert {path.stem for path in GOLDEN.iterdir()} == {path.stem for path in SITES}


def block(**fields: object) -> SlurmCard:
    return SlurmCard.model_validate({"type": "slurm", "max_workers": 2, **fields})


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"reservation": "night"}, {"#SBATCH --reservation=night", "#SBATCH --exclusive"}),
        ({"cores_per_node": 4, "exclusive": True}, {"#SBATCH --cpus-per-task=4", "#SBATCH --exclusive"}),
        ({"gpus_per_node": 2, "gpu_type": "a100"}, {"#SBATCH --gres=gpu:a100:2", "#SBATCH --exclusive"}),
        (
            {"gpus_per_node": 2, "gpu_type": "a100", "gpu_directive": "gpus-per-node", "exclusive": False},
            {"#SBATCH --gpus-per-node=a100:2"},
        ),
        ({"gpus_per_node": 2, "gpu_directive": "none", "exclusive": False}, set()),
    ],
)
def test_options_of_slurm_are_lines_of_the_job(job_of, fields, lines):
    always = ("job-name", "output", "error", "nodes", "time", "ntasks-per-node")
    found = {line for line in job_of(block(**fields)).splitlines() if line.startswith("#SBATCH")}
    assert {line for line in found if not line.startswith(tuple(f"#SBATCH --{name}" for name in always))} == lines


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ({}, None),
        ({"launcher": "srun"}, "srun --ntasks 1 -l --cpu-bind=none bash"),
        ({"launcher": "srun", "launcher_overrides": ""}, "srun --ntasks 1 -l  bash"),
        ({"nodes_per_block": 2, "launcher_overrides": "--mpi=none"}, "srun --ntasks 2 -l --mpi=none bash"),
        (
            {"nodes_per_block": 2, "launcher": "mpirun", "launcher_overrides": "-v"},
            "mpirun -np $WORKERCOUNT -v /bin/bash",
        ),
    ],
)
def test_launchers(job_of, fields, command):
    starts = [line for line in job_of(block(**fields)).splitlines() if line.startswith(("srun", "mpi"))]
    assert [line.partition(" ${SCRIPT")[0] for line in starts] == ([] if command is None else [command])


@pytest.mark.slow
def test_a_login_node_whose_name_nothing_resolves_tells_its_addresses(tmp_path, monkeypatch):
    def unresolved(*_: object) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    for name in ("gethostbyname", "getaddrinfo", "gethostbyaddr", "getfqdn"):
        monkeypatch.setattr(socket, name, unresolved)
    addresses = {"lo": "127.0.0.1", "eth0": "192.0.2.7", "bond0": "10.1.2.3"}
    entries = {
        name: [SimpleNamespace(family=socket.AF_INET, address=address), SimpleNamespace(family=-1, address="::1")]
        for name, address in addresses.items()
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: entries)
    told = {
        "any": block(),
        "interface": block(interface="bond0"),
        "address": block(address="login.cluster"),
    }
    found = {
        name: load_parsl_config_from_card(card, tmp_path).executors[0].all_addresses for name, card in told.items()
    }
    assert found == {"any": set(addresses.values()), "interface": {"10.1.2.3"}, "address": {"login.cluster"}}


def test_affinity_and_patience_reach_parsl(tmp_path):
    card = block(cpu_affinity="list:0-3:4-7", cmd_timeout=7, min_blocks=0, init_blocks=0)
    (executor,) = load_parsl_config_from_card(card, tmp_path).executors
    assert executor.cpu_affinity == "list:0-3:4-7"
    assert executor.provider.cmd_timeout == 7
    assert (executor.provider.init_blocks, executor.provider.min_blocks) == (0, 0)
