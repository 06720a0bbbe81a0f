"""A mixture of factor analysers: Gaussians whose covariances are a diagonal plus a few columns."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

__all__ = ["Blocks", "Components", "Mixture", "components_of", "log_density", "log_density_and_score"]

COMPONENTS_PER_BLOCK = 4  # the mixtures that are tried have 4, 8 or 16

T = TypeVar("T")


class Mixture(NamedTuple):
    """Unconstrained parameters: component k is N(mean, diag(e^(2 log_scale)) + F Fᵀ), F its `factors`."""

    logits: Float[Array, " components"]
    means: Float[Array, "components d"]
    log_scales: Float[Array, "components d"]
    factors: Float[Array, "components d rank"]


class Blocks(NamedTuple):
    """The first `num_components` of `num_slots` components, a few at a time; the number of blocks is traced.

    The last block may overlap the one before.
    """

    num_components: Array
    num_slots: int

    @property
    def size(self) -> int:
        """Number of components in a block."""
        return min(COMPONENTS_PER_BLOCK, self.num_slots)

    @property
    def number(self) -> Array:
        """Number of blocks."""
        return (self.num_components + self.size - 1) // self.size

    def numbers(self, i: Array) -> Array:
        """Indices of the components in block i."""
        return jnp.minimum(i * self.size, self.num_slots - self.size) + jnp.arange(self.size)

    def is_new(self, i: Array) -> Array:
        """Which components of block i count and were in no earlier block."""
        numbers = self.numbers(i)
        return (numbers >= i * self.size) & (numbers < self.num_components)

    def of(self, i: Array, leaves: T) -> T:
        """Block i of each array; the arrays have one entry per component."""
        first = self.numbers(i)[0]
        return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, self.size), leaves)


class Components(NamedTuple):
    """Precomputed factors for the densities of components, with y = (z − mean)/σ, G = F/σ, b = (I + GᵀG)⁻¹ Gᵀ y.

    log π_k N(z) = `log_heights` − ½ (|y − G b|² + |b|²), a sum of squares that is yᵀ(I + GGᵀ)⁻¹y. Woodbury's form |y|²
    − |(I + GᵀG)^(−1/2) Gᵀ y|² would cancel in float32.
    """

    log_heights: Float[Array, " components"]  # log π_k, and the log of the density at the mean
    means: Float[Array, "components d"]
    inverse_scales: Float[Array, "components d"]
    loadings: Float[Array, "components d rank"]  # G
    projections: Float[Array, "components d rank"]  # G (I + GᵀG)⁻¹


def _component_of(log_weight: Array, mean: Array, log_scale: Array, factors: Array) -> Components:
    inverse_scale = jnp.exp(-log_scale)
    loadings = factors * inverse_scale[:, None]
    identity = jnp.eye(loadings.shape[1], dtype=loadings.dtype)
    root = jnp.linalg.cholesky(identity + loadings.T @ loadings)
    log_height = log_weight - jnp.sum(log_scale) - jnp.sum(jnp.log(jnp.diagonal(root)))
    log_height -= 0.5 * mean.size * math.log(2 * math.pi)
    return Components(log_height, mean, inverse_scale, loadings, cho_solve((root, True), loadings.T).T)


def components_of(mixture: Mixture, log_weights: Float[Array, " components"], blocks: Blocks) -> Components:
    """The components of a mixture with these log π_k. Slots without weight cost nothing."""

    def add_block(i: Array, components: Components) -> Components:
        new = jax.vmap(_component_of)(*blocks.of(i, (log_weights, *mixture[1:])))
        return jax.tree.map(lambda leaf, part: leaf.at[blocks.numbers(i)].set(part), components, new)

    none = Components(
        log_heights=jnp.full_like(log_weights, -jnp.inf),
        means=jnp.zeros_like(mixture.means),
        inverse_scales=jnp.zeros_like(mixture.means),
        loadings=jnp.zeros_like(mixture.factors),
        projections=jnp.zeros_like(mixture.factors),
    )
    return jax.lax.fori_loop(0, blocks.number, add_block, none)


def _log_density_and_score(component: Components, z: Float[Array, " d"]) -> tuple[Array, Float[Array, " d"]]:
    """log π_k N(z) of one component and its gradient."""
    y = (z - component.means) * component.inverse_scales
    b = component.projections.T @ y
    # Column by column: on a CPU a product of small matrices costs more than its numbers.
    residual = y - sum(b[q] * component.loadings[:, q] for q in range(b.size))
    log_density = component.log_heights - 0.5 * (jnp.sum(residual**2) + jnp.sum(b**2))
    return log_density, -component.inverse_scales * residual


def log_density(components: Components, z: Float[Array, " d"]) -> Array:
    """log Σ_k π_k N(z), the log density of the mixture."""
    return logsumexp(jax.vmap(_log_density_and_score, (0, None))(components, z)[0])


def log_density_and_score(
    components: Components, z: Float[Array, "samples d"], blocks: Blocks
) -> tuple[Float[Array, " samples"], Float[Array, "samples d"]]:
    """log Σ_k π_k N(z) and its gradient, for every sample. Slots without weight cost nothing."""
    of_block = jax.vmap(jax.vmap(_log_density_and_score, (0, None)), (None, 0))  # samples × components

    def add_block(i: Array, total: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        # Weights relative to the largest so far, as in a streaming logsumexp.
        largest, weight, score = total
        logs, scores = of_block(blocks.of(i, components), z)
        logs = jnp.where(blocks.is_new(i), logs, -jnp.inf)
        new_largest = jnp.maximum(largest, jnp.max(logs, axis=1))
        weights = jnp.exp(logs - new_largest[:, None])
        shrunk = jnp.exp(largest - new_largest)
        weight = shrunk * weight + jnp.sum(weights, axis=1)
        return new_largest, weight, shrunk[:, None] * score + jnp.sum(weights[:, :, None] * scores, axis=1)

    none = jnp.full(z.shape[0], -jnp.inf, z.dtype), jnp.zeros(z.shape[0], z.dtype), jnp.zeros_like(z)
    largest, weight, score = jax.lax.fori_loop(0, blocks.number, add_block, none)
    return largest + jnp.log(weight), score / weight[:, None]
