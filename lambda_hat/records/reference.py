"""`ref.json`, a problem's reference, and `failure.json`, why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from lambda_hat.config.study import ReferenceSpec
from lambda_hat.records.base import Figure, FormatError, Part, Record, Value
from lambda_hat.records.ending import Ending
from lambda_hat.records.provenance import Origin, Provenance
from lambda_hat.records.state import State

__all__ = [
    "CriterionRecord",
    "ImportanceRecord",
    "ReferenceFailure",
    "ReferenceRecord",
    "SpectrumRecord",
    "TraceRecord",
    "WellsRecord",
]


class CriterionRecord(Part):
    """One requirement of a certificate."""

    name: str
    """The quantity that is looked at."""
    value: Figure = None
    """Its value; None where it is not known."""
    bound: Figure = None
    """The bound that the value must not pass."""
    is_upper: bool = True
    """Whether the bound is the largest value allowed, or else the smallest."""
    is_met: bool
    """Whether the requirement holds."""


class TraceRecord(Part):
    """How well the chains mixed, by one trace."""

    rhat: Figure = None
    """Rank-normalised split R̂."""
    ess_bulk: Figure = None
    """Effective sample size of the bulk."""
    ess_tail: Figure = None
    """Effective sample size of the tails."""
    mcse: Figure = None
    """Monte Carlo standard error of the mean."""


class SpectrumRecord(Part):
    """The ends of the spectrum of the Hessian of nβL_n at w0."""

    smallest: Figure = None
    """Smallest eigenvalue, or smallest node of the quadrature."""
    largest: Figure = None
    """Largest eigenvalue, or largest node of the quadrature."""
    is_exact: bool
    """Whether all eigenvalues are known; else the spectrum is a stochastic quadrature."""


class WellsRecord(Part):
    """How far a look from afar went, and which wells of the posterior it found, the heaviest first."""

    num_prior_draws: int = 0
    """Draws of the localization's Gaussian whose loss was computed."""
    prior_effective_size: Figure = None
    """Effective number of these draws under the posterior; where it is small they say nothing."""
    prior_llc: Figure = None
    """λ̂ by these draws."""
    num_descents: int = 0
    """How many descents were made."""
    masses: tuple[Figure, ...] = ()
    """Share of each well, by Laplace's formula."""
    distances: tuple[Figure, ...] = ()
    """Distance of each well's lowest point from w0."""
    potentials: tuple[Figure, ...] = ()
    """Local potential there, in nats; zero at w0."""


class ImportanceRecord(Part):
    """An estimate by importance sampling from a mixture adapted to the posterior."""

    llc: Figure = None
    """Its λ̂."""
    se: Figure = None
    """Its standard error."""
    k_hat: Figure = None
    """Pareto k of the weights; above 0.7 neither can be trusted."""
    effective_size: Figure = None
    """Effective number of draws."""
    num_draws: int = 0
    """Number of draws."""


class ReferenceRecord(Record):
    """A problem's λ̂ with its standard error, why it may or may not be believed, and what it cost."""

    FORMAT: ClassVar[int] = 4  # also of the arrays beside it; a reference of an older format is made anew

    method: str
    """How the reference was made: `hmc` or `exact`; `laplace` or `none` where nobody asked for one."""
    state: State = State.COMPLETE
    """COMPLETE: there is a reference, certified or not."""
    llc: Figure
    """λ̂ of the reference."""
    se: Figure
    """Monte Carlo standard error of λ̂; 0 where the value is exact."""
    is_certified: bool
    """Whether every criterion is met."""
    reasons: tuple[str, ...] = ()
    """The criteria that are not met, in words."""
    certificate: tuple[CriterionRecord, ...] = ()
    """Every criterion."""
    diagnostics: Mapping[str, TraceRecord] = {}
    """Diagnostics of the traces `loss` and `distance` (r² = |w − w0|²)."""
    exact_llc: Figure = None
    """The exact value where it is known."""
    laplace_llc: Figure = None
    """λ̂ if the posterior were Gaussian: the baseline, which costs one Hessian."""
    laplace_se: Figure = None
    """Standard error of the Laplace value, where the spectrum is a stochastic quadrature."""
    spectrum: SpectrumRecord | None = None
    """Spectrum of the Hessian at w0."""
    decrease_available: Figure = None
    """What the local potential can still lose near w0."""
    wells: WellsRecord | None = None
    """The look for other wells."""
    importance: ImportanceRecord | None = None
    """Importance sampling, where chains did not cross between wells; λ̂ is its value if the certificate is its own."""
    whitening: str | None = None
    """Kind of the coordinates that the chains sampled in."""
    localization: Figure = None
    """γ_loc, the strength of the spring that holds the posterior around w0."""
    radius: Figure = None
    """The radius ρ that gave the localization; None where that was given itself."""
    nbeta: Figure = None
    """nβ, the number of data times the inverse temperature."""
    num_data: int | None = None
    """Number of rows of the data."""
    dim: int | None = None
    """Number of parameters of the model."""
    loss_at_w0: Figure = None
    """L_n(w0), the loss at w0."""
    target: Mapping[str, Value] = {}
    """Facts that training, or the search for w0, left about itself."""
    num_chains: int | None = None
    """Number of chains that the estimate is made of."""
    num_draws: int | None = None
    """Number of draws of all these chains together."""
    step_size: Figure = None
    """Leapfrog step in whitened coordinates."""
    num_integration_steps: int | None = None
    """Mean number of leapfrog steps of a trajectory."""
    num_gradient_evaluations: Figure = None
    """Work of the whole reference; a minibatch counts by its share of the data."""
    num_curvature_passes: int | None = None
    """Number of passes over the data for Hessians and Lanczos steps."""
    dtype: str | None = None
    """Precision that the chains sampled in."""
    evaluation_dtype: str | None = None
    """Precision that losses and gradients were evaluated in."""
    evaluation_error: Figure = None
    """Largest change of a log-density that the precision of the evaluation causes."""
    stages: Mapping[str, float] = {}
    """Seconds by stage, of all commands that worked on the reference."""
    seconds: Figure = None
    """Seconds of all stages but the training."""
    compile_sec: Figure = None
    """Seconds of these in which programs were compiled: `execution.budget.hmc_sec` bounds the rest."""
    num_extensions: int = 0
    """How often a later command added draws."""
    spec: ReferenceSpec = ReferenceSpec()
    """The section `reference` of the study that it was made for."""
    provenance: Origin = Provenance()
    """Where, when and by what it was made."""

    @classmethod
    def read_current(cls, path: Path) -> Self | None:
        """The record in `path`; None where there is none, a torn one, or one of an older format, which is made anew."""
        try:
            return cls.read(path)
        except FormatError as error:
            if not error.is_older:
                raise
            return None

    @property
    def is_asked_for(self) -> bool:
        """Whether there is, or was to be, a λ̂ that runs are compared with."""
        return self.method not in ("laplace", "none")

    @property
    def laplace_error(self) -> float | None:
        """Laplace value − λ̂."""
        return None if self.laplace_llc is None or self.llc is None else self.laplace_llc - self.llc

    @property
    def laplace_relative_error(self) -> float | None:
        """(Laplace value − λ̂) / |λ̂|: an estimate that is no closer has done nothing for its price."""
        return None if self.laplace_error is None or not self.llc else self.laplace_error / abs(self.llc)


class ReferenceFailure(Ending):
    """Why a problem has no reference."""

    short_of: str | None = None
    """The budget that it ran out of, `hmc_sec` or `setup_sec`."""
