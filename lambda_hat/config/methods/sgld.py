"""Settings of SGLD, and how its runs are judged."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar, Literal

from pydantic import Field

from lambda_hat.config.methods.base import PREDICTED_BIAS, MethodSettings, OpenUnit, Report
from lambda_hat.config.numbers import NonNegativeFloat, PositiveFloat, PositiveInt
from lambda_hat.draws.criteria import MIN_ESS_OF_NOISY_READINGS

__all__ = ["SGLDSettings"]


class SGLDSettings(MethodSettings):
    """w ← w − (η_t/2) P (nβ ĝ + γ_loc (w − w0)) + √(η_t P) ξ with η_t = eta0 (1 + t/t0)^(−gamma)."""

    method: ClassVar[str] = "sgld"
    place: ClassVar[int] = 1
    reports: ClassVar[tuple[Report, ...]] = (PREDICTED_BIAS,)
    colour: ClassVar[str | None] = "#d55e00"
    precision: ClassVar[Literal["double", "single"]] = "single"
    has_minibatches: ClassVar[bool] = True
    min_ess: ClassVar[float] = MIN_ESS_OF_NOISY_READINGS
    step_name: ClassVar[str] = "eta0"
    smaller_steps: ClassVar[str] = "Lower `eta0`"

    initial_step_size: PositiveFloat = Field(default=1e-4, alias="eta0")
    """Step size η_0 at the start."""
    annealing_exponent: NonNegativeFloat = Field(default=0.0, alias="gamma")
    """Annealing exponent of the step size; 0 keeps it constant."""
    annealing_offset: PositiveFloat = Field(default=1000.0, alias="t0")
    """Steps t0 until annealing sets in."""
    batch_size: PositiveInt = Field(default=128, alias="batch")
    """Rows of a minibatch. Data with fewer rows are used whole."""
    preconditioner: Literal["none", "rmsprop", "adam", "whitened"] = Field(default="none", alias="precond_type")
    """Preconditioner P. `whitened` takes it from the curvature; `rmsprop` and `adam` follow the gradients."""
    num_steps: PositiveInt = Field(default=10_000, alias="steps")
    """Steps of each chain."""
    gradient_decay: OpenUnit = Field(default=0.9, alias="b1")
    """Decay of the first moment, for `adam`."""
    square_decay: OpenUnit = Field(default=0.999, alias="b2")
    """Decay of the second moment, for `rmsprop` and `adam`."""
    damping: PositiveFloat = Field(default=1e-2, alias="eps")
    """The ε in P = 1/(√v + ε), for `rmsprop` and `adam`."""
    freeze: bool = False
    """Keep P as it is at the end of burn-in, for `rmsprop` and `adam`. Runs of `rmsprop` then know whether they are
    stationary."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the sampling."""
    chunk_size: PositiveInt = 500
    """Steps between two looks at the deadline and the stop flag."""

    @property
    def num_adapting(self) -> int | None:
        """Steps in which a preconditioner that follows the gradients may change, at least one; None without a bound."""
        return max(1, int(self.burn_in_fraction * self.num_steps)) if self.freeze else None

    @property
    def is_whitened(self) -> bool:
        """Whether its preconditioner is the curvature's."""
        return self.preconditioner == "whitened"

    @property
    def has_equal_weights(self) -> bool:
        """Whether its steps are constant, since draws count by them."""
        return self.annealing_exponent == 0

    @property
    def program(self) -> tuple[Hashable, ...]:
        """Another size of minibatches is another shape, another preconditioner another branch."""
        return *super().program, self.batch_size, self.preconditioner
