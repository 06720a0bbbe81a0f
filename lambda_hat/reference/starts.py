"""Where the chains of a reference start: by mass, by prior importance, and over-dispersed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.posterior.geometry import MAX_DENSE_DIM
from lambda_hat.reference.importance import scales_at
from lambda_hat.reference.potential import potentials_at
from lambda_hat.reference.survey import Survey
from lambda_hat.samplers.work import Work

__all__ = ["MAX_WELLS_WITH_CHAINS", "start_positions"]

OVERDISPERSION = 1.5
MAX_WELLS_WITH_CHAINS = 8
MAX_CHAINS = 16
MAX_CLIMB = 1000.0  # nats above w0 for each parameter; chains from higher up may never move
MAX_HALVINGS = 40  # of the way from where it is no higher


def start_positions(
    posterior: LocalPosterior,
    whitening: Whitening,
    pilot_draws: Float[Array, "draws d"],
    survey: Survey,
    rng_key: Array,
    num_chains: int,
    work: Work,
) -> Float[Array, "chains d"]:
    """w − w0 of every chain's start: `num_chains`; a multiple of it, at most 16, where there are several wells.

    One chain starts in each well that counts, the heaviest first. Draws of the localization's Gaussian that were
    resampled by weight start where they are: a plateau has no lower end. The others start at pilots' draws, moved away
    from their mean. Wells and pilots' draws get noise, 1.5 times as wide as the posterior is there. Starts that end up
    far above w0 are brought back.
    """
    pick_key, noise_key = jax.random.split(rng_key)
    wells = survey.counting[:MAX_WELLS_WITH_CHAINS]
    if len(wells) > 1:
        resampled = survey.resampled[:num_chains]
        least = len(wells) + len(resampled) + num_chains // 2
        total = min(-(-least // num_chains) * num_chains, max(MAX_CHAINS, num_chains))
    else:  # one program serves these chains and the pilots
        resampled, total = survey.resampled[: num_chains // 2], num_chains
    around = np.concatenate([wells, resampled])[:total].astype(pilot_draws.dtype)
    picked = jax.random.choice(pick_key, pilot_draws, (total - len(around),), replace=False)
    mean = jnp.mean(pilot_draws, axis=0)
    centres = jnp.concatenate([jnp.asarray(around), mean + OVERDISPERSION * (picked - mean)])
    noise = OVERDISPERSION * jax.random.normal(noise_key, centres.shape, centres.dtype)
    spread = jax.vmap(whitening.displacement)(noise)
    spread = spread.at[len(wells) : len(around)].set(0.0)
    if len(wells) > 1 and posterior.dim <= MAX_DENSE_DIM:  # wells of other shapes than where the pilots were
        for i, well in enumerate(wells):
            spread = spread.at[i].set(jnp.asarray(scales_at(posterior, well, work)) @ noise[i])
    origins = jnp.concatenate([jnp.asarray(around), picked])
    return _below(posterior, np.asarray(origins), np.asarray(centres + spread), work)


def _below(posterior: LocalPosterior, origins: np.ndarray, starts: np.ndarray, work: Work) -> Float[Array, "chains d"]:
    """The starts, those higher than `MAX_CLIMB` moved half the way to their origins (to w0 where these are too), until
    they are lower."""
    most = MAX_CLIMB * posterior.dim
    origins = np.where((potentials_at(posterior, origins, work)[0] <= most)[:, None], origins, 0.0)
    for _ in range(MAX_HALVINGS):
        is_high = potentials_at(posterior, starts, work)[0] > most
        if not is_high.any():
            break
        starts = np.where(is_high[:, None], 0.5 * (origins + starts), starts)
    return jnp.asarray(starts)
