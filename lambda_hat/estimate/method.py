"""One run of one method on one local posterior: chains, estimate, diagnostics, work."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module

import jax
import numpy as np

from lambda_hat.config.methods import MethodSettings
from lambda_hat.draws.control import readings_of
from lambda_hat.draws.criteria import NORMAL_95
from lambda_hat.draws.info import Info, drop_burn_in
from lambda_hat.draws.llc import LLCEstimate, estimate_llc_from_traces
from lambda_hat.draws.rows import RowLosses
from lambda_hat.draws.selfcheck import SelfCheck, check_draws
from lambda_hat.posterior import Coordinates, LocalPosterior
from lambda_hat.records.state import State
from lambda_hat.samplers.method import Ended, FitDraws, Judgement, build
from lambda_hat.samplers.pace import Guard, Moment, OutOfTime, Pace
from lambda_hat.samplers.recorder import RowRecorder, WatchedRows
from lambda_hat.samplers.runner import Chains, ChunkRequests, init_chains, sample_chains, to_completion
from lambda_hat.samplers.stopwatch import setting_up

__all__ = ["MethodResult", "RunProgress", "run_method", "sample_method"]

# r² of the prior alone is about d/γ_loc; chains a hundred times as far have left the neighbourhood for good.
RUNAWAY_FACTOR = 100.0
MIN_CHUNKS = 10  # of every run, however short: what a pruner can act on


@dataclass(frozen=True)
class RunProgress:
    """Where a run is after a chunk; the estimate leaves out the burn-in of what there is.

    A method that judges itself on the way also knows its error, and how many of its criteria are met.
    """

    num_steps_done: int
    fraction: float
    llc: float
    se: float = math.nan
    num_met: int | None = None
    num_criteria: int | None = None


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
    chains: Chains  # as they ended
    self_check: SelfCheck | None = None  # what the identities say; None of fits
    reasons: tuple[str, ...] = ()  # against it, of a method that judges itself
    row_losses: RowLosses | None = None  # of the rows that were to be watched
    fit_draws: FitDraws | None = None  # of VI's fitted densities, (num_fits, num_draws)


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
        self.nbeta = float(posterior.nbeta)
        self.max_squared_distance = RUNAWAY_FACTOR * posterior.dim / float(posterior.localization)
        self.should_stop = should_stop
        self.on_progress = on_progress
        self.weighted_readings = np.zeros(settings.num_steps)  # of each step, summed over chains
        self.weights = np.zeros(settings.num_steps)
        self.state = State.COMPLETE
        self.is_diverged = False
        self.reason = ""

    def __call__(self, info: Info, num_done: int) -> bool:
        # Of every step, not the last one: where chunks end must not decide.
        distance = float(np.max(info.squared_distance))
        # A Metropolis decision turns a divergent trajectory down; elsewhere it is part of the chain.
        has_failed = not self.settings.is_exact and bool(np.any(info.is_divergent))
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
        # Fitted coefficients need more than a chunk, and change no mean.
        correction = "virial" if self.settings.correction == "virial" else "none"
        self.weighted_readings[new] = np.sum(weights * readings_of(info, self.nbeta, correction), axis=0)
        self.weights[new] = np.sum(weights, axis=0)
        kept = slice(int(self.settings.burn_in_fraction * num_done), num_done)
        return float(np.sum(self.weighted_readings[kept]) / np.sum(self.weights[kept]))


def sample_method(
    posterior: LocalPosterior,
    settings: MethodSettings,
    *,
    coordinates: Coordinates,
    seed: int,
    deadline: Moment = math.inf,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[RunProgress], None] = lambda _: None,
    sampling_guard: Guard = contextlib.nullcontext,
    evaluation_guard: Guard = contextlib.nullcontext,
    watched: WatchedRows | None = None,
) -> ChunkRequests[MethodResult]:
    """Run `settings` on `posterior` until done, diverged, stopped or `deadline`, which what it sets up puts off.

    Between chunks the deadline and `should_stop` are looked at; what was sampled until then is kept.
    `coordinates` serve the methods that sample in whitened ones. The guards may raise `OutOfTime` in what they
    surround: compilation and chunks of the sampling; the method's own judgement, which the run then goes without.
    The losses of `watched` rows are recorded, which changes no draw; VI, whose states are no draws, has none.

    Raises:
        OutOfTime: before the end of the first chunk.
    """
    if settings.is_composite:
        composite = import_module(f"lambda_hat.estimate.{settings.method}")
        return (
            yield from composite.sample(
                posterior,
                settings,
                coordinates=coordinates,
                seed=seed,
                deadline=deadline,
                should_stop=should_stop,
                on_progress=on_progress,
                sampling_guard=sampling_guard,
                evaluation_guard=evaluation_guard,
                watched=watched,
            )
        )
    build_key, init_key, run_key, judge_key = jax.random.split(jax.random.key(seed), 4)
    watch = _Watch(posterior, settings, should_stop, on_progress)
    num_burn_in = int(settings.burn_in_fraction * settings.num_steps)
    recorder = None
    if watched is not None:
        recorder = RowRecorder(posterior, watched, settings.num_chains, first=num_burn_in, num_steps=settings.num_steps)
    with sampling_guard(), setting_up.running():
        built = build(posterior, coordinates, settings, build_key)
        states = init_chains(built.sampler, init_key, built.starts)
    chains = yield from sample_chains(
        built.sampler,
        run_key,
        states,
        settings.num_steps,
        num_warmup=num_burn_in,
        chunk_size=settings.chunk_size,
        min_chunks=MIN_CHUNKS,
        on_chunk=watch,
        pace=Pace(deadline, guard=sampling_guard),
        recorder=recorder,
    )
    if is_truncated := chains.is_out_of_time and watch.state is State.COMPLETE:
        watch.reason = f"out of time after {chains.num_done} of {settings.num_steps} steps"
    info = drop_burn_in(chains.info, int(settings.burn_in_fraction * chains.num_done))
    judgement = Judgement()
    try:
        with evaluation_guard():
            is_stopped = watch.state is State.PRUNED and not watch.is_diverged
            judgement = built.judge(Ended(chains, info, is_stopped, watch.is_diverged), judge_key)
    except OutOfTime:
        is_truncated = True
        watch.reason = ", ".join(filter(None, (watch.reason, "out of time to judge the draws")))
    estimate = judgement.estimate or estimate_llc_from_traces(
        info, watch.nbeta, has_minibatch_noise=settings.has_minibatches, correction=settings.correction
    )
    self_check = None
    if settings.correction != "none":
        self_check = check_draws(
            info,
            estimate.llc,
            nbeta=watch.nbeta,
            dim=posterior.dim,
            localization=float(posterior.localization),
        )
    if settings.correction == "virial" and self_check is not None and math.isfinite(self_check.left_open):
        estimate = replace(estimate, se=estimate.se + self_check.left_open / NORMAL_95)
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
        num_gradient_evaluations=built.num_gradient_evaluations
        + _num_gradient_evaluations(chains, posterior.num_data)
        + judgement.num_gradient_evaluations,
        extras=dict(judgement.reports),
        chains=chains,
        self_check=self_check,
        row_losses=None if recorder is None else recorder.result(num_burn_in),
        fit_draws=judgement.fit_draws,
    )


run_method = to_completion(sample_method)


def _num_gradient_evaluations(chains: Chains, num_data: int) -> float:
    """Gradient evaluations of all steps, on the full-data scale.

    Rows are counted whole, because sums of B/n in float32 would not add up.
    """
    per_step = np.asarray(chains.info.num_gradient_evaluations, np.float64)
    return float(np.sum(np.rint(per_step * num_data))) / num_data
