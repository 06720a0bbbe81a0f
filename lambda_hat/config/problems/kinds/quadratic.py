"""A quadratic loss with a Hessian of given eigenvalues."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lambda_hat.config.locate import Finding
from lambda_hat.config.problems.base import PosteriorSpec, ProblemSpec

__all__ = ["QuadraticProblem"]


class QuadraticProblem(ProblemSpec):
    """L_n(w) = ½ (w − w0)ᵀ H (w − w0) with per-example linear terms g_i·(w − w0), Σ g_i = 0: exact in closed form."""

    built_by: ClassVar[str] = "lambda_hat.targets.quadratic:KIND"
    order: ClassVar[int] = 1
    has_exact_llc: ClassVar[bool] = True

    target: Literal["quadratic"] = "quadratic"
    dim: PositiveInt = 10
    num_data: Annotated[int, Field(ge=2)] = 1000
    smallest_curvature: PositiveFloat = 0.1
    """Eigenvalues of H are spaced evenly in logarithm between these two."""
    largest_curvature: PositiveFloat = 10.0
    is_rotated: bool = True
    """Eigenvectors drawn at random instead of the axes."""
    gradient_noise: Annotated[float, Field(ge=0)] = 1.0
    """Standard deviation of each coordinate of g_i."""
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    seed: Annotated[int, Field(ge=0)] = 0

    def inconsistencies(self) -> Iterator[Finding]:
        """Curvatures the wrong way round."""
        low, high = self.smallest_curvature, self.largest_curvature
        if low > high:
            message = f"found smallest_curvature {low} above largest_curvature {high}, expected smallest ≤ largest"
            yield Finding(("smallest_curvature",), message)
