"""How problems become models: what a kind of target has to offer."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from lambda_hat.config.problems import ProblemSpec
from lambda_hat.errors import TargetError
from lambda_hat.targets.model import Data, ExactLLC, Model, PerExampleLossFn

__all__ = ["Predictions", "TargetKind", "kind_of"]

ProblemT = TypeVar("ProblemT", bound=ProblemSpec)


class Predictions(NamedTuple):
    """Outputs of the network that labelled the rows, those of the model at w0, and the labels, all flat."""

    teacher: Float[np.ndarray, " m"]
    network: Float[np.ndarray, " m"]
    labels: Float[np.ndarray, " m"]


@dataclass(frozen=True)
class TargetKind(Generic[ProblemT]):
    """A kind of target, as functions of its problem. A subclass of `ProblemSpec` names it in `built_by`."""

    build: Callable[[ProblemT], Model]
    """Train or construct the model, the same for the same problem. JAX is in 64-bit mode."""
    loss_of: Callable[[ProblemT], PerExampleLossFn]
    """The loss of the model, which is rebuilt where the model is loaded from its file."""
    exact_llc_of: Callable[[ProblemT, Data], ExactLLC] | None = None
    """λ̂ as a function of (nβ, γ_loc), where `has_exact_llc` says that it is known."""
    is_stored: bool = True
    """Whether a model's data are stored with it; else `build` gives them again wherever it is loaded, in a moment."""
    predictions_of: Callable[[ProblemT, Model], Predictions | None] | None = None
    """What a figure shows of a regression against its teacher; None for other losses. JAX is in 64-bit mode."""


def kind_of(problem: ProblemSpec) -> TargetKind[Any]:
    """The kind that `problem.built_by` names.

    Raises:
        TargetError: it cannot be imported, or is something else.
    """
    where = f"target `{problem.name()}`: `{problem.built_by}`"
    try:
        kind = pkgutil.resolve_name(problem.built_by)
    except Exception as error:  # whatever the module does when it is imported
        raise TargetError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(kind, TargetKind):
        raise TargetError(f"{where} is a {type(kind).__name__}, expected a TargetKind.")
    return kind
