"""What the identities say of a run without any reference: how far its draws are from π, and from a Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lambda_hat.draws.diagnostics import ROUNDING, block_means, mcse
from lambda_hat.draws.info import Info

__all__ = ["SelfCheck", "check_draws"]

NUM_BLOCKS = 100


@dataclass(frozen=True)
class SelfCheck:
    """Figures of one run; NaN where a method does not read what they need."""

    virial_excess: float
    """E[r·∇U]/d − 1: 0 under π, and of the size of the bias of the draws otherwise."""
    virial: float
    """The larger of both identities' |mean|, in standard errors (at least `ROUNDING` of λ̂ each): what speaks against a
    sampler without bias."""
    stationarity: float
    """How far a chain with constant steps is from its stationary law, in λ̂-units over the larger of the standard error
    and a quarter of a per cent of λ̂."""
    degree: float
    """q = nβ E[r·∇L_n]/λ̂, the local degree of the loss: 2 where it is quadratic, more where it is flatter."""
    left_open: float
    """What the correction by ½ (r·M∇U − tr M) leaves open: how far its λ̂ is from raw λ̂/(E[r·∇U]/d), the correction by
    the virial as a whole, beyond the standard error e of that difference, √(difference² − e²). Both are right for a
    quadratic loss whose directions are all biased alike; neither is where the loss is of another kind."""
    relative_bias: float
    """What a sampler with a bias of its own may be off by, over λ̂: the largest of E[½ (r·M∇U − tr M)]/λ̂, which is the
    bias that was taken off, max(q/2, 1) times the virial excess, which sees the directions that M does not, and what
    is left open."""


def check_draws(info: Info, llc: float, *, nbeta: float, dim: int, localization: float) -> SelfCheck:
    """The figures of traces without burn-in, weighted as the estimate is."""
    weights = np.asarray(info.weight, np.float64)
    total = float(np.sum(weights))

    def mean_error(trace: object) -> tuple[float, float]:
        values = np.asarray(trace, np.float64)
        if not values.size or not np.isfinite(values).all():
            return math.nan, math.nan
        mean = float(np.sum(weights * values)) / total
        return mean, mcse(block_means(weights * (values - mean) / np.mean(weights), NUM_BLOCKS))

    plain, plain_error = mean_error(info.virial)
    curved, curved_error = mean_error(info.curved_virial)
    drift, drift_error = mean_error(info.stationarity)
    squared_distance, _ = mean_error(info.squared_distance)
    excess = 2 * plain / dim
    least = ROUNDING * abs(llc)
    degree = (2 * plain + dim - localization * squared_distance) / llc if llc else math.nan
    raw = nbeta * np.asarray(info.excess_loss, np.float64)
    share = 1 + excess or math.nan  # 0 of draws that are all w0
    other = mean_error(raw)[0] / share
    by_virial = (raw - other * 2 * np.asarray(info.virial, np.float64) / dim) / share
    _, difference_error = mean_error(raw - np.asarray(info.curved_virial, np.float64) - by_virial)
    difference = abs(llc - other)
    if difference > difference_error:
        left_open = difference * math.sqrt(1 - (difference_error / difference) ** 2)
    else:
        left_open = 0.0 if math.isfinite(difference) else math.nan
    return SelfCheck(
        virial_excess=excess,
        virial=float(np.fmax(_ratio(plain, max(plain_error, least)), _ratio(curved, max(curved_error, least)))),
        stationarity=_ratio(drift, max(drift_error, abs(llc) / 400)),
        degree=degree,
        left_open=left_open,
        relative_bias=max(abs(curved), max(degree / 2, 1.0) * abs(excess * llc), left_open) / abs(llc)
        if llc
        else math.nan,
    )


def _ratio(mean: float, error: float) -> float:
    return abs(mean) / error if error > 0 else math.nan
