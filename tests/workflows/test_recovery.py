"""What a study survives, and what it says where it does not."""

from __future__ import annotations

import json
import os
import signal

import pytest
from click.testing import CliRunner

from lambda_hat.cli.app import cli
from lambda_hat.execution import inline
from tests.conftest import HANGING, wait_until

pytestmark = pytest.mark.slow


def trials_of(steps):
    """Options of a study whose trials all have so many steps; a hundred thousand take a second."""
    fixed = {"dist": "int", "low": steps, "high": steps}
    return ("--set", f"search_space.sgld.steps={json.dumps(fixed)}")


def ends(small_study):
    """How often each trial ended, by its own record."""
    return [path.read_text().count('"event":"ended"') for path in small_study.trial_files("progress.jsonl")]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.nightly),  # `test_no_orphans.py` sends it
        (signal.SIGKILL, -9),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.nightly),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.nightly),
    ],
)
def test_an_interrupted_command_leaves_no_process_and_loses_no_trial(small_study, number, code):
    """It is begun with a worker and ended in this process: the card is no part of what a study is."""
    many = ("--set", "optuna.max_trials_per_method=200")
    process = small_study.start(*many)
    wait_until(lambda: len(small_study.trial_files("metrics.json")) >= 3)
    small_study.send(process, number)
    process.communicate(timeout=HANGING)
    assert process.returncode == code
    small_study.wait_until_nothing_is_left()
    done = {path.parent.name: path.read_bytes() for path in small_study.trial_files("metrics.json")}
    total = len(done) + 4
    _, stderr = small_study.run("--set", f"optuna.max_trials_per_method={total}", code=2)
    assert "holds an unfinished study. Pass `--resume` to go on with it" in stderr
    small_study.run("--resume", "--set", f"optuna.max_trials_per_method={total}")
    table = small_study.table
    assert list(table["number"]) == list(range(total))
    assert table["run_id"].is_unique
    assert set(table["state"]) <= {"COMPLETE", "PRUNED"}
    for path in small_study.trial_files("metrics.json"):
        assert path.read_bytes() == done.get(path.parent.name, path.read_bytes()), "a finished trial is not run again"
    assert max(ends(small_study)) == 1


@pytest.mark.nightly
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_without_workers_goes_on_with_or_without_them(small_study, number, code):
    long = ("--set", "optuna.max_trials_per_method=3", *trials_of(100_000))
    process = small_study.start(*long, card="--inline")
    wait_until(lambda: any('"step"' in path.read_text() for path in small_study.trial_files("progress.jsonl")))
    small_study.send(process, number)
    process.communicate(timeout=HANGING)
    assert process.returncode == code
    assert not small_study.processes()
    resume = small_study.run_with_workers if number is signal.SIGTERM else small_study.run
    resume("--resume", *long)
    table = small_study.table
    assert list(table["number"]) == [0, 1, 2]
    assert set(table["state"]) <= {"COMPLETE", "PRUNED"}
    assert max(ends(small_study)) == 1


@pytest.mark.nightly
def test_a_second_command_on_the_same_run_is_told_who_is_there(small_study):
    long = ("--set", "optuna.max_trials_per_method=200", *trials_of(200_000))
    process = small_study.start(*long)
    wait_until(lambda: small_study.trial_files("manifest.json"))
    _, stderr = small_study.run("--resume", *long, code=2)
    assert f"is in use by lambda-hat with process id {process.pid} on " in stderr
    assert process.poll() is None
    small_study.send(process, signal.SIGTERM)
    process.communicate(timeout=HANGING)
    small_study.wait_until_nothing_is_left()


def test_a_finished_study_does_nothing_goes_on_with_a_larger_total_and_mends_its_files(small_study):
    small_study.run()
    before = small_study.table
    _, stderr = small_study.run()
    assert "Nothing is left to run: every trial of this study has ended." in stderr

    for path in (small_study.root / "studies").glob("*.pkl"):
        path.unlink()
    (small_study.root / "tables/optuna_trials.parquet").write_bytes(b"PAR1 half")
    with (small_study.root / "studies/optuna.journal").open("ab") as journal:
        journal.write(b'{"op_code": 4, "worker_')
    (reference,) = small_study.root.glob("problems/*/ref.json")
    whole = json.loads(reference.read_text())
    reference.write_text("")
    small_study.run("--resume", "--set", "optuna.max_trials_per_method=5")
    assert json.loads(reference.read_text())["llc"] == whole["llc"]
    table = small_study.table
    assert list(table["run_id"][:3]) == list(before["run_id"])
    assert list(table["started"][:3]) == list(before["started"])
    assert len(table) == 5
    assert len(list((small_study.root / "studies").glob("*.pkl"))) == 1

    _, stderr = small_study.run("--resume", "--set", "problems.0.seed=4", "--set", "optuna.max_trials_per_method=9")
    assert len(small_study.table) == 14, "the finished problem stays in the table"
    _, stderr = small_study.run("--resume", "--set", "search_space.sgld.eta0.high=0.5", code=2)
    assert "was begun with another `search_space.sgld.eta0`" in stderr.replace(
        "search_space.eta0", "search_space.sgld.eta0"
    )


