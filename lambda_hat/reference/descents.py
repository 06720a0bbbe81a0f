"""Descents of the local potential U(w) = nβ(L_n(w) − L_n(w0)) + (γ_loc/2)|w − w0|², in whitened coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float

from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.posterior.geometry import MAX_DENSE_DIM
from lambda_hat.samplers.work import Work

__all__ = ["decrease_from_w0", "descend", "max_iterations"]

HEIGHT_OF_EDGE = 1.0  # nats above the highest potential so far, where the potential is no number
TOLERANCE = 2e-9  # of a descent that is to end in a minimum
TOLERANCE_OF_DECREASE = 1e-6  # where only its depth matters: 200 iterations together miss 0.0002 nats
MAX_ITERATIONS = 200
MAX_ITERATIONS_OF_LARGE = 50


@jax.jit  # every leaf of both is an array, and the dispatch of a filtered one costs as much as a small gradient
def _potential_and_gradient(posterior: LocalPosterior, whitening: Whitening, z: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(lambda z: -posterior.logdensity(posterior.w0 + whitening.displacement(z)))(z)


def max_iterations(dim: int) -> int:
    """Iterations of a descent that is to end in a minimum; fewer for a large model, where each costs more."""
    return MAX_ITERATIONS if dim <= MAX_DENSE_DIM else MAX_ITERATIONS_OF_LARGE


def descend(
    posterior: LocalPosterior,
    whitening: Whitening,
    displacement: Float[np.ndarray, " d"],
    num_iterations: int,
    work: Work,
    tolerance: float = TOLERANCE,
    has_arrived: Callable[[float, Float[np.ndarray, " d"]], bool] | None = None,
) -> tuple[float, Float[np.ndarray, " d"]]:
    """U where L-BFGS from w0 + `displacement` ends, and w − w0 there; ∞ and the start where U is no number.

    It ends where an iteration gains less than `tolerance` nats, or than so much of U, or where U and w − w0 after an
    iteration are what it `has_arrived` at.

    Raises:
        OutOfTime: the deadline came first.
    """

    start = np.asarray(whitening.coordinates(jnp.asarray(displacement, posterior.w0.dtype)), np.float64)
    best, highest = (math.inf, start), -math.inf

    def displacement_of(z: np.ndarray) -> np.ndarray:
        return np.asarray(whitening.displacement(jnp.asarray(z)))

    def watched(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best, highest
        work.check()
        value, gradient = (
            np.asarray(x, np.float64) for x in _potential_and_gradient(posterior, whitening, jnp.asarray(z))
        )
        work.num_gradient_evaluations += 1
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return highest + HEIGHT_OF_EDGE, np.zeros_like(z)  # a search along a line goes back from there
        best, highest = min(best, (float(value), z.copy()), key=lambda found: found[0]), max(highest, float(value))
        return float(value), gradient

    if not math.isfinite(watched(start)[0]):
        return math.inf, np.asarray(displacement)

    def after_iteration(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        if has_arrived and has_arrived(float(intermediate_result.fun), displacement_of(intermediate_result.x)):
            raise StopIteration

    scipy.optimize.minimize(
        watched,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": num_iterations, "ftol": tolerance},
        callback=after_iteration,
    )
    return best[0], displacement_of(best[1])


def decrease_from_w0(posterior: LocalPosterior, whitening: Whitening, rng_key: Array, work: Work) -> float:
    """How far the local potential falls below zero, its value at w0, near w0.

    L-BFGS goes downhill from a point so close to w0 that its potential is nothing, but not w0 itself, which may be a
    saddle.
    """
    nudge = 1e-3 * jax.random.normal(rng_key, (posterior.dim,), posterior.w0.dtype) / math.sqrt(posterior.dim)
    start = np.asarray(whitening.displacement(nudge))
    lowest, _ = descend(posterior, whitening, start, max_iterations(posterior.dim), work, TOLERANCE_OF_DECREASE)
    return max(0.0, -lowest)
