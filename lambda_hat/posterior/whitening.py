"""Linear coordinates w = w0 + A z in which the local posterior is close to a standard normal.

Whitening changes coordinates, never the target: the localization stays in the original coordinates.
"""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.posterior.local import LocalPosterior

__all__ = [
    "Coordinates",
    "DenseWhitening",
    "DiagonalWhitening",
    "Whitening",
    "hessian_whitening",
    "identity_whitening",
    "whitening_from_hessian",
]


MAX_ABSOLUTE_DIM = 300


class Whitening(eqx.Module):
    """A linear map A from z to w − w0, seen from every side that samplers need."""

    @abc.abstractmethod
    def displacement(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """w − w0 = A z."""

    @abc.abstractmethod
    def coordinates(self, displacement: Float[Array, " d"]) -> Float[Array, " d"]:
        """The z with A z = w − w0."""

    @abc.abstractmethod
    def pullback(self, gradient: Float[Array, " d"]) -> Float[Array, " d"]:
        """Aᵀ g: the gradient with respect to z of a function whose gradient with respect to w is g."""

    @abc.abstractmethod
    def gradient(self, pulled: Float[Array, " d"]) -> Float[Array, " d"]:
        """The g with Aᵀ g = pulled: what `pullback` was made of."""

    @property
    @abc.abstractmethod
    def num_multiplications(self) -> int:
        """What one product with A costs."""

    @property
    @abc.abstractmethod
    def squared_norm(self) -> Float[Array, ""]:
        """tr A Aᵀ."""

    @property
    @abc.abstractmethod
    def log_abs_det(self) -> Float[Array, ""]:
        """log |det A|. The log density in w is that in z minus this."""

    @abc.abstractmethod
    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays from which `whitening_from_arrays` restores the map."""


class DenseWhitening(Whitening):
    """A as one dense matrix, with its inverse."""

    matrix: Float[Array, "d d"]
    inverse: Float[Array, "d d"]

    def __init__(self, matrix: Any, inverse: Any = None) -> None:
        self.matrix = matrix
        self.inverse = np.linalg.inv(matrix) if inverse is None else inverse

    def displacement(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """w − w0 = A z."""
        return self.matrix @ z

    def coordinates(self, displacement: Float[Array, " d"]) -> Float[Array, " d"]:
        """The z with A z = w − w0."""
        return self.inverse @ displacement

    def pullback(self, gradient: Float[Array, " d"]) -> Float[Array, " d"]:
        """Aᵀ g, the gradient with respect to z."""
        return gradient @ self.matrix

    def gradient(self, pulled: Float[Array, " d"]) -> Float[Array, " d"]:
        """The g with Aᵀ g = pulled."""
        return pulled @ self.inverse

    @property
    def num_multiplications(self) -> int:
        """What one product with A costs."""
        return self.matrix.size

    @property
    def squared_norm(self) -> Float[Array, ""]:
        """tr A Aᵀ."""
        return jnp.sum(self.matrix**2)

    @property
    def log_abs_det(self) -> Float[Array, ""]:
        """log |det A|."""
        return jnp.linalg.slogdet(self.matrix)[1]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The matrix A."""
        return {"dense": np.asarray(self.matrix)}


class DiagonalWhitening(Whitening):
    """A as a diagonal matrix, diag(scale)."""

    scale: Float[Array, " d"]

    def displacement(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """w − w0 = A z."""
        return self.scale * z

    def coordinates(self, displacement: Float[Array, " d"]) -> Float[Array, " d"]:
        """The z with A z = w − w0."""
        return displacement / self.scale

    def pullback(self, gradient: Float[Array, " d"]) -> Float[Array, " d"]:
        """Aᵀ g, the gradient with respect to z."""
        return self.scale * gradient

    def gradient(self, pulled: Float[Array, " d"]) -> Float[Array, " d"]:
        """The g with Aᵀ g = pulled."""
        return pulled / self.scale

    @property
    def num_multiplications(self) -> int:
        """What one product with A costs."""
        return self.scale.size

    @property
    def squared_norm(self) -> Float[Array, ""]:
        """tr A Aᵀ."""
        return jnp.sum(self.scale**2)

    @property
    def log_abs_det(self) -> Float[Array, ""]:
        """log |det A|."""
        return jnp.sum(jnp.log(jnp.abs(self.scale)))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The diagonal of A."""
        return {"diagonal": np.asarray(self.scale)}


class Coordinates(eqx.Module):
    """Two whitenings of a posterior: by the curvature at w0 (A0), and by curvature averaged over draws (A1)."""

    at_w0: Whitening
    averaged: Whitening


def identity_whitening(posterior: LocalPosterior) -> DiagonalWhitening:
    """The whitening that changes nothing: z = w − w0."""
    return DiagonalWhitening(jnp.ones_like(posterior.w0))


def whitening_from_hessian(hessian: Float[Array, "d d"], localization: Float[Array, ""]) -> DenseWhitening:
    """Whitening by the eigenvectors of a Hessian of nβL_n, with scales 1/√(|h| + γ_loc)."""
    eigenvalues, eigenvectors = jnp.linalg.eigh(hessian)
    roots = jnp.sqrt(jnp.abs(eigenvalues) + localization)
    return DenseWhitening(eigenvectors / roots, (eigenvectors * roots).T)


@eqx.filter_jit
def _mean_hessian(
    posterior: LocalPosterior, positions: Float[Array, "draws d"], is_absolute: bool
) -> Float[Array, "d d"]:
    """Over the positions where there is one: |w|^1.5 has none at zero. Zero if there is none anywhere."""

    def add(sums: tuple[Array, Array], position: Array) -> tuple[tuple[Array, Array], None]:
        hessian = posterior.hessian(position)
        is_known = jnp.all(jnp.isfinite(hessian))
        hessian = jnp.where(is_known, hessian, 0.0)
        if is_absolute:
            eigenvalues, eigenvectors = jnp.linalg.eigh(hessian)
            hessian = (eigenvectors * jnp.abs(eigenvalues)) @ eigenvectors.T
        total, count = sums
        return (total + hessian, count + is_known), None

    zero = jnp.zeros((posterior.dim, posterior.dim), posterior.w0.dtype)
    (total, count), _ = jax.lax.scan(add, (zero, jnp.zeros((), posterior.w0.dtype)), positions)
    return total / jnp.maximum(count, 1.0)


def hessian_whitening(
    posterior: LocalPosterior, positions: Float[Array, "draws d"]
) -> tuple[DenseWhitening, Float[Array, " d"]]:
    """Whitening by the Hessian averaged over `positions` (A0 where w0 is the only one), and its eigenvalues.

    Up to `MAX_ABSOLUTE_DIM` parameters the matrix absolute values are averaged, above that the Hessians themselves:
    regions of opposite curvature then do not cancel, at the price of one eigen-decomposition per position.
    """
    hessian = _mean_hessian(posterior, positions, posterior.dim <= MAX_ABSOLUTE_DIM and positions.shape[0] > 1)
    return whitening_from_hessian(hessian, posterior.localization), jnp.linalg.eigvalsh(hessian)
