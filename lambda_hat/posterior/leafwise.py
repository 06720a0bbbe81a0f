"""Whitening of large models whose layers nobody knows: Kronecker factors per leaf, from gradients of single rows."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from lambda_hat.posterior.kronecker import KroneckerWhitening
from lambda_hat.posterior.local import ROWS_PER_PASS, LocalPosterior
from lambda_hat.posterior.spiked import Spikes
from lambda_hat.posterior.whitening import DiagonalWhitening, Whitening
from lambda_hat.targets.pytrees import PytreeLoss

__all__ = ["leafwise_whitening"]

MAX_ROWS = 1024  # whose gradients are looked at, over all positions
MIN_ROWS = 128  # at each position
MAX_SIDE = 256  # of a matrix, that is turned; to turn a larger one would cost a step more than its gradient
MAX_UNEXPLAINED = 10.0  # curvature over what gradients say of it, beyond which residuals are next to nothing
SHIFT = 0.1  # standard deviations of the posterior, if that were isotropic


class _Moments(NamedTuple):
    """Second moments of rows' gradients: of each matrix along both its sides, and of every entry."""

    sides: list[tuple[Array | None, Array | None]]
    squares: Float[Array, " d"]


def leafwise_whitening(
    posterior: LocalPosterior, positions: Float[Array, "draws d"], rng_key: Array, spikes: Spikes | None = None
) -> Whitening:
    """Scales 1/√(nβ c e + γ_loc) from second moments e of per-example gradients G, averaged over `positions`.

    A leaf of shape (…, n) is a matrix of n columns. e are moments along U ⊗ V, eigenvectors of E[G Gᵀ] and E[Gᵀ G]
    (Shampoo's factors, Gupta et al. 1802.09568; corrected eigenvalues as in EKFAC). A side of more than 256 entries is
    not turned; vectors, and leaves of which only a part is sampled, have a scale for each entry.

    The moments are the Gauss–Newton matrix for a log-likelihood, and wrong by a factor for other losses: c matches
    their sum to the trace of the Hessian (Hutchinson), where that is positive. Where the data are interpolated, so that
    gradients at `positions` say next to nothing, they are those at random places close by.

    With `spikes`, it is the whitening of the curvature that is left without these.
    """
    spikes = spikes or Spikes(jnp.zeros(0), jnp.zeros((0, posterior.dim)))
    rows_key, sign_key, shift_key = jax.random.split(rng_key, 3)
    spans, shapes = _blocks(posterior)
    trace = float(_trace(posterior, positions, sign_key, spikes))
    moments = _moments(posterior, positions, rows_key, shapes, spikes)
    if trace > MAX_UNEXPLAINED * float(jnp.sum(moments.squares)):
        precision = float(posterior.nbeta) * trace / posterior.dim + float(posterior.localization)
        shift = jax.random.normal(shift_key, positions.shape, positions.dtype)
        positions = positions + SHIFT / math.sqrt(precision) * shift
        moments = _moments(posterior, positions, rows_key, shapes, spikes)
    total = float(jnp.sum(moments.squares))
    factor = float(posterior.nbeta) * (trace / total if trace > 0 and total > 0 else 1.0)
    if not shapes:
        return DiagonalWhitening(1.0 / jnp.sqrt(factor * moments.squares + posterior.localization))
    bases = [(_eigenvectors(left), _eigenvectors(right)) for left, right in moments.sides]
    along = _moments_along(posterior, positions, rows_key, shapes, bases, spikes)
    return KroneckerWhitening(
        spans=spans,
        in_bases=tuple(u for u, _ in bases),
        out_bases=tuple(v for _, v in bases),
        scales=tuple(1.0 / jnp.sqrt(factor * e + posterior.localization) for e in along),
    )


