"""What the trials of a study say together: how the search went, which hyperparameters matter, what accuracy costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lambda_hat.config.study import Objective
from lambda_hat.estimate.criteria import MAX_K_HAT, MAX_RHAT_APPROXIMATE

__all__ = [
    "MAX_Z",
    "best_so_far",
    "completed",
    "doubts",
    "doubts_of_settings",
    "exceeds",
    "indistinguishable",
    "objective_error",
    "parameter_importances",
    "parameters",
    "pareto_front",
]

Row = Mapping[str, Any]

PARAM_PREFIX = "param_"
MAX_Z = 2.0  # combined standard errors, up to which an estimate cannot be told from the reference
_MIN_TRIALS = 8
_NUM_BINS = 4


def completed(trials: Iterable[Row]) -> list[Row]:
    """Trials with an objective that says how good they are: not pruned, not failed."""
    return [row for row in trials if row["state"] == "COMPLETE" and row.get("objective") is not None]


def best_so_far(trials: Sequence[Row]) -> tuple[list[int], list[float]]:
    """Numbers of completed trials and the smallest objective up to each."""
    known = completed(trials)
    return [row["number"] for row in known], np.minimum.accumulate([row["objective"] for row in known]).tolist()


def objective_error(objective: Objective | None, reference: Mapping[str, Any]) -> float | None:
    """The reference's standard error in units of the objective; None where that has no such scale, or is not known."""
    se, llc = reference.get("se"), reference.get("llc")
    if objective is None or se is None or not llc:
        return None
    return {"abs": se, "relative": se / abs(llc)}.get(objective.type)


def exceeds(value: float | None, bound: float) -> bool:
    """Whether a diagnostic is there and above its bound."""
    return value is not None and value > bound


def doubts(row: Row) -> list[str]:
    """Why an estimate and its standard error cannot be trusted, however close to the reference it came."""
    return _doubts(row.get("rhat"), row.get("k_hat"))


def doubts_of_settings(row: Row) -> list[str]:
    """Why an estimate by settings that were confirmed could not be trusted without a reference, by a row of theirs."""
    num_failed, rms_z = row.get("num_failed"), row.get("rms_z")
    found = [f"{num_failed} of its runs failed"] if num_failed else []
    found += _doubts(row.get("worst_rhat"), row.get("worst_k_hat"))
    if exceeds(rms_z, MAX_Z):
        found.append(f"its errors are {rms_z:.1f} times what its standard errors say")
    return found


def _doubts(rhat: float | None, k_hat: float | None) -> list[str]:
    found = []
    if exceeds(rhat, MAX_RHAT_APPROXIMATE):
        found.append(f"its chains disagree (R̂ {rhat:.2f})")
    if exceeds(k_hat, MAX_K_HAT):
        found.append(f"its fit does not cover the posterior (k̂ {k_hat:.2f})")
    return found


def indistinguishable(rows: Iterable[Row]) -> list[Row]:
    """Those within two combined standard errors of the reference, and not by luck; the cheapest first."""
    close = [row for row in rows if row.get("z") is not None and abs(row["z"]) <= MAX_Z and not doubts(row)]
    return sorted(close, key=lambda row: row.get("num_gradient_evaluations") or math.inf)


def parameters(trials: Sequence[Row]) -> list[str]:
    """The hyperparameters that took more than one value, by name."""
    names = sorted({name for row in trials for name in row if name.startswith(PARAM_PREFIX)})
    return [
        name.removeprefix(PARAM_PREFIX)
        for name in names
        if len({row.get(name) for row in trials if row.get(name) is not None}) > 1
    ]


def parameter_importances(trials: Sequence[Row]) -> dict[str, float]:
    """Share of the variance of the objective's ranks that each hyperparameter explains alone, largest first.

    Numbers are cut into quarters; ε² (Kelley 1935), which is 0 on average where there is nothing to explain, and so
    can be negative, is shown from 0 on. Interactions are not in it. Empty below eight completed trials.
    """
    known = completed(trials)
    if len(known) < _MIN_TRIALS:
        return {}
    from scipy.stats import rankdata  # a second of imports, which the console's summary can do without

    ranks = rankdata([row["objective"] for row in known])
    shares = {
        name: _explained(ranks, _groups([row.get(f"param_{name}") for row in known])) for name in parameters(known)
    }
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def pareto_front(trials: Iterable[Row]) -> list[Row]:
    """The trials that no other one beats in both gradient evaluations and |error|, the cheapest first."""
    known = [
        row
        for row in completed(trials)
        if row.get("error") is not None and row.get("num_gradient_evaluations") is not None
    ]
    front: list[Row] = []
    for row in sorted(known, key=lambda row: (row["num_gradient_evaluations"], abs(row["error"]))):
        if not front or abs(row["error"]) < abs(front[-1]["error"]):
            front.append(row)
    return front


def _groups(values: Sequence[Any]) -> np.ndarray:
    """The group of every value: itself where few values are taken, else its quarter of all values."""
    distinct = {value: index for index, value in enumerate(dict.fromkeys(values))}
    if len(distinct) <= _NUM_BINS or not all(isinstance(value, int | float) for value in values):
        return np.array([distinct[value] for value in values])
    numbers = np.array(values, np.float64)
    edges = np.quantile(numbers, np.linspace(0, 1, _NUM_BINS + 1)[1:-1])
    return np.searchsorted(edges, numbers)


def _explained(ranks: np.ndarray, groups: np.ndarray) -> float:
    num, num_groups = len(ranks), len(np.unique(groups))
    total = float(np.sum((ranks - ranks.mean()) ** 2))
    if total == 0.0 or num <= num_groups:
        return 0.0
    within = sum(
        float(np.sum((ranks[groups == group] - ranks[groups == group].mean()) ** 2)) for group in np.unique(groups)
    )
    return max(0.0, 1.0 - within / (num - num_groups) * (num - 1) / total)
