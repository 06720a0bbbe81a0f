"""Every bound that an estimate is held to, and a criterion: a value beside its bound, in words.

This module imports nothing heavy, so that the search and the report can use its bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lambda_hat.formatting import number

__all__ = [
    "DIVERGENCES",
    "MAX_ACCEPTANCE_GAP",
    "MAX_CHAIN_DEVIATION",
    "MAX_DECREASE",
    "MAX_DISAGREEMENT",
    "MAX_DISAGREEMENT_OF_SURVEY",
    "MAX_DIVERGENT_FRACTION",
    "MAX_K_HAT",
    "MAX_K_HAT_OF_CERTIFICATE",
    "MAX_MASS_ELSEWHERE",
    "MAX_MASS_UNSEEN",
    "MAX_RELATIVE_BIAS",
    "MAX_RELATIVE_MCSE",
    "MAX_RHAT",
    "MAX_RHAT_APPROXIMATE",
    "MAX_ROUNDING",
    "MAX_SHARE_MISSED",
    "MAX_VIRIAL",
    "MAX_Z",
    "MINIMUM",
    "MIN_ACCEPTANCE_RATIO",
    "MIN_BFMI",
    "MIN_DIVERGENT",
    "MIN_ESS",
    "MIN_ESS_OF_NOISY_READINGS",
    "MIN_LLC_OVER_ERROR",
    "MIN_PRIOR_SIZE",
    "RARE_WELLS",
    "SIGN",
    "TOLERATED_DISAGREEMENT",
    "Correction",
    "Criterion",
    "minimum_criterion",
    "sign_criterion",
]

MAX_RHAT = 1.01  # of exact samplers
MAX_RHAT_APPROXIMATE = 1.05  # of samplers with a bias of their own, and of chains that only check others
MIN_ESS = 400.0
MIN_ESS_OF_NOISY_READINGS = 100.0  # of means over 1 % of a chain each, so that at most 100 per chain can be had
MAX_RELATIVE_MCSE = 0.05  # standard error over λ̂
MAX_RELATIVE_BIAS = 0.05  # predicted bias over λ̂
MAX_DIVERGENT_FRACTION = 1e-3
NORMAL_95 = 1.96  # standard errors in half of a 95 % interval
MAX_VIRIAL = 4.0  # Monte Carlo standard errors, of what must vanish on average
MIN_DIVERGENT = 10  # divergent steps, for their fraction to mean something
MIN_BFMI = 0.3
MAX_CHAIN_DEVIATION = 4.0  # in units of the chain's own MCSE
MIN_ACCEPTANCE_RATIO = 0.5  # of the target acceptance
MAX_ACCEPTANCE_GAP = 0.1  # of the mean acceptance below its target
MAX_DISAGREEMENT = 3.0  # combined MCSE
MAX_K_HAT = 0.7  # Pareto k of importance sampling
MAX_K_HAT_OF_CERTIFICATE = 0.3  # of importance sampling alone: in ten dimensions 0.5 was seen with errors of 3 %
MAX_Z = 2.0  # combined standard errors, up to which an estimate cannot be told from the reference
MAX_DISAGREEMENT_OF_SURVEY = 4.0  # combined standard errors, with draws that see other wells and plateaus
MIN_PRIOR_SIZE = 30.0  # effective draws of the localization's Gaussian, for these to tell something about λ̂
MAX_MASS_UNSEEN = 1e-3  # of the posterior, in wells where no chain starts
MAX_MASS_ELSEWHERE = 0.01  # of the posterior, in wells that one run from w0 does not look at
MAX_ROUNDING = 0.01  # of λ̂, by evaluating losses in float32
MAX_SHARE_MISSED = 1e-3  # of draws by other means, where the mixture of importance sampling has next to no density
MIN_LLC_OVER_ERROR = -2.0  # a λ̂ that is negative by more belongs to no minimum
TOLERATED_DISAGREEMENT = 0.01  # of λ̂, of one run with importance sampling: what its errors need not cover
MAX_DECREASE = 0.01  # of λ̂: what the local potential may still lose near w0

DIVERGENCES = "fraction of divergent steps"
RARE_WELLS = "share of the posterior in wells that one or two descents found"
MINIMUM = "decrease still available at w0, over λ̂"
SIGN = "λ̂ over its standard error"

Correction: TypeAlias = Literal["none", "regression", "virial"]
"""Of λ̂ by identities: none, fitted coefficients (samplers without bias), the coefficient 1 (samplers with one)."""


@dataclass(frozen=True)
class Criterion:
    """One requirement: `value` must be at most (or at least) `bound`."""

    name: str
    value: float
    bound: float
    is_upper: bool = True
    is_percentage: bool = False  # in words

    @property
    def is_met(self) -> bool:
        """Whether the requirement holds; a value that is no number fails."""
        if math.isnan(self.value):
            return False
        return self.value <= self.bound if self.is_upper else self.value >= self.bound

    @property
    def share(self) -> float:
        """How much of what is allowed is used up, of an R̂ by what it is above 1; 0 or ∞ where no ratio can tell."""
        origin = 1.0 if self.name.startswith("R̂") else 0.0
        value, bound = self.value - origin, self.bound - origin
        over, under = (value, bound) if self.is_upper else (bound, value)
        if under > 0 and over > 0:
            return over / under
        return 0.0 if self.is_met else math.inf

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"{self.name} is not known yet"
        spec = ".1%" if self.is_percentage else ".4g"
        value = str(self.value) if math.isinf(self.value) else number(self.value, spec, self.bound)
        bound = f"{100 * self.bound:g}%" if self.is_percentage else f"{self.bound:g}"
        return f"{self.name} is {value}, {'at most' if self.is_upper else 'at least'} {bound} wanted"


def minimum_criterion(decrease_available: float, llc: float, max_share: float) -> Criterion:
    """Whether w0 is a minimum: what the local potential can still lose near w0, as a share of λ̂.

    A w0 that is no minimum has no local learning coefficient.
    """
    share = decrease_available / abs(llc) if llc and math.isfinite(llc) else math.nan
    return Criterion(MINIMUM, share, max_share)


def sign_criterion(llc: float, se: float) -> Criterion:
    """Whether λ̂ is negative beyond its error, which no λ̂ around a minimum is."""
    ratio = llc / se if se > 0 else math.copysign(math.inf, llc) if llc else 0.0
    return Criterion(SIGN, ratio, MIN_LLC_OVER_ERROR, is_upper=False)
