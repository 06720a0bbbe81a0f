"""From a problem to its target: trained or constructed once, loaded ever after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.config.problems import (
    DeepLinearProblem,
    LinearRegressionProblem,
    MLPProblem,
    PotentialProblem,
    Problem,
    QuadraticProblem,
    ReducedRankProblem,
)
from lambda_hat.errors import TargetError
from lambda_hat.targets.analytic import (
    GaussianLLC,
    QuadraticLoss,
    build_linear_regression,
    build_quadratic,
    linear_regression_curvatures,
    linear_regression_loss,
)
from lambda_hat.targets.datasets import Stream, build_dataset, random_stream
from lambda_hat.targets.fullbatch import mean_loss
from lambda_hat.targets.linear_networks import build_linear_network, linear_network_loss
from lambda_hat.targets.losses import build_network_loss
from lambda_hat.targets.potentials import PotentialLLC, PotentialLoss, build_potential
from lambda_hat.targets.target import PerExampleLossFn, Target
from lambda_hat.targets.training import train

__all__ = ["build_target", "load_target"]


def build_target(problem: Problem) -> Target:
    """The target of `problem`, the same for the same problem; training takes seconds to minutes.

    Raises:
        TargetError: JAX is not in 64-bit mode, or training left the finite numbers.
    """
    if jnp.result_type(float) != jnp.float64:
        raise TargetError("Targets are built in float64: call `jax.config.update('jax_enable_x64', True)` first.")
    match problem:
        case MLPProblem():
            target = _build_mlp(problem)
        case QuadraticProblem():
            target = build_quadratic(problem)
        case LinearRegressionProblem():
            target = build_linear_regression(problem)
        case PotentialProblem():
            target = build_potential(problem)
        case DeepLinearProblem() | ReducedRankProblem():
            target = build_linear_network(problem)
    return _with_exact_llc(replace(target, problem_id=problem_id(problem.to_dict())), problem)


def load_target(path: Path, problem: Problem) -> Target:
    """The target that was saved for `problem`, in either precision mode of JAX.

    Raises:
        TargetError: the file is missing, torn, of another format or of another problem.
    """
    return _with_exact_llc(Target.load(path, problem_id(problem.to_dict()), _loss_of(problem)), problem)


def _loss_of(problem: Problem) -> PerExampleLossFn:
    match problem:
        case MLPProblem():
            return build_network_loss(problem)
        case QuadraticProblem():
            return QuadraticLoss.from_problem(problem)
        case LinearRegressionProblem():
            return linear_regression_loss(problem)
        case PotentialProblem():
            return PotentialLoss(problem.k, problem.l)
        case DeepLinearProblem() | ReducedRankProblem():
            return linear_network_loss(problem)


def _with_exact_llc(target: Target, problem: Problem) -> Target:
    exact_llc_fn: Callable[[float, float], float] | None = None
    match problem:
        case QuadraticProblem():
            exact_llc_fn = GaussianLLC(QuadraticLoss.from_problem(problem).geometry.curvatures)
        case LinearRegressionProblem():
            exact_llc_fn = GaussianLLC(linear_regression_curvatures(problem, target.data[0]))
        case PotentialProblem():
            exact_llc_fn = PotentialLLC(problem.k, problem.l)
        case _:
            pass
    return replace(target, exact_llc_fn=exact_llc_fn)


def _build_mlp(problem: MLPProblem) -> Target:
    loss_fn = build_network_loss(problem)
    dataset = build_dataset(problem)
    start = loss_fn.network.init(random_stream(problem.seed, Stream.INIT))
    batch_seed = int(random_stream(problem.seed, Stream.BATCHES).integers(2**31))
    w0, info = train(loss_fn, start, dataset.data, problem.training, problem.posterior, batch_seed)
    if problem.data.num_test:
        info["test_loss"] = float(mean_loss(loss_fn, jnp.asarray(w0), tuple(map(jnp.asarray, dataset.test_data))))
    return Target(w0, dataset.data, loss_fn, info)
