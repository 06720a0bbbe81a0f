"""What variational fits are worth: λ̂ under them, its correction towards the posterior, whether they had finished."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from lambda_hat.config.methods import VISettings
from lambda_hat.estimate.importance import psis_estimate
from lambda_hat.estimate.llc import LLCEstimate, pool_fits
from lambda_hat.posterior import LocalPosterior
from lambda_hat.samplers.runner import Chains
from lambda_hat.samplers.vi import FitDraws, evaluate_fit

__all__ = ["elbo_trend", "judge_fits"]


def elbo_trend(elbo: ArrayLike) -> dict[str, float]:
    """Mean and slope of the ELBO's trace `(num_fits, num_steps)` over its last quarter, in nats per 1000 steps.

    The slope is that of least squares through the mean over fits, with the standard error that noise independent from
    step to step gives it. A slope of several errors: the fit was not finished.
    """
    trace = np.asarray(elbo, np.float64)
    trace = trace[:, -max(trace.shape[1] // 4, 3) :].mean(axis=0)
    time = np.arange(trace.size) - 0.5 * (trace.size - 1)
    spread = float(np.sum(time**2))
    if trace.size < 3:
        return {"elbo": float(trace.mean())}
    slope = float(time @ trace) / spread
    residual = trace - trace.mean() - slope * time
    error = float(np.sqrt(np.sum(residual**2) / (trace.size - 2) / spread))
    return {"elbo": float(trace.mean()), "elbo_slope": 1000 * slope, "elbo_slope_se": 1000 * error}


def judge_fits(
    posterior: LocalPosterior, settings: VISettings, chains: Chains, rng_key: Array
) -> tuple[LLCEstimate, dict[str, float], FitDraws]:
    """λ̂ under the fitted densities by full-data losses of fresh draws, and what importance sampling makes of it."""
    nbeta = float(posterior.nbeta)
    fits, readings, corrected, k_hats = [], [], [], []
    for fit in range(settings.num_chains):
        state = jax.tree.map(lambda leaf, fit=fit: leaf[fit], chains.states)
        draws = evaluate_fit(chains.sampler.without_steps, jax.random.fold_in(rng_key, fit), state, settings.num_draws)
        fits.append(draws)
        readings.append(nbeta * np.asarray(draws.excess_loss, np.float64))
        if np.isfinite(readings[-1]).all() and np.isfinite(draws.log_weights).all():
            mean, _, k_hat = psis_estimate(readings[-1], np.asarray(draws.log_weights))
            corrected.append(mean)
            k_hats.append(k_hat)
    all_draws = FitDraws(*(np.stack(traces) for traces in zip(*fits, strict=True)))
    estimate = pool_fits(np.stack(readings), np.asarray(all_draws.squared_distance, np.float64))
    extras = {"num_loss_evaluations": float(settings.num_chains * settings.num_draws)}
    if corrected:
        extras |= {"llc_psis": float(np.mean(corrected)), "k_hat": float(np.max(k_hats))}
    return estimate, extras, all_draws
