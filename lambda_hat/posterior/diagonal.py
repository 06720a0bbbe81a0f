"""Diagonal whitening for large models without a known layer structure."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lambda_hat.posterior.local import LocalPosterior
from lambda_hat.posterior.whitening import DiagonalWhitening

__all__ = ["diagonal_whitening"]

MAX_ROWS = 1024  # whose gradients are squared


@eqx.filter_jit
def diagonal_whitening(
    posterior: LocalPosterior, positions: Float[Array, "draws d"], rng_key: Array
) -> DiagonalWhitening:
    """Scales 1/√(c v_j + γ_loc) from second moments v of per-example gradients of nβL_n, averaged over `positions`.

    v is the diagonal of the Gauss–Newton matrix for a log-likelihood, and wrong by a factor for other losses: c matches
    its sum to the trace of the Hessian (Hutchinson), where that is positive.
    """

    def moments(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        position, key = pair
        row_key, sign_key = jax.random.split(key)
        num_rows = min(MAX_ROWS, posterior.num_data)
        rows = jax.random.permutation(row_key, posterior.num_data)[:num_rows]
        squares = jnp.mean(posterior.row_gradients(position, rows) ** 2, axis=0)
        signs = jax.random.rademacher(sign_key, position.shape, position.dtype)
        return squares.astype(position.dtype), signs @ posterior.hessian_vector_product(position, signs)

    squares, traces = jax.lax.map(moments, (positions, jax.random.split(rng_key, positions.shape[0])))
    moment = posterior.nbeta * jnp.mean(squares, axis=0)
    ratio = jnp.mean(traces) / jnp.sum(moment)
    curvature = jnp.where(ratio > 0, ratio, 1.0) * moment
    return DiagonalWhitening(1.0 / jnp.sqrt(curvature + posterior.localization))
