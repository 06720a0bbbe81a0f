"""What the precision of a loss costs: in the evaluation that was asked for, and in casts within the loss itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from lambda_hat.draws.criteria import MAX_ROUNDING, Criterion
from lambda_hat.estimate.method import MethodResult
from lambda_hat.posterior import LocalPosterior
from lambda_hat.reference.potential import potentials_at
from lambda_hat.reference.result import Reference
from lambda_hat.samplers.work import Work
from lambda_hat.targets import Model
from lambda_hat.targets.pytrees import coarsest_dtype

__all__ = ["certified_rounding_reasons", "ends_of", "inner_rounding_reasons"]

NUM_POINTS = 32  # of the posterior, where no chain says where it is


def ends_of(run: MethodResult) -> Float[np.ndarray, "chains d"] | None:
    """Where the chains of a run ended, as displacements from w0; None where that is no place."""
    if run.is_diverged or not math.isfinite(run.estimate.llc):
        return None
    with jax.enable_x64(run.info.excess_loss.dtype == "float64"):
        ends = np.asarray(jax.vmap(run.chains.sampler.displacement)(run.chains.states), np.float64)
    return ends if np.isfinite(ends).all() else None


def inner_rounding_reasons(
    model: Model, posterior: LocalPosterior, points: Callable[[], Float[np.ndarray, "points d"] | None], llc: float
) -> tuple[str, ...]:
    """What is to be said of casts within the loss to a precision lower than the run's.

    Positions that the lower precision cannot tell apart have losses whose scatter is the rounding. `points` gives
    displacements from w0 where to look, if there are any.
    """
    dtype = str(posterior.w0.dtype)
    with jax.enable_x64(dtype == "float64"):
        coarsest = coarsest_dtype(model, dtype)
        if coarsest == dtype or not math.isfinite(llc) or (displacements := points()) is None:
            return ()
        rng = np.random.default_rng(0)
        eps = float(jnp.finfo(coarsest).eps)
        positions = np.asarray(posterior.w0, np.float64) + displacements
        moved = displacements + eps * np.abs(positions) * rng.uniform(-0.5, 0.5, displacements.shape)
        _, one = potentials_at(posterior, displacements, Work())
        _, other = potentials_at(posterior, moved, Work())
    return _reasons(f"rounding of {coarsest} within the loss, over λ̂", (one - other) / math.sqrt(2), llc, "")


def certified_rounding_reasons(
    model: Model, double: LocalPosterior, posterior: LocalPosterior, reference: Reference
) -> tuple[str, ...]:
    """What is to be said of the precision of a reference, at points of the Gaussian that its coordinates make."""
    if reference.coordinates is None or not math.isfinite(reference.llc):
        return ()
    with jax.enable_x64(True):
        draws = jnp.asarray(np.random.default_rng(0).standard_normal((NUM_POINTS, double.dim)))
        points = np.asarray(jax.vmap(reference.coordinates.averaged.displacement)(draws), np.float64)
    found = inner_rounding_reasons(model, double, lambda: points, reference.llc)
    if posterior.evaluation_dtype == double.evaluation_dtype:
        return found
    with jax.enable_x64(True):
        _, rounded = potentials_at(posterior, points, Work())
        _, exact = potentials_at(double, points, Work())
    name = f"rounding of {posterior.evaluation_dtype}, over λ̂"
    return (*found, *_reasons(name, rounded - exact, reference.llc, ' Set dtype="float64".'))


def _reasons(name: str, errors: Float[np.ndarray, " points"], llc: float, advice: str) -> tuple[str, ...]:
    criterion = Criterion(name, float(np.sqrt(np.mean(errors**2))) / abs(llc), MAX_ROUNDING)
    return () if criterion.is_met else (f"{criterion}.{advice or ' Compute the loss in the precision of the run.'}",)
