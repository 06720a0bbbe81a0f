"""Means over all rows of the data, taken in chunks so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lambda_hat.targets.model import Data, PerExampleLossFn

__all__ = ["hessian_vector_product", "mean_hessian", "mean_loss", "mean_loss_and_grad", "mean_over_rows"]

_ROWS_PER_CHUNK = 1024
_ROWS_TIMES_PARAMETERS = 2**17  # of one chunk of a Hessian: one tangent per parameter and row has to fit the cache


def mean_over_rows(chunk_sum_fn: Callable[[Data], Any], data: Data, rows_per_chunk: int = _ROWS_PER_CHUNK) -> Any:
    """(1/n) Σ over chunks of `chunk_sum_fn(chunk)`, any pytree of arrays; to be called inside `jit`."""
    num_data = data[0].shape[0]
    num_chunks = num_data // rows_per_chunk
    split = num_chunks * rows_per_chunk
    parts = []
    if num_chunks:
        chunks = tuple(rows[:split].reshape(num_chunks, rows_per_chunk, *rows.shape[1:]) for rows in data)
        first = jax.tree.map(lambda rows: rows[0], chunks)
        zeros = jax.tree.map(lambda out: jnp.zeros(out.shape, out.dtype), jax.eval_shape(chunk_sum_fn, first))
        add = partial(jax.tree.map, jnp.add)
        parts.append(jax.lax.scan(lambda total, chunk: (add(total, chunk_sum_fn(chunk)), None), zeros, chunks)[0])
    if split < num_data:
        parts.append(chunk_sum_fn(tuple(rows[split:] for rows in data)))
    return jax.tree.map(lambda *sums: sum(sums[1:], sums[0]) / num_data, *parts)


def _sum_fn(loss_fn: PerExampleLossFn, chunk: Data) -> Callable[[Array], Array]:
    return lambda position: jnp.sum(loss_fn(position, chunk))


@partial(jax.jit, static_argnums=0)
def mean_loss(loss_fn: PerExampleLossFn, position: Float[Array, " d"], data: Data) -> Float[Array, ""]:
    """L_n(w), the mean over all rows."""
    return mean_over_rows(lambda chunk: _sum_fn(loss_fn, chunk)(position), data)


@partial(jax.jit, static_argnums=0)
def mean_loss_and_grad(
    loss_fn: PerExampleLossFn, position: Float[Array, " d"], data: Data
) -> tuple[Float[Array, ""], Float[Array, " d"]]:
    """L_n(w) and ∇L_n(w)."""
    return mean_over_rows(lambda chunk: jax.value_and_grad(_sum_fn(loss_fn, chunk))(position), data)


@partial(jax.jit, static_argnums=0)
def mean_hessian(loss_fn: PerExampleLossFn, position: Float[Array, " d"], data: Data) -> Float[Array, "d d"]:
    """∇²L_n(w), forward over reverse; meant for up to a few thousand parameters."""
    rows_per_chunk = max(32, min(_ROWS_PER_CHUNK // 2, _ROWS_TIMES_PARAMETERS // position.size))
    return mean_over_rows(lambda chunk: jax.hessian(_sum_fn(loss_fn, chunk))(position), data, rows_per_chunk)


@partial(jax.jit, static_argnums=0)
def hessian_vector_product(
    loss_fn: PerExampleLossFn, position: Float[Array, " d"], vector: Float[Array, " d"], data: Data
) -> Float[Array, " d"]:
    """∇²L_n(w) v, without the matrix."""

    def chunk_product(chunk: Data) -> Array:
        return jax.jvp(jax.grad(_sum_fn(loss_fn, chunk)), (position,), (vector,))[1]

    return mean_over_rows(chunk_product, data)
