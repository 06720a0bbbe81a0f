"""A trial as a row of the table of all trials."""

from __future__ import annotations

import json
from typing import Any

from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.tuning.study import TrialRecord

__all__ = ["trial_row"]

_COPIED = (
    "llc_hat",
    "se_hat",
    "rhat",
    "ess_bulk",
    "ess_tail",
    "num_gradient_evaluations",
    "num_steps_done",
    "is_truncated",
    "dtype",
    "x64",
    "device",
    "host",
    "k_hat",
    "llc_psis",
    "predicted_bias",
    "elbo",
    "elbo_slope",
    "elbo_slope_se",
    "acceptance_rate",
    "adapted_step_size",
    "divergence_rate",
    "energy_error_variance",
    "started",
    "finished",
)
_TIMINGS = ("load", "compile", "sample", "total")


def trial_row(plan: StudyPlan, record: TrialRecord, metrics: dict[str, Any]) -> dict[str, Any]:
    """Every column of one trial; None where the trial did not get far enough to have a value.

    `error` is llc_hat − llc_ref, `relative_error` that over |llc_ref|; `*_sec` are wall seconds in the worker;
    hyperparameters come as `param_<name>` and, together, as JSON.
    """
    versions = metrics.get("versions") or {}
    timings = metrics.get("timings") or {}
    llc_hat = metrics.get("llc_hat")
    error = None if llc_hat is None else llc_hat - plan.llc_ref
    return {
        "pid": plan.pid,
        "method": plan.method,
        "run_id": record.run_id,
        "number": record.number,
        "state": record.state,
        "origin": record.attrs.get("origin", "search"),
        "reason": record.attrs.get("reason") or metrics.get("reason"),
        "objective": record.value,
        "llc_ref": plan.llc_ref,
        "se_ref": plan.se_ref,
        "error": error,
        "relative_error": None if error is None or plan.llc_ref == 0 else error / abs(plan.llc_ref),
        **{name: metrics.get(name) for name in _COPIED},
        **{f"{name}_sec": timings.get(name) for name in _TIMINGS},
        "executor": metrics.get("executor_label") or plan.label,
        "pid_worker": metrics.get("pid"),
        "seed": record.attrs.get("seed"),
        "git_commit": versions.get("git_commit"),
        "versions": json.dumps(versions, sort_keys=True),
        "hyperparameters": json.dumps(record.params, sort_keys=True),
        **{f"param_{name}": value for name, value in record.params.items()},
    }
