"""Whether the best trials of a search are good, or only lucky: their settings under seeds that the search never saw."""

from __future__ import annotations

import math
import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lambda_hat.artifacts.ids import canonical_json, derive_seed
from lambda_hat.artifacts.paths import CONFIRMING, Paths
from lambda_hat.records.base import Value
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.rows import Verdict
from lambda_hat.records.state import State
from lambda_hat.scheduling.fixed import FixedTrial, fixed_trial
from lambda_hat.tuning.plan import StudyPlan

if TYPE_CHECKING:  # a search needs Optuna, what is confirmed of it does not
    from lambda_hat.tuning.study import StudyTrial

__all__ = ["Candidate", "best_candidates", "confirming_runs", "fresh_seeds", "judge"]


@dataclass(frozen=True)
class Candidate:
    """Settings that a search found, and how it came upon them."""

    pid: str  # the problem that they were found on
    number: int
    run_id: str | None
    params: Mapping[str, Value]
    objective: float
    llc_hat: float | None

    @property
    def key(self) -> str:
        """Canonical text of the settings: equal settings have equal keys."""
        return canonical_json(self.params)


def best_candidates(pid: str, trials: Iterable[StudyTrial], top_k: int) -> list[Candidate]:
    """The `top_k` best completed trials with different settings, best first: constraints come before objectives."""
    complete = [trial for trial in trials if trial.state is State.COMPLETE and trial.value is not None]
    found: dict[str, Candidate] = {}
    for trial in sorted(complete, key=lambda trial: trial.rank):
        candidate = Candidate(pid, trial.number, trial.run_id, trial.params, trial.value or 0.0, trial.llc_hat)
        found.setdefault(candidate.key, candidate)
    return list(found.values())[:top_k]


def fresh_seeds(plan: StudyPlan, num_seeds: int, taken: Container[object]) -> list[int]:
    """Seeds of a study's confirmation, the same for all candidates and none of those in `taken`."""
    seeds: list[int] = []
    attempt = 0
    while len(seeds) < num_seeds:
        seed = derive_seed("confirm", plan.seed, plan.pid, plan.method, attempt)
        if seed not in taken and seed not in seeds:
            seeds.append(seed)
        attempt += 1
    return seeds


def confirming_runs(paths: Paths, plan: StudyPlan, candidate: Candidate, seeds: Sequence[int]) -> list[FixedTrial]:
    """The candidate as a trial of the study that `plan` describes, once for each seed."""
    return [
        fixed_trial(
            paths,
            plan.pid,
            f"{CONFIRMING}{plan.method}",
            method=plan.method,
            hyperparams=candidate.params,
            settings={**plan.settings, **candidate.params},
            seed=seed,
            trial_sec=plan.trial_sec,
            setup_sec=plan.setup_sec,
        )
        for seed in seeds
    ]


def judge(metrics: Sequence[Metrics | None], llc_ref: float, se_ref: float) -> Verdict:
    """The verdict on runs of the same settings by what each of them ended with."""
    ended = [item for item in metrics if item is not None and item.state is State.COMPLETE]
    complete = [(item, item.llc_hat - llc_ref) for item in ended if item.llc_hat is not None]
    errors = [error for _, error in complete]
    rmse = _root_mean_square(errors)
    spreads = [(error, math.hypot(item.se_hat or math.nan, se_ref)) for item, error in complete]
    return Verdict(
        num_seeds=len(metrics),
        num_failed=len(metrics) - len(complete),
        rmse=rmse,
        rmse_se=_rmse_se(errors, rmse),
        mean_error=_mean(errors),
        relative_rmse=rmse / abs(llc_ref) if rmse is not None and llc_ref else None,
        rms_z=_root_mean_square([error / se for error, se in spreads if se > 0]),
        worst_rhat=_largest(item.rhat for item, _ in complete),
        worst_k_hat=_largest(item.reports.get("k_hat") for item, _ in complete),
        num_gradient_evaluations=_mean(item.num_gradient_evaluations for item, _ in complete),
        seconds=_mean(item.timings.total for item, _ in complete if item.timings is not None),
    )


def _rmse_se(errors: Sequence[float], rmse: float | None) -> float | None:
    if rmse is None or rmse == 0 or len(errors) < 2:
        return None
    return statistics.stdev(error**2 for error in errors) / math.sqrt(len(errors)) / (2 * rmse)


def _root_mean_square(values: Sequence[float]) -> float | None:
    return math.sqrt(statistics.fmean(value**2 for value in values)) if values else None


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
