"""Singular potentials in two dimensions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from lambda_hat.config.problems.base import PosteriorSpec, ProblemSpec

__all__ = ["PotentialProblem"]


class PotentialProblem(ProblemSpec):
    """L_n(w) = w₁²ᵏ w₂²ˡ around w0 = 0, with linear terms g_i·w, Σ g_i = 0: singular, exact by quadrature."""

    built_by: ClassVar[str] = "lambda_hat.targets.potential:KIND"
    order: ClassVar[int] = 3
    has_exact_llc: ClassVar[bool] = True

    target: Literal["potential"] = "potential"
    """Kind of target."""
    k: PositiveInt = 1
    """Exponent of w₁ is 2k."""
    l: PositiveInt = 1  # noqa: E741
    """Exponent of w₂ is 2l."""
    num_data: Annotated[int, Field(ge=2)] = 1000
    """Rows of data n."""
    gradient_noise: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of each coordinate of g_i."""
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    """The local posterior around w0."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything that is random in the target."""
