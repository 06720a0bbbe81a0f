"""Whether the best trials of a search are good, or only lucky: their settings under seeds that the search never saw."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lambda_hat.artifacts.ids import canonical_json, derive_seed
from lambda_hat.artifacts.paths import Paths
from lambda_hat.scheduling.fixed import FixedTrial, fixed_trial
from lambda_hat.scheduling.folders import end_of
from lambda_hat.tuning.plan import StudyPlan

if TYPE_CHECKING:  # a search needs Optuna, what is confirmed of it does not
    from lambda_hat.tuning.study import TrialRecord

__all__ = ["Candidate", "Verdict", "best_candidates", "confirming_runs", "fresh_seeds", "judge", "settings_columns"]


@dataclass(frozen=True)
class Candidate:
    """Settings that a search found, and how it came upon them."""

    pid: str  # the problem that they were found on
    number: int
    run_id: str | None
    params: Mapping[str, Any]
    objective: float
    llc_hat: float | None

    @property
    def key(self) -> str:
        """The same for equal settings."""
        return canonical_json(self.params)


@dataclass(frozen=True)
class Verdict:
    """How far runs of the same settings were from a reference; None where none of them has an estimate.

    `rmse` is the root of the mean of the squared errors, `rmse_se` its standard error by the delta method:
    sd(e²) / √n / (2 rmse), which needs two runs. `rms_z` is the same of z = e / √(se² + se_ref²): about 1 where the
    runs' own standard errors tell how far off they are, and larger where they are biased.
    """

    num_seeds: int
    num_failed: int  # runs without an estimate, diverged ones included
    rmse: float | None
    rmse_se: float | None
    mean_error: float | None
    relative_rmse: float | None  # over |llc_ref|
    rms_z: float | None
    worst_rhat: float | None
    worst_k_hat: float | None
    num_gradient_evaluations: float | None  # means over the runs
    seconds: float | None

    @property
    def rank_key(self) -> tuple[float, ...]:
        """Smaller is better: settings that fail are not to be relied upon, however good they are otherwise."""
        return self.num_failed, math.inf if self.rmse is None else self.rmse


def best_candidates(pid: str, records: Iterable[TrialRecord], top_k: int) -> list[Candidate]:
    """The `top_k` completed trials with the smallest objectives and different settings, best first."""
    complete = [record for record in records if record.state == "COMPLETE" and record.value is not None]
    found: dict[str, Candidate] = {}
    for record in sorted(complete, key=lambda record: (record.value or 0.0, record.number)):
        llc_hat = record.attrs.get("llc_hat")
        candidate = Candidate(pid, record.number, record.run_id, record.params, record.value or 0.0, llc_hat)
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
            f"confirm-{plan.method}",
            method=plan.method,
            hyperparams=candidate.params,
            settings={**plan.settings, **candidate.params},
            seed=seed,
            trial_sec=plan.trial_sec,
        )
        for seed in seeds
    ]


def judge(metrics: Sequence[Mapping[str, Any]], llc_ref: float, se_ref: float) -> Verdict:
    """The verdict on runs of the same settings by what each of them ended with."""
    complete = [item for item in metrics if end_of(item)[0] == "COMPLETE"]
    errors = [item["llc_hat"] - llc_ref for item in complete]
    spreads = [math.hypot(item.get("se_hat") or math.nan, se_ref) for item in complete]
    rmse = _root_mean_square(errors)
    seconds = [(item.get("timings") or {}).get("total") for item in complete]
    return Verdict(
        num_seeds=len(metrics),
        num_failed=len(metrics) - len(complete),
        rmse=rmse,
        rmse_se=_rmse_se(errors, rmse),
        mean_error=_mean(errors),
        relative_rmse=rmse / abs(llc_ref) if rmse is not None and llc_ref else None,
        rms_z=_root_mean_square([error / se for error, se in zip(errors, spreads, strict=True) if se > 0]),
        worst_rhat=_worst("rhat", complete),
        worst_k_hat=_worst("k_hat", complete),
        num_gradient_evaluations=_mean([item.get("num_gradient_evaluations") for item in complete]),
        seconds=_mean(seconds),
    )


def settings_columns(candidate: Candidate) -> dict[str, Any]:
    """The candidate's settings as columns of a table."""
    return {
        "hyperparameters": json.dumps(candidate.params, sort_keys=True),
        **{f"param_{name}": value for name, value in candidate.params.items()},
    }


def _rmse_se(errors: Sequence[float], rmse: float | None) -> float | None:
    if rmse is None or rmse == 0 or len(errors) < 2:
        return None
    return statistics.stdev(error**2 for error in errors) / math.sqrt(len(errors)) / (2 * rmse)


def _root_mean_square(values: Sequence[float]) -> float | None:
    return math.sqrt(statistics.fmean(value**2 for value in values)) if values else None


def _worst(name: str, metrics: Iterable[Mapping[str, Any]]) -> float | None:
    return max((item[name] for item in metrics if item.get(name) is not None), default=None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
