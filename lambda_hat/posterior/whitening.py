"""Linear coordinates w = w0 + A z in which the local posterior is close to a standard normal.

Whitening changes coordinates, never the target: the localization stays in the original ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lambda_hat.posterior.local import LocalPosterior

__all__ = [
    "DenseWhitening",
    "DiagonalWhitening",
    "Whitening",
    "hessian_whitening",
    "identity_whitening",
    "laplace_llc",
    "whitening_from_hessian",
]


MAX_ABSOLUTE_DIM = 300


class DenseWhitening(eqx.Module):
    """A = U diag(1/√scale) with orthogonal U: one dense matrix."""

    matrix: Float[Array, "d d"]

    def displacement(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """w − w0 = A z."""
        return self.matrix @ z

    def coordinates(self, displacement: Float[Array, " d"]) -> Float[Array, " d"]:
        """The z with A z = w − w0."""
        return jnp.linalg.solve(self.matrix, displacement)


class DiagonalWhitening(eqx.Module):
    """A = diag(scale)."""

    scale: Float[Array, " d"]

    def displacement(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """w − w0 = A z."""
        return self.scale * z

    def coordinates(self, displacement: Float[Array, " d"]) -> Float[Array, " d"]:
        """The z with A z = w − w0."""
        return displacement / self.scale


Whitening = DenseWhitening | DiagonalWhitening


def identity_whitening(posterior: LocalPosterior) -> DiagonalWhitening:
    """z = w − w0."""
    return DiagonalWhitening(jnp.ones_like(posterior.w0))


def whitening_from_hessian(hessian: Float[Array, "d d"], localization: Float[Array, ""]) -> DenseWhitening:
    """Eigenvectors of a Hessian of nβL_n with scales 1/√(|h| + γ_loc)."""
    eigenvalues, eigenvectors = jnp.linalg.eigh(hessian)
    return DenseWhitening(eigenvectors / jnp.sqrt(jnp.abs(eigenvalues) + localization))


@eqx.filter_jit
def _mean_hessian(
    posterior: LocalPosterior, positions: Float[Array, "draws d"], is_absolute: bool
) -> Float[Array, "d d"]:
    def add(total: Array, position: Array) -> tuple[Array, None]:
        hessian = posterior.hessian(position)
        if is_absolute:
            eigenvalues, eigenvectors = jnp.linalg.eigh(hessian)
            hessian = (eigenvectors * jnp.abs(eigenvalues)) @ eigenvectors.T
        return total + hessian, None

    zero = jnp.zeros((posterior.dim, posterior.dim), posterior.w0.dtype)
    total, _ = jax.lax.scan(add, zero, positions)
    return total / positions.shape[0]


def hessian_whitening(
    posterior: LocalPosterior, positions: Float[Array, "draws d"]
) -> tuple[DenseWhitening, Float[Array, " d"]]:
    """Whitening by the Hessian averaged over `positions` (A0 where w0 is the only one), and its eigenvalues.

    Up to `MAX_ABSOLUTE_DIM` parameters the matrix absolute values are averaged, above that the Hessians themselves:
    regions of opposite curvature then do not cancel, at the price of one eigen-decomposition per position.
    """
    hessian = _mean_hessian(posterior, positions, posterior.dim <= MAX_ABSOLUTE_DIM and positions.shape[0] > 1)
    return whitening_from_hessian(hessian, posterior.localization), jnp.linalg.eigvalsh(hessian)


def laplace_llc(eigenvalues: Sequence[float] | Array, localization: float | Array) -> float:
    """½ Σ |h|/(|h| + γ_loc) over the eigenvalues h of the Hessian of nβL_n: λ̂ if the posterior were Gaussian."""
    h = jnp.abs(jnp.asarray(eigenvalues))
    return float(0.5 * jnp.sum(h / (h + localization)))
