"""Settings of stochastic-gradient HMC, and how its runs are judged."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lambda_hat.config.methods.base import PREDICTED_BIAS, MethodSettings, Report
from lambda_hat.config.numbers import PositiveFloat, PositiveInt
from lambda_hat.draws.criteria import MIN_ESS_OF_NOISY_READINGS

__all__ = ["SGHMCSettings"]


class SGHMCSettings(MethodSettings):
    """v ← (1 − α) v − η (nβ ĝ + γ_loc (w − w0)) + √(2 (α − β̂) η) ξ, then w ← w + v.

    η = `eta`, α = `friction`, β̂ = `noise_share` · α. With `precond_type: whitened` that is done in z of w = w0 + A z.
    """

    method: ClassVar[str] = "sghmc"
    reports: ClassVar[tuple[Report, ...]] = (PREDICTED_BIAS,)
    colour: ClassVar[str | None] = "#882255"
    precision: ClassVar[Literal["double", "single"]] = "single"
    has_minibatches: ClassVar[bool] = True
    min_ess: ClassVar[float] = MIN_ESS_OF_NOISY_READINGS
    step_name: ClassVar[str] = "eta"
    smaller_steps: ClassVar[str] = "Lower `eta`"
    names_elsewhere: ClassVar[Mapping[str, str]] = {"eta0": "The `eta0` of sgld is twice the `eta` of sghmc."}

    step_size: PositiveFloat = Field(default=1e-3, alias="eta")
    """Constant step η. Whitened, it is in units of the posterior's variance."""
    friction: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share α of its velocity that a chain loses in a step. With 1 it is SGLD with steps of 2η."""
    noise_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """β̂/α, the share of the injected noise that minibatches are taken to bring themselves. 0 means B̂ = 0."""
    batch_size: PositiveInt = Field(default=128, alias="batch")
    """Rows of a minibatch. Data with fewer rows are used whole."""
    preconditioner: Literal["none", "whitened"] = Field(default="whitened", alias="precond_type")
    """Coordinates: `none` takes those of the weights, `whitened` those that the curvature gives."""
    num_steps: PositiveInt = Field(default=10_000, alias="steps")
    """Steps of each chain."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the sampling."""
    chunk_size: PositiveInt = 500
    """Steps between two looks at the deadline and the stop flag."""

    @property
    def is_whitened(self) -> bool:
        """Whether it samples in the coordinates of the curvature."""
        return self.preconditioner == "whitened"

    @property
    def program(self) -> tuple[Hashable, ...]:
        """Another size of minibatches is another shape, other coordinates another branch."""
        return *super().program, self.batch_size, self.preconditioner
