"""A small run's folder, made by the project's own writers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from lambda_hat.artifacts.files import make_dir, write_text_atomic
from lambda_hat.artifacts.paths import FAILURE_JSON, METRICS_JSON, PROBLEM_YAML, PROGRESS_JSONL, REFERENCE_JSON, Paths
from lambda_hat.records.base import append_line
from lambda_hat.records.begun import Begun
from lambda_hat.records.ending import Ending
from lambda_hat.records.event import Begin, End, TaskEvent
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.progress import Ended
from lambda_hat.records.provenance import Timings
from lambda_hat.records.reference import ReferenceFailure, ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow, TrialRow
from lambda_hat.records.state import State
from lambda_hat.records.tables import write_table

PID = "p_0123456789ab"
REFERENCE = {
    "format": 4, "method": "hmc", "state": "COMPLETE", "llc": 8.25, "se": 0.07, "is_certified": True, "reasons": [],
    "laplace_llc": 8.5, "localization": 56.0, "radius": 0.1, "nbeta": 21.7, "dim": 45, "num_data": 100,
    "loss_at_w0": 0.199, "num_gradient_evaluations": 59016.0, "seconds": 9.7, "host": "machine-7", "device": "cpu",
    "dtype": "float64", "versions": {"lambda-hat": "0.1.0", "jax": "0.10.2", "git_commit": "c0ffee"},
    "certificate": [
        {"name": "R̂ of the loss", "value": 1.003, "bound": 1.01, "is_upper": True, "is_met": True},
        {"name": "bulk ESS of the loss", "value": 1039.2, "bound": 400.0, "is_upper": False, "is_met": True},
        {"name": "fraction of divergent steps", "value": 0.0, "bound": 0.001, "is_upper": True, "is_met": True},
    ],
}  # fmt: skip
CONFIG = """\
problems:
- {target: mlp, model: small, data: small, teacher: _null, seed: 42, overrides: {}}
methods: [sgld, vi]
optuna: {objective: {type: abs, delta: 0.1, rhat_penalty: 0.0}}
search_space:
  sgld:
    eta0: {dist: float, low: 0.001, high: 0.5, log: true}
    steps: {dist: int, low: 1000, high: 9000, step: 1000, log: false}
  vi:
    lr: {dist: float, low: 0.001, high: 0.1, log: true}
    whitening_mode: {dist: categorical, choices: [rmsprop, hessian]}
store: {references: null}
"""


def trial_row(**values: Any) -> TrialRow:
    """A completed trial of SGLD, but for these values."""
    known = {"pid": PID, "method": "sgld", "run_id": "r_0", "number": 0, "state": State.COMPLETE}
    return TrialRow(**known | values)


def confirmed_row(**values: Any) -> ConfirmedRow:
    """The best settings of a study of SGLD, but for these values."""
    known = {"pid": PID, "method": "sgld", "rank": 1, "num_seeds": 4, "num_failed": 0}
    return ConfirmedRow(**known | values)


def reference_record(**values: Any) -> ReferenceRecord:
    """A certified reference, but for these values."""
    return ReferenceRecord.model_validate(REFERENCE | values)


def trial(method: str, number: int, state: State, reference: ReferenceRecord, rng: np.random.Generator) -> TrialRow:
    if method == "sgld":
        params: dict[str, Any] = {"eta0": float(10 ** rng.uniform(-3, -0.5)), "steps": int(rng.integers(1, 9)) * 1000}
    else:
        params = {"lr": float(10 ** rng.uniform(-3, -1)), "whitening_mode": ["rmsprop", "hessian"][number % 2]}
    error = float(rng.normal(0.0, 0.3))
    found = {State.COMPLETE: {"llc_hat": 8.25 + error, "se_hat": 0.1}, State.PRUNED: {}}
    metrics = Metrics(
        state=state,
        **found.get(state, {"reason": "RuntimeError: <script>alert('no')</script>"}),
        rhat=1.01,
        num_gradient_evaluations=1000 * (number + 1),
        dtype="float32",
        timings=Timings(total=1.0 + number / 10),
        provenance=reference.provenance,
    )
    return TrialRow.of(
        metrics,
        reference,
        "htex32",
        pid=PID,
        method=method,
        run_id=f"r_{method}{number}",
        number=number,
        state=state,
        reason=metrics.reason,
        hyperparameters=params,
        objective={State.COMPLETE: abs(error), State.PRUNED: 1e10}.get(state),
    )


def write_trial(paths: Paths, row: TrialRow) -> None:
    folder = paths.trial_dir(row.pid, row.method, str(row.run_id))
    make_dir(folder)
    Ending(state=row.state).write(folder / METRICS_JSON)
    append_line(folder / PROGRESS_JSONL, Ended(state=row.state))


def write_events(paths: Paths, rows: list[TrialRow], *, end: End | None) -> None:
    time = datetime.fromisoformat("2026-11-25T09:42:04.529+00:00")

    def log_task(lane: str, label: str, task: str, start: float, end: float) -> None:
        for kind, at in (("started", start), ("done", end)):
            append_line(paths.events, TaskEvent(kind=kind, time=time, at=at, lane=lane, label=label, task=task))

    append_line(paths.events, Begin(time=time, pid=1, host="machine-7", caps={"htex64": 1, "htex32": 2}, batch_size=2))
    log_task(f"{PID}:reference", "htex64", f"{PID}:reference", 1.0, 9.0)
    for index, row in enumerate(rows):
        log_task(f"{PID}:{row.method}", "htex32", str(row.run_id), 9.0 + index, 10.5 + index)
    if end is not None:
        append_line(paths.events, end.model_copy(update={"time": time, "at": 12.0 + len(rows)}))


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Paths]:
    """Makes `quickstart/v1` with a reference and `num_trials` trials of two methods; leaves out what it is told to."""

    def make_run(*, num_trials: int = 12, without: tuple[str, ...] = (), **reference: Any) -> Paths:
        rng = np.random.default_rng(3)
        paths = Paths(tmp_path_factory.mktemp("runs") / "quickstart" / "v1")
        paths.make_folders()
        write_text_atomic(paths.resolved_config, CONFIG)
        Begun(pids=(PID,), methods=("sgld", "vi"), num_trials=num_trials).write(paths.begun)
        make_dir(paths.problem_dir(PID))
        write_text_atomic(paths.problem_dir(PID) / PROBLEM_YAML, "{target: mlp, seed: 42}\n")
        found = reference_record(**reference)
        states = [State.COMPLETE] * num_trials
        if num_trials >= 6:
            states[3], states[5] = State.PRUNED, State.FAIL
        rows = [trial(method, n, state, found, rng) for method in ("sgld", "vi") for n, state in enumerate(states)]
        if "trials" not in without:
            for row in rows:
                write_trial(paths, row)
        if "reference" in without:
            ReferenceFailure.failed("out of time").write(paths.problem_dir(PID) / FAILURE_JSON)
        else:
            found.write(paths.problem_dir(PID) / REFERENCE_JSON)
        if "table" not in without and "trials" not in without:
            write_table(paths.trials_table, rows, TrialRow)
        if "events" not in without:
            failed = End(outcome="failed", reason="The reference of p failed: out of time.")
            end = failed if "reference" in without else End(outcome="finished")
            write_events(paths, rows, end=None if "end" in without else end)
        return paths

    return make_run
