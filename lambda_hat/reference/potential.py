"""The local potential at many points at once."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.posterior import LocalPosterior
from lambda_hat.samplers.work import Work

__all__ = ["LOSS_PER_GRADIENT", "potentials_at"]

POINTS_AT_ONCE = 512
FEW_POINTS = 32  # the other shape that is compiled
LOSS_PER_GRADIENT = 1 / 3  # work of a loss beside that of a loss with its gradient


@eqx.filter_jit
def _excess_losses(posterior: LocalPosterior, displacements: Float[Array, "points d"]) -> Float[Array, " points"]:
    return jax.lax.map(lambda x: posterior.excess_loss(posterior.w0 + x), displacements, batch_size=FEW_POINTS)


def potentials_at(
    posterior: LocalPosterior, displacements: Float[np.ndarray, "points d"], work: Work
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """U = nβ(L_n(w) − L_n(w0)) + (γ/2)|w − w0|² and its first term at w0 + each displacement; ∞ where it is no number.

    Raises:
        OutOfTime: the deadline came first.
    """
    losses = np.empty(len(displacements))
    size = POINTS_AT_ONCE if 2 * len(displacements) > POINTS_AT_ONCE else FEW_POINTS
    for start in range(0, len(displacements), size):
        work.check()
        chunk = displacements[start : start + size]
        padded = np.zeros((size, displacements.shape[1]))
        padded[: len(chunk)] = chunk
        found = _excess_losses(posterior, jnp.asarray(padded, posterior.w0.dtype))
        losses[start : start + len(chunk)] = np.asarray(found, np.float64)[: len(chunk)]
        work.num_gradient_evaluations += LOSS_PER_GRADIENT * size
    scaled = float(posterior.nbeta) * losses
    scaled[~np.isfinite(scaled)] = np.inf
    return scaled + 0.5 * float(posterior.localization) * np.sum(displacements**2, axis=1), scaled
