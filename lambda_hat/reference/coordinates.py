"""Coordinates in which a posterior is easy to sample: from the curvature at w0, then from that of pilots' draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jax
from jaxtyping import Array, Float

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.posterior import Coordinates, Geometry, LocalPosterior, average_whitening
from lambda_hat.posterior.geometry import MAX_DENSE_DIM, num_positions_to_average
from lambda_hat.posterior.local import LARGE_DIM
from lambda_hat.samplers.growing import GrowingChains
from lambda_hat.samplers.hmc import HMC
from lambda_hat.samplers.recorder import RowRecorder, WatchedRows
from lambda_hat.samplers.work import Work

__all__ = ["FoundCoordinates", "find_coordinates", "start_hmc"]

NUM_WARMUP = 200
NUM_WARMUP_OF_LARGE = 80
STEPS_BETWEEN_SNAPSHOTS = (10, 10, 20)  # of each pilot: the last one has the best coordinates and goes furthest
STEPS_BETWEEN_SNAPSHOTS_OF_LARGE = (15, 25)
# Fixed steps never enter stiff wings (w₁²w₂⁴ at acceptance 0.85: 2.9 % low): jittered ones do, and chains at half the
# step size have to agree.
LOG_STEP_SIZE_JITTER = 0.3


@dataclass(frozen=True)
class FoundCoordinates:
    """Coordinates, the draws of the last pilot, and the posterior in the precision that was found to be enough."""

    coordinates: Coordinates
    draws: Float[Array, "draws d"]  # w − w0
    posterior: LocalPosterior
    evaluation_error: float  # largest change of a log-density by evaluating in lower precision; 0 where it is not


def start_hmc(
    posterior: LocalPosterior,
    coordinates: Coordinates,
    settings: HMCSettings,
    displacements: Float[Array, "chains d"],
    keys: Iterator[Array],
    work: Work,
    watched: WatchedRows | None = None,
) -> GrowingChains:
    """Chains of jittered HMC in the averaged coordinates, warmed up; the losses of `watched` rows are recorded."""
    sampler = HMC.from_settings(
        posterior,
        coordinates.averaged,
        settings,
        at_w0=coordinates.at_w0,
        log_step_size_jitter=LOG_STEP_SIZE_JITTER,
    )
    recorder = None if watched is None else RowRecorder(posterior, watched, len(displacements))
    chains = GrowingChains(sampler, next(keys), displacements, work, recorder=recorder)
    num_warmup = NUM_WARMUP if posterior.dim <= LARGE_DIM else NUM_WARMUP_OF_LARGE
    chains.advance(next(keys), num_warmup, num_warmup=num_warmup)
    return chains


def find_coordinates(
    posterior: LocalPosterior,
    geometry: Geometry,
    settings: HMCSettings,
    num_chains: int,
    keys: Iterator[Array],
    work: Work,
) -> FoundCoordinates:
    """A1: pilots of HMC, each in the coordinates that the one before it found, and curvature averaged over their draws.

    A large network is evaluated in float32 if that changes no log-density at the first pilot's draws by more than
    0.01; positions and sums stay in float64.
    """
    whitening = geometry.whitening
    is_large = posterior.dim > LARGE_DIM
    evaluated = posterior.evaluated_in("float32") if is_large else posterior
    noise = jax.random.normal(next(keys), (num_chains, posterior.dim), posterior.w0.dtype)
    starts = draws = jax.vmap(whitening.displacement)(noise)
    num_snapshots = -(-num_positions_to_average(posterior.dim) // num_chains)
    intervals = STEPS_BETWEEN_SNAPSHOTS if posterior.dim <= MAX_DENSE_DIM else STEPS_BETWEEN_SNAPSHOTS_OF_LARGE
    evaluation_error = 0.0
    for pilot, steps_between in enumerate(intervals, 1):
        work.tell(f"pilot {pilot}")
        chains = start_hmc(evaluated, Coordinates(geometry.whitening, whitening), settings, starts, keys, work)
        draws = chains.snapshots(keys, num_snapshots, steps_between)
        starts = draws[-num_chains:]
        work.done("pilots")
        work.tell(f"whitening {pilot}")
        if is_large and pilot == 1:
            evaluated, evaluation_error = posterior.if_exact_enough(evaluated, starts)
        whitening, num_passes = average_whitening(evaluated, posterior.w0 + draws, next(keys))
        work.num_curvature_passes += num_passes
        work.done("whitening")
    return FoundCoordinates(Coordinates(geometry.whitening, whitening), draws, evaluated, evaluation_error)
