"""The local posterior π(w) ∝ exp(−nβ (L_n(w) − L_n(w0)) − (γ_loc/2) |w − w0|²)."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.targets.model import Model, PerExampleLossFn, losses_of
from lambda_hat.targets.pytrees import entry_losses_of

__all__ = ["LARGE_DIM", "LocalPosterior", "PosteriorScales", "build_posterior", "posterior_of", "scales_of"]

# Rows whose activations stay in cache; more data than this is reduced chunk by chunk. Many small chunks cost little
# where a row is much work, and much where it is little.
ROWS_PER_CHUNK = 512
ROWS_PER_CHUNK_OF_LARGE = 256
LARGE_DIM = 1000  # parameters
MAX_EVALUATION_ERROR = 0.01  # of a log-density, by evaluating in lower precision
ROWS_PER_PASS = 64  # whose gradients are computed at once, one by one


class PosteriorScales(NamedTuple):
    """The two numbers that a model's local posterior is made with."""

    nbeta: float  # n·β
    localization: float  # γ_loc


def scales_of(model: Model, spec: PosteriorSpec) -> PosteriorScales:
    """nβ and γ_loc of the local posterior that `spec` describes around the model's w0."""
    return PosteriorScales(spec.nbeta(model.num_data), spec.localization_at(model.dim, float(np.linalg.norm(model.w0))))


