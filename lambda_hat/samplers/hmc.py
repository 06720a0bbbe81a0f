"""Hamiltonian Monte Carlo in whitened coordinates, with few and jittered leapfrog steps."""

from __future__ import annotations

from typing import Any, Self

import jax.numpy as jnp
from blackjax.mcmc import hmc
from jaxtyping import Array

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.draws.info import Info
from lambda_hat.posterior import Coordinates, Identities, LocalPosterior, Whitening
from lambda_hat.samplers.base import TunableSampler, halton
from lambda_hat.samplers.method import Built, Ended, Judgement, adjusted_reports, starts_by_whitening
from lambda_hat.samplers.whitened import ChainState, WhitenedSampler

__all__ = ["HMC", "build"]

_kernel: Any = hmc.build_kernel()  # BlackJAX declares traced arrays as Python numbers


class HMC(WhitenedSampler, TunableSampler):
    """Metropolis-adjusted leapfrog with unit mass in z, where w = w0 + A z.

    The number of leapfrog steps is uniform on 1 … 2·mean − 1 and the step size is multiplied by e^u, u uniform on
    ±`log_step_size_jitter`: both from a low-discrepancy sequence shared by the chains.
    """

    num_integration_steps: Array
    log_step_size_jitter: Array

    @classmethod
    def from_settings(
        cls,
        posterior: LocalPosterior,
        whitening: Whitening,
        settings: HMCSettings,
        *,
        at_w0: Whitening | None = None,
        log_step_size_jitter: float = 0.2,
    ) -> Self:
        """HMC as `settings` say. `at_w0`, by the curvature at w0, is for the identities; `whitening` unless given."""
        dtype = posterior.w0.dtype
        return cls(
            posterior=posterior,
            whitening=whitening,
            identities=Identities(at_w0 or whitening, posterior.localization),
            step_size=jnp.asarray(settings.step_size, dtype),
            target_accept=jnp.asarray(settings.target_accept, dtype),
            num_integration_steps=jnp.asarray(settings.num_integration_steps, jnp.int32),
            log_step_size_jitter=jnp.asarray(log_step_size_jitter, dtype),
        )

    @property
    def tuned_numbers(self) -> dict[str, Array]:
        """The step size, and the mean number of leapfrog steps."""
        return {**super().tuned_numbers, "num_integration_steps": self.num_integration_steps}

    def step(self, rng_key: Array, state: ChainState) -> tuple[ChainState, Info]:
        """One trajectory and its Metropolis decision."""
        mean = self.num_integration_steps
        num_steps = 1 + jnp.floor(halton(state.num_steps, 2) * (2 * mean - 1)).astype(jnp.int32)
        jitter = jnp.exp(self.log_step_size_jitter * (2 * halton(state.num_steps, 3) - 1))
        step_size = (self.step_size * jitter).astype(self.posterior.w0.dtype)
        chain, info = _kernel(
            rng_key, state.chain, self.logdensity, step_size, jnp.ones_like(self.posterior.w0), num_steps
        )
        is_outside = self.ends_undefined(info.proposal)
        return self.moved(
            state,
            chain,
            acceptance_rate=info.acceptance_rate,
            energy=0.5 * jnp.sum(info.momentum**2) - state.chain.logdensity,  # after the refreshment: what E-BFMI needs
            is_divergent=info.is_divergent & ~is_outside,
            is_undefined=is_outside,
            num_gradients=num_steps,
        )


def build(posterior: LocalPosterior, coordinates: Coordinates, settings: HMCSettings, rng_key: Array) -> Built:
    """Chains in the averaged coordinates, from draws of the Gaussian that these stand for."""
    sampler = HMC.from_settings(posterior, coordinates.averaged, settings, at_w0=coordinates.at_w0)
    return Built(sampler, starts_by_whitening(sampler.whitening, posterior, settings.num_chains, rng_key), judge)


def judge(ended: Ended, rng_key: Array) -> Judgement:
    """What the kernel tells of itself."""
    del rng_key
    return Judgement(reports=adjusted_reports(ended))
