"""What the trials of a study say together: how the search went, which hyperparameters matter, what accuracy costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lambda_hat.config.study import Objective
from lambda_hat.draws.criteria import MAX_K_HAT, MAX_RHAT_APPROXIMATE
from lambda_hat.formatting import count, number
from lambda_hat.records.base import Value
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import OutcomeRow, RunRow, TrialRow, Verdict
from lambda_hat.records.state import State

__all__ = [
    "Priced",
    "as_numbers",
    "best_so_far",
    "best_trial",
    "by_rank",
    "completed",
    "doubts",
    "doubts_of_settings",
    "exceeds",
    "in_the_running",
    "objective_error",
    "parameter_importances",
    "parameters",
    "pareto_front",
    "priced",
    "score",
]

_MIN_TRIALS = 8
_NUM_BINS = 4


@dataclass(frozen=True)
class Priced:
    """A completed trial with what its accuracy cost."""

    trial: TrialRow
    work: float  # gradient evaluations on the full-data scale
    error: float  # |llc_hat − llc_ref|


def score(trial: TrialRow) -> float:
    """The objective of a completed trial; infinity where it was pruned or failed, or its objective is not known."""
    return trial.objective if trial.state is State.COMPLETE and trial.objective is not None else math.inf


def completed(trials: Iterable[TrialRow]) -> list[TrialRow]:
    """Trials with an objective that says how good they are: not pruned, not failed."""
    return [trial for trial in trials if score(trial) < math.inf]


def in_the_running(trials: Iterable[TrialRow]) -> list[TrialRow]:
    """Those completed trials that may be the best: the ones that keep all gates; all of them, where none does."""
    known = completed(trials)
    return [trial for trial in known if not trial.violation] or known


def best_trial(trials: Iterable[TrialRow]) -> TrialRow | None:
    """The trial in the running with the smallest objective, as the search has it; None where none was completed."""
    return min(in_the_running(trials), key=score, default=None)


def by_rank(trials: Iterable[TrialRow]) -> list[TrialRow]:
    """The best first: those in the running by their objective, then those that break a gate, then the others."""
    trials = list(trials)
    running = {id(trial) for trial in in_the_running(trials)}
    return sorted(trials, key=lambda trial: (id(trial) not in running, score(trial)))


def best_so_far(trials: Sequence[TrialRow]) -> tuple[list[int], list[float]]:
    """Numbers of the trials in the running, and of the last of all, and the smallest objective up to each."""
    known = in_the_running(trials)
    numbers, lowest = [trial.number for trial in known], np.minimum.accumulate([score(trial) for trial in known])
    last = max((trial.number for trial in trials), default=0)
    if numbers and last > numbers[-1]:
        return [*numbers, last], [*lowest.tolist(), float(lowest[-1])]
    return numbers, lowest.tolist()


def objective_error(objective: Objective | None, reference: ReferenceRecord | None) -> float | None:
    """The reference's standard error in units of the objective; None where that has no such scale, or is not known."""
    if objective is None or reference is None or reference.se is None or not reference.llc:
        return None
    return {"abs": reference.se, "relative": reference.se / abs(reference.llc)}.get(objective.type)


def exceeds(value: float | None, bound: float | None) -> bool:
    """Whether a diagnostic and a bound are there, and the one is larger than the other."""
    return value is not None and bound is not None and abs(value) > bound


def doubts(row: OutcomeRow) -> list[str]:
    """Why an estimate and its standard error cannot be trusted, however close to the reference it came."""
    at_w0 = ["w0 is no minimum"] if isinstance(row, RunRow) and row.is_minimum is False else []
    return at_w0 + _doubts(row.rhat, row.reports.get("k_hat"))


def doubts_of_settings(row: Verdict) -> list[str]:
    """Why settings that were confirmed cannot be trusted, however close their runs came, by a row of theirs."""
    found = [f"{row.num_failed} of its {count(row.num_seeds, 'run')} failed"] if row.num_failed else []
    return found + _doubts(row.worst_rhat, row.worst_k_hat)


def _doubts(rhat: float | None, k_hat: float | None) -> list[str]:
    found = []
    if exceeds(rhat, MAX_RHAT_APPROXIMATE):
        found.append(f"its chains disagree (R̂ {number(rhat, '.2f', MAX_RHAT_APPROXIMATE)})")
    if exceeds(k_hat, MAX_K_HAT):
        found.append(f"its fit does not cover the posterior (k̂ {number(k_hat, '.2f', MAX_K_HAT)})")
    return found


def parameters(trials: Sequence[TrialRow]) -> list[str]:
    """The hyperparameters that took more than one value, by name."""
    values: dict[str, set[Value]] = {}
    for trial in trials:
        for name, value in trial.hyperparameters.items():
            if value is not None:
                values.setdefault(name, set()).add(value)
    return sorted(name for name, taken in values.items() if len(taken) > 1)


def as_numbers(values: Sequence[Value]) -> list[float] | None:
    """The values where all are numbers; None where one is a category."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return numbers if len(numbers) == len(values) else None


def parameter_importances(trials: Sequence[TrialRow]) -> dict[str, float]:
    """Share of the variance of the objective's ranks that each hyperparameter explains alone, largest first.

    Numbers are cut into quarters; ε² (Kelley 1935), which is 0 on average where there is nothing to explain, and so
    can be negative, is shown from 0 on. Interactions are not in it. Empty below eight completed trials.
    """
    known = completed(trials)
    if len(known) < _MIN_TRIALS:
        return {}
    from scipy.stats import rankdata  # a second of imports, which the console's summary can do without

    ranks = rankdata([score(trial) for trial in known])
    shares = {
        name: _explained(ranks, _groups([trial.hyperparameters.get(name) for trial in known]))
        for name in parameters(known)
    }
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def priced(trials: Iterable[TrialRow]) -> list[Priced]:
    """The completed trials whose error and work are known."""
    return [
        Priced(trial, trial.num_gradient_evaluations, abs(trial.error))
        for trial in completed(trials)
        if trial.error is not None and trial.num_gradient_evaluations is not None
    ]


def pareto_front(trials: Iterable[Priced]) -> list[Priced]:
    """The trials that no other one beats in both work and error, the cheapest first."""
    front: list[Priced] = []
    for one in sorted(trials, key=lambda one: (one.work, one.error)):
        if not front or one.error < front[-1].error:
            front.append(one)
    return front


def _groups(values: Sequence[Value]) -> np.ndarray:
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
