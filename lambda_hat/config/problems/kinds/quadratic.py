"""A quadratic loss with a Hessian of given eigenvalues."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lambda_hat.config.locate import Finding
from lambda_hat.config.numbers import NaturalInt, NonNegativeFloat, PositiveFloat, Seed, Size
from lambda_hat.config.problems.base import PosteriorSpec, ProblemSpec

__all__ = ["QuadraticProblem"]


class QuadraticProblem(ProblemSpec):
    """L_n(w) = ½ (w − w0)ᵀ H (w − w0) with per-example linear terms g_i·(w − w0), Σ g_i = 0: exact in closed form."""

    built_by: ClassVar[str] = "lambda_hat.targets.quadratic:KIND"
    order: ClassVar[int] = 1
    has_exact_llc: ClassVar[bool] = True

    target: Literal["quadratic"] = "quadratic"
    """Kind of target."""
    dim: Size = 10
    """Parameters d."""
    num_data: Annotated[NaturalInt, Field(ge=2)] = 1000
    """Rows of data n."""
    smallest_curvature: PositiveFloat = 0.1
    """Smallest eigenvalue of H. The others are spaced evenly in logarithm."""
    largest_curvature: PositiveFloat = 10.0
    """Largest eigenvalue of H."""
    is_rotated: bool = True
    """Whether the eigenvectors are drawn at random; else they are the axes."""
    gradient_noise: NonNegativeFloat = 1.0
    """Standard deviation of each coordinate of g_i."""
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    """The local posterior around w0."""
    seed: Seed = 0
    """Seed of everything that is random in the target."""

    def inconsistencies(self) -> Iterator[Finding]:
        """Curvatures the wrong way round."""
        low, high = self.smallest_curvature, self.largest_curvature
        if low > high:
            message = f"found smallest_curvature {low} above largest_curvature {high}, expected smallest ≤ largest"
            yield Finding(("smallest_curvature",), message)
