"""Settings of SGLD, and how its runs are judged."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lambda_hat.config.methods.base import PREDICTED_BIAS, Advised, MethodSettings, OpenUnit, Report, bias_criteria
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
    smaller_steps: ClassVar[str] = "Lower `eta0`"

    initial_step_size: PositiveFloat = Field(default=1e-4, alias="eta0")
    """Step size η_0 at the start."""
    annealing_exponent: Annotated[float, Field(ge=0)] = Field(default=0.0, alias="gamma")
    """0: constant steps."""
    annealing_offset: PositiveFloat = Field(default=1000.0, alias="t0")
    """Steps."""
    batch_size: PositiveInt = Field(default=128, alias="batch")
    """Rows of a minibatch; all of the data where there are fewer."""
    preconditioner: Literal["none", "rmsprop", "adam", "whitened"] = Field(default="none", alias="precond_type")
    """P."""
    num_steps: PositiveInt = Field(default=10_000, alias="steps")
    """Per chain."""
    gradient_decay: OpenUnit = Field(default=0.9, alias="b1")
    """Adam's first moment."""
    square_decay: OpenUnit = Field(default=0.999, alias="b2")
    """Second moment."""
    damping: PositiveFloat = Field(default=1e-2, alias="eps")
    """The ε in P = 1/(√v + ε)."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision the method samples in."""
    chunk_size: PositiveInt = 500
    """Steps between two looks at the deadline and the stop flag."""

    @property
    def is_whitened(self) -> bool:
        """Whether its preconditioner is the curvature's."""
        return self.preconditioner == "whitened"

    @property
    def program(self) -> tuple[Hashable, ...]:
        """Another size of minibatches is another shape, another preconditioner another branch."""
        return *super().program, self.batch_size, self.preconditioner

    def criteria(self, llc: float, reports: Mapping[str, float]) -> Iterator[Advised]:
        """The predicted bias must be small."""
        yield from bias_criteria(reports, self.smaller_steps)

    def unknown_bias(self, reports: Mapping[str, float]) -> str:
        """Preconditioners that follow the gradients have no stationary law to predict a bias from."""
        if PREDICTED_BIAS.name in reports:
            return ""
        return (
            f"The bias of sgld with `precond_type: {self.preconditioner}` is not known. See whether a smaller `eta0` "
            "gives the same, or use hmc."
        )
