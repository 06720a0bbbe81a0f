from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from lambda_hat.cli.app import cli
from lambda_hat.workflows import doctor

STUDY = {
    "problems": [{"target": "quadratic"}],
    "methods": ["sgld"],
    "search_space": {"sgld": {"eta0": {"dist": "float", "low": 1e-4, "high": 1e-3}}},
    "execution": {"budget": {"hmc_sec": 60, "trial_sec": 60}},
}
SLURM = {"type": "slurm", "partition": "long", "cores_per_node": 4}
LOCAL = {"type": "local", "executors": [{"label": "only", "max_workers": 1}]}


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Asks the doctor; the exit code and the checks by name."""
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(yaml.safe_dump(STUDY))

    def ask(card, *arguments):
        Path("card.yaml").write_text(yaml.safe_dump(card))
        words = ["doctor", "--config", "study.yaml", "--parsl-card", "card.yaml", "--json", *arguments]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code in (0, 1), result.output
        return result.exit_code, {check["name"]: check for check in json.loads(result.stdout)}

    return ask


@pytest.fixture
def no_jax(monkeypatch):
    """Spares the seconds of its import."""
    monkeypatch.setattr(doctor, "_PROBE_JAX", "print('0.10')")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_a_healthy_environment_passes_and_nothing_is_left(ask, tmp_path):
    code, checks = ask(LOCAL)
    assert code == 0, checks
    assert {check["state"] for check in checks.values()} <= {"ok", "warning"}
    assert "float64 and float32" in checks["worker only"]["found"]
    assert {path.name for path in tmp_path.iterdir()} == {"study.yaml", "card.yaml"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_workers_that_do_not_start_are_told_with_their_last_words(ask):
    card = {"type": "local", "executors": [{**LOCAL["executors"][0], "worker_init": "echo no such module >&2; exit 7"}]}
    code, checks = ask(card)
    assert code == 1
    assert "exit code 7: no such module" in checks["worker only"]["found"]
    assert "worker_init" in checks["worker only"]["advice"]


@pytest.mark.usefixtures("no_jax")
def test_what_is_wrong_with_packages_is_named(ask, monkeypatch):
    versions = {"jax": "0.4.1", "parsl": None}
    real = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda name: versions.get(name, real(name)) if name in versions else real(name)
    )
    code, checks = ask(LOCAL, "--no-workers")
    assert code == 1
    assert "jax 0.4.1, needs >=0.10" in checks["packages"]["found"]
    assert "parsl missing" in checks["packages"]["found"]


@pytest.mark.usefixtures("no_jax")
def test_commands_of_a_scheduler_that_is_not_there(ask, monkeypatch):
    monkeypatch.setenv("PATH", "")
    code, checks = ask(SLURM, "--no-workers")
    assert code == 1
    assert checks["Slurm"]["found"] == "not in PATH: sbatch, squeue, scancel"
    assert checks["PATH"]["state"] == "warning"


@pytest.mark.usefixtures("no_jax")
def test_a_partition_that_does_not_exist(ask, monkeypatch, tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("sbatch", "squeue", "scancel", "sinfo"):
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\necho short\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    code, checks = ask(SLURM, "--no-workers")
    assert code == 1
    assert checks["Slurm"]["state"] == "ok"
    assert checks["partition"]["found"] == "there is no `long`"
    assert checks["partition"]["advice"] == "Set `partition` to one of short."


@pytest.mark.usefixtures("no_jax")
def test_a_root_that_cannot_be_written(ask):
    Path("file").touch()
    code, checks = ask(LOCAL, "--no-workers", "--set", "store.root=file")
    assert code == 1
    assert checks["folder"]["state"] == "failed"
    assert "Set `store.root`" in checks["folder"]["advice"]


@pytest.mark.usefixtures("no_jax")
def test_more_workers_than_cores_are_a_warning(ask):
    code, checks = ask(LOCAL, "--no-workers", "--set", "executors.0.max_workers=1000")
    assert code == 0
    assert checks["cores"]["state"] == "warning"
    assert "1000 for workers (only 1000)" in checks["cores"]["found"]


def test_jax_that_does_not_come_up(ask, monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_JAX", "raise ImportError('no jaxlib')")
    code, checks = ask(LOCAL, "--no-workers")
    assert code == 1
    assert checks["JAX"]["found"] == "ImportError: no jaxlib"


def test_a_card_that_does_not_fit_the_study_is_a_configuration_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(yaml.safe_dump(STUDY))
    Path("card.yaml").write_text(yaml.safe_dump({**SLURM, "walltime": "00:00:30"}))
    result = CliRunner().invoke(cli, ["doctor", "--config", "study.yaml", "--parsl-card", "card.yaml"])
    assert result.exit_code == 2
    assert "execution.budget.hmc_sec: 60 s, but a block of the Parsl card ends after 30 s" in result.output
