"""Adjusted microcanonical Langevin Monte Carlo in whitened coordinates (Robnik et al. 2212.08549, 2503.01707)."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from blackjax.mcmc import adjusted_mclmc, hmc
from blackjax.mcmc.integrators import isokinetic_velocity_verlet
from jaxtyping import Array, Float

from lambda_hat.config.methods import MCLMCSettings
from lambda_hat.errors import InputError
from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.samplers.base import Info, halton

__all__ = ["MAX_INTEGRATION_STEPS", "AdjustedMCLMC", "AdjustedMCLMCState", "build_mclmc"]

# A warm-up that starts at a tiny step must not integrate L/step_size times before it has learned a better one.
MAX_INTEGRATION_STEPS = 64

_kernel: Any = adjusted_mclmc.build_kernel(
    integrator=isokinetic_velocity_verlet
)  # BlackJAX declares traced arrays as Python numbers


class AdjustedMCLMCState(NamedTuple):
    """Chain state in whitened coordinates, and the number of steps taken (it drives the jitter)."""

    chain: Any  # BlackJAX's HMCState
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

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> AdjustedMCLMCState:
        """State of a chain that starts at w0 + displacement."""
        del rng_key
        chain = hmc.init(self.whitening.coordinates(displacement), self._logdensity)
        return AdjustedMCLMCState(chain, jnp.zeros((), jnp.int32))

    def displacement(self, state: AdjustedMCLMCState) -> Float[Array, " d"]:
        """w − w0."""
        return self.whitening.displacement(state.chain.position)

    def step(self, rng_key: Array, state: AdjustedMCLMCState) -> tuple[AdjustedMCLMCState, Info]:
        """One trajectory and its Metropolis decision."""
        dtype = self.posterior.w0.dtype
        mean = self.decoherence_length / self.step_size
        num_steps = jnp.floor(2 * mean * halton(state.num_steps, 2) + 0.5)
        num_steps = jnp.clip(num_steps, 1, MAX_INTEGRATION_STEPS).astype(jnp.int32)
        step_size = self.step_size * jnp.sqrt(jnp.asarray(self.posterior.dim, dtype))
        chain, info = _kernel(rng_key, state.chain, self._logdensity, step_size, (num_steps,))
        squared_distance = jnp.sum(self.whitening.displacement(chain.position) ** 2)
        return AdjustedMCLMCState(chain, state.num_steps + 1), Info(
            excess_loss=self.posterior.excess_loss_from(chain.logdensity, squared_distance),
            squared_distance=squared_distance,
            acceptance_rate=info.acceptance_rate.astype(dtype),
            energy=info.energy.astype(dtype),
            is_divergent=info.is_divergent.astype(dtype),
            weight=jnp.ones((), dtype),
            num_gradient_evaluations=num_steps.astype(dtype),
        )


def build_mclmc(posterior: LocalPosterior, whitening: Whitening, settings: MCLMCSettings) -> AdjustedMCLMC:
    """MCLMC as `settings` say.

    Raises:
        InputError: without the Metropolis decision, which no kernel here leaves out.
    """
    if not settings.is_adjusted:
        raise InputError(
            "mclmc: adjusted = false is not available; only the Metropolis-adjusted kernel is. Set it to true."
        )
    dtype = posterior.w0.dtype
    return AdjustedMCLMC(
        posterior=posterior,
        whitening=whitening,
        step_size=jnp.asarray(settings.step_size, dtype),
        target_accept=jnp.asarray(settings.target_accept, dtype),
        decoherence_length=jnp.asarray(settings.decoherence_length, dtype),
    )
