"""Settings of HMC."""

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
)
from lambda_hat.config.numbers import PositiveFloat, PositiveInt

__all__ = ["HMCSettings"]


class HMCSettings(MethodSettings):
    """Hamiltonian Monte Carlo with few, jittered leapfrog steps in whitened coordinates."""

    method: ClassVar[str] = "hmc"
    place: ClassVar[int] = 4
    reports: ClassVar[tuple[Report, ...]] = (ACCEPTANCE_RATE, ADAPTED_STEP_SIZE, DIVERGENCE_RATE, UNDEFINED_RATE)
    colour: ClassVar[str | None] = "#009e73"
    figures: ClassVar[tuple[str, ...]] = ("energy",)
    goes_with_references: ClassVar[bool] = True
    has_fresh_momentum: ClassVar[bool] = True
    smaller_steps: ClassVar[str] = "Raise `target_accept`"

    step_size: PositiveFloat = 0.3
    """Step size at the start of the adaptation, in whitened units."""
    num_integration_steps: PositiveInt = 4
    """Mean number of leapfrog steps. Each trajectory draws its own uniformly from 1 … 2·mean − 1."""
    target_accept: OpenUnit = 0.8
    """Acceptance rate that the step size is adapted to."""
    num_steps: PositiveInt = Field(default=1000, alias="steps")
    """Draws of each chain."""
    chunk_size: PositiveInt = 50
    """Steps between two looks at the deadline and the stop flag."""

    @property
    def is_exact(self) -> bool:
        """Every trajectory ends with a Metropolis decision."""
        return True

    @property
    def wanted_acceptance(self) -> float | None:
        """The acceptance rate that the step size is adapted to."""
        return self.target_accept

    @property
    def program(self) -> tuple[Hashable, ...]:
        """Side by side all would take as long as the longest trajectories."""
        return *super().program, self.num_integration_steps
