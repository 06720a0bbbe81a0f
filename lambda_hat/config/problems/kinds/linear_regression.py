"""Linear regression with Gaussian noise of known scale."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lambda_hat.config.numbers import NaturalInt, NonNegativeFloat, PositiveFloat, Seed, Size
from lambda_hat.config.problems.base import PosteriorSpec, ProblemSpec

__all__ = ["LinearRegressionProblem"]


class LinearRegressionProblem(ProblemSpec):
    """y = w·x + N(0, σ²) noise with σ known, w0 the least-squares solution: exact in closed form."""

    built_by: ClassVar[str] = "lambda_hat.targets.linear_regression:KIND"
    order: ClassVar[int] = 2
    has_exact_llc: ClassVar[bool] = True

    target: Literal["linear_regression"] = "linear_regression"
    """Kind of target."""
    dim: Size = 10
    """Parameters d."""
    num_data: Annotated[NaturalInt, Field(ge=2)] = 1000
    """Rows of data n."""
    input_condition: Annotated[NonNegativeFloat, Field(ge=1)] = 10.0
    """Largest over smallest variance of the inputs."""
    noise_scale: PositiveFloat = 1.0
    """Standard deviation σ of the noise."""
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    """The local posterior around w0."""
    seed: Seed = 0
    """Seed of everything that is random in the target."""
