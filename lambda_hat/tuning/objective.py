"""How far a trial's estimate is from the reference, as the one number that a search makes small."""

from __future__ import annotations

import math

from lambda_hat.config.study import Objective
from lambda_hat.draws.criteria import MAX_RHAT_APPROXIMATE
from lambda_hat.errors import InputError

__all__ = ["WORST_VALUE", "clipped", "objective_value"]

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


def clipped(value: float) -> float:
    """`value`, or WORST_VALUE where it is larger or not finite: Optuna would take an infinity as a result."""
    return min(value, WORST_VALUE) if math.isfinite(value) else WORST_VALUE
