"""What a reference is: λ̂, the certificate, and the arrays that another call goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lambda_hat.draws.diagnostics import TraceDiagnostics
from lambda_hat.draws.info import Info
from lambda_hat.draws.rows import RowLosses
from lambda_hat.posterior import Coordinates, Spectrum, whitening_from_arrays
from lambda_hat.reference.certificate import Certificate
from lambda_hat.reference.importance import ImportanceEstimate
from lambda_hat.reference.survey import Survey

__all__ = ["Reference", "coordinates_from_arrays", "prefixed", "within"]


@dataclass(frozen=True)
class Reference:
    """λ̂ with its Monte Carlo standard error, and why it may or may not be believed."""

    llc: float
    se: float
    certificate: Certificate
    diagnostics: dict[str, TraceDiagnostics]  # of the loss and of r² = |w − w0|²
    spectrum: Spectrum | None  # of the Hessian of nβL_n at w0
    laplace_llc: float
    laplace_se: float
    decrease_available: float  # of the local potential, near w0 or wherever else it was looked at
    survey: Survey
    importance: ImportanceEstimate | None  # λ̂ is its value if the certificate is its own
    coordinates: Coordinates | None
    info: Info | None  # retained draws, (num_chains, num_draws)
    step_size: float
    num_integration_steps: int
    evaluation_dtype: str
    evaluation_error: float
    num_gradient_evaluations: float  # of everything, on the full-data scale
    num_curvature_passes: int
    seconds: dict[str, float]  # by stage
    arrays: dict[str, np.ndarray]  # all that another call needs to go on from here
    row_losses: RowLosses | None = None  # at the draws of `info`

    @property
    def reasons(self) -> tuple[str, ...]:
        """The criteria that are not met, in words; with several wells, also these."""
        reasons = self.certificate.reasons
        if not self.certificate.is_certified and len(self.survey.counting) > 1:
            reasons += (f"there are several wells ({self.survey.describe()})",)
        return reasons


def coordinates_from_arrays(arrays: Mapping[str, np.ndarray], dtype: str) -> Coordinates:
    """The coordinates among `Reference.arrays`.

    Raises:
        KeyError: there are none.
    """
    at_w0, averaged = (whitening_from_arrays(within(arrays, prefix), dtype) for prefix in ("at_w0.", "averaged."))
    return Coordinates(at_w0, averaged)


def within(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Those whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def prefixed(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """All of them, with `prefix` before their names."""
    return {prefix + name: array for name, array in arrays.items()}
