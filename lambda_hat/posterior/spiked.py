"""Whitening by a few stiff directions that are known one by one, and by another whitening for all the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.posterior.local import LocalPosterior
from lambda_hat.posterior.whitening import Whitening
from lambda_hat.targets.lanczos import lanczos

__all__ = ["SpikedWhitening", "Spikes", "find_spikes", "spiked_whitening"]

MAX_SPIKES = 32  # a step pays for all of them: together some hundred multiplications per parameter
NUM_STEPS = 48  # of the Lanczos process
MAX_ROWS = 2048  # whose curvature is looked at, over all positions
MIN_ROWS = 256  # at each position


class Spikes(NamedTuple):
    """Curvatures h of nβL_n, none negative, along orthonormal directions u (k, d)."""

    curvatures: Float[Array, " k"]
    directions: Float[Array, "k d"]

    def taken_from(self, vectors: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Vectors without what they are along the directions."""
        directions = self.directions.astype(vectors.dtype)
        return vectors - (vectors @ directions.T) @ directions


class SpikedWhitening(Whitening):
    """A = B (1 + V (diag(s) − 1) Vᵀ): a base B, and orthonormal directions V in its coordinates, each scaled by its s.

    Directions are columns, as XLA multiplies a few vectors by them ten times faster than by rows; and in float32
    whatever the precision of vectors, which rounds the scaling by 1e-7 and not the rest.
    """

    base: Whitening
    directions: Float[Array, "d k"]
    stretches: Float[Array, " k"]

    def _stretched(self, z: Array, by: Array) -> Array:
        v = self.directions
        along = (by - 1).astype(v.dtype) * (z.astype(v.dtype) @ v)
        return z + (v @ along).astype(z.dtype)

    def displacement(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """w − w0 = A z."""
        return self.base.displacement(self._stretched(z, self.stretches))

    def coordinates(self, displacement: Float[Array, " d"]) -> Float[Array, " d"]:
        """The z with A z = w − w0."""
        return self._stretched(self.base.coordinates(displacement), 1 / self.stretches)

    def pullback(self, gradient: Float[Array, " d"]) -> Float[Array, " d"]:
        """Aᵀ g, the gradient with respect to z."""
        return self._stretched(self.base.pullback(gradient), self.stretches)

    def gradient(self, pulled: Float[Array, " d"]) -> Float[Array, " d"]:
        """The g with Aᵀ g = pulled."""
        return self.base.gradient(self._stretched(pulled, 1 / self.stretches))

    @property
    def num_multiplications(self) -> int:
        """What one product with A costs. Thin ones, bound by memory, count for more."""
        return self.base.num_multiplications + 3 * self.directions.size

    @property
    def squared_norm(self) -> Float[Array, ""]:
        """tr A Aᵀ."""
        lengths = jnp.sum(jax.vmap(self.base.displacement)(self.directions.T.astype(self.stretches.dtype)) ** 2, axis=1)
        return self.base.squared_norm + jnp.sum((self.stretches**2 - 1) * lengths)

    @property
    def log_abs_det(self) -> Float[Array, ""]:
        """log |det A|."""
        return self.base.log_abs_det + jnp.sum(jnp.log(self.stretches))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Directions and scales, and the arrays of the base."""
        of_spikes = {"spikes": np.asarray(self.directions), "stretches": np.asarray(self.stretches)}
        return {**of_spikes, **self.base.to_arrays()}

    @classmethod
    def from_arrays(cls, base: Whitening, arrays: Mapping[str, np.ndarray], dtype: str) -> SpikedWhitening:
        """The whitening from its base and the arrays that `to_arrays` gave."""
        return cls(base, jnp.asarray(arrays["spikes"]), jnp.asarray(arrays["stretches"], dtype=dtype))


def find_spikes(posterior: LocalPosterior, positions: Float[Array, "draws d"], rng_key: Array) -> tuple[Spikes, int]:
    """The stiffest directions of the Hessian of nβL_n averaged over `positions`, and the number of passes.

    They are Ritz vectors of the Lanczos process, of some of the rows and in float32: a whitening need not be exact.
    There are always `MAX_SPIKES`, or d: networks of one shape share their programs. Those beyond what was found are 0.
    """
    rows_key, start_key = jax.random.split(rng_key)
    num_positions, num_rows = positions.shape[0], posterior.num_data
    num_looked_at = min(num_rows, max(MIN_ROWS, MAX_ROWS // num_positions))
    part = posterior
    if num_looked_at < num_rows:
        part = part.of_rows(jax.random.permutation(rows_key, num_rows)[:num_looked_at])
    part = part.evaluated_in("float32")
    start = np.asarray(jax.random.normal(start_key, (posterior.dim,), "float32"))
    num_steps, size = min(NUM_STEPS, posterior.dim), min(MAX_SPIKES, posterior.dim)
    values, vectors, basis = lanczos(
        lambda vector: np.asarray(_mean_product(part, positions, jnp.asarray(vector)), "float32"), start, num_steps
    )
    kept = slice(max(0, len(values) - size), None)
    curvatures, directions = np.zeros(size, "float32"), np.zeros((size, posterior.dim), "float32")
    curvatures[: len(values[kept])] = np.maximum(values[kept], 0.0)
    directions[: len(values[kept])] = vectors.T[kept] @ basis
    spikes = Spikes(jnp.asarray(curvatures), jnp.asarray(directions))
    return spikes, -(-num_steps * num_positions * num_looked_at // num_rows)


@eqx.filter_jit
def _mean_product(posterior: LocalPosterior, positions: Array, vector: Array) -> Array:
    """H v; 0 where there is no second derivative."""
    products = jax.lax.map(lambda position: posterior.hessian_vector_product(position, vector), positions)
    mean = jnp.mean(products, axis=0)
    return jnp.where(jnp.all(jnp.isfinite(mean)), mean, 0.0)


@eqx.filter_jit
def spiked_whitening(base: Whitening, spikes: Spikes) -> SpikedWhitening:
    """That of (B Bᵀ)⁻¹ + Σ h u uᵀ, for a base B of what is left without the spikes: 1/√(1 + t) along eigenvectors of
    Σ h (Bᵀu)(Bᵀu)ᵀ, which has eigenvalues t.
    """
    along = jax.vmap(base.pullback)(jnp.sqrt(spikes.curvatures)[:, None] * spikes.directions)
    basis, triangle = jnp.linalg.qr(along.T)
    values, vectors = jnp.linalg.eigh(triangle @ triangle.T)
    directions = (basis @ vectors).astype("float32")
    return SpikedWhitening(base, directions, 1 / jnp.sqrt(1 + jnp.maximum(values, 0.0)))
