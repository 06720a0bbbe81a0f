"""From a problem to its target: trained or constructed once, loaded ever after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.config.problems import ProblemSpec
from lambda_hat.errors import TargetError
from lambda_hat.targets.kind import kind_of
from lambda_hat.targets.model import Model

__all__ = ["build_target", "load_target"]


def build_target(problem: ProblemSpec) -> Model:
    """The model of `problem`, the same for the same problem; training takes seconds to minutes.

    Raises:
        TargetError: JAX is not in 64-bit mode, the kind cannot be used, or training left the finite numbers.
    """
    if jnp.result_type(float) != jnp.float64:
        raise TargetError("Targets are built in float64: call `jax.config.update('jax_enable_x64', True)` first.")
    kind = kind_of(problem)
    model = replace(kind.build(problem), problem_id=problem_id(problem.identity()), is_stored=kind.is_stored)
    return _with_exact_llc(model, problem)


def load_target(path: Path, problem: ProblemSpec) -> Model:
    """The model that was saved for `problem`, in either precision mode of JAX.

    Raises:
        TargetError: the kind cannot be used, or the file is missing, torn, of another format or of another problem.
    """
    kind = kind_of(problem)
    model = Model.load(path, problem_id(problem.identity()), kind.loss_of(problem))
    if not kind.is_stored:
        model = replace(kind.build(problem), problem_id=model.problem_id, info=model.info, is_stored=False)
    return _with_exact_llc(model, problem)


def _with_exact_llc(model: Model, problem: ProblemSpec) -> Model:
    exact_llc_of = kind_of(problem).exact_llc_of
    return model if exact_llc_of is None else replace(model, exact_llc_fn=exact_llc_of(problem, model.data))
