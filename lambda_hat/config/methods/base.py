"""What the settings of every method have in common, and what a method declares about itself."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from lambda_hat.config.base import Frozen
from lambda_hat.config.numbers import PositiveInt, Size
from lambda_hat.draws.criteria import MIN_ESS, Correction, Criterion

__all__ = [
    "ACCEPTANCE_RATE",
    "ADAPTED_STEP_SIZE",
    "DIVERGENCE_RATE",
    "PREDICTED_BIAS",
    "UNDEFINED_RATE",
    "Advised",
    "MethodSettings",
    "OpenUnit",
    "Report",
    "WithoutEffect",
]

OpenUnit = Annotated[float, Field(gt=0, lt=1)]
Advised: TypeAlias = tuple[Criterion, str]
"""A criterion, and what to do where it is not met."""


@dataclass(frozen=True)
class Report:
    """A figure that a method reports beside its estimate: a key of a run's reports, and by that a column."""

    name: str
    title: str
    """As a table's heading."""
    sentence: str
    """What it is, and when to worry."""
    unit: str = ""
    spec: str = ".4g"
    """How it is printed."""
    bound: float | None = None
    """What it is read beside, if anything: it is never rounded across that."""


@dataclass(frozen=True)
class WithoutEffect:
    """A hyperparameter that means nothing where another setting has a certain value, so that nobody should search it.

    All names are YAML's.
    """

    name: str
    setting: str
    value: bool | str
    reason: str
    remedy: str


ACCEPTANCE_RATE = Report("acceptance_rate", "acceptance", "Mean Metropolis acceptance probability.", spec=".2f")
ADAPTED_STEP_SIZE = Report("adapted_step_size", "step size", "Step size after warm-up, in whitened coordinates.")
DIVERGENCE_RATE = Report("divergence_rate", "divergent", "Fraction of retained steps that failed numerically.")
UNDEFINED_RATE = Report(
    "undefined_rate",
    "undefined",
    "Fraction of retained steps that were turned down because the loss is no number at their end.",
)
PREDICTED_BIAS = Report(
    "predicted_bias",
    "predicted",
    "Bias of the uncorrected λ̂ expected from step size and minibatches, (λ̂ − λ)/λ to first order in the step size; "
    "where the preconditioner follows the gradients there is none.",
    spec="+.1%",
)


class MethodSettings(Frozen):
    """The settings that every method has, and what the rest of the program has to know of a method.

    The kernel of the method is `lambda_hat.samplers.<method>`, its preset `presets/sampler/<method>.yaml`. YAML's names
    (`eta0`, `M`) are aliases of the fields; code uses the long ones.
    """

    method: ClassVar[str]
    place: ClassVar[int] = 100
    """Where lists of methods name it; those of one place are sorted by name."""
    reports: ClassVar[tuple[Report, ...]] = ()
    """What its runs report beside the estimate."""
    colour: ClassVar[str | None] = None
    """Colour in figures; None picks one by the method's name."""
    figures: ClassVar[tuple[str, ...]] = ()
    """Figures of a single run beside those that every method has, by their names in `report.diagnosis`."""
    precision: ClassVar[Literal["double", "single"]] = "double"
    """Which pool of workers AUTO picks, where a card has one for each."""
    goes_with_references: ClassVar[bool] = False
    """Whether AUTO picks the pool of the references, even where a card lacks the other one."""
    has_minibatches: ClassVar[bool] = False
    """Whether the readings of its chains have minibatch noise."""
    has_fresh_momentum: ClassVar[bool] = False
    """Whether every draw starts from a fresh Gaussian momentum, so that E-BFMI means something."""
    is_composite: ClassVar[bool] = False
    """Whether it runs other methods: then it is `lambda_hat.estimate.<method>`, without a kernel of its own; a study
    has nothing to search in it."""
    is_fit: ClassVar[bool] = False
    """Whether a chain is the fit of a density, and the estimate comes from draws of that density."""
    min_ess: ClassVar[float] = MIN_ESS
    """Effective sample size that an estimate needs to be relied on."""
    more_draws: ClassVar[str] = "Raise `steps`"
    """What to do where the effective sample size is too small."""
    smaller_steps: ClassVar[str]
    """What to do where steps fail numerically."""
    step_name: ClassVar[str] = "step_size"
    """The hyperparameter that says how far a step goes, under YAML's name."""
    slots: ClassVar[Mapping[str, str]] = {}
    """Settings that fix a compiled shape, each with the hyperparameter whose largest searched value it takes."""
    without_effect: ClassVar[tuple[WithoutEffect, ...]] = ()
    """Hyperparameters that mean nothing beside certain values of others."""
    names_elsewhere: ClassVar[Mapping[str, str]] = {}
    """Names of other methods that look like one here and mean something else, each with what to write."""

    num_steps: PositiveInt = Field(default=1000, alias="steps")
    """Steps of each chain."""
    num_chains: Size = 4
    """Independent chains."""
    burn_in_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of the steps that the estimate leaves out, at the start of each chain."""
    dtype: Literal["float32", "float64"] = "float64"
    """Precision of the sampling."""
    chunk_size: PositiveInt = 250
    """Steps between two looks at the deadline and the stop flag."""

    @property
    def advice_on_bias(self) -> str:
        """What to do where step size and minibatches bias the draws."""
        return self.smaller_steps

    @property
    def is_whitened(self) -> bool:
        """Whether the method samples in coordinates that the curvature of the loss gives."""
        return True

    @property
    def is_exact(self) -> bool:
        """Whether a Metropolis decision removes the bias of the steps, and turns those down that fail numerically."""
        return False

    @property
    def has_equal_weights(self) -> bool:
        """Whether all draws count alike."""
        return True

    @property
    def correction(self) -> Correction:
        """How identities correct the estimate: with fitted coefficients where the draws have no bias, else with 1."""
        if self.is_fit:
            return "none"
        return "regression" if self.is_exact else "virial"

    @property
    def wanted_acceptance(self) -> float | None:
        """The acceptance rate that the step size is adapted to; None where it is not adapted."""
        return None

    def num_gradient_evaluations(self, num_data: int) -> float:
        """What the chains take in all, on the full-data scale, of a method whose steps take one gradient each."""
        return self.num_steps * self.num_chains * min(1.0, getattr(self, "batch_size", num_data) / num_data)

    @property
    def program(self) -> tuple[Hashable, ...]:
        """What chooses the compiled program, or the branch in it: trials that agree in it can run as one."""
        return self.method, self.num_chains, self.dtype, self.chunk_size

    def criteria(self, llc: float, reports: Mapping[str, float]) -> Iterator[Advised]:
        """What the method's own reports on an estimate `llc` are held to, beside what every run is."""
        del llc, reports
        return iter(())