def _blocks(posterior: LocalPosterior) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """Spans in the flat vector and their shapes as matrices; no shapes where there is no matrix to turn."""
    loss_fn = posterior.loss_fn
    leaves = loss_fn.sampled_shapes if isinstance(loss_fn, PytreeLoss) else ((posterior.dim,),)
    shapes = tuple((math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (1, math.prod(shape)) for shape in leaves)
    ends = [0]
    for rows, columns in shapes:
        ends.append(ends[-1] + rows * columns)
    is_turned = any(any(turned) for turned in map(_is_turned, shapes))
    return tuple(itertools.pairwise(ends)), shapes if is_turned else ()


def _is_turned(shape: tuple[int, int]) -> tuple[bool, bool]:
    """Whether each side of a matrix is; a vector's is not."""
    is_matrix = shape[0] > 1
    return is_matrix and shape[0] <= MAX_SIDE, is_matrix and 1 < shape[1] <= MAX_SIDE


def _eigenvectors(moment: Array | None) -> Array | None:
    return None if moment is None else jnp.linalg.eigh(moment)[1]


@eqx.filter_jit
def _trace(posterior: LocalPosterior, positions: Float[Array, "draws d"], rng_key: Array, spikes: Spikes) -> Array:
    """tr ∇²L_n averaged over positions, without the spikes, by random signs."""

    def of_one(pair: tuple[Array, Array]) -> Array:
        position, key = pair
        (signs,) = spikes.taken_from(jax.random.rademacher(key, (1, position.size), position.dtype))
        return signs @ posterior.hessian_vector_product(position, signs)

    return jnp.mean(jax.lax.map(of_one, (positions, jax.random.split(rng_key, positions.shape[0])))) / posterior.nbeta


def _mean_over_rows(posterior: LocalPosterior, positions: Array, rng_key: Array, spikes: Spikes, statistic: Any) -> Any:
    """Mean over rows and positions of `statistic(gradients, key)`, itself a mean over the gradients (rows, d) it gets.

    Those are without the spikes.

    A few rows at a time: all gradients at once would be as large as the data are many times the network.
    """
    num_rows = min(max(MIN_ROWS, MAX_ROWS // positions.shape[0]), posterior.num_data)
    size = min(ROWS_PER_PASS, num_rows)

    def of_group(position: Array, rows: Integer[Array, " rows"], key: Array) -> Any:
        return statistic(spikes.taken_from(posterior.row_gradients(position, rows)), key)

    def add_group(total: Any, group: tuple[Array, Array, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, of_group(*group)), None

    def rows_of(key: Array) -> Array:
        return jax.random.permutation(key, posterior.num_data)[: num_rows // size * size].reshape(-1, size)

    rows_key, sign_key = jax.random.split(rng_key)
    rows = jax.vmap(rows_of)(jax.random.split(rows_key, positions.shape[0])).reshape(-1, size)
    repeated = jnp.repeat(positions, rows.shape[0] // positions.shape[0], axis=0)
    keys = jax.random.split(sign_key, rows.shape[0])
    shapes = jax.eval_shape(of_group, repeated[0], rows[0], keys[0])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, positions.dtype), shapes)
    total, _ = jax.lax.scan(add_group, zeros, (repeated, rows, keys))
    return jax.tree.map(lambda x: x / rows.shape[0], total)


@eqx.filter_jit
def _moments(
    posterior: LocalPosterior,
    positions: Array,
    rng_key: Array,
    shapes: tuple[tuple[int, int], ...],
    spikes: Spikes,
) -> _Moments:
    """Moments along the sides, from products with random signs: E[Gξ (Gξ)ᵀ] = E[G Gᵀ]."""

    def statistic(gradients: Float[Array, "rows d"], key: Array) -> _Moments:
        size = gradients.shape[0]
        sides: list[tuple[Array | None, Array | None]] = []
        for index, (matrices, shape) in enumerate(zip(_matrices(gradients, shapes), shapes, strict=True)):
            keys = jax.random.split(jax.random.fold_in(key, index))
            rows, columns = (
                jax.random.rademacher(one, (size, side), gradients.dtype) for one, side in zip(keys, shape, strict=True)
            )
            is_left, is_right = _is_turned(shape)
            left, right = jnp.einsum("bmn,bn->bm", matrices, columns), jnp.einsum("bmn,bm->bn", matrices, rows)
            sides.append((left.T @ left / size if is_left else None, right.T @ right / size if is_right else None))
        return _Moments(sides, jnp.mean(gradients**2, axis=0))

    return _mean_over_rows(posterior, positions, rng_key, spikes, statistic)


@eqx.filter_jit
def _moments_along(
    posterior: LocalPosterior,
    positions: Array,
    rng_key: Array,
    shapes: tuple[tuple[int, int], ...],
    bases: list[tuple[Array | None, Array | None]],
    spikes: Spikes,
) -> list[Array]:
    """E[(Uᵀ G V)²] of every matrix, entry by entry."""

    def statistic(gradients: Float[Array, "rows d"], key: Array) -> list[Array]:
        del key
        found = []
        for matrices, (left, right) in zip(_matrices(gradients, shapes), bases, strict=True):
            turned = matrices if left is None else jnp.einsum("mi,bmn->bin", left.astype(gradients.dtype), matrices)
            turned = turned if right is None else turned @ right.astype(gradients.dtype)
            found.append(jnp.mean(turned**2, axis=0))
        return found

    return _mean_over_rows(posterior, positions, rng_key, spikes, statistic)


def _matrices(gradients: Float[Array, "rows d"], shapes: tuple[tuple[int, int], ...]) -> list[Array]:
    found, start = [], 0
    for shape in shapes:
        end = start + math.prod(shape)
        found.append(gradients[:, start:end].reshape(-1, *shape))
        start = end
    return found
