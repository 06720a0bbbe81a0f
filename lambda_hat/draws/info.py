"""What a step of a sampler tells about itself, and by that the traces of many steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:  # traces are NumPy's: reading them needs no JAX
    from jaxtyping import Array

__all__ = ["Info", "drop_burn_in"]


class Info(NamedTuple):
    """What one step tells about itself: every field a scalar of the sampler's dtype, or the NumPy trace of many steps.

    Attributes:
        excess_loss: L_n(w) − L_n(w0) of the new position, or an unbiased estimate of it.
        squared_distance: r² = |w − w0|².
        acceptance_rate: Metropolis acceptance probability; 1 for samplers without a correction.
        energy: total energy, for E-BFMI; what each sampler says where there is no such thing.
        is_divergent: 1 where the step failed numerically, else 0.
        is_undefined: 1 where the step was turned down because the loss is no number at its end, else 0.
        weight: weight of this draw in the estimate (the step size of annealed SGLD).
        num_gradient_evaluations: on the full-data scale, a minibatch of B counting B/n; with the first step, also that
            of `init`.
        virial: ½ (r·∇U − d), r = w − w0, of mean zero under π ∝ e^(−U) (`posterior.identities`); NaN where a method
            does not read it.
        curved_virial: the same along M r with M ≈ H(H + γ_loc)⁻¹, ½ (r·M∇U − tr M).
        stationarity: of mean zero once a chain with constant steps is stationary, bias and minibatch noise included.
            NaN where there is no such identity.
    """

    excess_loss: Array | np.ndarray
    squared_distance: Array | np.ndarray
    acceptance_rate: Array | np.ndarray
    energy: Array | np.ndarray
    is_divergent: Array | np.ndarray
    is_undefined: Array | np.ndarray
    weight: Array | np.ndarray
    num_gradient_evaluations: Array | np.ndarray
    virial: Array | np.ndarray
    curved_virial: Array | np.ndarray
    stationarity: Array | np.ndarray

    @classmethod
    def without_identities(cls, **fields: Any) -> Self:
        """All other fields, of a method that reads no identities."""
        nothing = math.nan * fields["excess_loss"]
        return cls(**fields, virial=nothing, curved_virial=nothing, stationarity=nothing)


def drop_burn_in(info: Info, num_burn_in: int) -> Info:
    """Traces `(num_chains, num_steps)` without their first `num_burn_in` steps."""
    return Info(*(trace[:, num_burn_in:] for trace in info))
