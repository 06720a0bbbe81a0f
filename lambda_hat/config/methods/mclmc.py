"""Settings of MCLMC, and how its runs are judged."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar

from pydantic import Field

from lambda_hat.config.methods.base import (
    ACCEPTANCE_RATE,
    ADAPTED_STEP_SIZE,
    DIVERGENCE_RATE,
    UNDEFINED_RATE,
    MethodSettings,
    OpenUnit,
    Report,
    WithoutEffect,
)
from lambda_hat.config.numbers import PositiveFloat, PositiveInt

__all__ = ["MCLMCSettings"]


class MCLMCSettings(MethodSettings):
    """Microcanonical Langevin Monte Carlo in whitened coordinates; lengths in units of √d standard deviations of z.

    Adjusted, a draw is a trajectory with its Metropolis decision, and the step size is adapted to `target_accept`.
    Unadjusted, a draw is one integrator step of just the size given, or of the size that causes `max_bias`.
    """

    method: ClassVar[str] = "mclmc"
    place: ClassVar[int] = 3
    reports: ClassVar[tuple[Report, ...]] = (
        ACCEPTANCE_RATE,
        ADAPTED_STEP_SIZE,
        DIVERGENCE_RATE,
        UNDEFINED_RATE,
        Report(
            "energy_error_variance",
            "energy error",
            "Variance of the energy error per step and dimension, of unadjusted chains.",
        ),
    )
    colour: ClassVar[str | None] = "#0072b2"
    figures: ClassVar[tuple[str, ...]] = ("energy",)
    smaller_steps: ClassVar[str] = "Raise `target_accept`"
    without_effect: ClassVar[tuple[WithoutEffect, ...]] = (
        WithoutEffect(
            "target_accept", "adjusted", False, "without adjustment it has no effect", "set `adjusted: true`"
        ),
        WithoutEffect("max_bias", "adjusted", True, "with adjustment there is no bias", "set `adjusted: false`"),
    )

    step_size: PositiveFloat = 0.1
    """Step size in whitened units. Chains that are adjusted, or keep to `max_bias`, start their adaptation from it."""
    target_accept: OpenUnit = 0.9
    """Acceptance rate that the step size is adapted to; for adjusted chains only."""
    decoherence_length: PositiveFloat = Field(default=1.0, alias="L")
    """Length of a trajectory, in units of √d whitened standard deviations."""
    num_steps: PositiveInt = Field(default=1000, alias="steps")
    """Draws of each chain."""
    is_adjusted: bool = Field(default=True, alias="adjusted")
    """Whether a Metropolis decision removes the bias of the step size."""
    max_bias: OpenUnit | None = None
    """Relative error of variances that unadjusted chains may have; burn-in finds the step size. By default that is
    `step_size`."""
    chunk_size: PositiveInt = 50
    """Steps between two looks at the deadline and the stop flag."""

    @property
    def advice_on_bias(self) -> str:
        """What to do where steps without adjustment bias the draws."""
        return "Lower `step_size`" if self.max_bias is None else "Lower `max_bias`"

    @property
    def is_exact(self) -> bool:
        """Whether its chains are adjusted."""
        return self.is_adjusted

    @property
    def wanted_acceptance(self) -> float | None:
        """The target acceptance of adjusted chains; None for the others, which accept every step."""
        return self.target_accept if self.is_adjusted else None

    @property
    def program(self) -> tuple[Hashable, ...]:
        """Chains with and without the Metropolis decision, or an adaptation, are programs of their own."""
        return *super().program, self.is_adjusted, self.max_bias is None
