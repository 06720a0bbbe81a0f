"""How far a trial's estimate is from the reference, as the one number that a search makes small."""

from __future__ import annotations

import math

from lambda_hat.config.study import Objective
from lambda_hat.draws.criteria import MAX_K_HAT, MAX_RELATIVE_BIAS, MAX_RHAT_APPROXIMATE, MAX_VIRIAL
from lambda_hat.errors import InputError
from lambda_hat.records.metrics import Metrics

__all__ = ["WORST_VALUE", "clipped", "gates_of", "objective_value"]

WORST_VALUE = 1e10  # told for a diverged trial; far above any error of an estimate that is one


def objective_value(spec: Objective, llc_hat: float, llc_ref: float, rhat: float | None = None) -> float:
    """The error e = llc_hat − llc_ref as `spec` measures it, plus rhat_penalty · max(0, R̂ − 1.05).

    `abs`: |e|. `huber`: ½e² for |e| ≤ δ, else δ(|e| − ½δ). `relative`: |e| / |llc_ref|. A method without R̂ passes None
    and has no penalty. Arguments that are not finite give infinity.

    Raises:
        InputError: a relative error is asked for and `llc_ref` is 0.
    """
    error = abs(llc_hat - llc_ref)
    match spec.type:
        case "abs":
            value = error
        case "huber":
            value = 0.5 * error * error if error <= spec.delta else spec.delta * (error - 0.5 * spec.delta)
        case "relative":
            if llc_ref == 0:
                raise InputError("`optuna.objective.type: relative` needs a reference that is not 0. Use `abs` here.")
            value = error / abs(llc_ref)
    if rhat is not None and spec.rhat_penalty > 0:
        value += spec.rhat_penalty * max(0.0, rhat - MAX_RHAT_APPROXIMATE) if math.isfinite(rhat) else math.inf
    return value if math.isfinite(value) else math.inf


def gates_of(metrics: Metrics) -> dict[str, float]:
    """By how much a trial breaks each gate that it has a figure for, as a share of the bound; above 0 where it does.

    R̂ counts from 1, where all chains agree.
    """
    figures = {
        "rhat": (None if metrics.rhat is None else metrics.rhat - 1, MAX_RHAT_APPROXIMATE - 1),
        "k_hat": (metrics.reports.get("k_hat"), MAX_K_HAT),
        "bias": (metrics.self_check_bias, MAX_RELATIVE_BIAS),
        "stationarity": (metrics.stationarity, MAX_VIRIAL),
    }
    return {
        name: clipped(abs(value) / bound - 1)
        for name, (value, bound) in figures.items()
        if value is not None and not math.isnan(value)
    }


def clipped(value: float) -> float:
    """`value`, or WORST_VALUE where it is larger or not finite: Optuna would take an infinity as a result."""
    return min(value, WORST_VALUE) if math.isfinite(value) else WORST_VALUE
