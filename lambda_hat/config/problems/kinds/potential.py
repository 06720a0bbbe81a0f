"""Singular potentials in two dimensions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lambda_hat.config.numbers import NaturalInt, NonNegativeFloat, PositiveInt, Seed
from lambda_hat.config.problems.base import PosteriorSpec, ProblemSpec

__all__ = ["PotentialProblem"]

Exponent = Annotated[PositiveInt, Field(le=1000)]


class PotentialProblem(ProblemSpec):
    """L_n(w) = w₁²ᵏ w₂²ˡ around w0 = 0, with linear terms g_i·w, Σ g_i = 0: singular, exact by quadrature."""

    built_by: ClassVar[str] = "lambda_hat.targets.potential:KIND"
    order: ClassVar[int] = 3
    has_exact_llc: ClassVar[bool] = True

    target: Literal["potential"] = "potential"
    """Kind of target."""
    k: Exponent = 1
    """Exponent of w₁ is 2k."""
    l: Exponent = 1  # noqa: E741
    """Exponent of w₂ is 2l."""
    num_data: Annotated[NaturalInt, Field(ge=2)] = 1000
    """Rows of data n."""
    gradient_noise: NonNegativeFloat = 0.1
    """Standard deviation of each coordinate of g_i."""
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    """The local posterior around w0."""
    seed: Seed = 0
    """Seed of everything that is random in the target."""
