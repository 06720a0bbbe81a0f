"""Settings of `auto`, which chooses a sampler and its step size by itself and says how wrong it may be."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from lambda_hat.config.base import IN_OWN_WORDS
from lambda_hat.config.methods.base import MethodSettings, OpenUnit, Report
from lambda_hat.config.numbers import PositiveFloat, PositiveInt
from lambda_hat.draws.criteria import Correction

__all__ = ["AutoSettings"]


class AutoSettings(MethodSettings):
    """HMC where its gradients fit into the time, else whitened SGLD at two step sizes, corrected and extrapolated.

    It runs until the half-width of its 95 % interval is at most `tolerance` of λ̂, or the time is spent. The standard
    error it reports is that half-width over 1.96: Monte Carlo error and what the step size may still do.
    """

    method: ClassVar[str] = "auto"
    place: ClassVar[int] = 5
    reports: ClassVar[tuple[Report, ...]] = (
        Report("half_width", "± (95 %)", "Half-width of the interval that is claimed to hold the LLC."),
        Report(
            "step_size_error",
            "step size",
            "The part of the half-width that the step size and the corrections leave open; 0 for HMC.",
        ),
        Report("chosen_step_size", "η chosen", "Step size of the finer chains, in whitened units."),
        Report("is_by_hmc", "by HMC", "1 where HMC was affordable, 0 where SGLD at two step sizes was run.", spec="g"),
    )
    colour: ClassVar[str | None] = "#000000"
    is_composite: ClassVar[bool] = True
    smaller_steps: ClassVar[str] = "Make `localization` larger, or raise `seconds`"
    more_draws: ClassVar[str] = "Raise `seconds`"

    tolerance: OpenUnit = 0.05
    """Half-width of the 95 % interval that is wanted, over λ̂."""
    seconds: PositiveFloat = 120.0
    """Time to sample in; what is compiled does not count."""
    batch_size: PositiveInt = Field(default=256, alias="batch")
    """Rows of a minibatch, where minibatches are needed."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_steps(cls, data: Any) -> Any:
        """The number of steps follows from the tolerance."""
        names = ("steps", "num_steps", "burn_in_fraction", "chunk_size")
        given = [name for name in names if isinstance(data, dict) and name in data]
        if given:
            message = f"{given[0]}: means nothing to auto, which runs until `tolerance` is met or `seconds` are over"
            raise PydanticCustomError(IN_OWN_WORDS, "{message}", {"message": message})
        return data

    @property
    def correction(self) -> Correction:
        """It corrects its parts by itself."""
        return "none"
