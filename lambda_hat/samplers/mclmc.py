"""Microcanonical Langevin Monte Carlo in whitened coordinates (Robnik et al. 2212.08549, 2503.01707)."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from blackjax.mcmc import adjusted_mclmc, hmc, mclmc
from blackjax.mcmc.integrators import isokinetic_velocity_verlet
from jaxtyping import Array, Float

from lambda_hat.config.methods import MCLMCSettings
from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.samplers.base import Info, halton

__all__ = ["MAX_INTEGRATION_STEPS", "AdjustedMCLMC", "MCLMCState", "UnadjustedMCLMC", "build_mclmc"]

# A warm-up that starts at a tiny step must not integrate L/step_size times before it has learned a better one.
MAX_INTEGRATION_STEPS = 64

# BlackJAX declares traced arrays as Python numbers. Leapfrog: one gradient per step.
_adjusted_kernel: Any = adjusted_mclmc.build_kernel(integrator=isokinetic_velocity_verlet)
_unadjusted_kernel: Any = mclmc.build_kernel(integrator=isokinetic_velocity_verlet)


class MCLMCState(NamedTuple):
    """Chain state in whitened coordinates, and the number of steps taken (it drives the adjusted kernel's jitter)."""

    chain: Any  # BlackJAX's HMCState, or IntegratorState where the direction outlives the step
    num_steps: Array


class AdjustedMCLMC(eqx.Module):
    """Isokinetic leapfrog at unit speed in z, where w = w0 + A z, with fresh directions and a Metropolis decision.

    Lengths are in units of √d whitened standard deviations, the radius of the posterior: a trajectory is
    `decoherence_length` √d long on average, in steps of `step_size` √d.
    """

    posterior: LocalPosterior
    whitening: Whitening
    step_size: Array
    target_accept: Array
    decoherence_length: Array

    def with_step_size(self, step_size: Array) -> AdjustedMCLMC:
        """The same kernel with another step size."""
        return eqx.tree_at(lambda sampler: sampler.step_size, self, step_size)

    def _logdensity(self, z: Float[Array, " d"]) -> Array:
        return self.posterior.logdensity(self.posterior.w0 + self.whitening.displacement(z))

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> MCLMCState:
        """State of a chain that starts at w0 + displacement."""
        del rng_key
        chain = hmc.init(self.whitening.coordinates(displacement), self._logdensity)
        return MCLMCState(chain, jnp.zeros((), jnp.int32))

    def displacement(self, state: MCLMCState) -> Float[Array, " d"]:
        """w − w0."""
        return self.whitening.displacement(state.chain.position)

    def step(self, rng_key: Array, state: MCLMCState) -> tuple[MCLMCState, Info]:
        """One trajectory and its Metropolis decision."""
        dtype = self.posterior.w0.dtype
        mean = self.decoherence_length / self.step_size
        num_steps = jnp.floor(2 * mean * halton(state.num_steps, 2) + 0.5)
        num_steps = jnp.clip(num_steps, 1, MAX_INTEGRATION_STEPS).astype(jnp.int32)
        step_size = self.step_size * jnp.sqrt(jnp.asarray(self.posterior.dim, dtype))
        chain, info = _adjusted_kernel(rng_key, state.chain, self._logdensity, step_size, (num_steps,))
        squared_distance = jnp.sum(self.whitening.displacement(chain.position) ** 2)
        return MCLMCState(chain, state.num_steps + 1), Info(
            excess_loss=self.posterior.excess_loss_from(chain.logdensity, squared_distance),
            squared_distance=squared_distance,
            acceptance_rate=info.acceptance_rate.astype(dtype),
            energy=info.energy.astype(dtype),
            is_divergent=info.is_divergent.astype(dtype),
            weight=jnp.ones((), dtype),
            num_gradient_evaluations=(num_steps + (state.num_steps == 0)).astype(dtype),
        )


class UnadjustedMCLMC(eqx.Module):
    """One isokinetic leapfrog step at unit speed in z and a partial refreshment of the direction, always accepted.

    `step_size` and `decoherence_length` L, over which the direction is forgotten, are in units of √d as above; neither
    is adapted. The stationary law is off by an amount that grows with the step size. Info's `energy` is the energy
    error of the step, 0 for an exact integrator.
    """

    posterior: LocalPosterior
    whitening: Whitening
    step_size: Array
    decoherence_length: Array

    def _logdensity(self, z: Float[Array, " d"]) -> Array:
        return self.posterior.logdensity(self.posterior.w0 + self.whitening.displacement(z))

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> MCLMCState:
        """State of a chain that starts at w0 + displacement in a random direction."""
        chain = mclmc.init(self.whitening.coordinates(displacement), self._logdensity, rng_key)
        return MCLMCState(chain, jnp.zeros((), jnp.int32))

    def displacement(self, state: MCLMCState) -> Float[Array, " d"]:
        """w − w0."""
        return self.whitening.displacement(state.chain.position)

    def step(self, rng_key: Array, state: MCLMCState) -> tuple[MCLMCState, Info]:
        """One step of the integrator."""
        dtype = self.posterior.w0.dtype
        unit = jnp.sqrt(jnp.asarray(self.posterior.dim, dtype))
        chain, info = _unadjusted_kernel(
            rng_key, state.chain, self._logdensity, 1.0, unit * self.decoherence_length, unit * self.step_size
        )
        squared_distance = jnp.sum(self.whitening.displacement(chain.position) ** 2)
        one = jnp.ones((), dtype)
        return MCLMCState(chain, state.num_steps + 1), Info(
            excess_loss=self.posterior.excess_loss_from(chain.logdensity, squared_distance),
            squared_distance=squared_distance,
            acceptance_rate=one,
            energy=info.energy_change.astype(dtype),
            is_divergent=(~info.nonans).astype(dtype),
            weight=one,
            num_gradient_evaluations=one + (state.num_steps == 0),
        )


def build_mclmc(
    posterior: LocalPosterior, whitening: Whitening, settings: MCLMCSettings
) -> AdjustedMCLMC | UnadjustedMCLMC:
    """MCLMC as `settings` say; with and without the Metropolis decision are two programs."""
    dtype = posterior.w0.dtype
    step_size = jnp.asarray(settings.step_size, dtype)
    decoherence_length = jnp.asarray(settings.decoherence_length, dtype)
    if not settings.is_adjusted:
        return UnadjustedMCLMC(posterior, whitening, step_size, decoherence_length)
    return AdjustedMCLMC(
        posterior=posterior,
        whitening=whitening,
        step_size=step_size,
        target_accept=jnp.asarray(settings.target_accept, dtype),
        decoherence_length=decoherence_length,
    )
