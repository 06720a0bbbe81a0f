"""A pack of trials: each with its own files, budget and end, and with what it would find alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambda_hat.artifacts.files import read_json, read_json_lines
from lambda_hat.errors import StorageError
from lambda_hat.estimate.traces import Traces
from lambda_hat.records.manifest import Manifest
from lambda_hat.tasks import pack_task, trial_task
from tests.conftest import HANGING

pytestmark = pytest.mark.slow

SGLD = {"eta0": 2e-3, "steps": 2000, "batch": 64}
MANIFEST = Manifest.of("p_0", "sgld", hyperparams={}, settings=SGLD, seed=0, trial_sec=60.0)
CASES = {
    "sgld": [SGLD, SGLD | {"eta0": 1e-3, "steps": 3000}, SGLD | {"eta0": 3e-3, "gamma": 0.3}],
    "mclmc": [{"step_size": 0.5, "steps": 200}, {"step_size": 0.3, "L": 0.5, "steps": 260}],
}


def write_trial(folder: Path, method: str, settings: dict[str, Any], seed: int = 0, trial_sec: float = HANGING) -> Path:
    folder.mkdir(parents=True)
    manifest = {
        "pid": "p_0",
        "method": method,
        "hyperparams": {},
        "settings": settings,
        "seed": seed,
        "budget": {"trial_sec": trial_sec},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture
def write_pack(tmp_path: Path):
    """Writes a trial for each of these settings; folders by number."""

    def write_pack(cases: list[dict[str, Any]], method: str = "sgld", name: str = "pack") -> list[Path]:
        return [write_trial(tmp_path / name / f"r_{seed}", method, case, seed) for seed, case in enumerate(cases)]

    return write_pack


@pytest.fixture
def run_pack(quadratic_dir):
    """Runs trials as a pack; what their files say, in the order of their folders."""

    def run_pack(folders: list[Path]) -> list[dict[str, Any]]:
        metrics = pack_task([str(folder) for folder in folders], str(quadratic_dir))
        assert list(metrics) == [folder.name for folder in folders]
        stored = [read_json(folder / "metrics.json") for folder in folders]
        assert [row.to_json() for row in metrics.values()] == stored
        return stored

    return run_pack


def log_of(folder: Path) -> list[str | int]:
    """Events and steps of a trial's progress, in order, without signs of life, whose number is a matter of time."""
    entries = [line.get("event", line.get("step")) for line in read_json_lines(folder / "progress.jsonl")[0]]
    return [entry for entry in entries if entry != "alive"]


MEASURED = {"timings", "started", "finished", "num_together"}


@pytest.mark.nightly
@pytest.mark.parametrize("method", ["sgld", "mclmc"])
def test_each_trial_leaves_the_files_that_it_leaves_alone(write_pack, run_pack, quadratic_dir, method):
    packed, alone = write_pack(CASES[method], method), write_pack(CASES[method], method, "alone")
    for folder, other, metrics in zip(packed, alone, run_pack(packed), strict=True):
        expected = trial_task(str(other), str(quadratic_dir)).to_json()
        assert (metrics["state"], metrics["num_together"], expected["num_together"]) == ("COMPLETE", len(packed), 1)
        assert metrics.keys() == expected.keys()
        for name in expected.keys() - MEASURED:
            is_number = isinstance(expected[name], float)
            assert metrics[name] == (pytest.approx(expected[name], rel=1e-3) if is_number else expected[name]), name
        assert metrics["timings"]["total"] == pytest.approx(
            sum(metrics["timings"][part] for part in ("load", "compile", "sample"))
        )
        first, *steps, last = log_of(folder)
        assert (first, steps[-1], last) == ("started", metrics["num_steps_done"], "ended")
        assert max(np.diff([0, *steps])) <= metrics["num_steps_done"] / 10
        traces, others = Traces.load(folder / "traces.npz"), Traces.load(other / "traces.npz")
        np.testing.assert_allclose(traces.running_llc().llc, others.running_llc().llc, rtol=1e-4)
        assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}


@pytest.mark.nightly
def test_the_stop_flag_of_one_is_not_that_of_another(write_pack, run_pack):
    folders = write_pack([SGLD] * 3)
    (folders[1] / "stop").touch()
    stopped = [metrics["state"] for metrics in run_pack(folders)]
    assert stopped == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert read_json(folders[1] / "metrics.json")["reason"].startswith("stopped by the pruner after")


@pytest.mark.nightly
def test_a_diverged_trial_ends_alone(write_pack, run_pack):
    pruned, complete = run_pack(write_pack([SGLD | {"eta0": 0.5}, SGLD]))
    assert (pruned["state"], pruned["is_diverged"]) == ("PRUNED", True)
    assert (complete["state"], complete["num_steps_done"]) == ("COMPLETE", 2000)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"method": "sgld", ', "FileNotFoundError: .*manifest.json is missing or torn"),
        (json.dumps(MANIFEST.to_json() | {"settings": {"eta": 1}}), "ValidationError"),
        (json.dumps(MANIFEST.to_json() | {"budget": {}}), "RunStateError: .*is damaged: budget"),
    ],
    ids=["torn", "bad settings", "bad budget"],
)
def test_a_manifest_that_cannot_be_used_is_the_fault_of_one(write_pack, run_pack, text, reason):
    folders = write_pack([SGLD] * 3)
    (folders[0] / "manifest.json").write_text(text, encoding="utf-8")
    failed, *others = run_pack(folders)
    assert failed["state"] == "FAIL"
    assert re.match(reason, failed["reason"])
    assert log_of(folders[0]) == ["started", "ended"]
    assert [(metrics["state"], metrics["num_together"]) for metrics in others] == [("COMPLETE", 2)] * 2


