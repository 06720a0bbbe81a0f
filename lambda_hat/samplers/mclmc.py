"""Microcanonical Langevin Monte Carlo in whitened coordinates (Robnik et al. 2212.08549, 2503.01707)."""

from __future__ import annotations

from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from blackjax.mcmc import adjusted_mclmc, mclmc
from blackjax.mcmc.integrators import isokinetic_velocity_verlet
from jaxtyping import Array, Float

from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.draws.info import Info
from lambda_hat.posterior import Coordinates, Identities, LocalPosterior, Whitening
from lambda_hat.samplers.base import Sampler, TunableSampler, halton
from lambda_hat.samplers.method import Built, Ended, Judgement, adjusted_reports, divergence_rate, starts_by_whitening
from lambda_hat.samplers.whitened import ChainState, WhitenedSampler, is_undefined

__all__ = ["MAX_INTEGRATION_STEPS", "AdjustedMCLMC", "BoundedMCLMC", "UnadjustedMCLMC", "build", "energy_variance_at"]

# A warm-up that starts at a tiny step must not integrate L/step_size times before it has learned a better one.
MAX_INTEGRATION_STEPS = 64
LEAST_STATISTIC = -9.0  # that one step adds to the adaptation of a bounded bias: no single one decides

# BlackJAX declares traced arrays as Python numbers. Leapfrog: one gradient per step.
_adjusted_kernel: Any = adjusted_mclmc.build_kernel(integrator=isokinetic_velocity_verlet)
_unadjusted_kernel: Any = mclmc.build_kernel(integrator=isokinetic_velocity_verlet)


class AdjustedMCLMC(WhitenedSampler, TunableSampler):
    """Isokinetic leapfrog at unit speed in z, where w = w0 + A z, with fresh directions and a Metropolis decision.

    Lengths are in units of √d whitened standard deviations, the radius of the posterior: a trajectory is
    `decoherence_length` √d long on average, in steps of `step_size` √d.
    """

    decoherence_length: Array

    @classmethod
    def from_settings(
        cls,
        posterior: LocalPosterior,
        whitening: Whitening,
        settings: MCLMCSettings,
        *,
        at_w0: Whitening | None = None,
    ) -> Self:
        """Adjusted MCLMC as `settings` say. `at_w0` is for the identities; `whitening` unless given."""
        dtype = posterior.w0.dtype
        return cls(
            posterior=posterior,
            whitening=whitening,
            identities=Identities(at_w0 or whitening, posterior.localization),
            step_size=jnp.asarray(settings.step_size, dtype),
            target_accept=jnp.asarray(settings.target_accept, dtype),
            decoherence_length=jnp.asarray(settings.decoherence_length, dtype),
        )

    def step(self, rng_key: Array, state: ChainState) -> tuple[ChainState, Info]:
        """One trajectory and its Metropolis decision."""
        mean = self.decoherence_length / self.step_size
        num_steps = jnp.floor(2 * mean * halton(state.num_steps, 2) + 0.5)
        num_steps = jnp.clip(num_steps, 1, MAX_INTEGRATION_STEPS).astype(jnp.int32)
        step_size = self.step_size * _radius(self.posterior)
        chain, info = _adjusted_kernel(rng_key, state.chain, self.logdensity, step_size, (num_steps,))
        is_outside = self.ends_undefined(info.proposal)
        return self.moved(
            state,
            chain,
            acceptance_rate=info.acceptance_rate,
            energy=info.energy,
            is_divergent=info.is_divergent & ~is_outside,
            is_undefined=is_outside,
            num_gradients=num_steps,
        )


