"""A quadratic loss: the posterior is a Gaussian, so that λ̂ is known in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.config.problems import QuadraticProblem
from lambda_hat.targets.analytic import GaussianLLC, draw_gradient_noise
from lambda_hat.targets.datasets import Stream, random_stream
from lambda_hat.targets.kind import TargetKind
from lambda_hat.targets.model import Data, Model

__all__ = ["KIND", "QuadraticGeometry", "QuadraticLoss"]


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


def _build(problem: QuadraticProblem) -> Model:
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
    return Model(w0, (noise,), loss_fn, info)


def _exact_llc(problem: QuadraticProblem, data: Data) -> GaussianLLC:
    del data
    return GaussianLLC(QuadraticLoss.from_problem(problem).geometry.curvatures)


KIND = TargetKind(build=_build, loss_of=QuadraticLoss.from_problem, exact_llc_of=_exact_llc)
