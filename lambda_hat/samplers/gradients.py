"""Gradients of single examples, whose moments say how stiff a posterior and how noisy a minibatch is."""

from __future__ import annotations

import jax
from jaxtyping import Array, Float

from lambda_hat.posterior import LocalPosterior

__all__ = ["row_gradients"]

ROWS_PER_PASS = 64  # gradients computed at once


def row_gradients(posterior: LocalPosterior, position: Float[Array, " d"], indices: Array) -> Float[Array, "rows d"]:
    """∇l_i(w) of the rows i in `indices`."""
    batch, _ = posterior.take(indices)

    def gradient(row: tuple[Array, ...]) -> Array:
        alone = tuple(column[None] for column in row)
        return jax.grad(lambda w: posterior.loss_fn(w, alone)[0])(position)

    return jax.lax.map(gradient, batch, batch_size=ROWS_PER_PASS)
