"""How good a minimum a position is, on the scale of the local posterior around it, and which step would improve it."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from lambda_hat.targets.fullbatch import hessian_vector_product, mean_hessian, mean_loss_and_grad
from lambda_hat.targets.lanczos import lanczos
from lambda_hat.targets.model import Data, PerExampleLossFn

__all__ = ["LocalModel", "build_local_model"]

_NUM_LANCZOS_STEPS = 60

Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True, eq=False)
class LocalModel:
    """Second-order model of L_n at a position: its value, slopes g_j and curvatures h_j along orthonormal directions.

    The directions are all eigenvectors of the Hessian, or the Ritz vectors of a Lanczos process started from the
    gradient, whose Gauss quadrature stands for the sums over eigenvalues.
    """

    loss: float
    slopes: Float[np.ndarray, " k"]
    curvatures: Float[np.ndarray, " k"]  # ascending
    directions: Float[np.ndarray, "d k"]
    nbeta: float
    localization: float

    @property
    def has_all_directions(self) -> bool:
        """Whether the curvatures are all eigenvalues of the Hessian rather than Ritz values."""
        return self.directions.shape[0] == self.directions.shape[1]

    @property
    def gradient_norm(self) -> float:
        """|∇L_n|."""
        return float(np.linalg.norm(self.slopes))

    @property
    def decrease_available(self) -> float:
        """½ Σ (nβ g_j)²/(nβ|h_j| + γ_loc), what one Newton step takes off the local potential nβL_n + γ_loc|w − w0|²/2.

        Twice this bounds what the remaining gradient can add to the LLC.
        """
        return float(-0.5 * self.nbeta * self.slopes @ self._newton_coefficients(self.localization))

    @property
    def saddle_gain(self) -> float:
        """½ nβ|h|/γ_loc: what the most negative curvature h offers at the posterior's own radius 1/√γ_loc."""
        return float(0.5 * self.nbeta * max(0.0, -self.curvatures[0]) / self.localization)

    def is_minimum(self, tolerance: float) -> bool:
        """Whether neither the gradient nor a negative curvature offers more than `tolerance`, in units of the LLC."""
        return self.decrease_available <= tolerance and self.saddle_gain <= tolerance

    def step(self, damping: float) -> Vector:
        """Saddle-free Newton step −nβ(nβ|H| + damping)⁻¹∇L_n (Dauphin et al. 2014, arXiv 1406.2572).

        Where the gradient has little to offer but a negative curvature has, a step of length 1/√damping along that.
        """
        if self.saddle_gain > self.decrease_available:
            downhill = -1.0 if self.slopes[0] > 0 else 1.0
            return downhill / np.sqrt(damping) * self.directions[:, 0]
        return self.directions @ self._newton_coefficients(damping)

    def _newton_coefficients(self, damping: float) -> Float[np.ndarray, " k"]:
        return -self.nbeta * self.slopes / (self.nbeta * np.abs(self.curvatures) + damping)


def build_local_model(
    loss_fn: PerExampleLossFn, position: Vector, data: Data, nbeta: float, localization: float, *, is_dense: bool
) -> LocalModel:
    """Model of L_n at `position` from full-data derivatives: from all d eigenpairs, or from min(d, 60) Ritz pairs."""
    loss, gradient = mean_loss_and_grad(loss_fn, jnp.asarray(position), data)
    gradient = np.asarray(gradient)
    if is_dense or position.size <= _NUM_LANCZOS_STEPS:
        hessian = np.asarray(mean_hessian(loss_fn, jnp.asarray(position), data))
        curvatures, directions = np.linalg.eigh(hessian)
    else:
        curvatures, directions = _ritz_pairs(loss_fn, position, gradient, data)
    return LocalModel(float(loss), directions.T @ gradient, curvatures, directions, nbeta, localization)


def _ritz_pairs(
    loss_fn: PerExampleLossFn, position: Vector, start: Vector, data: Data
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "d k"]]:
    """Ritz values, ascending, and Ritz vectors of ∇²L_n(position) in the Krylov space of `start`."""
    if not np.any(start):
        start = np.ones_like(start)  # a stationary point: any generic direction finds the extreme curvatures
    values, vectors, basis = lanczos(
        lambda vector: np.asarray(
            hessian_vector_product(loss_fn, jnp.asarray(position), jnp.asarray(vector), data), np.float64
        ),
        start,
        _NUM_LANCZOS_STEPS,
    )
    return values, basis.T @ vectors