class LocalPosterior(eqx.Module):
    """Log-density, loss and gradients around `w0`, all traced: another data set of the same shape compiles nothing.

    `rows` holds the data in chunks `(num_chunks, rows, ...)`, the last one padded; `row_weights` is 1/n for real rows
    and 0 for padding.

    Losses may be evaluated in float32 while positions and sums over rows are float64 (`evaluated_in`). `frozen` are
    arrays that every loss takes beside position and batch: parameters that are not sampled.
    """

    loss_fn: PerExampleLossFn = eqx.field(static=True)
    num_data: int = eqx.field(static=True)
    evaluation_dtype: str = eqx.field(static=True)  # of the loss and its gradient; sums and positions keep their own
    rows: tuple[Array, ...]
    row_weights: Float[Array, "chunks rows"]
    w0: Float[Array, " d"]
    row_losses_at_w0: Float[Array, "chunks rows"]
    loss_at_w0: Float[Array, ""]
    nbeta: Float[Array, ""]
    localization: Float[Array, ""]
    frozen: tuple[Array, ...] = ()

    @property
    def dim(self) -> int:
        """Number of parameters d."""
        return self.w0.shape[0]

    def losses(self, position: Float[Array, " d"], batch: tuple[Array, ...]) -> Float[Array, " B"]:
        """Losses l_i(w) of a batch."""
        return losses_of(self.loss_fn, position, batch, self.frozen)

    def entry_losses(self, position: Float[Array, " d"], batch: tuple[Array, ...]) -> Float[Array, " B *T"]:
        """Losses of a batch, one per token where the loss tells those, in the dtype that losses are evaluated in."""
        return entry_losses_of(self.loss_fn, self._evaluated(position), batch, self.frozen)

    def excess_loss(self, position: Float[Array, " d"]) -> Float[Array, ""]:
        """L_n(w) − L_n(w0) on the full data, differentiable at the price of one pass."""
        return _excess_loss(self.loss_fn, position, self.rows, self.row_weights, self.row_losses_at_w0, self.frozen)

    def logdensity(self, position: Float[Array, " d"]) -> Float[Array, ""]:
        """−nβ (L_n(w) − L_n(w0)) − (γ_loc/2) |w − w0|²: zero at w0."""
        return -self.nbeta * self.excess_loss(position) - 0.5 * self.localization * jnp.sum((position - self.w0) ** 2)

    def excess_loss_from(self, logdensity: Array, squared_distance: Array) -> Array:
        """L_n(w) − L_n(w0) recovered from a log-density that is known, r² = |w − w0|²: no second pass over the data."""
        return (-logdensity - 0.5 * self.localization * squared_distance) / self.nbeta

    def take(self, indices: Array) -> tuple[tuple[Array, ...], Array]:
        """Rows of a minibatch and their losses at w0; indices must be within 0 … n − 1, as nobody checks them."""

        def taken(rows: Array) -> Array:
            flat = rows.reshape(-1, *rows.shape[2:])
            return flat.at[indices].get(mode="promise_in_bounds", wrap_negative_indices=False)

        return tuple(map(taken, self.rows)), taken(self.row_losses_at_w0)

    def paired_excess_loss(self, position: Float[Array, " d"], batch: tuple[Array, ...], losses_at_w0: Array) -> Array:
        """mean over a minibatch of l_i(w) − l_i(w0): unbiased for a batch drawn independently of w."""
        return jnp.mean(self.losses(self._evaluated(position), batch) - losses_at_w0).astype(position.dtype)

    def row_gradients(self, position: Float[Array, " d"], indices: Array) -> Float[Array, "rows d"]:
        """∇l_i(w) of the rows i in `indices`, in the dtype that losses are evaluated in.

        Their moments say how stiff a posterior is, and how noisy a minibatch.
        """
        batch, _ = self.take(indices)

        def gradient(row: tuple[Array, ...]) -> Array:
            single = tuple(column[None] for column in row)
            return jax.grad(lambda w: self.losses(w, single)[0])(self._evaluated(position))

        return jax.lax.map(gradient, batch, batch_size=ROWS_PER_PASS)

    def hessian(self, position: Float[Array, " d"]) -> Float[Array, "d d"]:
        """Hessian of nβ L_n on the full data; without the localization."""

        def add_chunk(total: Array, chunk: tuple[tuple[Array, ...], Array]) -> tuple[Array, None]:
            batch, weights = chunk
            value = jax.hessian(lambda w: jnp.sum(weights * self.losses(w, batch)))(self._evaluated(position))
            return total + value, None

        zero = jnp.zeros((self.dim, self.dim), position.dtype)
        total, _ = jax.lax.scan(add_chunk, zero, (self.rows, self.row_weights))
        return self.nbeta * 0.5 * (total + total.T)

    def hessian_vector_product(self, position: Float[Array, " d"], vector: Float[Array, " d"]) -> Float[Array, " d"]:
        """∇²(nβ L_n)(w) v on the full data, without the matrix."""

        def add_chunk(total: Array, chunk: tuple[tuple[Array, ...], Array]) -> tuple[Array, None]:
            batch, weights = chunk
            gradient_fn = jax.grad(lambda w: jnp.sum(weights * self.losses(w, batch)))
            at, along = self._evaluated(position), self._evaluated(vector)
            return total + jax.jvp(gradient_fn, (at,), (along,))[1], None

        total, _ = jax.lax.scan(add_chunk, jnp.zeros_like(position), (self.rows, self.row_weights))
        return self.nbeta * total

    def _evaluated(self, vector: Array) -> Array:
        return vector.astype(self.evaluation_dtype)

    def evaluated_in(self, dtype: str) -> LocalPosterior:
        """This posterior with losses and gradients evaluated in `dtype`; positions and sums keep their precision."""

        def cast(array: Array) -> Array:
            return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array

        rows = tuple(map(cast, self.rows))
        frozen = tuple(map(cast, self.frozen))
        losses = _row_losses(self.loss_fn, self.w0.astype(dtype), rows, frozen)
        return LocalPosterior(
            loss_fn=self.loss_fn,
            num_data=self.num_data,
            evaluation_dtype=dtype,
            rows=rows,
            row_weights=cast(self.row_weights),
            w0=self.w0,
            row_losses_at_w0=losses,
            loss_at_w0=jnp.sum(self.row_weights * losses),
            nbeta=self.nbeta,
            localization=self.localization,
            frozen=frozen,
        )

    def of_rows(self, indices: Array) -> LocalPosterior:
        """A likeness, by the mean loss of some rows; of the same nβ."""
        size = min(self.row_weights.shape[1], len(indices))
        columns, at_w0 = self.take(indices[: len(indices) // size * size].reshape(-1, size))
        weights = jnp.full(at_w0.shape, 1 / at_w0.size, self.row_weights.dtype)
        return dataclasses.replace(
            self,
            num_data=at_w0.size,
            rows=columns,
            row_weights=weights,
            row_losses_at_w0=at_w0,
            loss_at_w0=jnp.mean(at_w0),
        )

    def if_exact_enough(
        self, rounded: LocalPosterior, displacements: Float[Array, "draws d"]
    ) -> tuple[LocalPosterior, float]:
        """`rounded`, by whose evaluation no log-density at w0 + the displacements changes by more than
        `MAX_EVALUATION_ERROR`, or else this posterior; and the largest change.
        """
        changes = [rounded.logdensity(self.w0 + x) - self.logdensity(self.w0 + x) for x in displacements]
        error = float(jnp.max(jnp.abs(jnp.stack(changes))))
        return rounded if error <= MAX_EVALUATION_ERROR else self, error


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _excess_loss(
    loss_fn: PerExampleLossFn, position: Array, rows: Any, row_weights: Array, row_losses_at_w0: Array, frozen: Any
) -> Array:
    evaluated = position.astype(row_weights.dtype)

    def add_chunk(total: Array, chunk: Any) -> tuple[Array, None]:
        batch, weights, at_w0 = chunk
        return total + jnp.sum(weights * (losses_of(loss_fn, evaluated, batch, frozen) - at_w0)), None

    total, _ = jax.lax.scan(add_chunk, jnp.zeros((), position.dtype), (rows, row_weights, row_losses_at_w0))
    return total


def _excess_loss_forward(
    loss_fn: PerExampleLossFn, position: Array, rows: Any, row_weights: Array, row_losses_at_w0: Array, frozen: Any
) -> tuple[Array, Array]:
    # Value and gradient in one pass, chunk by chunk: reverse mode through the scan would keep or recompute activations.
    evaluated = position.astype(row_weights.dtype)

    def add_chunk(total: tuple[Array, Array], chunk: Any) -> tuple[tuple[Array, Array], None]:
        batch, weights, at_w0 = chunk
        value, gradient = jax.value_and_grad(
            lambda w: jnp.sum(weights * (losses_of(loss_fn, w, batch, frozen) - at_w0))
        )(evaluated)
        return (total[0] + value, total[1] + gradient), None

    zero = (jnp.zeros((), position.dtype), jnp.zeros_like(position))
    value, gradient = jax.lax.scan(add_chunk, zero, (rows, row_weights, row_losses_at_w0))[0]
    is_defined = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    return value, jnp.where(is_defined, gradient, 0.0)  # so that trajectories can cross where there is no loss


def _excess_loss_backward(
    loss_fn: PerExampleLossFn, gradient: Array, cotangent: Array
) -> tuple[Array, None, None, None, None]:
    del loss_fn
    return cotangent * gradient, None, None, None, None


_excess_loss.defvjp(_excess_loss_forward, _excess_loss_backward)


@eqx.filter_jit
def _row_losses(
    loss_fn: PerExampleLossFn, position: Array, rows: tuple[Array, ...], frozen: tuple[Array, ...]
) -> Array:
    return jax.lax.map(lambda batch: losses_of(loss_fn, position, batch, frozen), rows)


def posterior_of(model: Model, spec: PosteriorSpec, dtype: str) -> LocalPosterior:
    """The local posterior that `spec` describes around the model's w0, in `dtype`; JAX must be in the mode for it.

    Raises:
        InputError: the data have whole numbers that do not fit `dtype`.
    """
    return build_posterior(
        model.loss_fn,
        model.w0,
        model.columns(dtype),
        **scales_of(model, spec)._asdict(),
        dtype=dtype,
        frozen=model.frozen,
    )


def build_posterior(
    loss_fn: PerExampleLossFn,
    w0: np.ndarray,
    data: tuple[np.ndarray, ...],
    *,
    nbeta: float,
    localization: float,
    dtype: str,
    rows_per_chunk: int | None = None,
    frozen: tuple[np.ndarray, ...] = (),
) -> LocalPosterior:
    """A local posterior in `dtype` from a loss, w0, data and scales that no model and no specification holds.

    L_n(w0) is the full-data value in the precision and code path of the samples.
    """
    num_data = data[0].shape[0]
    if rows_per_chunk is None:
        rows_per_chunk = ROWS_PER_CHUNK if w0.size <= LARGE_DIM else ROWS_PER_CHUNK_OF_LARGE
    num_chunks = max(1, math.ceil(num_data / rows_per_chunk))
    size = math.ceil(num_data / num_chunks)
    padding = num_chunks * size - num_data

    def chunked(array: np.ndarray) -> Array:
        kind = dtype if np.issubdtype(array.dtype, np.floating) else array.dtype
        padded = np.concatenate([array, array[:padding]]) if padding else array
        return jnp.asarray(padded.reshape(num_chunks, size, *array.shape[1:]), dtype=kind)

    rows = tuple(chunked(np.asarray(array)) for array in data)
    weights = np.full(num_chunks * size, 1.0 / num_data)
    weights[num_data:] = 0.0
    row_weights = jnp.asarray(weights.reshape(num_chunks, size), dtype=dtype)
    position = jnp.asarray(w0, dtype=dtype)
    fixed = tuple(jnp.asarray(array, dtype=dtype) for array in frozen)
    losses = _row_losses(loss_fn, position, rows, fixed)
    return LocalPosterior(
        loss_fn=loss_fn,
        num_data=num_data,
        evaluation_dtype=dtype,
        rows=rows,
        row_weights=row_weights,
        w0=position,
        row_losses_at_w0=losses,
        loss_at_w0=jnp.sum(row_weights * losses),
        nbeta=jnp.asarray(nbeta, dtype=dtype),
        localization=jnp.asarray(localization, dtype=dtype),
        frozen=fixed,
    )