def test_both_precisions_in_one_pack(write_pack, run_pack):
    cases = [SGLD, SGLD | {"dtype": "float64"}, SGLD | {"eta0": 1e-3}]
    rows = run_pack(write_pack(cases))
    assert [(row["state"], row["dtype"], row["x64"], row["num_together"]) for row in rows] == [
        ("COMPLETE", "float32", False, 2),
        ("COMPLETE", "float64", True, 1),
        ("COMPLETE", "float32", False, 2),
    ]


def test_a_trial_that_has_ended_is_not_run_again(write_pack, run_pack):
    folders = write_pack([SGLD] * 2)
    (first,) = run_pack(folders[:1])
    log = (folders[0] / "progress.jsonl").read_bytes()
    again, second = run_pack(folders)
    assert again == first
    assert (folders[0] / "progress.jsonl").read_bytes() == log
    assert (second["state"], second["num_together"]) == ("COMPLETE", 1)


def test_the_budget_of_one_is_not_that_of_another(tmp_path, run_pack):
    folders = [
        write_trial(tmp_path / "short", "sgld", SGLD, trial_sec=1e-3),
        write_trial(tmp_path / "long", "sgld", SGLD),
        write_trial(tmp_path / "other", "sgld", SGLD, seed=1),
    ]
    short, *others = run_pack(folders)
    assert (short["state"], short["short_of"]) == ("FAIL", "trial_sec")
    assert short["reason"] == "out of time before the first draw: execution.budget.trial_sec is 0.001 s"
    assert short["num_together"] == 3
    assert [(row["state"], row["num_steps_done"]) for row in others] == [("COMPLETE", 2000)] * 2


@pytest.mark.nightly
def test_a_trial_out_of_time_keeps_its_estimate_and_the_others_go_on(tmp_path, run_pack):
    short, long = run_pack(
        [
            write_trial(tmp_path / "short", "sgld", SGLD | {"steps": 10**9}, trial_sec=20.0),
            write_trial(tmp_path / "long", "sgld", SGLD | {"steps": 20_000}, trial_sec=HANGING),
        ]
    )
    assert (short["state"], short["is_truncated"]) == ("COMPLETE", True)
    assert short["reason"].startswith("out of time after")
    assert (long["state"], long["num_steps_done"], long["is_truncated"]) == ("COMPLETE", 20_000, False)


def test_a_full_disk_ends_all_and_no_watchdog_waits_for_them(write_pack, quadratic_dir, failing_writes, monkeypatch):
    monkeypatch.setenv("LAMBDA_HAT_EXECUTOR", "htex")
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail("a watchdog barks"))
    folders = write_pack([SGLD] * 3)
    with failing_writes(10), pytest.raises(StorageError):
        pack_task([str(folder) for folder in folders], str(quadratic_dir))
    assert not any((folder / "metrics.json").exists() for folder in folders)
    assert not [thread for thread in threading.enumerate() if thread.name == "watchdog"]


def test_a_warm_pack_compiles_nothing(write_pack, run_pack, compiled):
    run_pack(write_pack([SGLD | {"eta0": eta0} for eta0 in (1e-3, 2e-3, 3e-3)], name="cold"))
    compiled.clear()
    others = [SGLD | {"eta0": eta0, "gamma": 0.2, "steps": 2500} for eta0 in (1e-4, 2e-4, 4e-4, 5e-4)]
    assert [metrics["num_together"] for metrics in run_pack(write_pack(others))] == [4] * 4
    assert compiled == []


WORKER = """
import signal, sys
if sys.argv[1] == "watchdog":
    del signal.SIGALRM  # as on Windows
from lambda_hat.records.manifest import Manifest
from lambda_hat.tasks import pack_task
pack_task(sys.argv[3:], sys.argv[2])
"""


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [
        pytest.param(
            *("alarm", "COMPLETE", "out of time after 1 of 1000 steps"),
            marks=pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there are no alarms on Windows"),
        ),
        ("watchdog", "FAIL", "so the worker was ended; execution.budget.trial_sec is 12 s"),
    ],
    ids=["alarm", "watchdog"],
)
def test_a_trial_that_never_comes_back_costs_the_others_their_worker_and_no_more(
    tmp_path, quadratic_dir, how, state, reason
):
    """10⁸ leapfrog steps keep the device busy for minutes: the others are for the next worker."""
    endless = write_trial(tmp_path / "endless", "hmc", {"num_integration_steps": 10**8}, trial_sec=12.0)
    other = write_trial(tmp_path / "other", "mclmc", {"steps": 1000})
    command = [sys.executable, "-c", WORKER, how, quadratic_dir, endless, other]
    environment = os.environ | {"LAMBDA_HAT_EXECUTOR": "htex"}
    codes = [subprocess.run(command, env=environment, check=False).returncode for _ in range(2)]
    assert codes == [70, 0]
    first, second = read_json(endless / "metrics.json"), read_json(other / "metrics.json")
    assert first["state"] == state
    assert reason in first["reason"]
    assert (second["state"], second["num_steps_done"], second["num_together"]) == ("COMPLETE", 1000, 1)
    assert [entry for entry in log_of(endless) if isinstance(entry, str)] == ["started", "ended"]
    assert [entry for entry in log_of(other) if isinstance(entry, str)] == ["started", "started", "ended"]
