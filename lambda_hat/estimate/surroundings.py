"""What derivatives at w0 tell before anything is sampled: coordinates, the Laplace value, whether w0 is a minimum."""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.estimate.model import Model
from lambda_hat.posterior import (
    Coordinates,
    LocalPosterior,
    hessian_whitening,
    identity_whitening,
    laplace_llc,
    whitening_from_arrays,
)
from lambda_hat.targets.minimum import build_local_model

__all__ = ["MAX_DENSE_DIM", "Surroundings", "look_around"]

MAX_DENSE_DIM = 2000  # above it no Hessian is computed for a sampler that can do without


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What float64 derivatives at w0 tell: coordinates, λ̂ of a Gaussian, and how good a minimum w0 is."""

    coordinates: Coordinates
    laplace_llc: float | None
    decrease_available: float
    num_hessian_evaluations: int


@eqx.filter_jit
def _gradient_at_w0(posterior: LocalPosterior) -> Float[Array, " d"]:
    return jax.grad(posterior.logdensity)(posterior.w0)


def look_around(
    model: Model, posterior: LocalPosterior, *, nbeta: float, localization: float, is_whitened: bool
) -> Surroundings:
    """From derivatives in float64, whatever the precision of `posterior`, which the coordinates then have.

    Above `MAX_DENSE_DIM` parameters without a Hessian, unless the sampler needs its coordinates.
    """
    dtype = str(posterior.w0.dtype)
    if posterior.dim > MAX_DENSE_DIM and not is_whitened:
        with jax.enable_x64(True):
            columns = model.columns("float64")
            local = build_local_model(model.loss_fn, model.w0, columns, nbeta, localization, is_dense=False)
        whitening = identity_whitening(posterior)
        decrease = max(local.decrease_available, local.saddle_gain)
        return Surroundings(Coordinates(whitening, whitening), None, decrease, 0)
    with jax.enable_x64(True):
        double = posterior
        if dtype != "float64":
            double = model.posterior(nbeta=nbeta, localization=localization, dtype="float64")
        whitening, eigenvalues = hessian_whitening(double, double.w0[None])
        # One Newton step gains ½ |Aᵀ g|²; the most negative curvature h, at a distance of 1/√γ_loc, ½ |h|/γ_loc.
        newton = 0.5 * float(np.sum(np.square(whitening.pullback(_gradient_at_w0(double)))))
        saddle = 0.5 * max(0.0, -float(np.min(eigenvalues))) / localization
        laplace = laplace_llc(eigenvalues, double.localization)
    with jax.enable_x64(dtype == "float64"):
        whitening = whitening_from_arrays(whitening.to_arrays(), dtype)
    return Surroundings(Coordinates(whitening, whitening), laplace, max(newton, saddle), 1)
