"""Targets whose posterior is a Gaussian, so that λ̂ is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.config.problems import DataSpec, LinearRegressionProblem, QuadraticProblem
from lambda_hat.targets.datasets import Stream, draw_inputs, random_stream
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP
from lambda_hat.targets.target import Target

__all__ = [
    "GaussianLLC",
    "QuadraticGeometry",
    "QuadraticLoss",
    "build_linear_regression",
    "build_quadratic",
    "draw_gradient_noise",
    "linear_regression_curvatures",
    "linear_regression_loss",
]


@dataclass(frozen=True, eq=False)
class GaussianLLC:
    """½ Σ nβh/(nβh + γ_loc) over the eigenvalues h of ∇²L_n, where L_n is exactly quadratic."""

    curvatures: Float[np.ndarray, " d"]

    def __call__(self, nbeta: float, localization: float) -> float:
        """λ̂."""
        return float(0.5 * np.sum(nbeta * self.curvatures / (nbeta * self.curvatures + localization)))


class QuadraticGeometry(NamedTuple):
    """Minimum, Hessian and its eigenvalues (ascending), in float64."""

    w0: Float[np.ndarray, " d"]
    hessian: Float[np.ndarray, "d d"]
    curvatures: Float[np.ndarray, " d"]


@dataclass(frozen=True)
class QuadraticLoss:
    """l_i(w) = ½ (w − w0)ᵀH(w − w0) + g_i·(w − w0); the data are the rows g_i.

    w0 and H follow from the fields, so that the loss is hashable and needs nothing but position and batch.
    """

    dim: int
    smallest_curvature: float
    largest_curvature: float
    is_rotated: bool
    seed: int

    @classmethod
    def from_problem(cls, problem: QuadraticProblem) -> QuadraticLoss:
        """The loss of `problem`."""
        return cls(problem.dim, problem.smallest_curvature, problem.largest_curvature, problem.is_rotated, problem.seed)

    @property
    def geometry(self) -> QuadraticGeometry:
        """w0 with standard normal entries, and H with eigenvalues evenly spaced in logarithm."""
        return _build_geometry(self)

    def __call__(self, position: Float[Array, " d"], batch: tuple[Float[Array, "B d"]]) -> Float[Array, " B"]:
        """Losses of a batch of gradient-noise rows."""
        (noise,) = batch
        w0, hessian, _ = self.geometry
        delta = position - jnp.asarray(w0, position.dtype)
        return 0.5 * delta @ (jnp.asarray(hessian, position.dtype) @ delta) + noise @ delta


@lru_cache(maxsize=16)
def _build_geometry(loss: QuadraticLoss) -> QuadraticGeometry:
    rng = random_stream(loss.seed, Stream.GEOMETRY)
    w0 = rng.standard_normal(loss.dim)
    curvatures = np.sort(np.geomspace(loss.smallest_curvature, loss.largest_curvature, loss.dim))
    if not loss.is_rotated:
        return QuadraticGeometry(w0, np.diag(curvatures), curvatures)
    axes, triangle = np.linalg.qr(rng.standard_normal((loss.dim, loss.dim)))
    axes = axes * np.sign(np.diag(triangle))  # makes the rotation uniformly distributed
    hessian = (axes * curvatures) @ axes.T
    return QuadraticGeometry(w0, 0.5 * (hessian + hessian.T), curvatures)


def draw_gradient_noise(num_data: int, dim: int, scale: float, seed: int) -> Float[np.ndarray, "n d"]:
    """Rows g_i with standard deviation `scale` and a sum of zero, so that g_i·(w − w0) adds nothing to L_n."""
    noise = scale * random_stream(seed, Stream.NOISE).standard_normal((num_data, dim))
    return noise - noise.mean(axis=0)


def build_quadratic(problem: QuadraticProblem) -> Target:
    """The target of `problem`, with nothing to train."""
    loss_fn = QuadraticLoss.from_problem(problem)
    w0, _, curvatures = loss_fn.geometry
    noise = draw_gradient_noise(problem.num_data, problem.dim, problem.gradient_noise, problem.seed)
    info = {
        "is_minimum": True,
        "loss": 0.0,
        "gradient_norm": float(np.linalg.norm(noise.mean(axis=0))),
        "decrease_available": 0.0,
        "smallest_curvature": float(curvatures[0]),
        "largest_curvature": float(curvatures[-1]),
    }
    return Target(w0, (noise,), loss_fn, info)


def linear_regression_loss(problem: LinearRegressionProblem) -> SquaredError:
    """l_i(w) = (w·x_i − y_i)²/(2σ²), as the loss of a network of one layer without bias."""
    return SquaredError(MLP((problem.dim, 1), "identity", False), 0.5 / problem.noise_scale**2)


def linear_regression_curvatures(
    problem: LinearRegressionProblem, inputs: Float[np.ndarray, "n d"]
) -> Float[np.ndarray, " d"]:
    """Eigenvalues of XᵀX/(nσ²), ascending; exactly zero in directions that X does not reach."""
    singular_values = np.linalg.svd(inputs, compute_uv=False)
    is_reached = singular_values > singular_values[0] * max(inputs.shape) * np.finfo(singular_values.dtype).eps
    curvatures = np.zeros(problem.dim)
    curvatures[: len(singular_values)] = np.where(is_reached, singular_values, 0.0) ** 2
    return np.sort(curvatures) / (len(inputs) * problem.noise_scale**2)


def build_linear_regression(problem: LinearRegressionProblem) -> Target:
    """Data of a teacher with N(0, 1) weights; w0 is their least-squares solution, the shortest if there are several."""
    spec = DataSpec(inputs="gauss_aniso", input_condition=problem.input_condition)
    rngs = {stream: random_stream(problem.seed, stream) for stream in Stream}
    inputs = draw_inputs(spec, problem.num_data, problem.dim, rngs[Stream.INPUT_LAW], rngs[Stream.INPUTS])
    teacher = rngs[Stream.TEACHER].standard_normal(problem.dim)
    labels = inputs @ teacher + problem.noise_scale * rngs[Stream.NOISE].standard_normal(problem.num_data)
    w0 = np.linalg.lstsq(inputs, labels)[0]
    residuals = inputs @ w0 - labels
    curvatures = linear_regression_curvatures(problem, inputs)
    info = {
        "is_minimum": True,
        "loss": float(0.5 * np.mean(residuals**2) / problem.noise_scale**2),
        "gradient_norm": float(np.linalg.norm(inputs.T @ residuals) / (problem.num_data * problem.noise_scale**2)),
        "decrease_available": 0.0,
        "smallest_curvature": float(curvatures[0]),
        "largest_curvature": float(curvatures[-1]),
    }
    return Target(w0, (inputs, labels[:, None]), linear_regression_loss(problem), info)
