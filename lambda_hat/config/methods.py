"""The settings of every method. YAML's names (`eta0`, `M`) are aliases; code uses the long ones.

A search-space name must be one of a method's aliases; whatever is sampled is validated here and handed to the sampler
whole.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from lambda_hat.config.base import Frozen

__all__ = [
    "METHODS",
    "REPORTS",
    "HMCSettings",
    "MCLMCSettings",
    "MethodSettings",
    "Report",
    "SGLDSettings",
    "VISettings",
    "hyperparameter_names",
    "parse_settings",
    "program_of",
]

OpenUnit = Annotated[float, Field(gt=0, lt=1)]


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


_DIVERGENCE_RATE = Report("divergence_rate", "divergent", "Fraction of retained steps that failed numerically.")
_ACCEPTANCE_RATE = Report("acceptance_rate", "acceptance", "Mean Metropolis acceptance probability.", spec=".2f")
_ADAPTED_STEP_SIZE = Report("adapted_step_size", "step size", "Step size after warm-up, in whitened coordinates.")


class MethodSettings(Frozen):
    """What every method has. `steps` counts what the method calls a step."""

    method: ClassVar[str]
    reports: ClassVar[tuple[Report, ...]] = ()

    num_steps: PositiveInt = Field(default=1000, alias="steps")
    """Per chain."""
    num_chains: Annotated[int, Field(ge=1)] = 4
    """Independent ones."""
    burn_in_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Of the steps, left out of the estimate."""
    dtype: Literal["float32", "float64"] = "float64"
    """Precision the method samples in."""
    chunk_size: PositiveInt = 250
    """Steps between two looks at the deadline and the stop flag."""

    @property
    def is_whitened(self) -> bool:
        """Whether the method samples in coordinates that the curvature of the loss gives."""
        return True

    @property
    def program(self) -> tuple[Hashable, ...]:
        """What chooses the compiled program, or the branch in it: trials that agree in it can run as one."""
        return self.method, self.num_chains, self.dtype, self.chunk_size


class SGLDSettings(MethodSettings):
    """w ← w − (η_t/2) P (nβ ĝ + γ_loc (w − w0)) + √(η_t P) ξ with η_t = eta0 (1 + t/t0)^(−gamma)."""

    method: ClassVar[str] = "sgld"
    reports: ClassVar[tuple[Report, ...]] = (
        Report(
            "predicted_bias",
            "predicted",
            "Bias expected from step size and minibatches, (λ̂ − λ)/λ to first order in the step size. It should be "
            "small; `rmsprop` and `adam` have none.",
            spec="+.1%",
        ),
    )

    initial_step_size: PositiveFloat = Field(default=1e-4, alias="eta0")
    """Η_0."""
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
    """Ε in P = 1/(√v + ε)."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision the method samples in."""
    chunk_size: PositiveInt = 500
    """Steps between two looks at the deadline and the stop flag."""

    @property
    def is_whitened(self) -> bool:
        """By its preconditioner."""
        return self.preconditioner == "whitened"

    @property
    def program(self) -> tuple[Hashable, ...]:
        """Another size of minibatches is another shape, another preconditioner another branch."""
        return *super().program, self.batch_size, self.preconditioner


class MCLMCSettings(MethodSettings):
    """Microcanonical Langevin Monte Carlo in whitened coordinates; lengths in units of √d standard deviations of z.

    Adjusted, a draw is a trajectory with its Metropolis decision, and the step size is adapted to `target_accept`.
    Unadjusted, a draw is one integrator step of just the size given, and the bias that it causes stays.
    """

    method: ClassVar[str] = "mclmc"
    reports: ClassVar[tuple[Report, ...]] = (
        _ACCEPTANCE_RATE,
        _ADAPTED_STEP_SIZE,
        _DIVERGENCE_RATE,
        Report(
            "energy_error_variance",
            "energy error",
            "Variance of the energy error per step and dimension, of unadjusted chains.",
        ),
    )

    step_size: PositiveFloat = 0.1
    """Whitened units; adjusted: where the adaptation starts."""
    target_accept: OpenUnit = 0.9
    """adjusted only."""
    decoherence_length: PositiveFloat = Field(default=1.0, alias="L")
    """Of a trajectory."""
    num_steps: PositiveInt = Field(default=1000, alias="steps")
    """Draws per chain."""
    is_adjusted: bool = Field(default=True, alias="adjusted")
    """Whether a Metropolis decision removes the bias of the step size."""
    chunk_size: PositiveInt = 50
    """Steps between two looks at the deadline and the stop flag."""

    @property
    def program(self) -> tuple[Hashable, ...]:
        """With and without the Metropolis decision are two."""
        return *super().program, self.is_adjusted


