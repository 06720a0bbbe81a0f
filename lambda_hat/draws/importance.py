"""An expectation under π from draws of another density, by Pareto-smoothed importance sampling (1507.02646)."""

from __future__ import annotations

import numpy as np

from lambda_hat.draws.diagnostics import psislw
from lambda_hat.errors import InputError

__all__ = ["psis_estimate"]


def psis_estimate(values: np.ndarray, log_weights: np.ndarray) -> tuple[float, float, float]:
    """Self-normalised mean of `values` `(num_draws,)`, its standard error, and k̂.

    Above k̂ = 0.7 neither the mean nor its error can be trusted; k̂ is ∞ where too few weights matter to fit a tail.

    Raises:
        InputError: a value or a weight that is not a number, or an infinite one.
    """
    values = np.asarray(values, np.float64)
    log_weights = np.asarray(log_weights, np.float64)
    if not (np.isfinite(values).all() and np.isfinite(log_weights).all()):
        raise InputError(
            "Importance sampling needs finite values and log-weights; the fit they come from has diverged."
        )
    smoothed, k_hat = psislw(log_weights)
    weights = np.exp(smoothed)
    mean = float(weights @ values)
    return mean, float(np.sqrt(np.sum(weights**2 * (values - mean) ** 2))), k_hat
