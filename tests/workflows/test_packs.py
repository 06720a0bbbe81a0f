"""A study in packs, as a user starts it: every trial has its row, and an interruption costs none of them."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import HANGING, wait_until

pytestmark = pytest.mark.nightly

PACKED = ("--set", "optuna.concurrency.pack=4", "--set", "optuna.concurrency.batch_size=4")
PRECONDITIONER = json.dumps({"dist": "categorical", "choices": ["none", "whitened"]})


def log_of(path: Path) -> list[str]:
    """Events of a trial's progress."""
    return [line["event"] for line in map(json.loads, path.read_text().splitlines()) if "event" in line]


def test_a_study_in_packs_finds_what_it_finds_without(small_study):
    """Ten trials are random ones: both studies try the same."""
    sets = (
        *("--set", "optuna.max_trials_per_method=10"),
        *("--set", f"search_space.sgld.precond_type={PRECONDITIONER}"),
        *("--set", "confirm={top_k: 1, num_seeds: 3}"),
    )
    small_study.run(*sets, *PACKED)
    packed = small_study.table
    metrics = [json.loads(path.read_text()) for path in small_study.trial_files("metrics.json")]
    assert len(metrics) == 10 + 3
    assert Counter(row["num_together"] for row in metrics)[3] >= 3, "confirmations are packed as well"
    assert {tuple(log_of(path)) for path in small_study.trial_files("progress.jsonl")} == {("started", "ended")}
    assert packed["num_together"].between(1, 4).all()
    assert packed["num_together"].max() > 1

    small_study.root = small_study.root.parents[1] / "alone" / "v1"
    small_study.run(*sets, "--set", "store.namespace=alone")
    alone = small_study.table
    assert (alone["num_together"] == 1).all()
    assert list(packed["number"]) == list(alone["number"]) == list(range(10))
    for name in ("run_id", "state", "param_eta0", "param_precond_type", "num_steps_done", "num_gradient_evaluations"):
        assert list(packed[name]) == list(alone[name]), name
    assert list(packed["llc_hat"]) == pytest.approx(list(alone["llc_hat"]), rel=1e-4)


def test_trials_of_an_interrupted_pack_are_run_again_and_no_other(small_study):
    """Steps enough for seconds, so that the signal comes in the middle of the first pack."""
    steps = json.dumps({"dist": "int", "low": 200_000, "high": 200_000})
    total = ("--set", "optuna.max_trials_per_method=6", "--set", f"search_space.sgld.steps={steps}")
    process = small_study.start(*PACKED, *total)

    def is_in_a_pack():
        return [path for path in small_study.trial_files("progress.jsonl") if '"step"' in path.read_text()]

    wait_until(lambda: len(is_in_a_pack()) == 4)
    small_study.send(process, signal.SIGINT)
    process.communicate(timeout=HANGING)
    small_study.wait_until_nothing_is_left()
    begun = {path.parent.name for path in is_in_a_pack()}
    ended = {path.parent.name for path in small_study.trial_files("metrics.json")}
    assert begun - ended, "some had not ended"
    small_study.run("--resume", *PACKED, *total)
    table = small_study.table
    assert list(table["number"]) == list(range(6))
    assert begun <= set(table["run_id"])
    assert (table["state"] == "COMPLETE").all()
    for path in small_study.trial_files("progress.jsonl"):
        assert log_of(path) == ["started"] * (1 + (path.parent.name in begun - ended)) + ["ended"]
