"""What samplers have in common whose kernels come from BlackJAX and work in whitened coordinates."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from blackjax.mcmc import hmc
from jaxtyping import Array, Float

from lambda_hat.draws.info import Info
from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.samplers.base import Sampler

__all__ = ["ChainState", "WhitenedSampler"]


class ChainState(NamedTuple):
    """A chain in whitened coordinates, and the number of steps taken (it drives the jitter)."""

    chain: Any  # BlackJAX's state, which has a position and its log-density
    num_steps: Array


class WhitenedSampler(Sampler):
    """Samples z, where w = w0 + A z, on all the data; the loss of a draw comes from its log-density."""

    posterior: LocalPosterior
    whitening: Whitening

    def logdensity(self, z: Float[Array, " d"]) -> Array:
        """log π at w0 + A z, zero at w0."""
        return self.posterior.logdensity(self.posterior.w0 + self.whitening.displacement(z))

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> ChainState:
        """State of a chain that starts at w0 + displacement."""
        del rng_key
        chain = hmc.init(self.whitening.coordinates(displacement), self.logdensity)
        return ChainState(chain, jnp.zeros((), jnp.int32))

    def displacement(self, state: ChainState) -> Float[Array, " d"]:
        """w − w0."""
        return self.whitening.displacement(state.chain.position)

    def moved(
        self,
        state: ChainState,
        chain: Any,
        *,
        energy: Array,
        is_divergent: Array,
        acceptance_rate: Array | float = 1.0,
        num_gradients: Array | int = 1,
    ) -> tuple[ChainState, Info]:
        """What `step` gives where the kernel took `state` to `chain` with so many gradients."""
        dtype = self.posterior.w0.dtype
        squared_distance = jnp.sum(self.whitening.displacement(chain.position) ** 2)
        return ChainState(chain, state.num_steps + 1), Info(
            excess_loss=self.posterior.excess_loss_from(chain.logdensity, squared_distance),
            squared_distance=squared_distance,
            acceptance_rate=jnp.asarray(acceptance_rate, dtype),
            energy=energy.astype(dtype),
            is_divergent=is_divergent.astype(dtype),
            weight=jnp.ones((), dtype),
            num_gradient_evaluations=(num_gradients + (state.num_steps == 0)).astype(dtype),  # one in `init`
        )
