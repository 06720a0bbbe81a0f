"""An expectation under π from draws of another density, by Pareto-smoothed importance sampling (1507.02646)."""

from __future__ import annotations

import math

import numpy as np

from lambda_hat.draws.diagnostics import psislw
from lambda_hat.errors import InputError

__all__ = ["psis_estimate", "weighted_mean"]


def psis_estimate(values: np.ndarray, log_weights: np.ndarray) -> tuple[float, float, float]:
    """Self-normalised mean of `values` `(num_draws,)`, its standard error, and k̂.

    Above k̂ = 0.7 neither the mean nor its error can be trusted.

    Raises:
        InputError: a value or a weight that is not a number, or an infinite one.
    """
    values = np.asarray(values, np.float64)
    log_weights = np.asarray(log_weights, np.float64)
    if not (np.isfinite(values).all() and np.isfinite(log_weights).all()):
        raise InputError(
            "Importance sampling needs finite values and log-weights; the fit they come from has diverged."
        )
    mean, error, k_hat, _ = weighted_mean(values, log_weights)
    return mean, error, k_hat


def weighted_mean(values: np.ndarray, log_weights: np.ndarray) -> tuple[float, float, float, float]:
    """Self-normalised mean of `values` `(num_draws,)`, its standard error, k̂, and the effective number of draws.

    A log-weight that is not finite counts as weight zero, whatever its value. The effective number is (Σw)²/Σw².
    """
    counts = np.isfinite(log_weights)
    if counts.sum() < 2:
        return math.nan, math.inf, math.inf, float(counts.sum())
    smoothed, k_hat = psislw(log_weights[counts])
    weights, values = np.exp(smoothed), values[counts]
    mean = float(weights @ values)
    squared = weights**2
    return mean, float(np.sqrt(np.sum(squared * (values - mean) ** 2))), k_hat, 1.0 / float(np.sum(squared))