class VISettings(MethodSettings):
    """Mixture of `M` Gaussians with diagonal-plus-rank-`r` covariance, fitted by Adam in coordinates of its own.

    These are scaled per parameter, or those of the Hessian at w0 (`hessian`).
    """

    method: ClassVar[str] = "vi"
    reports: ClassVar[tuple[Report, ...]] = (
        Report(
            "k_hat",
            "k̂",
            "Pareto k of importance sampling from the fit to the posterior. Above 0.7 the fit does not cover it.",
            spec=".2f",
        ),
        Report("llc_psis", "λ̂ (PSIS)", "The estimate corrected by Pareto-smoothed importance sampling."),
        Report("num_loss_evaluations", "loss evaluations", "Full-data losses of draws from the fits.", spec=",.0f"),
        Report("elbo", "ELBO", "Mean evidence lower bound over the last quarter of the fit.", "nats"),
        Report("elbo_slope", "ELBO slope", "Slope of the evidence lower bound there.", "nats per 1000 steps"),
        Report("elbo_slope_se", "slope's error", "Standard error of that slope.", "nats per 1000 steps"),
    )

    learning_rate: PositiveFloat = Field(default=1e-2, alias="lr")
    """Adam's, falling to 0."""
    num_components: PositiveInt = Field(default=4, alias="M")
    """Gaussians of the mixture."""
    rank: Annotated[int, Field(ge=0)] = Field(default=2, alias="r")
    """Columns of each factor."""
    whitening_mode: Literal["none", "rmsprop", "adam", "hessian"] = "none"
    """What scales the coordinates."""
    num_steps: PositiveInt = Field(default=5_000, alias="steps")
    """Of Adam."""
    batch_size: PositiveInt = 128
    """Rows of a minibatch."""
    num_chains: Annotated[int, Field(ge=1)] = 2
    """Independent fits."""
    num_draws: Annotated[int, Field(ge=100)] = 2000
    """From each fit, for λ̂ and importance sampling."""
    max_components: PositiveInt | None = None
    """Mixture slots compiled; null means num_components."""
    max_rank: PositiveInt | None = None
    """Columns compiled; null means rank."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision the method fits in."""

    @property
    def is_whitened(self) -> bool:
        """By its `whitening_mode`; its other modes scale each parameter."""
        return self.whitening_mode == "hessian"

    @property
    def program(self) -> tuple[Hashable, ...]:
        """Slots of the mixture are shapes, and so are minibatches; `M` and `r` only where they make the slots."""
        slots = self.max_components or self.num_components, self.rank if self.max_rank is None else self.max_rank
        return *super().program, self.batch_size, self.is_whitened, *slots


class HMCSettings(MethodSettings):
    """Hamiltonian Monte Carlo with few, jittered leapfrog steps in whitened coordinates."""

    method: ClassVar[str] = "hmc"
    reports: ClassVar[tuple[Report, ...]] = (_ACCEPTANCE_RATE, _ADAPTED_STEP_SIZE, _DIVERGENCE_RATE)

    step_size: PositiveFloat = 0.3
    """Start of the adaptation, whitened units."""
    num_integration_steps: PositiveInt = 4
    """Mean; each trajectory draws uniformly from 1 … 2·mean − 1."""
    target_accept: OpenUnit = 0.8
    """That the step size is adapted to."""
    num_steps: PositiveInt = Field(default=1000, alias="steps")
    """Draws per chain."""
    chunk_size: PositiveInt = 50
    """Steps between two looks at the deadline and the stop flag."""

    @property
    def program(self) -> tuple[Hashable, ...]:
        """Side by side all would take as long as the longest trajectories."""
        return *super().program, self.num_integration_steps


METHODS: dict[str, type[MethodSettings]] = {
    cls.method: cls for cls in (SGLDSettings, VISettings, MCLMCSettings, HMCSettings)
}

REPORTS: dict[str, Report] = {report.name: report for cls in METHODS.values() for report in cls.reports}
"""Everything that any method reports, by name."""


def hyperparameter_names(method: str) -> tuple[str, ...]:
    """Names, as YAML writes them, that `method` takes."""
    return tuple(field.alias or name for name, field in METHODS[method].model_fields.items())


def parse_settings(method: str, values: dict[str, object]) -> MethodSettings:
    """Typed settings of `method` from YAML names; missing ones take their defaults.

    Raises:
        pydantic.ValidationError: a name or value that the method does not take.
    """
    return METHODS[method].model_validate(values)


def program_of(method: str, values: dict[str, object]) -> Hashable | None:
    """`MethodSettings.program`; None for settings that the method does not take."""
    try:
        return parse_settings(method, values).program
    except ValidationError:
        return None
