"""What samplers have in common whose kernels come from BlackJAX and work in whitened coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.mcmc import hmc
from jaxtyping import Array, Float

from lambda_hat.draws.info import Info
from lambda_hat.posterior import Identities, LocalPosterior, Whitening
from lambda_hat.samplers.base import Sampler

__all__ = ["UNDEFINED", "ChainState", "WhitenedSampler", "is_undefined"]

UNDEFINED = -1e30  # a log-density where there is none: finite, so that a trajectory can go on
NEIGHBOURHOOD = 100.0  # of |w − w0|² under the localization alone, d/γ_loc


def is_undefined(logdensity: Array) -> Array:
    """Whether a log-density stands for a loss that is no number."""
    return logdensity <= 0.5 * UNDEFINED


def _is_finite(position: Array) -> Array:
    return jnp.all(jnp.isfinite(position))


class ChainState(NamedTuple):
    """A chain in whitened coordinates, and the number of steps taken (it drives the jitter)."""

    chain: Any  # BlackJAX's state, which has a position and its log-density
    num_steps: Array


class WhitenedSampler(Sampler):
    """Samples z, where w = w0 + A z, on all the data; the loss of a draw comes from its log-density."""

    posterior: LocalPosterior
    whitening: Whitening
    identities: Identities

    def logdensity(self, z: Float[Array, " d"]) -> Array:
        """log π at w0 + A z, zero at w0; `UNDEFINED`, with gradient zero, where the loss is no number.

        A trajectory goes straight on there and is turned down if it ends there: leapfrog stays reversible.
        """
        value = self.posterior.logdensity(self.posterior.w0 + self.whitening.displacement(z))
        return jnp.where(jnp.isfinite(value), value, UNDEFINED)

    def ends_undefined(self, end: Any) -> Array:
        """Whether the loss is no number at the end of a trajectory, in the posterior's neighbourhood.

        Farther away it is the integrator that has failed.
        """
        squared_distance = jnp.sum(self.whitening.displacement(end.position) ** 2)
        radius = NEIGHBOURHOOD * self.posterior.dim / self.posterior.localization
        return is_undefined(end.logdensity) & (squared_distance < radius)

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> ChainState:
        """State of a chain that starts at w0 + displacement, or nearer to w0 where the loss is no number there."""
        del rng_key
        chain = self.defined(lambda z: hmc.init(z, self.logdensity), displacement)
        return ChainState(chain, jnp.zeros((), jnp.int32))

    def defined(self, init: Callable[[Array], Any], displacement: Float[Array, " d"]) -> Any:
        """What `init` makes of the coordinates of a displacement, halved until the loss is a number, as it is at w0."""
        return jax.lax.while_loop(
            lambda chain: is_undefined(chain.logdensity) & jnp.any(chain.position != 0) & _is_finite(chain.position),
            lambda chain: init(chain.position / 2),
            init(self.whitening.coordinates(displacement)),
        )

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
        is_undefined: Array | bool = False,
        acceptance_rate: Array | float = 1.0,
        num_gradients: Array | int = 1,
    ) -> tuple[ChainState, Info]:
        """What `step` gives where the kernel took `state` to `chain` with so many gradients."""
        dtype = self.posterior.w0.dtype
        displacement = self.whitening.displacement(chain.position)
        virials = self.identities.read(displacement, -self.whitening.gradient(chain.logdensity_grad))
        squared_distance = jnp.sum(displacement**2)
        return ChainState(chain, state.num_steps + 1), Info(
            excess_loss=self.posterior.excess_loss_from(chain.logdensity, squared_distance),
            squared_distance=squared_distance,
            acceptance_rate=jnp.asarray(acceptance_rate, dtype),
            energy=energy.astype(dtype),
            is_divergent=is_divergent.astype(dtype),
            is_undefined=jnp.asarray(is_undefined, dtype),
            weight=jnp.ones((), dtype),
            num_gradient_evaluations=(num_gradients + (state.num_steps == 0)).astype(dtype),  # one in `init`
            virial=virials.plain,
            curved_virial=virials.curved,
            stationarity=jnp.asarray(jnp.nan, dtype),
        )