def test_too_many_failed_trials_end_with_exit_code_3_and_their_reasons(small_study):
    failing = ("--set", "execution.budget.trial_sec=0.000001", "--set", "optuna.max_trials_per_method=20")
    _, stderr = small_study.run(*failing, code=3)
    assert "More than 20% of the trials failed" in stderr
    table = small_study.table
    assert 5 <= len(table) <= 8
    assert set(table["reason"]) == {"out of time before the first draw: execution.budget.trial_sec is 1e-06 s"}
    metrics = json.loads(small_study.trial_files("metrics.json")[0].read_text())
    assert "OutOfTime" in metrics["traceback"]
    assert stderr.splitlines()[-1].endswith(
        "--resume --set optuna.max_trials_per_method=20 --set execution.budget.trial_sec=2e-06"
    )
    small_study.run("--resume", "--set", "optuna.max_trials_per_method=9")  # the file has a minute for each
    assert list(small_study.table["state"][len(table) :]) == ["COMPLETE"] * 9, "those that lacked time do not count"


@pytest.mark.nightly
def test_a_truncated_trial_keeps_its_estimate_and_says_so(small_study):
    small_study.run("--set", "store.namespace=before", "--set", "optuna.max_trials_per_method=1")  # it compiles
    budget = ("--set", "execution.budget.trial_sec=5")
    small_study.run(*trials_of(10**9), *budget, "--set", "optuna.max_trials_per_method=1")
    table = small_study.table
    assert list(table["state"]) == ["COMPLETE"]
    assert all(table["is_truncated"])
    assert all(table["reason"].str.contains("out of time after"))
    assert (table["relative_error"].abs() < 0.2).all()


@pytest.mark.nightly
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_hopeless_trials_are_stopped_while_they_run(small_study, monkeypatch, pruner):
    monkeypatch.setattr(inline, "_PERIOD", 0.05)  # seconds: the controller looks ten times and more at each trial
    steps = 50_000
    sets = {
        "problems": [{"target": "potential"}],  # of a quadratic, even a chain that hardly moves is corrected
        "optuna.max_trials_per_method": 8,
        "optuna.concurrency.batch_size": 1,
        "optuna.pruner": {"type": pruner, "n_startup_trials": 2, "n_warmup_steps": 1},
        "optuna.sampler": {"type": "random", "seed": 1},
        "search_space.sgld.eta0": {"dist": "categorical", "choices": [5e-4, 1e-6]},  # the second hardly moves
    }
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    small_study.run(*words, *trials_of(steps))
    table = small_study.table
    stopped = table[table["state"] == "PRUNED"]
    assert 1e-6 in set(stopped["param_eta0"])
    assert stopped["reason"].str.match(r"stopped by the pruner after \d+ steps").all()
    assert (stopped["num_steps_done"] < steps).all()
    complete = table[table["state"] == "COMPLETE"]
    assert (complete["num_steps_done"] == steps).all()
    assert complete.loc[complete["objective"].idxmin(), "param_eta0"] == 5e-4


@pytest.mark.nightly
def test_a_killed_worker_costs_no_trial(small_study):
    """What its trial had begun is begun again, on the worker that takes its place."""
    process = small_study.start(*trials_of(100_000))
    wait_until(lambda: any('"step"' in path.read_text() for path in small_study.trial_files("progress.jsonl")))
    (worker,) = {
        json.loads(line)["pid"]
        for path in small_study.trial_files("progress.jsonl")
        for line in path.read_text().splitlines()
        if '"event":"started"' in line
    }
    os.kill(worker, signal.SIGKILL)
    _, stderr = process.communicate(timeout=HANGING)
    assert process.returncode == 0, stderr
    table = small_study.table
    assert list(table["state"]) == ["COMPLETE"] * 3
    assert worker not in set(table["pid_worker"])
    assert ends(small_study) == [1] * 3
    small_study.wait_until_nothing_is_left()


@pytest.mark.nightly
def test_collecting_artifacts_beside_a_running_study_costs_it_nothing(small_study):
    process = small_study.start("--set", "optuna.max_trials_per_method=4", *trials_of(50_000))
    wait_until(lambda: small_study.trial_files("manifest.json"))
    gc = ["artifacts", "gc", "--older-than", "0", "--whole-runs", "--root", str(small_study.folder / "runs")]
    num_skipped = 0
    while process.poll() is None:
        done = CliRunner().invoke(cli, gc)
        assert done.exit_code == 0, done.stderr
        num_skipped += f"left alone, in use by process {process.pid}" in done.stderr
        if num_skipped == 5:
            break
    process.communicate(timeout=HANGING)
    assert process.returncode == 0
    assert num_skipped > 0
    assert len(small_study.table) == 4
    assert len(small_study.trial_files("metrics.json")) == 4
    small_study.wait_until_nothing_is_left()
