"""`auto`: an estimate that chooses its sampler and step size by itself, and an interval for what that leaves open."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array

from lambda_hat.config.methods.auto import AutoSettings
from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.draws.criteria import (
    DIVERGENCES,
    MAX_DIVERGENT_FRACTION,
    MAX_RHAT,
    MAX_RHAT_APPROXIMATE,
    MAX_VIRIAL,
    MIN_BFMI,
    MIN_ESS,
    NORMAL_95,
    Criterion,
)
from lambda_hat.draws.diagnostics import bfmi
from lambda_hat.draws.info import Info
from lambda_hat.draws.llc import LLCEstimate, estimate_llc_from_traces
from lambda_hat.draws.selfcheck import SelfCheck, check_draws
from lambda_hat.estimate.method import RUNAWAY_FACTOR, MethodResult, RunProgress
from lambda_hat.posterior import Coordinates, LocalPosterior, average_whitening
from lambda_hat.posterior.geometry import (
    GRADIENTS_PER_PASS,
    LEAST_POSITIONS,
    MAX_DENSE_DIM,
    num_positions_to_average,
)
from lambda_hat.posterior.local import LARGE_DIM
from lambda_hat.records.state import State
from lambda_hat.samplers.growing import GrowingChains
from lambda_hat.samplers.hmc import HMC
from lambda_hat.samplers.method import starts_by_whitening
from lambda_hat.samplers.pace import Guard, Moment, OutOfTime
from lambda_hat.samplers.recorder import MAX_DRAWS, RowRecorder, WatchedRows
from lambda_hat.samplers.runner import Chains, ChunkRequests
from lambda_hat.samplers.sgld import SGLD
from lambda_hat.samplers.stopwatch import setting_up
from lambda_hat.samplers.work import Work

__all__ = ["sample"]


# HMC
SHARE_OF_HMC = 0.5  # of the time, that it may be expected to take
GRADIENTS_OF_HMC = 12_000.0  # that four chains usually need, in whitened coordinates
NUM_TIMINGS = 5  # of one gradient
MAX_TIMED_GRADIENT = 1.0  # seconds, beyond which once is enough
NUM_WARMUP = 200
DRAWS_PER_ROUND = 250
GROWTH = 0.25
ROUNDS_BEFORE_AVERAGING = 2
MAX_HALVINGS = 3  # of a step size, for divergences
STEPS_BETWEEN_SNAPSHOTS = 10

# SGLD
FIRST_STEP_SIZE = 0.2  # in whitened units, where 4 is the limit of stability without noise
PILOT_STEPS = 400
MAX_PILOTS = 12
LEAST_STEPS = 100
WANTED_EXCESS = 0.03  # virial excess of the coarser chains
STEPS_PER_ROUND = 1000
EXPECTED_STEPS = 8000  # of the finer chains, where rows are watched: a look at all the data takes longer than a step
MAX_SHARE_OF_STEP_SIZE = 0.6  # of the half-width that is wanted


def sample(
    posterior: LocalPosterior,
    settings: AutoSettings,
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
    """As `estimate.method.sample_method`, whose arguments these are; of the coordinates only those at w0 are used.

    Where there is no time for a pilot, a few steps are made all the same.
    """
    del evaluation_guard
    run = _Run(posterior, settings, coordinates, seed, deadline, should_stop, on_progress, watched)
    with contextlib.suppress(OutOfTime), sampling_guard():
        run.sample()
    if not run.parts:
        run.sample_least()
    return run.result()
    yield  # a generator without chunks of its own: its chains are not vectorised with others'


@dataclass(frozen=True)
class Interval:
    """λ̂, and the two parts of the half-width of its 95 % interval."""

    llc: float
    monte_carlo: float
    step_size: float = 0.0

    @property
    def half_width(self) -> float:
        """Both parts: an error of the step size is no noise that may cancel."""
        return self.monte_carlo + self.step_size

    def is_within(self, tolerance: float) -> bool:
        """Whether it is narrow enough."""
        return self.half_width <= tolerance * abs(self.llc)

    def asks_for_smaller_steps(self, tolerance: float) -> bool:
        """Whether they help more than longer runs: what the step size leaves open is much, and more than noise."""
        return self.step_size > max(MAX_SHARE_OF_STEP_SIZE * tolerance * abs(self.llc), self.monte_carlo)


@dataclass(frozen=True, eq=False)
class _Part:
    """Chains at one step size, judged."""

    chains: GrowingChains
    info: Info
    estimate: LLCEstimate
    check: SelfCheck

    @classmethod
    def of_hmc(cls, chains: GrowingChains) -> _Part:
        return cls._of(chains, exact=True)

    @classmethod
    def of_sgld(cls, chains: GrowingChains) -> _Part:
        return cls._of(chains, exact=False)

    @classmethod
    def _of(cls, chains: GrowingChains, *, exact: bool) -> _Part:
        assert chains.retained is not None
        posterior, info = chains.sampler.posterior, chains.retained.info
        estimate = estimate_llc_from_traces(
            info,
            float(posterior.nbeta),
            has_minibatch_noise=not exact,
            correction="regression" if exact else "virial",
        )
        check = check_draws(
            info,
            estimate.llc,
            nbeta=float(posterior.nbeta),
            dim=posterior.dim,
            localization=float(posterior.localization),
        )
        return cls(chains, info, estimate, check)

    @property
    def by_equipartition(self) -> float:
        """A second correction, by the virial as a whole: the raw λ̂ over E[r·∇U]/d."""
        return self.estimate.raw_llc / (1 + self.check.virial_excess)


class _Run:
    def __init__(
        self,
        posterior: LocalPosterior,
        settings: AutoSettings,
        coordinates: Coordinates,
        seed: int,
        deadline: Moment,
        should_stop: Callable[[], bool],
        on_progress: Callable[[RunProgress], None],
        watched: WatchedRows | None,
    ) -> None:
        self.posterior = posterior
        self.settings = settings
        self.coordinates = Coordinates(coordinates.at_w0, coordinates.at_w0)
        self.keys: Iterator[Array] = map(jax.random.fold_in, itertools.repeat(jax.random.key(seed)), itertools.count())
        start, set_up = time.monotonic(), setting_up.seconds
        self.end = lambda: min(
            deadline() if callable(deadline) else deadline,
            start + settings.seconds + setting_up.seconds - set_up,
        )
        self.start = start
        self.work = Work(self.end)
        self.should_stop = should_stop
        self.on_progress = on_progress
        self.watched = watched
        self.parts: tuple[_Part, ...] = ()  # HMC, or coarser and finer chains of SGLD
        self.method: HMCSettings | SGLDSettings = HMCSettings(num_chains=settings.num_chains)
        self.is_stopped = False
        self.is_too_stiff = False  # for SGLD, in these coordinates

    def sample(self) -> None:
        """Until the interval is narrow enough and nothing speaks against it; raises when out of time."""
        if self.is_hmc_affordable():
            self.sample_by_hmc()
        else:
            self.sample_by_sgld()

    def is_hmc_affordable(self) -> bool:
        """Whether a gradient on all the data, timed here, is cheap enough for the usual number of them."""
        gradient = jax.jit(lambda w: jax.grad(self.posterior.logdensity)(w))
        with setting_up.running():
            gradient(self.posterior.w0).block_until_ready()
        most = SHARE_OF_HMC * self.settings.seconds / GRADIENTS_OF_HMC
        for _ in range(NUM_TIMINGS):  # a busy machine only adds to the least of them
            start = time.monotonic()
            gradient(self.posterior.w0).block_until_ready()
            if (seconds := time.monotonic() - start) <= most:
                return True
            if seconds > MAX_TIMED_GRADIENT:
                return False
        return False

    def sample_by_hmc(self) -> None:
        """Rounds of HMC in coordinates of the curvature at w0, or over draws where those mix too slowly."""
        if self.posterior.dim > LARGE_DIM:
            rounded, draws = self.posterior.evaluated_in("float32"), self.starts(self.settings.num_chains)
            self.posterior, _ = self.posterior.if_exact_enough(rounded, draws)
        chains, num_halvings, is_averaged = self.start_hmc(), 0, False
        for num_rounds in itertools.count(1):
            self.extend(chains, max(DRAWS_PER_ROUND, int(GROWTH * chains.num_done)))
            part = _Part.of_hmc(chains)
            self.parts = (part,)
            if self.tell() or (self.interval().is_within(self.settings.tolerance) and not self.reasons()):
                return
            assert chains.retained is not None
            loss, distance = chains.retained.loss, chains.retained.distance
            is_slow = max(loss.rhat, distance.rhat) > MAX_RHAT_APPROXIMATE
            if _divergent(part.info) > MAX_DIVERGENT_FRACTION and num_halvings < MAX_HALVINGS:
                num_halvings += 1
                chains = chains.at_half_step_size(next(self.keys))
            elif not is_averaged and num_rounds >= ROUNDS_BEFORE_AVERAGING and is_slow and self.num_positions():
                chains, is_averaged = self.averaged(chains), True
            elif distance.ess_bulk < min(MIN_ESS, loss.ess_bulk / 4):
                chains.lengthen(next(self.keys))

    def starts(self, num_chains: int) -> Array:
        """Draws of the Gaussian that the coordinates stand for."""
        return starts_by_whitening(self.coordinates.averaged, self.posterior, num_chains, next(self.keys))

    def start_hmc(self) -> GrowingChains:
        """Chains from draws of the Gaussian that the coordinates stand for, warmed up."""
        settings = HMCSettings(num_chains=self.settings.num_chains, step_size=0.1)
        whitening = self.coordinates.averaged
        sampler = HMC.from_settings(self.posterior, whitening, settings, at_w0=self.coordinates.at_w0)
        starts = self.starts(settings.num_chains)
        chains = GrowingChains(sampler, next(self.keys), starts, self.work, recorder=self.recorder(MAX_DRAWS))
        chains.advance(next(self.keys), NUM_WARMUP, num_warmup=NUM_WARMUP)
        return chains

    def num_positions(self) -> int:
        """Draws to average the curvature over, for as much work as was done so far; none where these are too few."""
        dim = self.posterior.dim
        affordable = int(self.work.num_gradient_evaluations / (GRADIENTS_PER_PASS * dim))
        is_worth_it = dim <= MAX_DENSE_DIM and affordable >= LEAST_POSITIONS
        return min(num_positions_to_average(dim), affordable) if is_worth_it else 0

    def averaged(self, chains: GrowingChains) -> GrowingChains:
        """New chains in coordinates of the curvature averaged over draws of these."""
        num_snapshots = -(-self.num_positions() // self.settings.num_chains)
        draws = chains.snapshots(self.keys, num_snapshots, STEPS_BETWEEN_SNAPSHOTS)
        whitening, _ = average_whitening(self.posterior, self.posterior.w0 + draws, next(self.keys))
        self.coordinates = Coordinates(self.coordinates.at_w0, whitening)
        return self.start_hmc()

    def sample_by_sgld(self) -> None:
        """Two step sizes side by side, both halved where they and not the draws are what the interval is wide of."""
        if self.posterior.dim > LARGE_DIM:
            self.posterior = self.posterior.evaluated_in("float32")
        step_size = self.find_step_size()
        if step_size is None:
            return
        coarse, fine = self.start_sgld(step_size), self.start_sgld(step_size / 2, is_watched=True)
        while True:
            num_steps = max(STEPS_PER_ROUND, int(GROWTH * coarse.num_done))
            self.extend(coarse, num_steps)
            self.extend(fine, 2 * num_steps)
            self.parts = (_Part.of_sgld(coarse), _Part.of_sgld(fine))
            interval = self.interval()
            if self.tell() or (interval.is_within(self.settings.tolerance) and not self.reasons()):
                return
            if interval.asks_for_smaller_steps(self.settings.tolerance):
                step_size /= 2
                coarse, fine = fine, self.start_sgld(step_size / 2, fine.displacements, is_watched=True)
                self.extend(fine, coarse.num_done)

    def sample_least(self) -> None:
        """A few small steps, whatever the time: a number, which the gates then speak against."""
        self.work = Work()
        chains = self.start_sgld(FIRST_STEP_SIZE / 4, is_watched=True)
        self.extend(chains, LEAST_STEPS)
        part = _Part.of_sgld(chains)
        self.parts = (part, part)

    def find_step_size(self) -> float | None:
        """The step size at which short pilots have the wanted virial excess, which is proportional to it; if any."""
        step_size = FIRST_STEP_SIZE
        for _ in range(MAX_PILOTS):
            chains = self.start_sgld(step_size)
            self.extend(chains, PILOT_STEPS)
            part = _Part.of_sgld(chains)
            self.parts = (part, part)
            if self.has_diverged(chains):
                step_size /= 4
                continue
            excess = part.check.virial_excess
            wanted = step_size * min(1.0, WANTED_EXCESS / max(excess, 1e-12))
            if wanted > step_size / 4:
                return wanted
            step_size = max(wanted, step_size / 16)  # the excess of steps so large is not proportional to them yet
        self.is_too_stiff = True
        return None

    def start_sgld(
        self, step_size: float, displacements: Array | None = None, *, is_watched: bool = False
    ) -> GrowingChains:
        """Chains from draws of the Gaussian that the coordinates stand for, or from where others are."""
        whitening, num_chains = self.coordinates.at_w0, self.settings.num_chains
        self.method = SGLDSettings(
            eta0=step_size, precond_type="whitened", num_chains=num_chains, batch=self.settings.batch_size
        )
        sampler = SGLD.from_settings(self.posterior, whitening, self.method)
        if displacements is None:
            displacements = starts_by_whitening(whitening, self.posterior, num_chains, next(self.keys))
        recorder = self.recorder(EXPECTED_STEPS) if is_watched else None
        return GrowingChains(sampler, next(self.keys), displacements, self.work, recorder=recorder)

    def recorder(self, num_steps: int) -> RowRecorder | None:
        """Of the losses of watched rows, for chains that are expected to make so many steps."""
        if self.watched is None:
            return None
        return RowRecorder(self.posterior, self.watched, self.settings.num_chains, num_steps=num_steps)

    def extend(self, chains: GrowingChains, num_steps: int) -> None:
        """More draws, as many as there is time for."""
        chains.extend(next(self.keys), num_steps)

    def has_diverged(self, chains: GrowingChains) -> bool:
        """Whether chains have left the neighbourhood of w0, or are nowhere."""
        assert chains.info is not None
        farthest = RUNAWAY_FACTOR * self.posterior.dim / float(self.posterior.localization)
        return not (np.isfinite(chains.info.excess_loss).all() and np.max(chains.info.squared_distance) <= farthest)

    def interval(self) -> Interval:
        """λ̂ by HMC; by SGLD the extrapolation 2 λ̂(η/2) − λ̂(η) of the corrected estimates.

        What the step size leaves open is half the difference of both step sizes, and half of what another correction
        extrapolates to.
        """
        if len(self.parts) == 1:
            estimate = self.parts[0].estimate
            return Interval(estimate.llc, NORMAL_95 * estimate.se)
        coarse, fine = self.parts
        llc = 2 * fine.estimate.llc - coarse.estimate.llc
        error = math.hypot(2 * fine.estimate.se, coarse.estimate.se)
        between = abs(fine.estimate.llc - coarse.estimate.llc)
        other = abs(llc - (2 * fine.by_equipartition - coarse.by_equipartition))
        return Interval(llc, NORMAL_95 * error, 0.5 * (between + other))

    def criteria(self) -> list[Criterion]:
        """Every gate, as far as the draws tell."""
        is_hmc = len(self.parts) == 1
        max_rhat = MAX_RHAT if is_hmc else MAX_RHAT_APPROXIMATE
        found: list[Criterion] = []
        for name, part in zip(("",) if is_hmc else (" at η", " at η/2"), self.parts, strict=True):
            found.append(Criterion(f"R̂ of the loss{name}", part.estimate.rhat_loss, max_rhat))
            found.append(Criterion(f"R̂ of r²{name}", part.estimate.rhat_distance, max_rhat))
            found.append(Criterion(f"bulk ESS{name}", part.estimate.ess_bulk, self.method.min_ess, is_upper=False))
            if is_hmc:
                found.append(Criterion("virial, in MCSE", part.check.virial, MAX_VIRIAL))
                found.append(Criterion(DIVERGENCES, _divergent(part.info), MAX_DIVERGENT_FRACTION))
                found.append(Criterion("E-BFMI", bfmi(part.info.energy), MIN_BFMI, is_upper=False))
            else:
                found.append(
                    Criterion(f"distance from stationarity{name}, in MCSE", part.check.stationarity, MAX_VIRIAL)
                )
        interval = self.interval()
        width = interval.half_width / abs(interval.llc) if interval.llc else math.inf
        found.append(Criterion("half-width over λ̂", width, self.settings.tolerance))
        return found

    def reasons(self) -> tuple[str, ...]:
        """Gates that are not passed, and what to do about it."""
        advice = "Make `localization` larger" if self.is_too_stiff else "Raise `seconds`"
        reasons = tuple(f"{criterion}. {advice}." for criterion in self.criteria() if not criterion.is_met)
        if self.is_too_stiff:
            sampler = self.parts[0].chains.sampler
            return (
                f"SGLD has no step size here: at η = {float(sampler.initial_step_size):.1e} chains are still far from "
                f"their law. The posterior is much stiffer than its curvature at w0. {advice}, or use `hmc`.",
                *reasons,
            )
        if len(self.parts) > 1 and self.parts[0] is self.parts[1]:  # a pilot: nothing tells what its step size does
            reasons += ("There was no time for a second step size. Raise `seconds`.",)
        return reasons

    def tell(self) -> bool:
        """Word of what is known; whether whoever looks on has seen enough."""
        spent = (time.monotonic() - self.start) / max(self.end() - self.start, 1e-9)
        interval, criteria = self.interval(), self.criteria()
        self.on_progress(
            RunProgress(
                self.num_steps_done,
                min(1.0, spent),
                interval.llc,
                interval.half_width / NORMAL_95,
                sum(criterion.is_met for criterion in criteria),
                len(criteria),
            )
        )
        self.is_stopped = self.should_stop()
        self.work.check()
        return self.is_stopped

    @property
    def num_steps_done(self) -> int:
        return max((part.chains.num_done for part in self.parts), default=0)

    def result(self) -> MethodResult:
        """What is known by now."""
        interval, last = self.interval(), self.parts[-1]
        estimate = LLCEstimate(
            llc=interval.llc,
            se=interval.half_width / NORMAL_95,
            raw_llc=last.estimate.raw_llc,
            raw_se=last.estimate.raw_se,
            rhat=max(part.estimate.rhat for part in self.parts),
            ess_bulk=min(part.estimate.ess_bulk for part in self.parts),
            ess_tail=min(part.estimate.ess_tail for part in self.parts),
            rhat_loss=max(part.estimate.rhat_loss for part in self.parts),
            rhat_distance=max(part.estimate.rhat_distance for part in self.parts),
            num_draws=sum(part.estimate.num_draws for part in self.parts),
        )
        is_diverged = self.has_diverged(last.chains) or not math.isfinite(estimate.llc)
        is_hmc = len(self.parts) == 1
        step_size = last.chains.sampler.step_size if is_hmc else last.chains.sampler.initial_step_size
        return MethodResult(
            state=State.PRUNED if is_diverged or self.is_stopped else State.COMPLETE,
            is_diverged=is_diverged,
            reason="no step size was small enough" if is_diverged else "",
            estimate=estimate,
            info=last.info,
            num_steps_done=self.num_steps_done,
            is_truncated=time.monotonic() >= self.end(),
            num_gradient_evaluations=self.work.num_gradient_evaluations,
            extras={
                "half_width": interval.half_width,
                "step_size_error": interval.step_size,
                "chosen_step_size": float(step_size),
                "is_by_hmc": float(is_hmc),
            },
            chains=_ended(last.chains),
            self_check=last.check,
            reasons=self.reasons(),
            row_losses=last.chains.row_losses,
        )


def _divergent(info: Info) -> float:
    return float(np.mean(info.is_divergent))


def _ended(chains: GrowingChains) -> Chains:
    assert chains.info is not None
    return Chains(chains.info, chains.states, chains.sampler, chains.num_done, False, False)
