"""From loss traces to an LLC with its standard error and diagnostics: λ̂ = nβ (E_π[L_n(w)] − L_n(w0))."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lambda_hat.draws.control import error_of, readings_of
from lambda_hat.draws.criteria import Correction
from lambda_hat.draws.diagnostics import (
    NEGLIGIBLE,
    ROUNDING,
    TraceDiagnostics,
    block_means,
    diagnose_readings,
    diagnose_trace,
    mcse,
    worse,
)
from lambda_hat.draws.info import Info

__all__ = ["LLCEstimate", "estimate_llc_from_traces", "pool_fits", "weighted_mean_error"]

NUM_BLOCKS = 100  # per chain, for R̂ and ESS of readings with minibatch noise
MAX_BLOCKS_FOR_ERROR = 2000  # per chain; a longer trace is averaged over blocks first: cheaper, and a trend counts more
MAX_DISTANCES = 2000  # per chain, of so many steps: ranking more costs longer than short runs sample


@dataclass(frozen=True)
class LLCEstimate:
    """λ̂, its Monte Carlo standard error, and what speaks for or against it.

    `rhat` is the larger of those of the loss and of r² = |w − w0|²; `ess_bulk` and `ess_tail` are the smaller ones.
    `raw_llc` and `raw_se` are what they were before any correction by identities.
    """

    llc: float
    se: float
    raw_llc: float
    raw_se: float
    rhat: float
    ess_bulk: float
    ess_tail: float
    rhat_loss: float
    rhat_distance: float
    num_draws: int


def weighted_mean_error(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weighted mean Σ w_t x_t / Σ w_t over `(num_chains, num_draws)` and its Monte Carlo standard error.

    The error is that of the linearised ratio, the mean of w_t (x_t − m) / w̄, so autocorrelation and disagreement of
    chains both count.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged chain
        mean = float(np.sum(weights * values) / np.sum(weights))
        influence = weights * (values - mean) / np.mean(weights)
    size = -(-influence.shape[1] // MAX_BLOCKS_FOR_ERROR)
    return mean, mcse(block_means(influence, influence.shape[1] // size) if size > 1 else influence)


def estimate_llc_from_traces(
    info: Info, nbeta: float, *, has_minibatch_noise: bool, correction: Correction = "none"
) -> LLCEstimate:
    """λ̂ from traces without burn-in, corrected by the identities if wanted. Then R̂ and ESS of the loss are the worse
    ones of what is read and of what is corrected.

    With minibatch noise R̂ and ESS are those of block means: the noise of single readings, independent from step to
    step, would hide chains that disagree. Those of r², which has no such noise, are then of at most `MAX_DISTANCES`
    steps, evenly spaced: twenty per block, so that they do not bound the ESS.
    """
    with np.errstate(over="ignore"):  # a diverged chain: the infinities are judged below
        readings = nbeta * np.asarray(info.excess_loss, np.float64)
    weights = np.asarray(info.weight, np.float64)
    if readings.shape[1] == 0 or not np.isfinite(readings).all():
        return LLCEstimate(
            math.nan, math.inf, math.nan, math.inf, math.inf, 0.0, 0.0, math.inf, math.inf, readings.size
        )
    corrected = readings_of(info, nbeta, correction)
    raw = weighted_mean_error(readings, weights)
    llc, se = _mean_error(corrected, weights)
    se = error_of(se, raw[1], correction)
    loss = worse(
        *(
            diagnose_readings(block_means(trace, NUM_BLOCKS) if has_minibatch_noise else trace)
            for trace in (readings, corrected)
        )
    )
    thinning = -(-readings.shape[1] // MAX_DISTANCES) if has_minibatch_noise else 1
    distance = diagnose_trace(np.asarray(info.squared_distance[:, ::thinning], np.float64))
    return _estimate((llc, se), raw, loss, distance, readings.size)


def _mean_error(readings: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """As `weighted_mean_error`, of readings that may be nearly constant, whose spread is then their error."""
    mean, se = weighted_mean_error(readings, weights)
    spread = float(np.ptp(readings))
    return mean, max(spread, ROUNDING * abs(mean)) if spread <= NEGLIGIBLE * abs(mean) else se


def _estimate(
    corrected: tuple[float, float],
    raw: tuple[float, float],
    loss: TraceDiagnostics,
    distance: TraceDiagnostics,
    num_draws: int,
) -> LLCEstimate:
    return LLCEstimate(
        llc=corrected[0],
        se=corrected[1],
        raw_llc=raw[0],
        raw_se=raw[1],
        rhat=max(loss.rhat, distance.rhat),
        ess_bulk=min(loss.ess_bulk, distance.ess_bulk),
        ess_tail=min(loss.ess_tail, distance.ess_tail),
        rhat_loss=loss.rhat,
        rhat_distance=distance.rhat,
        num_draws=num_draws,
    )


def pool_fits(readings: np.ndarray, distances: np.ndarray) -> LLCEstimate:
    """λ̂ from independent draws `(num_fits, num_draws)` of several fits to the same posterior.

    The error combines that of each fit's draws with the spread between fits, which Monte Carlo within a fit cannot see.
    """
    num_fits, num_draws = readings.shape
    means = readings.mean(axis=1)
    variance = float(np.sum(readings.var(axis=1, ddof=1)) / num_draws / num_fits**2)
    if num_fits > 1:
        variance = max(variance, float(means.var(ddof=1)) / num_fits)
    loss, distance = diagnose_trace(readings), diagnose_trace(distances)
    pooled = float(means.mean()), math.sqrt(variance)
    return _estimate(pooled, pooled, loss, distance, readings.size)
