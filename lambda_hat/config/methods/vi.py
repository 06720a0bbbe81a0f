"""Settings of variational inference, and how its runs are judged."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lambda_hat.config.methods.base import Advised, MethodSettings, Report
from lambda_hat.config.numbers import NaturalInt, PositiveFloat, PositiveInt, Size
from lambda_hat.draws.criteria import MAX_K_HAT, MAX_RELATIVE_BIAS, Criterion

__all__ = ["VISettings"]

_BETTER_FIT = "Raise `M` and `r`, or use hmc"


class VISettings(MethodSettings):
    """Mixture of `M` Gaussians with diagonal-plus-rank-`r` covariance, fitted by Adam in coordinates of its own.

    These are scaled per parameter, or those of the Hessian at w0 (`hessian`).
    """

    method: ClassVar[str] = "vi"
    place: ClassVar[int] = 2
    reports: ClassVar[tuple[Report, ...]] = (
        Report(
            "k_hat",
            "k̂",
            "Pareto k of importance sampling from the fit to the posterior. Above 0.7 the fit does not cover it.",
            spec=".2f",
            bound=MAX_K_HAT,
        ),
        Report("llc_psis", "λ̂ (PSIS)", "The estimate corrected by Pareto-smoothed importance sampling."),
        Report("num_loss_evaluations", "loss evaluations", "Full-data losses of draws from the fits.", spec=",.0f"),
        Report("elbo", "ELBO", "Mean evidence lower bound over the last quarter of the fit.", "nats"),
        Report("elbo_slope", "ELBO slope", "Slope of the evidence lower bound there.", "nats per 1000 steps"),
        Report("elbo_slope_se", "slope's error", "Standard error of that slope.", "nats per 1000 steps"),
    )
    colour: ClassVar[str | None] = "#cc79a7"
    figures: ClassVar[tuple[str, ...]] = ("elbo",)
    precision: ClassVar[Literal["double", "single"]] = "single"
    has_minibatches: ClassVar[bool] = True
    is_fit: ClassVar[bool] = True
    more_draws: ClassVar[str] = "Raise `num_draws`"
    step_name: ClassVar[str] = "lr"
    smaller_steps: ClassVar[str] = "Lower `lr`"
    slots: ClassVar[Mapping[str, str]] = {"max_components": "M", "max_rank": "r"}

    learning_rate: PositiveFloat = Field(default=1e-2, alias="lr")
    """Learning rate of Adam. It falls linearly to 0."""
    num_components: Size = Field(default=4, alias="M")
    """Gaussians of the mixture."""
    rank: Annotated[NaturalInt, Field(le=1_000_000)] = Field(default=2, alias="r")
    """Columns of each Gaussian's low-rank factor."""
    whitening_mode: Literal["none", "rmsprop", "adam", "hessian"] = "none"
    """Coordinates of the fit: `hessian` takes them from the curvature at w0, the others scale parameters: `rmsprop` by
    the gradients of single rows at w0, `adam` by how gradients change around it; `none` has one scale for all.
    """
    num_steps: PositiveInt = Field(default=5_000, alias="steps")
    """Steps of Adam."""
    batch_size: PositiveInt = 128
    """Rows of a minibatch."""
    num_chains: Size = 2
    """Independent fits."""
    num_draws: Annotated[NaturalInt, Field(ge=100)] = 2000
    """Draws from each fit, for λ̂ and importance sampling."""
    max_components: Size | None = None
    """Gaussians that are compiled; null compiles `M` of them."""
    max_rank: Size | None = None
    """Columns that are compiled; null compiles `r` of them."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the fit."""

    @property
    def is_whitened(self) -> bool:
        """Whether it fits in the coordinates of the Hessian; its other modes scale each parameter."""
        return self.whitening_mode == "hessian"

    @property
    def num_component_slots(self) -> int:
        """Components that are compiled; all beyond the first `M` are masked."""
        return self.max_components or self.num_components

    @property
    def num_rank_slots(self) -> int:
        """Columns of each factor that are compiled; all beyond the first `r` are masked."""
        return self.rank if self.max_rank is None else self.max_rank

    @property
    def program(self) -> tuple[Hashable, ...]:
        """Slots of the mixture are shapes, and so are minibatches; `M` and `r` only where they make the slots."""
        slots = self.num_component_slots, self.num_rank_slots
        return *super().program, self.batch_size, self.is_whitened, *slots

    def criteria(self, llc: float, reports: Mapping[str, float]) -> Iterator[Advised]:
        """The fit must cover the posterior, and importance sampling must not move the estimate far."""
        k_hat, corrected = reports.get("k_hat", math.inf), reports.get("llc_psis", math.nan)
        yield Criterion("k̂ of importance sampling", k_hat, MAX_K_HAT), _BETTER_FIT
        if k_hat <= MAX_K_HAT:
            bias = abs(llc - corrected) / abs(corrected) if corrected else math.inf
            yield Criterion("distance from importance sampling, over λ̂", bias, MAX_RELATIVE_BIAS), _BETTER_FIT
