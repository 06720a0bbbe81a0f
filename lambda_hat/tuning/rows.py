"""A trial, or a run of fixed settings, as a row of the table of all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lambda_hat.scheduling.fixed import FixedTrial
from lambda_hat.scheduling.folders import end_of
from lambda_hat.tuning.plan import StudyPlan

if TYPE_CHECKING:  # a search needs Optuna, rows of fixed runs do not
    from lambda_hat.tuning.study import TrialRecord

__all__ = ["run_row", "trial_row"]

_COPIED = (
    "llc_hat",
    "se_hat",
    "rhat",
    "ess_bulk",
    "ess_tail",
    "num_gradient_evaluations",
    "num_steps_done",
    "is_truncated",
    "num_together",
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
    return {
        "pid": plan.pid,
        "method": plan.method,
        "run_id": record.run_id,
        "number": record.number,
        "state": record.state,
        "origin": record.attrs.get("origin", "search"),
        "reason": record.attrs.get("reason") or metrics.get("reason"),
        "objective": record.value,
        "seed": record.attrs.get("seed"),
        **_outcome(metrics, plan.llc_ref, plan.se_ref, plan.label),
        **_settings(record.params),
    }


def run_row(
    sampler: str, run: FixedTrial, metrics: dict[str, Any], reference: Mapping[str, Any], label: str
) -> dict[str, Any]:
    """Every column of one run of fixed settings; a run that has not ended is `RUNNING`.

    `hyperparameters` and `param_<name>` are all of its settings, those of the preset included.
    """
    state, reason = end_of(metrics) if metrics else ("RUNNING", "")
    return {
        "pid": run.manifest["pid"],
        "sampler": sampler,
        "method": run.manifest["method"],
        "run_id": run.run_id,
        "state": state,
        "reason": reason or None,
        "seed": run.manifest["seed"],
        **_outcome(metrics, reference["llc"], reference["se"], label),
        **_settings(run.manifest["settings"]),
    }


def _outcome(metrics: Mapping[str, Any], llc_ref: float, se_ref: float, label: str) -> dict[str, Any]:
    """What `metrics.json` says, and how far it is from the reference."""
    versions = metrics.get("versions") or {}
    timings = metrics.get("timings") or {}
    llc_hat = metrics.get("llc_hat")
    error = None if llc_hat is None else llc_hat - llc_ref
    return {
        "llc_ref": llc_ref,
        "se_ref": se_ref,
        "error": error,
        "relative_error": None if error is None or llc_ref == 0 else error / abs(llc_ref),
        **{name: metrics.get(name) for name in _COPIED},
        **{f"{name}_sec": timings.get(name) for name in _TIMINGS},
        "executor": metrics.get("executor_label") or label,
        "pid_worker": metrics.get("pid"),
        "git_commit": versions.get("git_commit"),
        "versions": json.dumps(versions, sort_keys=True),
    }


def _settings(values: Mapping[str, object]) -> dict[str, object]:
    return {
        "hyperparameters": json.dumps(values, sort_keys=True),
        **{f"param_{name}": value for name, value in values.items()},
    }
