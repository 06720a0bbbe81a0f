"""Hamiltonian Monte Carlo in whitened coordinates, with few and jittered leapfrog steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from blackjax.mcmc import hmc
from jaxtyping import Array, Float

from lambda_hat.config.methods import HMCSettings
from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.samplers.base import Info, halton

__all__ = ["HMC", "HMCState", "build_hmc"]

_kernel: Any = hmc.build_kernel()  # BlackJAX declares traced arrays as Python numbers


class HMCState(NamedTuple):
    """Chain state in whitened coordinates, and the number of steps taken (it drives the jitter)."""

    chain: Any  # BlackJAX's HMCState
    num_steps: Array


class HMC(eqx.Module):
    """Metropolis-adjusted leapfrog with unit mass in z, where w = w0 + A z.

    The number of leapfrog steps is uniform on 1 … 2·mean − 1 and the step size is multiplied by e^u, u uniform on
    ±`log_step_size_jitter`: both from a low-discrepancy sequence shared by the chains.
    """

    posterior: LocalPosterior
    whitening: Whitening
    step_size: Array
    target_accept: Array
    num_integration_steps: Array
    log_step_size_jitter: Array

    def with_step_size(self, step_size: Array) -> HMC:
        """The same kernel with another mean step size."""
        return eqx.tree_at(lambda sampler: sampler.step_size, self, step_size)

    def with_num_integration_steps(self, num_integration_steps: int) -> HMC:
        """The same kernel with another mean number of leapfrog steps."""
        new = jnp.asarray(num_integration_steps, self.num_integration_steps.dtype)
        return eqx.tree_at(lambda sampler: sampler.num_integration_steps, self, new)

    def _logdensity(self, z: Float[Array, " d"]) -> Array:
        return self.posterior.logdensity(self.posterior.w0 + self.whitening.displacement(z))

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> HMCState:
        """State of a chain that starts at w0 + displacement."""
        del rng_key
        return HMCState(hmc.init(self.whitening.coordinates(displacement), self._logdensity), jnp.zeros((), jnp.int32))

    def displacement(self, state: HMCState) -> Float[Array, " d"]:
        """w − w0."""
        return self.whitening.displacement(state.chain.position)

    def step(self, rng_key: Array, state: HMCState) -> tuple[HMCState, Info]:
        """One trajectory and its Metropolis decision."""
        mean = self.num_integration_steps
        num_steps = 1 + jnp.floor(halton(state.num_steps, 2) * (2 * mean - 1)).astype(jnp.int32)
        jitter = jnp.exp(self.log_step_size_jitter * (2 * halton(state.num_steps, 3) - 1))
        dtype = self.posterior.w0.dtype
        step_size = (self.step_size * jitter).astype(dtype)
        chain, info = _kernel(
            rng_key, state.chain, self._logdensity, step_size, jnp.ones_like(self.posterior.w0), num_steps
        )
        squared_distance = jnp.sum(self.whitening.displacement(chain.position) ** 2)
        return HMCState(chain, state.num_steps + 1), Info(
            excess_loss=self.posterior.excess_loss_from(chain.logdensity, squared_distance),
            squared_distance=squared_distance,
            acceptance_rate=info.acceptance_rate.astype(dtype),
            energy=0.5 * jnp.sum(info.momentum**2) - state.chain.logdensity,  # after the refreshment: what E-BFMI needs
            is_divergent=info.is_divergent.astype(dtype),
            weight=jnp.ones((), dtype),
            num_gradient_evaluations=(num_steps + (state.num_steps == 0)).astype(dtype),
        )


def build_hmc(
    posterior: LocalPosterior, whitening: Whitening, settings: HMCSettings, *, log_step_size_jitter: float = 0.2
) -> HMC:
    """HMC as `settings` say."""
    dtype = posterior.w0.dtype
    return HMC(
        posterior=posterior,
        whitening=whitening,
        step_size=jnp.asarray(settings.step_size, dtype),
        target_accept=jnp.asarray(settings.target_accept, dtype),
        num_integration_steps=jnp.asarray(settings.num_integration_steps, jnp.int32),
        log_step_size_jitter=jnp.asarray(log_step_size_jitter, dtype),
    )
