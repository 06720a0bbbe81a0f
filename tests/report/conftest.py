"""A small run's folder, made by the project's own writers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lambda_hat.artifacts.files import append_json_line, make_dir, write_json_atomic, write_text_atomic
from lambda_hat.artifacts.paths import FAILURE_JSON, METRICS_JSON, PROBLEM_YAML, PROGRESS_JSONL, REFERENCE_JSON, Paths
from lambda_hat.report.tables import with_reference, write_trials_table

PID = "p_0123456789ab"
REFERENCE = {
    "format": 2, "method": "hmc", "state": "COMPLETE", "llc": 8.25, "se": 0.07, "is_certified": True, "reasons": [],
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


def trial(method: str, number: int, state: str, rng: np.random.Generator) -> dict[str, Any]:
    if method == "sgld":
        params: dict[str, Any] = {"eta0": float(10 ** rng.uniform(-3, -0.5)), "steps": int(rng.integers(1, 9)) * 1000}
    else:
        params = {"lr": float(10 ** rng.uniform(-3, -1)), "whitening_mode": ["rmsprop", "hessian"][number % 2]}
    error = float(rng.normal(0.0, 0.3))
    row = {
        "pid": PID, "method": method, "run_id": f"r_{method}{number}", "number": number, "state": state,
        "hyperparameters": json.dumps(params), "llc_ref": 8.25, "se_ref": 0.07, "total_sec": 1.0 + number / 10,
        "num_gradient_evaluations": float(1000 * (number + 1)), "host": "machine-7", "device": "cpu",
        "dtype": "float32", "versions": json.dumps(REFERENCE["versions"]), "rhat": 1.01, "reason": "",
        **{f"param_{name}": value for name, value in params.items()},
    }  # fmt: skip
    if state == "COMPLETE":
        row |= {"llc_hat": 8.25 + error, "se_hat": 0.1, "error": error, "relative_error": error / 8.25}
        row |= {"objective": abs(error)}
    elif state == "PRUNED":
        row |= {"objective": 1e10}
    else:
        row |= {"reason": "RuntimeError: <script>alert('no')</script>"}
    return row


def write_trial(paths: Paths, row: dict[str, Any]) -> None:
    folder = paths.trial_dir(row["pid"], row["method"], row["run_id"])
    make_dir(folder)
    write_json_atomic(folder / METRICS_JSON, {"state": row["state"]})
    append_json_line(folder / PROGRESS_JSONL, {"event": "ended"})


def write_events(paths: Paths, rows: list[dict[str, Any]], *, has_ended: bool) -> None:
    def log(kind: str, at: float, **facts: Any) -> None:
        append_json_line(paths.events, {"kind": kind, "time": "2026-11-25T09:42:04.529+00:00", "at": at, **facts})

    log("begin", 0.0, pid=1, host="machine-7", caps={"htex64": 1, "htex32": 2}, batch_size=2)
    lane = {"lane": f"{PID}:reference", "label": "htex64", "task": f"{PID}:reference"}
    log("started", 1.0, **lane)
    log("done", 9.0, **lane)
    for index, row in enumerate(rows):
        lane = {"lane": f"{PID}:{row['method']}", "label": "htex32", "task": row["run_id"]}
        log("started", 9.0 + index, **lane)
        log("done", 10.5 + index, **lane)
    if has_ended:
        log("end", 12.0 + len(rows))


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Paths]:
    """Makes `quickstart/v1` with a reference and `num_trials` trials of two methods; leaves out what it is told to."""

    def make_run(*, num_trials: int = 12, without: tuple[str, ...] = (), **reference: Any) -> Paths:
        rng = np.random.default_rng(3)
        paths = Paths(tmp_path_factory.mktemp("runs") / "quickstart" / "v1")
        paths.make_folders()
        write_text_atomic(paths.resolved_config, CONFIG)
        write_json_atomic(paths.begun, {"pids": [PID], "methods": ["sgld", "vi"], "num_trials": num_trials})
        make_dir(paths.problem_dir(PID))
        write_text_atomic(paths.problem_dir(PID) / PROBLEM_YAML, "{target: mlp, seed: 42}\n")
        found = REFERENCE | reference
        states = ["COMPLETE"] * num_trials
        if num_trials >= 6:
            states[3], states[5] = "PRUNED", "FAIL"
        rows = [trial(method, n, state, rng) for method in ("sgld", "vi") for n, state in enumerate(states)]
        rows = [with_reference(row, found) for row in rows]
        if "trials" not in without:
            for row in rows:
                write_trial(paths, row)
        if "reference" in without:
            write_json_atomic(paths.problem_dir(PID) / FAILURE_JSON, {"state": "FAIL", "reason": "out of time"})
        else:
            write_json_atomic(paths.problem_dir(PID) / REFERENCE_JSON, found)
        if "table" not in without and "trials" not in without:
            write_trials_table(paths.trials_table, rows)
        if "events" not in without:
            write_events(paths, rows, has_ended="end" not in without)
        return paths

    return make_run
