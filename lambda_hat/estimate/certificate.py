"""When a reference may be believed: every criterion, its value and its bound."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from lambda_hat.estimate.diagnostics import bfmi, diagnose_trace
from lambda_hat.samplers.base import Info

__all__ = ["Certificate", "Criterion", "certify", "minimum_criterion", "step_size_agreement"]

MAX_RHAT = 1.01
MIN_ESS = 400.0
MAX_DIVERGENT_FRACTION = 1e-3
MIN_BFMI = 0.3
MAX_CHAIN_DEVIATION = 4.0  # of the chain's own MCSE
MIN_ACCEPTANCE_RATIO = 0.5  # of the target acceptance
MAX_STEP_SIZE_DEVIATION = 3.0  # combined MCSE


@dataclass(frozen=True)
class Criterion:
    """One requirement: `value` must be at most (or at least) `bound`."""

    name: str
    value: float
    bound: float
    is_upper: bool = True

    @property
    def is_met(self) -> bool:
        """Whether the requirement holds; a value that is no number fails."""
        if math.isnan(self.value):
            return False
        return self.value <= self.bound if self.is_upper else self.value >= self.bound

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"{self.name} is not known yet"
        return f"{self.name} is {self.value:.4g}, {'at most' if self.is_upper else 'at least'} {self.bound:g} wanted"


@dataclass(frozen=True)
class Certificate:
    """All criteria; certified means all of them."""

    criteria: tuple[Criterion, ...]

    @property
    def is_certified(self) -> bool:
        """Whether every criterion is met."""
        return all(criterion.is_met for criterion in self.criteria)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The criteria that are not met, in words."""
        return tuple(str(criterion) for criterion in self.criteria if not criterion.is_met)

    def to_list(self) -> list[dict[str, object]]:
        """One plain dict per criterion, infinities as null."""
        rows = [{**asdict(criterion), "is_met": criterion.is_met} for criterion in self.criteria]
        return [
            {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in row.items()}
            for row in rows
        ]


def _largest_chain_deviation(trace: np.ndarray) -> float:
    """Largest |mean of a chain − mean of the others| in units of the combined MCSE."""
    worst = 0.0
    for chain in range(trace.shape[0]):
        own = diagnose_trace(trace[chain : chain + 1])
        rest = diagnose_trace(np.delete(trace, chain, axis=0))
        error = math.hypot(own.mcse, rest.mcse)
        if not math.isfinite(error):
            return math.inf
        worst = max(worst, abs(own.mean - rest.mean) / error)
    return worst


def certify(info: Info | None, nbeta: float, *, target_accept: float, max_relative_mcse: float) -> Certificate:
    """Every criterion that one set of chains can be judged by; without draws none is met."""
    if info is None:
        return Certificate((Criterion("number of draws", 0, MIN_ESS, is_upper=False),))
    loss_trace = nbeta * np.asarray(info.excess_loss, np.float64)
    loss, distance = diagnose_trace(loss_trace), diagnose_trace(info.squared_distance)
    acceptance = float(np.mean(info.acceptance_rate, axis=1).min())
    relative_mcse = loss.mcse / abs(loss.mean) if loss.mean else math.inf
    divergent, deviation = float(np.mean(info.is_divergent)), _largest_chain_deviation(loss_trace)
    return Certificate(
        (
            Criterion("R̂ of the loss", loss.rhat, MAX_RHAT),
            Criterion("R̂ of r²", distance.rhat, MAX_RHAT),
            Criterion("bulk ESS of the loss", loss.ess_bulk, MIN_ESS, is_upper=False),
            Criterion("tail ESS of the loss", loss.ess_tail, MIN_ESS, is_upper=False),
            Criterion("bulk ESS of r²", distance.ess_bulk, MIN_ESS, is_upper=False),
            Criterion("tail ESS of r²", distance.ess_tail, MIN_ESS, is_upper=False),
            Criterion("MCSE over λ̂", relative_mcse, max_relative_mcse),
            Criterion("fraction of divergent steps", divergent, MAX_DIVERGENT_FRACTION),
            Criterion("E-BFMI", bfmi(info.energy), MIN_BFMI, is_upper=False),
            Criterion("largest deviation of a chain's mean loss, in MCSE", deviation, MAX_CHAIN_DEVIATION),
            Criterion(
                "smallest acceptance of a chain", acceptance, MIN_ACCEPTANCE_RATIO * target_accept, is_upper=False
            ),
        )
    )


def step_size_agreement(
    info: Info | None, finer: Info | None, nbeta: float, *, max_relative_mcse: float
) -> Certificate:
    """Agreement of λ̂ with chains at half the step size, which must be long enough to tell."""
    rhat = relative_mcse = deviation = math.nan
    if info is not None and finer is not None:
        coarse = diagnose_trace(nbeta * np.asarray(info.excess_loss, np.float64))
        fine = diagnose_trace(nbeta * np.asarray(finer.excess_loss, np.float64))
        error = math.hypot(coarse.mcse, fine.mcse)
        rhat = fine.rhat
        relative_mcse = fine.mcse / abs(fine.mean) if fine.mean else math.inf
        deviation = abs(coarse.mean - fine.mean) / error if math.isfinite(error) and error > 0 else math.inf
    return Certificate(
        (
            Criterion("R̂ of the loss at half the step size", rhat, MAX_RHAT),
            Criterion("MCSE over λ̂ at half the step size", relative_mcse, max_relative_mcse),
            Criterion("disagreement with half the step size, in MCSE", deviation, MAX_STEP_SIZE_DEVIATION),
        )
    )


def minimum_criterion(decrease_available: float, llc: float, max_share: float) -> Criterion:
    """Whether w0 is a minimum worth the name: nβ × what the loss can still lose near it, against λ̂."""
    share = decrease_available / abs(llc) if llc else math.inf
    return Criterion("nβ × decrease of the loss still available at w0, over λ̂", share, max_share)
