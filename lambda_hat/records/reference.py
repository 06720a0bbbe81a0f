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
    "ReferenceFailure",
    "ReferenceRecord",
    "SpectrumRecord",
    "TraceRecord",
    "WellsRecord",
]


class CriterionRecord(Part):
    """One requirement of a certificate."""

    name: str
    """What is required of."""
    value: Figure = None
    """What was found; None where it is not known."""
    bound: Figure = None
    """What it must not pass."""
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
    """Where descents from the localization's Gaussian ended."""

    num_descents: int
    """How many descents were made."""
    log_masses: tuple[Figure, ...] = ()
    """Gaussian masses of the wells relative to that of w0, in logarithms."""


class ReferenceRecord(Record):
    """A problem's λ̂ with its standard error, why it may or may not be believed, and what it cost."""

    FORMAT: ClassVar[int] = 2  # also of the arrays beside it; a reference of an older format is made anew

    method: str
    """What it was made by: `hmc` or `exact`."""
    state: State = State.COMPLETE
    """COMPLETE: there is a reference, certified or not."""
    llc: Figure
    """λ̂ of the reference."""
    se: Figure
    """Its Monte Carlo standard error; 0 of an exact value."""
    is_certified: bool
    """Whether every criterion is met."""
    reasons: tuple[str, ...] = ()
    """The criteria that are not met, in words."""
    certificate: tuple[CriterionRecord, ...] = ()
    """Every criterion."""
    diagnostics: Mapping[str, TraceRecord] = {}
    """Of the traces `loss` and `distance` (r² = |w − w0|²)."""
    exact_llc: Figure = None
    """The exact value where it is known."""
    laplace_llc: Figure = None
    """λ̂ if the posterior were Gaussian: the baseline, which costs one Hessian."""
    laplace_se: Figure = None
    """Standard error of the Laplace value, where the spectrum is a stochastic quadrature."""
    spectrum: SpectrumRecord | None = None
    """Of the Hessian at w0."""
    decrease_available: Figure = None
    """What the local potential can still lose near w0."""
    wells: WellsRecord | None = None
    """Other wells that were looked for."""
    whitening: str | None = None
    """Kind of the coordinates that it was sampled in."""
    localization: Figure = None
    """γ_loc."""
    radius: Figure = None
    """ρ, where the localization was given by one."""
    nbeta: Figure = None
    """nβ."""
    num_data: int | None = None
    """Rows of the data."""
    dim: int | None = None
    """Parameters of the model."""
    loss_at_w0: Figure = None
    """L_n(w0)."""
    target: Mapping[str, Value] = {}
    """What training, or the search for w0, told of itself."""
    num_chains: int | None = None
    """Chains that count."""
    num_draws: int | None = None
    """Draws of all these chains."""
    step_size: Figure = None
    """Leapfrog step in whitened coordinates."""
    num_integration_steps: int | None = None
    """Mean number of leapfrog steps of a trajectory."""
    num_gradient_evaluations: Figure = None
    """Work of everything, on the scale of the full data."""
    num_curvature_passes: int | None = None
    """Passes over the data for Hessians and Lanczos steps."""
    dtype: str | None = None
    """Precision of the sampling."""
    evaluation_dtype: str | None = None
    """Precision that losses and gradients were evaluated in."""
    evaluation_error: Figure = None
    """Error that this precision causes."""
    stages: Mapping[str, float] = {}
    """Seconds by stage, of all commands that sampled it."""
    seconds: Figure = None
    """Seconds of all stages but the training."""
    num_extensions: int = 0
    """How often a later command sampled on."""
    spec: ReferenceSpec = ReferenceSpec()
    """The section `reference` of the study that it was made for."""
    provenance: Origin = Provenance()
    """Where, when and by what."""

    @classmethod
    def read_current(cls, path: Path) -> Self | None:
        """As `read`, but None for a file of an older format: such a reference is made anew."""
        try:
            return cls.read(path)
        except FormatError as error:
            if not error.is_older:
                raise
            return None

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
