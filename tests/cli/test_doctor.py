from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from lambda_hat.cli.app import cli
from lambda_hat.records.probe import Probe
from lambda_hat.records.provenance import Provenance
from lambda_hat.workflows import doctor

STUDY = {
    "problems": [{"target": "quadratic"}],
    "methods": ["sgld"],
    "search_space": {"sgld": {"eta0": {"dist": "float", "low": 1e-4, "high": 1e-3}}},
    "execution": {"budget": {"hmc_sec": 60, "trial_sec": 60}},
}
SLURM = {"type": "slurm", "partition": "long", "cores_per_node": 4}
PBS = {"type": "pbs", "queue": "long", "cores_per_node": 4}
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
    monkeypatch.setattr(doctor, "_PROBE_IMPORTS", "")


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """Puts programs into PATH that print what they are said to, or end with code 1."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def programs(**answers):
        for name, answer in answers.items():
            (tmp_path / "bin" / f"{name}.txt").write_text(answer or "")
            program = tmp_path / "bin" / name
            program.write_text("#!/bin/sh\nexit 1\n" if answer is None else f"#!/bin/sh\ncat '{program}.txt'\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    return programs


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_a_healthy_environment_passes_and_nothing_is_left(ask, tmp_path):
    code, checks = ask(LOCAL)
    assert code == 0, checks
    assert {check["state"] for check in checks.values()} <= {"ok", "warning"}
    assert "float64 and float32" in checks["worker only"]["found"]
    assert checks["JAX"]["found"].endswith(", float64")
    assert checks["imports"]["found"] == "all that a run needs"
    assert "threads only" not in checks
    assert {path.name for path in tmp_path.iterdir()} == {"study.yaml", "card.yaml"}


@pytest.mark.usefixtures("no_jax")
def test_a_card_without_workers_is_asked_in_this_process(ask, tmp_path):
    code, checks = ask({"type": "inline", "labels": ["only"]})
    assert code == 0, checks
    assert "float64 and float32" in checks["worker only"]["found"]
    assert not [name for name in checks if name.startswith("threads")]
    assert {path.name for path in tmp_path.iterdir()} == {"study.yaml", "card.yaml"}


@pytest.mark.nightly
@pytest.mark.usefixtures("no_jax")
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
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.4")
    code, checks = ask(LOCAL, "--no-workers")
    assert code == 1
    assert "Python 3.10.4, needs >=3.11" in checks["packages"]["found"]
    assert "jax 0.4.1, needs <1,>=0.10" in checks["packages"]["found"]
    assert "parsl missing" in checks["packages"]["found"]


@pytest.mark.parametrize("is_kept", [True, False])
def test_imports_that_every_process_compiles_are_told(tmp_path, monkeypatch, is_kept):
    compiled = tmp_path / "module.pyc"
    if is_kept:
        compiled.touch()
    monkeypatch.setattr(doctor, "find_spec", lambda name: SimpleNamespace(cached=str(compiled)))
    check = doctor._check_bytecode()
    assert (check.state, "PYTHONDONTWRITEBYTECODE" in check.advice) == (("ok", False) if is_kept else ("warning", True))


@pytest.mark.usefixtures("no_jax")
def test_commands_of_a_scheduler_that_is_not_there(ask, monkeypatch):
    monkeypatch.setenv("PATH", "")
    code, checks = ask(SLURM, "--no-workers")
    assert code == 1
    assert checks["Slurm"]["found"] == "not in PATH: sbatch, squeue, scancel"
    assert checks["PATH"]["state"] == "warning"


SLURM_COMMANDS = dict.fromkeys(("sbatch", "squeue", "scancel"), "")
PBS_COMMANDS = dict.fromkeys(("qsub", "qdel"), "")
QUEUES = (
    "Queue    Max   Tot Ena Str\n-------- ----- --- --- ---\nworkq    0     0   yes yes\nlong     0     3   yes yes\n"
)


@pytest.mark.usefixtures("no_jax")
def test_a_partition_and_an_account_that_do_not_exist(ask, programs):
    programs(**SLURM_COMMANDS, sinfo="short\ngpu\n", sacctmgr="theory\nroot\n")
    code, checks = ask({**SLURM, "account": "teory"}, "--no-workers")
    assert code == 1
    assert checks["Slurm"]["state"] == "ok"
    assert checks["partition"]["found"] == "there is no `long`"
    assert checks["partition"]["advice"] == "Set `partition` to one of gpu, short."
    assert checks["account"]["found"] == "there is no `teory`"
    code, checks = ask({**SLURM, "account": "theory"}, "--no-workers", "--set", "partition=short,gpu")
    assert (code, checks["partition"]["found"], checks["account"]["found"]) == (0, "short, gpu", "theory")


@pytest.mark.usefixtures("no_jax")
def test_accounts_are_not_judged_where_slurm_keeps_none(ask, programs):
    programs(**SLURM_COMMANDS, sinfo="long\n", sacctmgr=None)
    code, checks = ask({**SLURM, "account": "any"}, "--no-workers")
    assert (code, "account" in checks) == (0, False)


@pytest.mark.usefixtures("no_jax")
def test_a_scheduler_that_does_not_answer(ask, programs):
    programs(**SLURM_COMMANDS, sinfo=None)
    code, checks = ask(SLURM, "--no-workers")
    assert (code, checks["Slurm"]["found"]) == (1, "`sinfo --noheader --format=%R` does not answer")
    programs(**PBS_COMMANDS, qstat=None)
    code, checks = ask(PBS, "--no-workers")
    assert (code, checks["PBS"]["found"]) == (1, "`qstat -Q` does not answer")


@pytest.mark.usefixtures("no_jax")
def test_a_queue_that_does_not_exist(ask, programs):
    programs(**PBS_COMMANDS, qstat=QUEUES)
    assert ask(PBS, "--no-workers")[1]["queue"]["found"] == "long"
    code, checks = ask(PBS, "--no-workers", "--set", "queue=lang")
    assert code == 1
    assert checks["queue"]["advice"] == "Set `queue` to one of long, workq."


@pytest.mark.usefixtures("no_jax")
def test_the_package_that_kubernetes_needs(ask, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "kubernetes" else "99")
    code, checks = ask({"type": "kubernetes", "image": "i", "address": "10.0.0.1", "max_workers": 1}, "--no-workers")
    assert code == 1
    assert checks["kubernetes"]["advice"] == "`pip install kubernetes`"


@pytest.mark.usefixtures("no_jax")
def test_a_root_that_cannot_be_written(ask, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(doctor.tempfile, "TemporaryDirectory", refuse)
    code, checks = ask(LOCAL, "--no-workers")
    assert code == 1
    assert checks["folder"]["state"] == "failed"
    assert "Set `store.root`" in checks["folder"]["advice"]


@pytest.mark.usefixtures("no_jax")
def test_more_workers_than_cores_are_a_warning(ask):
    code, checks = ask(LOCAL, "--no-workers", "--set", "executors.0.max_workers=1000")
    assert code == 0
    assert checks["cores"]["state"] == "warning"
    assert "1000 for workers (only 1000)" in checks["cores"]["found"]


@pytest.mark.usefixtures("no_jax")
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


def test_imports_that_fail(ask, monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_JAX", "raise SystemExit('3 * (1/3) in float64 is 1 in float32')")
    monkeypatch.setattr(doctor, "_PROBE_IMPORTS", "import no_such_module")
    code, checks = ask(LOCAL, "--no-workers")
    assert code == 1
    assert checks["imports"]["found"] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert checks["JAX"]["found"] == "3 * (1/3) in float64 is 1 in float32"


@pytest.mark.usefixtures("no_jax")
def test_a_card_is_enough(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["doctor", "--local", "--no-workers", "--set", "store.root=here", "--set", "executors.0.max_workers=1"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert f"ok       folder           {tmp_path}/here/optuna/v1\n" in result.output
    assert list(tmp_path.iterdir()) == []


def test_faults_of_a_card_alone_come_all_at_once_in_their_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("card.yaml").write_text("type: slurm\nmax_workers: auto\n")
    result = CliRunner().invoke(cli, ["doctor", "--parsl-card", "card.yaml"])
    assert result.exit_code == 2
    assert result.output.startswith("card.yaml:2:14  max_workers: `auto` needs `cores_per_node` or `gpus_per_node`")
    sets = ["--set", "retries=-1", "--set", "store.rot=x", "--set", "optuna.max_trials_per_method=3"]
    result = CliRunner().invoke(cli, ["doctor", "--parsl-card", "card.yaml", *sets])
    assert result.exit_code == 2
    assert '--set "retries=-1"  retries: found -1, expected a whole number of at least 0' in result.output
    assert '--set "store.rot=x"  store.rot: unknown key' in result.output
    assert "Did you mean `root`?" in result.output
    assert "there is no study file that this could change" in result.output


def test_two_cards_are_a_usage_error():
    result = CliRunner().invoke(cli, ["doctor", "--local", "--parsl-card", "card.yaml"])
    assert (result.exit_code, "exclude each other" in result.output) == (2, True)


def probe(versions=None, **changes):
    """What a worker says that is healthy but for these changes."""
    made_by = Provenance(host="node7", device="cpu", versions=versions or {"jax": doctor._version("jax")})
    healthy = Probe(
        provenance=made_by, sees_controller=True, errors={"float64": 0.0, "float32": 1e-8}, num_cores=4,
        devices=("cpu",),
    )  # fmt: skip
    return healthy.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sees_controller": False}, "node7 does not see "),
        ({"errors": {"float32": 1e-8}}, "no float64 on cpu"),
        ({"errors": {"float64": 1e-8, "float32": 1e-8}}, "no float64 on cpu"),
        ({"versions": {"jax": "0.4.1", "numpy": None}}, "other versions there: jax 0.4.1, here "),
    ],
)
def test_what_is_wrong_where_a_worker_runs(tmp_path, changes, reason):
    (tmp_path / "worker-a").touch()
    future = Future()
    future.set_result(probe())
    assert doctor._check_worker("a", future, tmp_path, 0.0, 1.0).state == "ok"
    future = Future()
    future.set_result(probe(**changes))
    check = doctor._check_worker("a", future, tmp_path, 0.0, 1.0)
    assert check.state == "failed"
    assert check.found.startswith(reason)
    assert check.advice


def test_a_worker_whose_files_do_not_come_back_and_one_that_is_silent(tmp_path):
    future = Future()
    check = doctor._check_worker("a", future, tmp_path, 0.0, 0.0)
    assert (check.state, check.found) == ("failed", "no answer within 0 s")
    future.set_result(probe())
    check = doctor._check_worker("a", future, tmp_path, 0.0, 1.0)
    assert (check.state, check.found) == ("failed", "what node7 writes is not seen here")


@pytest.mark.parametrize(("found", "is_told"), [("1", False), ("2", False), ("8", True), (None, True), ("all", True)])
def test_threads_that_are_not_bound(found, is_told):
    future = Future()
    future.set_result(found)
    checks = list(doctor._check_threads("a", future, 2.0, 1.0))
    assert [check.state for check in checks] == ["warning"] * is_told


def test_its_help_imports_nothing_heavy():
    program = "import sys\nfrom lambda_hat.cli.app import cli\ncli(['doctor', '--help'], standalone_mode=False)\n"
    program += "print(*(set(sys.modules) & {'jax', 'optuna', 'parsl', 'pandas', 'numpy', 'pydantic'}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
