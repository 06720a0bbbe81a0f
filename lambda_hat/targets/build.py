"""From a problem to its target: trained or constructed once, loaded ever after."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.config.problems import MLPProblem, Problem, QuadraticProblem
from lambda_hat.errors import TargetError
from lambda_hat.targets.analytic import QuadraticLoss, draw_gradient_noise
from lambda_hat.targets.datasets import Stream, build_dataset, random_stream
from lambda_hat.targets.fullbatch import mean_loss
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.target import Target
from lambda_hat.targets.training import train

__all__ = ["build_target", "load_target"]


def build_target(problem: Problem) -> Target:
    """The target of `problem`, the same for the same problem; training takes seconds to minutes.

    Raises:
        TargetError: JAX is not in 64-bit mode, or training left the finite numbers.
    """
    if jnp.result_type(float) != jnp.float64:
        raise TargetError("Targets are built in float64: call `jax.config.update('jax_enable_x64', True)` first.")
    if isinstance(problem, QuadraticProblem):
        return _build_quadratic(problem)
    return _build_mlp(problem)


def load_target(path: Path, problem: Problem) -> Target:
    """The target that was saved for `problem`, in either precision mode of JAX.

    Raises:
        TargetError: the file is missing, torn, of another format or of another problem.
    """
    pid = problem_id(problem.to_dict())
    if isinstance(problem, QuadraticProblem):
        loss_fn = QuadraticLoss.from_problem(problem)
        return Target.load(path, pid, loss_fn, loss_fn.geometry.curvatures)
    return Target.load(path, pid, SquaredError.from_problem(problem))


def _build_quadratic(problem: QuadraticProblem) -> Target:
    loss_fn = QuadraticLoss.from_problem(problem)
    w0, _, curvatures = loss_fn.geometry
    noise = draw_gradient_noise(problem)
    info = {
        "is_minimum": True,
        "loss": 0.0,
        "gradient_norm": float(np.linalg.norm(noise.mean(axis=0))),
        "decrease_available": 0.0,
        "smallest_curvature": float(curvatures[0]),
        "largest_curvature": float(curvatures[-1]),
    }
    return Target(w0, (noise,), loss_fn, info, problem_id(problem.to_dict()), curvatures)


def _build_mlp(problem: MLPProblem) -> Target:
    loss_fn = SquaredError.from_problem(problem)
    dataset = build_dataset(problem)
    start = loss_fn.network.init(random_stream(problem.seed, Stream.INIT))
    batch_seed = int(random_stream(problem.seed, Stream.BATCHES).integers(2**31))
    w0, info = train(loss_fn, start, dataset.data, problem.training, problem.posterior, batch_seed)
    if problem.data.num_test:
        info["test_loss"] = float(mean_loss(loss_fn, jnp.asarray(w0), tuple(map(jnp.asarray, dataset.test_data))))
    return Target(w0, dataset.data, loss_fn, info, problem_id(problem.to_dict()))