class UnadjustedMCLMC(WhitenedSampler):
    """One isokinetic leapfrog step at unit speed in z and a partial refreshment of the direction, always accepted.

    `step_size` and `decoherence_length` L, over which the direction is forgotten, are in units of √d whitened standard
    deviations; neither is adapted. The stationary law is off by an amount that grows with the step size. Info's
    `energy` is the energy error of the step, 0 for an exact integrator.
    """

    step_size: Array
    decoherence_length: Array

    @classmethod
    def from_settings(
        cls,
        posterior: LocalPosterior,
        whitening: Whitening,
        settings: MCLMCSettings,
        *,
        at_w0: Whitening | None = None,
    ) -> Self:
        """Unadjusted MCLMC as `settings` say. `at_w0` is for the identities; `whitening` unless given."""
        dtype = posterior.w0.dtype
        return cls(
            posterior=posterior,
            whitening=whitening,
            identities=Identities(at_w0 or whitening, posterior.localization),
            **{name: jnp.asarray(value, dtype) for name, value in cls.numbers(settings).items()},
        )

    @classmethod
    def numbers(cls, settings: MCLMCSettings) -> dict[str, float]:
        """The numbers that steps depend on, by field."""
        return {"step_size": settings.step_size, "decoherence_length": settings.decoherence_length}

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> ChainState:
        """State of a chain that starts at w0 + displacement in a random direction."""
        chain = self.defined(lambda z: mclmc.init(z, self.logdensity, rng_key), displacement)
        return ChainState(chain, jnp.zeros((), jnp.int32))

    def step(self, rng_key: Array, state: ChainState) -> tuple[ChainState, Info]:
        """One step of the integrator."""
        unit = _radius(self.posterior)
        chain, info = _unadjusted_kernel(
            rng_key, state.chain, self.logdensity, 1.0, unit * self.decoherence_length, unit * self.step_size
        )
        return self.moved(
            state, chain, energy=info.energy_change, is_divergent=~info.nonans | is_undefined(chain.logdensity)
        )


class BoundedMCLMC(UnadjustedMCLMC, TunableSampler):
    """Unadjusted MCLMC whose warm-up finds the step size at which variances are off by a wanted share.

    `energy_variance` v is the variance of a step's energy error ΔE per dimension that belongs to it. Instead of an
    acceptance rate, the step size is adapted to the mean of 1 − ΔE²/(2 d v), which is ½ where that variance is reached.
    """

    energy_variance: Array

    @classmethod
    def numbers(cls, settings: MCLMCSettings) -> dict[str, float]:
        """Those of unadjusted chains, and what `settings.max_bias` asks of their steps."""
        assert settings.max_bias is not None
        bound = {"target_accept": 0.5, "energy_variance": energy_variance_at(settings.max_bias)}
        return super().numbers(settings) | bound

    def step(self, rng_key: Array, state: ChainState) -> tuple[ChainState, Info]:
        """One step of the integrator, which always counts; its `acceptance_rate` serves the adaptation alone."""
        state, info = super().step(rng_key, state)
        statistic = 1 - 0.5 * info.energy**2 / (self.posterior.dim * self.energy_variance)
        at_least = jnp.where(jnp.isfinite(statistic), statistic, LEAST_STATISTIC)
        return state, info._replace(acceptance_rate=jnp.maximum(at_least, LEAST_STATISTIC))


def energy_variance_at(bias: float) -> float:
    """Variance of a step's energy error per dimension at which b² is the mean squared relative error of the covariance.

    Var(ΔE)/d = 4b³/(1 + b)² (Robnik et al. 2412.08876): 3.9·10⁻⁶ at b = 1 %.
    """
    return 4 * bias**3 / (1 + bias) ** 2


def _radius(posterior: LocalPosterior) -> Array:
    return jnp.sqrt(jnp.asarray(posterior.dim, posterior.w0.dtype))


def build(posterior: LocalPosterior, coordinates: Coordinates, settings: MCLMCSettings, rng_key: Array) -> Built:
    """Chains in the averaged coordinates, from draws of the Gaussian that these stand for."""
    whitening = coordinates.averaged
    starts = starts_by_whitening(whitening, posterior, settings.num_chains, rng_key)
    if settings.is_adjusted:
        adjusted = AdjustedMCLMC.from_settings(posterior, whitening, settings, at_w0=coordinates.at_w0)
        return Built(adjusted, starts, judge_adjusted)
    kind = UnadjustedMCLMC if settings.max_bias is None else BoundedMCLMC
    unadjusted: Sampler = kind.from_settings(posterior, whitening, settings, at_w0=coordinates.at_w0)
    return Built(unadjusted, starts, judge_unadjusted)


def judge_adjusted(ended: Ended, rng_key: Array) -> Judgement:
    """What the kernel tells of itself."""
    del rng_key
    return Judgement(reports=adjusted_reports(ended))


def judge_unadjusted(ended: Ended, rng_key: Array) -> Judgement:
    """How well steps keep the energy, per dimension (Robnik et al. 2212.08549)."""
    del rng_key
    sampler = ended.chains.sampler
    error = float(np.var(ended.info.energy)) / sampler.posterior.dim
    reports = {"divergence_rate": divergence_rate(ended), "energy_error_variance": error}
    if isinstance(sampler, TunableSampler):
        reports["adapted_step_size"] = float(sampler.step_size)
    return Judgement(reports=reports)
