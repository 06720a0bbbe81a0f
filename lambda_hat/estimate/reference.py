"""The certified reference: whitened HMC in float64, in rounds, until certified or out of time."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.config.methods import HMCSettings
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.estimate.certificate import Certificate, certify, step_size_agreement
from lambda_hat.estimate.diagnostics import TraceDiagnostics, diagnose_trace
from lambda_hat.estimate.llc import drop_burn_in
from lambda_hat.posterior import LocalPosterior, Whitening, hessian_whitening, laplace_llc
from lambda_hat.samplers.base import Info
from lambda_hat.samplers.hmc import HMC, HMCState, build_hmc
from lambda_hat.samplers.runner import init_chains, run_chains

__all__ = ["Reference", "ReferenceProgress", "sample_reference"]

NUM_PILOTS = 2
PILOT_SNAPSHOTS = 20  # positions of every chain that the next Hessian is averaged over
STEPS_BETWEEN_SNAPSHOTS = 10
NUM_WARMUP = 200
# Fixed steps never enter stiff wings (w₁²w₂⁴ at acceptance 0.85: 2.9 % low); steps jittered over e^±0.5 do.
LOG_STEP_SIZE_JITTER = 0.5
OVERDISPERSION = 1.5
MAX_INTEGRATION_STEPS = 64
CHUNK_SIZE = 50


@dataclass(frozen=True)
class ReferenceProgress:
    """What is known after a stage or round."""

    stage: str
    seconds: float
    llc: float = math.nan
    se: float = math.nan
    rhat: float = math.nan
    ess: float = math.nan


@dataclass(frozen=True)
class Reference:
    """λ̂ with its Monte Carlo standard error, and why it may or may not be believed."""

    llc: float
    se: float
    certificate: Certificate
    laplace_llc: float
    hessian_eigenvalues: np.ndarray  # of nβL_n at w0, ascending
    hessian_whitening: Whitening  # A0
    whitening: Whitening  # of the final chains
    info: Info | None  # retained draws, (num_chains, num_draws)
    step_size: float
    num_integration_steps: int
    num_gradient_evaluations: float  # of everything, on the full-data scale
    num_hessian_evaluations: int
    seconds: dict[str, float]  # by stage


class _OutOfTime(Exception):
    """The deadline has passed."""


class _Work:
    """Time and gradient evaluations spent; raises between stages once the deadline has passed."""

    def __init__(self, deadline: float, on_progress: Callable[[ReferenceProgress], None]) -> None:
        self.deadline = deadline
        self.on_progress = on_progress
        self.start = self.clock = time.monotonic()
        self.seconds: dict[str, float] = {}
        self.num_gradient_evaluations = 0.0

    def is_in_time(self) -> bool:
        return time.monotonic() < self.deadline

    def done(self, stage: str, label: str = "", **figures: float) -> None:
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.clock
        self.clock = now
        self.on_progress(ReferenceProgress(label or stage, now - self.start, **figures))
        if not self.is_in_time():
            raise _OutOfTime


class _Chains:
    """Chains that grow round by round; the first quarter of what there is never counts."""

    def __init__(self, sampler: HMC, states: HMCState, work: _Work) -> None:
        self.sampler = sampler
        self.states = states
        self.work = work
        self.info: Info | None = None

    def run(self, rng_key: Array, num_steps: int, *, num_warmup: int = 0) -> Info:
        """Advance without keeping the draws."""

        def on_chunk(info: Info, num_done: int) -> bool:
            del num_done
            self.work.num_gradient_evaluations += float(np.sum(info.num_gradient_evaluations))
            return self.work.is_in_time()

        chains = run_chains(
            self.sampler,
            rng_key,
            self.states,
            num_steps,
            num_warmup=num_warmup,
            chunk_size=CHUNK_SIZE,
            on_chunk=on_chunk,
        )
        self.sampler, self.states = chains.sampler, chains.states
        return chains.info

    def extend(self, rng_key: Array, num_steps: int) -> None:
        """Advance and keep the draws."""
        new = self.run(rng_key, num_steps)
        old = self.info
        self.info = new if old is None else Info(*(np.concatenate(pair, axis=1) for pair in zip(old, new, strict=True)))

    @property
    def retained(self) -> Info | None:
        """The last three quarters: over-dispersed starts must be forgotten before anything counts."""
        return None if self.info is None else drop_burn_in(self.info, self.info.excess_loss.shape[1] // 4)

    @property
    def displacements(self) -> Float[Array, "chains d"]:
        return jax.vmap(self.sampler.displacement)(self.states)

    def lengthen(self) -> None:
        """Twice as many leapfrog steps from here on, up to a limit; a traced number, so nothing is compiled again."""
        doubled = min(2 * int(self.sampler.num_integration_steps), MAX_INTEGRATION_STEPS)
        self.sampler = self.sampler.with_num_integration_steps(doubled)

    def at_half_step_size(self) -> _Chains:
        """New chains from where these are, at half the step size and with twice the leapfrog steps."""
        finer = _Chains(self.sampler.with_step_size(self.sampler.step_size / 2), self.states, self.work)
        finer.lengthen()
        return finer


def _overdispersed(
    whitening: Whitening, draws: Float[Array, "draws d"], rng_key: Array, num_chains: int
) -> Float[Array, "chains d"]:
    """Starts from pilot draws moved away from their mean, plus whitened noise, both by the same factor."""
    pick_key, noise_key = jax.random.split(rng_key)
    picked = jax.random.permutation(pick_key, draws)[:num_chains]
    mean = jnp.mean(draws, axis=0)
    noise = jax.vmap(whitening.displacement)(jax.random.normal(noise_key, picked.shape, picked.dtype))
    return mean + OVERDISPERSION * (picked - mean + noise)


class _Sampling:
    """One reference on its way: the coordinates, the chains that count and the finer ones they are checked by."""

    def __init__(self, posterior: LocalPosterior, spec: ReferenceSpec, work: _Work) -> None:
        self.posterior = posterior
        self.spec = spec
        self.work = work
        self.nbeta = float(posterior.nbeta)
        self.keys = (jax.random.fold_in(jax.random.key(spec.seed), i) for i in itertools.count())
        self.hessian_whitening, self.eigenvalues = hessian_whitening(posterior, posterior.w0[None])
        self.num_hessian_evaluations = 1
        self.whitening = self.hessian_whitening
        self.chains: _Chains | None = None
        self.finer: _Chains | None = None

    def start_chains(self, displacements: Array) -> _Chains:
        """Chains in the present coordinates, warmed up."""
        settings = HMCSettings(
            step_size=0.1,
            num_integration_steps=self.spec.num_integration_steps,
            target_accept=self.spec.target_accept,
        )
        sampler = build_hmc(self.posterior, self.whitening, settings, log_step_size_jitter=LOG_STEP_SIZE_JITTER)
        chains = _Chains(sampler, init_chains(sampler, next(self.keys), displacements), self.work)
        self.work.num_gradient_evaluations += displacements.shape[0]  # at the starts
        chains.run(next(self.keys), NUM_WARMUP, num_warmup=NUM_WARMUP)
        return chains

    def find_coordinates(self) -> Float[Array, "draws d"]:
        """Pilots, each in the coordinates that the one before it found; the draws of the last."""
        shape = (self.spec.num_chains, self.posterior.dim)
        noise = jax.random.normal(next(self.keys), shape, self.posterior.w0.dtype)
        starts = draws = jax.vmap(self.whitening.displacement)(noise)
        for pilot in range(NUM_PILOTS):
            chains = self.start_chains(starts)
            snapshots = []
            for _ in range(PILOT_SNAPSHOTS):
                chains.run(next(self.keys), STEPS_BETWEEN_SNAPSHOTS)
                snapshots.append(chains.displacements)
            starts, draws = snapshots[-1], jnp.concatenate(snapshots)
            self.work.done("pilots", f"pilot {pilot + 1}")
            self.whitening, _ = hessian_whitening(self.posterior, self.posterior.w0 + draws)
            self.num_hessian_evaluations += draws.shape[0]
            self.work.done("whitening", f"whitening {pilot + 1}")
        return draws

    def sample(self) -> None:
        """Rounds until certified; raises when out of time."""
        draws = self.find_coordinates()
        starts = _overdispersed(self.whitening, draws, next(self.keys), self.spec.num_chains)
        self.chains = self.start_chains(starts)
        while True:
            self.chains.extend(next(self.keys), self.spec.draws_per_round)
            self.report("rounds")
            alone = self.judge_alone()
            if not alone.is_certified:
                loss, distance = self.diagnose()
                if distance.ess_bulk < loss.ess_bulk / 4:
                    # r² mixes more slowly than the loss: longer trajectories serve it better than more of them.
                    self.chains.lengthen()
                continue
            if self.finer is None:
                self.finer = self.chains.at_half_step_size()
            self.finer.extend(next(self.keys), self.spec.draws_per_round)
            self.report("half step size")
            agreement = self.judge_agreement()
            if agreement.is_certified:
                return
            if agreement.criteria[0].is_met and agreement.criteria[1].is_met:
                # They disagree, and the finer ones are the better: go on with those.
                self.chains, self.finer = self.finer, None

    def diagnose(self) -> tuple[TraceDiagnostics, TraceDiagnostics]:
        """Diagnostics of nβ (L_n(w) − L_n(w0)) and of r²."""
        info = None if self.chains is None else self.chains.retained
        if info is None:
            nothing = TraceDiagnostics(math.nan, math.inf, math.inf, 0.0, 0.0)
            return nothing, nothing
        return diagnose_trace(self.nbeta * info.excess_loss), diagnose_trace(info.squared_distance)

    def judge_alone(self) -> Certificate:
        return certify(
            None if self.chains is None else self.chains.retained,
            self.nbeta,
            target_accept=self.spec.target_accept,
            max_relative_mcse=self.spec.max_relative_mcse,
        )

    def judge_agreement(self) -> Certificate:
        return step_size_agreement(
            None if self.chains is None else self.chains.retained,
            None if self.finer is None else self.finer.retained,
            self.nbeta,
            max_relative_mcse=self.spec.max_relative_mcse,
        )

    def report(self, stage: str) -> None:
        loss, distance = self.diagnose()
        self.work.done(
            stage,
            llc=loss.mean,
            se=loss.mcse,
            rhat=max(loss.rhat, distance.rhat),
            ess=min(loss.ess_bulk, distance.ess_bulk),
        )


def sample_reference(
    posterior: LocalPosterior,
    spec: ReferenceSpec,
    *,
    deadline: float,
    on_progress: Callable[[ReferenceProgress], None] = lambda _: None,
) -> Reference:
    """Whiten and sample in rounds until the certificate is complete or `deadline` (`time.monotonic`) has passed.

    Coordinates come from the Hessian at w0 (A0), then from the mean absolute Hessian over the draws of two pilots. The
    final chains start over-dispersed. Every round adds draws to them; once all else holds, chains at half the step size
    must agree. Where those do not, they replace the first ones and are halved again.
    """
    work = _Work(deadline, on_progress)
    sampling = _Sampling(posterior, spec, work)
    with contextlib.suppress(_OutOfTime):
        work.done("hessian")
        sampling.sample()
    loss, _ = sampling.diagnose()
    chains = sampling.chains
    return Reference(
        llc=loss.mean,
        se=loss.mcse,
        certificate=Certificate(sampling.judge_alone().criteria + sampling.judge_agreement().criteria),
        laplace_llc=laplace_llc(sampling.eigenvalues, posterior.localization),
        hessian_eigenvalues=np.asarray(sampling.eigenvalues),
        hessian_whitening=sampling.hessian_whitening,
        whitening=sampling.whitening,
        info=None if chains is None else chains.retained,
        step_size=math.nan if chains is None else float(chains.sampler.step_size),
        num_integration_steps=0 if chains is None else int(chains.sampler.num_integration_steps),
        num_gradient_evaluations=work.num_gradient_evaluations,
        num_hessian_evaluations=sampling.num_hessian_evaluations,
        seconds=work.seconds,
    )
