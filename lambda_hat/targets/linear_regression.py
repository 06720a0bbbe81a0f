"""Linear regression with known noise: the posterior is a Gaussian, so that λ̂ is known in closed form."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from lambda_hat.config.problems import DataSpec, LinearRegressionProblem
from lambda_hat.targets.analytic import GaussianLLC
from lambda_hat.targets.datasets import Stream, draw_inputs, random_stream
from lambda_hat.targets.kind import TargetKind
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.model import Data, Model
from lambda_hat.targets.networks import MLP

__all__ = ["KIND"]


def _loss_of(problem: LinearRegressionProblem) -> SquaredError:
    """l_i(w) = (w·x_i − y_i)²/(2σ²), as the loss of a network of one layer without bias."""
    return SquaredError(MLP((problem.dim, 1), "identity", False), 0.5 / problem.noise_scale**2)


def _curvatures(problem: LinearRegressionProblem, inputs: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " d"]:
    """Eigenvalues of XᵀX/(nσ²), ascending; exactly zero in directions that X does not reach."""
    singular_values = np.linalg.svd(inputs, compute_uv=False)
    is_reached = singular_values > singular_values[0] * max(inputs.shape) * np.finfo(singular_values.dtype).eps
    curvatures = np.zeros(problem.dim)
    curvatures[: len(singular_values)] = np.where(is_reached, singular_values, 0.0) ** 2
    return np.sort(curvatures) / (len(inputs) * problem.noise_scale**2)


def _build(problem: LinearRegressionProblem) -> Model:
    """Data of a teacher with N(0, 1) weights; w0 is their least-squares solution, the shortest if there are several."""
    spec = DataSpec(inputs="gauss_aniso", input_condition=problem.input_condition)
    rngs = {stream: random_stream(problem.seed, stream) for stream in Stream}
    inputs = draw_inputs(spec, problem.num_data, problem.dim, rngs[Stream.INPUT_LAW], rngs[Stream.INPUTS])
    teacher = rngs[Stream.TEACHER].standard_normal(problem.dim)
    labels = inputs @ teacher + problem.noise_scale * rngs[Stream.NOISE].standard_normal(problem.num_data)
    w0 = np.linalg.lstsq(inputs, labels)[0]
    residuals = inputs @ w0 - labels
    curvatures = _curvatures(problem, inputs)
    info = {
        "is_minimum": True,
        "loss": float(0.5 * np.mean(residuals**2) / problem.noise_scale**2),
        "gradient_norm": float(np.linalg.norm(inputs.T @ residuals) / (problem.num_data * problem.noise_scale**2)),
        "decrease_available": 0.0,
        "smallest_curvature": float(curvatures[0]),
        "largest_curvature": float(curvatures[-1]),
    }
    return Model(w0, (inputs, labels[:, None]), _loss_of(problem), info)


def _exact_llc(problem: LinearRegressionProblem, data: Data) -> GaussianLLC:
    return GaussianLLC(_curvatures(problem, data[0]))


KIND = TargetKind(build=_build, loss_of=_loss_of, exact_llc_of=_exact_llc)
