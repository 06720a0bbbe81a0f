"""One run of one method on one local posterior: chains, estimate, diagnostics, work."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from lambda_hat.config.methods import HMCSettings, MCLMCSettings, MethodSettings, SGLDSettings, VISettings
from lambda_hat.estimate.bias import predict_sgld_bias
from lambda_hat.estimate.fits import elbo_trend, judge_fits
from lambda_hat.estimate.llc import LLCEstimate, drop_burn_in, estimate_llc_from_traces
from lambda_hat.posterior import Coordinates, LocalPosterior
from lambda_hat.records.state import State
from lambda_hat.samplers.base import Info
from lambda_hat.samplers.hmc import build_hmc
from lambda_hat.samplers.mclmc import UnadjustedMCLMC, build_mclmc
from lambda_hat.samplers.pace import Guard, OutOfTime, Pace
from lambda_hat.samplers.runner import ChunkRequests, alone, init_chains, sample_chains
from lambda_hat.samplers.sgld import build_sgld
from lambda_hat.samplers.vi import MOMENT_ROWS, FitDraws, build_vi

__all__ = ["MethodResult", "RunProgress", "run_method", "sample_method"]

# r² of the prior alone is about d/γ_loc; chains a hundred times as far have left the neighbourhood for good.
RUNAWAY_FACTOR = 100.0
MIN_CHUNKS = 10  # of every run, however short: what a pruner can act on


@dataclass(frozen=True)
class RunProgress:
    """Where a run is after a chunk; the estimate leaves out the burn-in of what there is."""

    num_steps_done: int
    fraction: float
    llc: float


@dataclass(frozen=True)
class MethodResult:
    """What a run found. `info` are the retained draws; `extras` what only some methods report.

    A run that was stopped or that diverged is PRUNED; `reason` says why.
    """

    state: State
    is_diverged: bool
    reason: str
    estimate: LLCEstimate
    info: Info
    num_steps_done: int
    is_truncated: bool  # the deadline came first
    num_gradient_evaluations: float  # on the full-data scale; burn-in, set-up and diagnosis included
    extras: dict[str, float]
    fit_draws: FitDraws | None = None  # of VI's fitted densities, (num_fits, num_draws)


def _build(
    posterior: LocalPosterior, settings: MethodSettings, coordinates: Coordinates, rng_key: Array
) -> tuple[Any, Array]:
    """The sampler and the displacements its chains start from: w0, or a draw of the whitened Gaussian."""
    shape = (settings.num_chains, posterior.dim)
    at_w0 = jnp.zeros(shape, posterior.w0.dtype)
    match settings:
        case SGLDSettings():
            return build_sgld(posterior, coordinates.averaged, settings), at_w0
        case VISettings():
            return build_vi(posterior, coordinates, settings, rng_key), at_w0
        case MCLMCSettings() | HMCSettings():
            whitening = coordinates.averaged
            noise = jax.random.normal(rng_key, shape, posterior.w0.dtype)
            build = build_mclmc if isinstance(settings, MCLMCSettings) else build_hmc
            return build(posterior, whitening, settings), jax.vmap(whitening.displacement)(noise)  # pyright: ignore[reportArgumentType]
        case _:
            raise TypeError(f"no sampler for {type(settings).__name__}")


class _Watch:
    """Looks at every chunk: divergence and the stop flag; and tells how far the run is."""

    def __init__(
        self,
        posterior: LocalPosterior,
        settings: MethodSettings,
        should_stop: Callable[[], bool],
        on_progress: Callable[[RunProgress], None],
    ) -> None:
        self.settings = settings
        # A Metropolis decision turns a divergent trajectory down; elsewhere it is part of the chain.
        self.has_correction = isinstance(settings, HMCSettings) or getattr(settings, "is_adjusted", False)
        self.nbeta = float(posterior.nbeta)
        self.max_squared_distance = RUNAWAY_FACTOR * posterior.dim / float(posterior.localization)
        self.should_stop = should_stop
        self.on_progress = on_progress
        self.weighted_losses = np.zeros(settings.num_steps)  # of each step, summed over chains
        self.weights = np.zeros(settings.num_steps)
        self.state = State.COMPLETE
        self.is_diverged = False
        self.reason = ""

    def __call__(self, info: Info, num_done: int) -> bool:
        # Of every step, not the last one: where chunks end must not decide.
        distance = float(np.max(info.squared_distance))
        has_failed = not self.has_correction and bool(np.any(info.is_divergent))
        if has_failed or not (np.isfinite(info.excess_loss).all() and math.isfinite(distance)):
            self.diverge(f"a value that is not finite after at most {num_done} steps")
            return False
        if distance > self.max_squared_distance:
            self.diverge(f"|w − w0|² reached {distance:.3g} after {num_done} steps, {RUNAWAY_FACTOR:g} times d/γ_loc")
            return False
        self.on_progress(RunProgress(num_done, num_done / self.settings.num_steps, self.llc(info, num_done)))
        if num_done < self.settings.num_steps and self.should_stop():
            self.state, self.reason = State.PRUNED, f"stopped by the pruner after {num_done} steps"
            return False
        return True

    def diverge(self, reason: str) -> None:
        """Nothing that comes after this can be used."""
        self.state, self.is_diverged, self.reason = State.PRUNED, True, reason

    def llc(self, info: Info, num_done: int) -> float:
        """λ̂ after `num_done` steps, `info` the last of them."""
        new = slice(num_done - info.weight.shape[1], num_done)
        weights = np.asarray(info.weight, np.float64)
        self.weighted_losses[new] = np.sum(weights * info.excess_loss, axis=0)
        self.weights[new] = np.sum(weights, axis=0)
        kept = slice(int(self.settings.burn_in_fraction * num_done), num_done)
        return self.nbeta * float(np.sum(self.weighted_losses[kept]) / np.sum(self.weights[kept]))


def sample_method(
    posterior: LocalPosterior,
    settings: MethodSettings,
    *,
    coordinates: Coordinates,
    seed: int,
    deadline: float = math.inf,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[RunProgress], None] = lambda _: None,
    sampling_guard: Guard = contextlib.nullcontext,
    evaluation_guard: Guard = contextlib.nullcontext,
) -> ChunkRequests[MethodResult]:
    """Run `settings` on `posterior` until done, diverged, stopped or `deadline` (`time.monotonic`).

    Between chunks the deadline and `should_stop` are looked at; what was sampled until then is kept.
    `coordinates` serve the methods that sample in whitened ones. The guards may raise `OutOfTime` in what they
    surround: compilation and chunks of the sampling; the verdict on fits or on a bias, which the run then goes without.

    Raises:
        OutOfTime: before the end of the first chunk.
    """
    build_key, init_key, run_key, draw_key = jax.random.split(jax.random.key(seed), 4)
    watch = _Watch(posterior, settings, should_stop, on_progress)
    with sampling_guard():
        sampler, starts = _build(posterior, settings, coordinates, build_key)
        states = init_chains(sampler, init_key, starts)
    chains = yield from sample_chains(
        sampler,
        run_key,
        states,
        settings.num_steps,
        num_warmup=int(settings.burn_in_fraction * settings.num_steps),
        chunk_size=settings.chunk_size,
        min_chunks=MIN_CHUNKS,
        on_chunk=watch,
        pace=Pace(deadline, guard=sampling_guard),
    )
    if is_truncated := chains.is_out_of_time and watch.state is State.COMPLETE:
        watch.reason = f"out of time after {chains.num_done} of {settings.num_steps} steps"
    info = drop_burn_in(chains.info, int(settings.burn_in_fraction * chains.num_done))
    num_rows = np.sum(np.rint(np.asarray(chains.info.num_gradient_evaluations, np.float64) * posterior.num_data))
    num_gradient_evaluations = float(num_rows) / posterior.num_data  # B/n in float32 would not add up
    extras: dict[str, float] = {}
    judged: tuple[LLCEstimate, dict[str, float], FitDraws] | None = None
    try:
        if chains.is_interrupted and isinstance(settings, SGLDSettings | VISettings):
            raise OutOfTime  # what is asked of the device now would wait for the chunk that it is at
        with evaluation_guard():
            match settings:
                case VISettings() if watch.state is State.COMPLETE:
                    judged = judge_fits(posterior, settings, chains, draw_key)
                case SGLDSettings() if not watch.is_diverged:
                    displacements = jax.vmap(chains.sampler.displacement)(chains.states)
                    bias = predict_sgld_bias(posterior, coordinates.averaged, settings, displacements, draw_key)
                    if bias is not None:
                        num_gradient_evaluations += bias.num_gradient_evaluations
                        extras |= {"predicted_bias": bias.at(info.weight)} if bias.is_known else {}
                case _:
                    pass
    except OutOfTime:
        is_truncated = True
        watch.reason = ", ".join(filter(None, (watch.reason, "out of time to judge the draws")))
    fit_draws: FitDraws | None = None
    if judged is not None:
        estimate, extras, fit_draws = judged
        extras |= elbo_trend(-np.asarray(info.energy))
    else:
        estimate = estimate_llc_from_traces(
            info, float(posterior.nbeta), has_minibatch_noise=isinstance(settings, SGLDSettings | VISettings)
        )
    if isinstance(settings, HMCSettings | MCLMCSettings):
        extras |= _kernel_extras(posterior, chains.sampler, info)
    if isinstance(settings, VISettings) and settings.whitening_mode != "hessian":
        num_gradient_evaluations += min(MOMENT_ROWS, posterior.num_data) / posterior.num_data
    if watch.state is State.COMPLETE and not math.isfinite(estimate.llc):
        watch.diverge("the estimate is not a finite number")
    return MethodResult(
        state=watch.state,
        is_diverged=watch.is_diverged,
        reason=watch.reason,
        estimate=estimate,
        info=info,
        num_steps_done=chains.num_done,
        is_truncated=is_truncated,
        num_gradient_evaluations=num_gradient_evaluations,
        extras=extras,
        fit_draws=fit_draws,
    )


run_method = alone(sample_method)


def _kernel_extras(posterior: LocalPosterior, sampler: Any, info: Info) -> dict[str, float]:
    """What HMC and MCLMC tell of their kernel; energy errors are per dimension (Robnik et al. 2212.08549)."""
    divergence_rate = float(np.mean(info.is_divergent))
    if isinstance(sampler, UnadjustedMCLMC):
        return {
            "divergence_rate": divergence_rate,
            "energy_error_variance": float(np.var(info.energy)) / posterior.dim,
        }
    return {
        "divergence_rate": divergence_rate,
        "acceptance_rate": float(np.mean(info.acceptance_rate)),
        "adapted_step_size": float(sampler.step_size),
    }
