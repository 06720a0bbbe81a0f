"""Where the final chains start: over-dispersed, and in every well that a search from afar finds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float

from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.posterior.geometry import MAX_DENSE_DIM
from lambda_hat.reference.work import Work

__all__ = ["Wells", "decrease_from_w0", "find_wells", "overdispersed_starts"]

OVERDISPERSION = 1.5
MAX_ITERATIONS = 200
MAX_ITERATIONS_OF_LARGE = 50
MIN_LOG_MASS = -10.0  # relative to w0's own well: what holds less than e^-10 of the posterior changes no digit of λ̂


@dataclass(frozen=True)
class Wells:
    """Ends of descents from the localization's Gaussian that may hold a share of the posterior.

    `log_masses` are Gaussian (Laplace) masses relative to that of w0, in logarithms; NaN where they were not computed.
    """

    displacements: Float[np.ndarray, "wells d"]
    log_masses: Float[np.ndarray, " wells"]
    num_descents: int


@eqx.filter_jit
def _potential_and_gradient(posterior: LocalPosterior, whitening: Whitening, z: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(lambda z: -posterior.logdensity(posterior.w0 + whitening.displacement(z)))(z)


@eqx.filter_jit
def _curvatures(posterior: LocalPosterior, position: Array) -> Array:
    return jnp.linalg.eigvalsh(posterior.hessian(position))


def _descend(
    posterior: LocalPosterior, whitening: Whitening, displacement: Array, max_iterations: int, work: Work
) -> tuple[float, Float[np.ndarray, " d"]]:
    """The local potential −log π, zero at w0, where L-BFGS in whitened coordinates ends, and w − w0 there.

    Raises:
        OutOfTime: the deadline came first.
    """

    def potential(z: np.ndarray) -> tuple[float, np.ndarray]:
        work.check()
        value, gradient = _potential_and_gradient(posterior, whitening, jnp.asarray(z))
        work.num_gradient_evaluations += 1
        return float(value), np.asarray(gradient, np.float64)

    start = np.asarray(whitening.coordinates(displacement), np.float64)
    if not math.isfinite(potential(start)[0]):
        return math.inf, np.asarray(displacement)
    result = scipy.optimize.minimize(potential, start, jac=True, method="L-BFGS-B", options={"maxiter": max_iterations})
    return float(result.fun), np.asarray(whitening.displacement(jnp.asarray(result.x)))


def _max_iterations(dim: int) -> int:
    return MAX_ITERATIONS if dim <= MAX_DENSE_DIM else MAX_ITERATIONS_OF_LARGE


def decrease_from_w0(posterior: LocalPosterior, whitening: Whitening, rng_key: Array, work: Work) -> float:
    """How far the local potential nβ(L_n(w) − L_n(w0)) + γ_loc|w − w0|²/2 falls below zero near w0.

    L-BFGS goes downhill from a point so close to w0 that its potential is nothing, but not w0 itself, which may be a
    saddle.
    """
    nudge = 1e-3 * jax.random.normal(rng_key, (posterior.dim,), posterior.w0.dtype) / math.sqrt(posterior.dim)
    lowest, _ = _descend(posterior, whitening, whitening.displacement(nudge), _max_iterations(posterior.dim), work)
    return max(0.0, -lowest)


def find_wells(
    posterior: LocalPosterior,
    whitening: Whitening,
    curvatures: Float[np.ndarray, " d"] | None,
    num_descents: int,
    keys: Iterator[Array],
    work: Work,
) -> Wells:
    """Descend from draws of the localization's Gaussian N(w0, 1/γ_loc); keep what may hold a share of the posterior.

    Masses are compared by Laplace's formula −U − ½ Σ log((|h| + γ_loc)/(|h₀| + γ_loc)), h₀ the `curvatures` at w0.
    Where those are not known (a large model) every end is kept: a chain that is stuck there spoils the certificate,
    which is the safe side.
    """
    scale = 1.0 / math.sqrt(float(posterior.localization))
    kept, masses = [], []
    for _ in range(num_descents):
        start = scale * jax.random.normal(next(keys), (posterior.dim,), posterior.w0.dtype)
        potential, displacement = _descend(posterior, whitening, start, _max_iterations(posterior.dim), work)
        log_mass = math.nan if math.isfinite(potential) else -math.inf
        if curvatures is not None:
            log_mass = _log_mass(posterior, potential, displacement, curvatures, work)
        if not log_mass < MIN_LOG_MASS:
            kept.append(displacement)
            masses.append(log_mass)
    order = _farthest_first(np.stack([np.asarray(whitening.coordinates(jnp.asarray(x))) for x in kept])) if kept else []
    displacements = np.stack([kept[i] for i in order]) if kept else np.zeros((0, posterior.dim))
    return Wells(displacements, np.asarray([masses[i] for i in order]), num_descents)


def _farthest_first(points: Float[np.ndarray, "n d"]) -> list[int]:
    """An order in which every point is as far as possible from those before it: the first few show every well."""
    order = [int(np.argmin(np.sum(points**2, axis=1)))]
    while len(order) < len(points):
        distances = np.min([np.sum((points - points[i]) ** 2, axis=1) for i in order], axis=0)
        distances[order] = -1.0
        order.append(int(np.argmax(distances)))
    return order


def _log_mass(
    posterior: LocalPosterior, potential: float, displacement: np.ndarray, curvatures: np.ndarray, work: Work
) -> float:
    localization = float(posterior.localization)
    log_widths_at_w0 = 0.5 * np.log((np.abs(curvatures) + localization) / localization)
    if -potential + log_widths_at_w0.sum() < MIN_LOG_MASS:  # even if it were as wide as the localization allows
        return -math.inf
    here = np.asarray(_curvatures(posterior, posterior.w0 + displacement))
    work.num_curvature_passes += posterior.dim
    log_widths = 0.5 * np.log((np.abs(here) + localization) / localization)
    return float(-potential + log_widths_at_w0.sum() - log_widths.sum())


def overdispersed_starts(
    whitening: Whitening, draws: Float[Array, "draws d"], wells: Wells, rng_key: Array, num_chains: int
) -> Float[Array, "chains d"]:
    """Starts of `num_chains` chains: half of them around wells, as far as there are any, the others from pilot draws.

    Draws are moved away from their mean, and whitened noise is added to all of them, by the same factor.
    """
    pick_key, noise_key = jax.random.split(rng_key)
    around = wells.displacements[: num_chains // 2]
    picked = jax.random.permutation(pick_key, draws)[: num_chains - len(around)]
    mean = jnp.mean(draws, axis=0)
    centres = jnp.concatenate([jnp.asarray(around, draws.dtype), mean + OVERDISPERSION * (picked - mean)])
    noise = jax.random.normal(noise_key, centres.shape, draws.dtype)
    return centres + OVERDISPERSION * jax.vmap(whitening.displacement)(noise)
