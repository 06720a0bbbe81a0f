"""Convergence diagnostics of traces `(num_chains, num_draws)`, by ArviZ's functions of arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from lambda_hat.draws.array_stats import array_stats
from lambda_hat.draws.control import error_of, has_identities, readings_of
from lambda_hat.draws.info import Info

__all__ = [
    "NEGLIGIBLE",
    "ROUNDING",
    "DiagnosedDraws",
    "TraceDiagnostics",
    "bfmi",
    "block_means",
    "diagnose_readings",
    "diagnose_trace",
    "mcse",
    "psislw",
    "worse",
]

NEGLIGIBLE = 1e-4  # of λ̂: a spread that nothing depends on
ROUNDING = 1e-6  # of λ̂: an error that no estimate is below
_TAIL = (0.05, 0.95)  # quantiles whose ESS is that of the tails
_SAME_WEIGHT = 1e-9  # log-weights that differ by less are equal but for rounding


@dataclass(frozen=True)
class TraceDiagnostics:
    """Mean of a trace, its Monte Carlo standard error, rank-normalised split R̂, bulk and tail ESS."""

    mean: float
    mcse: float
    rhat: float
    ess_bulk: float
    ess_tail: float


def _finite(value: object, default: float) -> float:
    number = float(value)  # pyright: ignore[reportArgumentType]
    return number if math.isfinite(number) else default


def diagnose_trace(trace: ArrayLike) -> TraceDiagnostics:
    """Diagnostics of `(num_chains, num_draws)`; too few draws or a constant trace give R̂ = ∞ and ESS = 0.

    With one chain, which ArviZ refuses, R̂ compares its halves.
    """
    trace = np.asarray(trace, np.float64)
    mean = float(trace.mean()) if trace.size else math.nan
    if trace.shape[1] < 8 or not np.isfinite(trace).all() or np.ptp(trace) == 0.0:
        return TraceDiagnostics(mean, math.inf, math.inf, 0.0, 0.0)
    split = trace if trace.shape[0] > 1 else trace[:, : trace.shape[1] // 2 * 2].reshape(2, -1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # chains that never move, or run away
        return TraceDiagnostics(
            mean=mean,
            mcse=_finite(array_stats.mcse(trace, method="mean"), math.inf),
            rhat=_finite(array_stats.rhat(split, method="rank"), math.inf),
            ess_bulk=_finite(array_stats.ess(trace, method="bulk"), 0.0),
            ess_tail=_finite(array_stats.ess(trace, method="tail", prob=_TAIL), 0.0),
        )


def worse(one: TraceDiagnostics, other: TraceDiagnostics) -> TraceDiagnostics:
    """The larger R̂ and the smaller ESS; mean and error are those of `other`."""
    return replace(
        other,
        rhat=max(one.rhat, other.rhat),
        ess_bulk=min(one.ess_bulk, other.ess_bulk),
        ess_tail=min(one.ess_tail, other.ess_tail),
    )


def diagnose_readings(readings: ArrayLike) -> TraceDiagnostics:
    """`diagnose_trace`, but of readings that next to nothing is left of, as of a Gaussian posterior's: only the size of
    that means something.
    """
    trace = np.asarray(readings, np.float64)
    if trace.shape[1] >= 8 and np.isfinite(trace).all():
        mean, spread = float(trace.mean()), float(np.ptp(trace))
        if 0 < spread <= NEGLIGIBLE * abs(mean):
            return TraceDiagnostics(mean, max(spread, ROUNDING * abs(mean)), 1.0, float(trace.size), float(trace.size))
    return diagnose_trace(trace)


@dataclass(frozen=True, eq=False)
class DiagnosedDraws:
    """Draws of one set of chains, and the diagnostics that are asked for again and again, computed once."""

    info: Info
    nbeta: float

    @cached_property
    def loss_trace(self) -> np.ndarray:
        """nβ (L_n(w) − L_n(w0)), `(num_chains, num_draws)`."""
        return self.nbeta * np.asarray(self.info.excess_loss, np.float64)

    @cached_property
    def loss(self) -> TraceDiagnostics:
        """Of `loss_trace`; its mean is λ̂ without any correction."""
        return diagnose_trace(self.loss_trace)

    @cached_property
    def has_identities(self) -> bool:
        """Whether the identities were read at every draw, and hold."""
        return has_identities(self.info)

    @cached_property
    def corrected(self) -> TraceDiagnostics:
        """Of `loss_trace` less its regression on the identities, if they hold. Its mean is λ̂ with a smaller error.

        The correction of a Gaussian posterior leaves next to nothing, of which only the size means something.
        """
        if not self.has_identities:
            return self.loss
        corrected = diagnose_readings(readings_of(self.info, self.nbeta, "regression"))
        return replace(corrected, mcse=error_of(corrected.mcse, self.loss.mcse, "regression"))

    @cached_property
    def uncorrected(self) -> DiagnosedDraws:
        """The same draws as if no identities had been read."""
        nothing = np.full_like(self.info.excess_loss, math.nan)
        return DiagnosedDraws(self.info._replace(virial=nothing, curved_virial=nothing), self.nbeta)

    @cached_property
    def virial(self) -> float:
        """The larger of both identities' |mean|, in standard errors; NaN where they do not hold.

        The error is at least `ROUNDING` of λ̂: next to the localization's Gaussian M, and with it c₁, is 0 but for
        rounding.
        """
        if not self.has_identities:
            return math.nan
        traces = (np.asarray(trace, np.float64) for trace in (self.info.virial, self.info.curved_virial))
        least = ROUNDING * abs(self.loss.mean)
        return max(abs(float(trace.mean())) / max(mcse(trace), least) for trace in traces)

    @cached_property
    def distance(self) -> TraceDiagnostics:
        """Of r² = |w − w0|²."""
        return diagnose_trace(self.info.squared_distance)


def mcse(trace: ArrayLike) -> float:
    """Monte Carlo standard error of the mean of `(num_chains, num_draws)`; infinite where it cannot be known."""
    trace = np.asarray(trace, np.float64)
    if trace.shape[1] < 8 or not np.isfinite(trace).all() or np.ptp(trace) == 0.0:
        return math.inf
    with np.errstate(over="ignore"):  # a diverged chain
        return _finite(array_stats.mcse(trace, method="mean"), math.inf)


def bfmi(energy: ArrayLike) -> float:
    """Smallest energy Bayesian fraction of missing information over chains (Betancourt 1604.00695)."""
    return _finite(np.min(array_stats.bfmi(np.asarray(energy, np.float64))), 0.0)


def psislw(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Pareto-smoothed log-weights, normalised, and k̂ of `(num_draws,)` log-weights (Vehtari et al. 1507.02646).

    The largest of M draws of a Pareto tail is M^k times the smallest, and hardly ever less than M^(k/2) times: k̂ is at
    most 2 log(w₁/w_M)/log M, whatever shape is fitted to M weights that are nearly equal. Where no tail can be fitted,
    since many of the largest weights are equal or only a few matter, they stay as they are. Then k̂ = log(w₁/w_M)/log M,
    0 where all are equal.
    """
    num_in_tail = math.ceil(min(0.2 * len(log_weights), 3 * math.sqrt(len(log_weights))))  # as in that paper
    largest = np.partition(log_weights, -num_in_tail)[-num_in_tail:]
    if np.ptp(largest) < _SAME_WEIGHT:
        return _normalised(log_weights), 0.0
    by_longest = float(np.ptp(largest)) / math.log(num_in_tail)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        smoothed, k_hat = array_stats.psislw(-log_weights)  # which takes log-likelihoods of observations left out
    smoothed = np.asarray(smoothed)
    if not (np.isfinite(k_hat) and np.isfinite(smoothed).all()):
        return _normalised(log_weights), by_longest
    return smoothed, min(float(k_hat), 2 * by_longest)


def _normalised(log_weights: np.ndarray) -> np.ndarray:
    return log_weights - np.asarray(scipy.special.logsumexp(log_weights))


def block_means(trace: np.ndarray, num_blocks: int) -> np.ndarray:
    """Means over consecutive blocks: minibatch noise averages out, so that R̂ judges the chains and not the noise."""
    size = trace.shape[1] // num_blocks
    if size <= 1:
        return trace
    start = trace.shape[1] - size * num_blocks
    return trace[:, start:].reshape(trace.shape[0], num_blocks, size).mean(axis=2)
