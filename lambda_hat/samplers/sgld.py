"""Stochastic gradient Langevin dynamics with annealing, diagonal preconditioners and whitening."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lambda_hat.config.methods import SGLDSettings
from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.samplers.base import Info

__all__ = ["PRECONDITIONERS", "SGLD", "SGLDState", "build_sgld"]

PRECONDITIONERS = ("none", "rmsprop", "adam", "whitened")


class SGLDState(NamedTuple):
    """w − w0, the moments of the loss gradient, and the number of steps taken."""

    displacement: Float[Array, " d"]
    first_moment: Float[Array, " d"]
    second_moment: Float[Array, " d"]
    num_steps: Array


class SGLD(eqx.Module):
    """w ← w − (η_t/2) P (nβ ĝ + γ_loc (w − w0)) + √(η_t P) ξ, with η_t = η_0 (1 + t/t0)^(−exponent).

    The drift is η/2 and the noise √η (Lau et al. 2308.12108). `none`: P = 1. `rmsprop`: P = diag(1/(√v̂ + ε)). `adam`:
    the same P, and the bias-corrected first moment m̂ in place of ĝ. Moments are those of the loss gradient alone
    (Hitchcock & Hoogland 2507.21449, appendix D.3); they start at 0 *with* bias correction. `whitened`: P = A Aᵀ, whose
    noise is √η A ξ; that is `none` in the coordinates z of w = w0 + A z.

    The loss of a draw is the paired minibatch reading at the position *before* the step, whose batch is independent of
    it.
    """

    posterior: LocalPosterior
    whitening: Whitening
    batch_size: int = eqx.field(static=True)
    initial_step_size: Array
    annealing_exponent: Array
    annealing_offset: Array
    preconditioner: Array  # index into PRECONDITIONERS: traced, so that all of them share one program
    gradient_decay: Array
    square_decay: Array
    damping: Array

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> SGLDState:
        """State of a chain that starts at w0 + displacement."""
        del rng_key
        zeros = jnp.zeros_like(displacement)
        return SGLDState(displacement, zeros, zeros, jnp.zeros((), jnp.int32))

    def displacement(self, state: SGLDState) -> Float[Array, " d"]:
        """w − w0."""
        return state.displacement

    def step(self, rng_key: Array, state: SGLDState) -> tuple[SGLDState, Info]:
        """One minibatch gradient and one Langevin step."""
        posterior = self.posterior
        batch_key, noise_key = jax.random.split(rng_key)
        if self.batch_size >= posterior.num_data:  # the whole data: no minibatch noise
            excess_loss, gradient = jax.value_and_grad(posterior.excess_loss)(posterior.w0 + state.displacement)
        else:
            indices = jax.random.randint(batch_key, (self.batch_size,), 0, posterior.num_data)
            batch, at_w0 = posterior.take(indices)
            excess_loss, gradient = jax.value_and_grad(posterior.paired_excess_loss)(
                posterior.w0 + state.displacement, batch, at_w0
            )

        count = (state.num_steps + 1).astype(gradient.dtype)
        first = self.gradient_decay * state.first_moment + (1 - self.gradient_decay) * gradient
        second = self.square_decay * state.second_moment + (1 - self.square_decay) * gradient**2
        root = jnp.sqrt(second / (1 - self.square_decay**count))
        scale = jnp.where(self.preconditioner == 0, 1.0, 1.0 / (root + self.damping))
        drift = jnp.where(self.preconditioner == 2, first / (1 - self.gradient_decay**count), gradient)

        time = state.num_steps.astype(gradient.dtype)
        step_size = self.initial_step_size * (1 + time / self.annealing_offset) ** (-self.annealing_exponent)
        force = posterior.nbeta * drift + posterior.localization * state.displacement
        noise = jax.random.normal(noise_key, gradient.shape, gradient.dtype)
        # A branch on a value that all chains share: the diagonal ones do not pay for A.
        displacement = state.displacement + jax.lax.cond(
            self.preconditioner == PRECONDITIONERS.index("whitened"),
            lambda: self.whitening.displacement(
                jnp.sqrt(step_size) * noise - 0.5 * step_size * self.whitening.pullback(force)
            ),
            lambda: jnp.sqrt(step_size * scale) * noise - 0.5 * step_size * scale * force,
        )
        one = jnp.ones((), gradient.dtype)
        info = Info(
            excess_loss=excess_loss,
            squared_distance=jnp.sum(state.displacement**2),
            acceptance_rate=one,
            energy=0 * one,
            is_divergent=(~jnp.isfinite(jnp.sum(displacement))).astype(gradient.dtype),
            weight=step_size,
            num_gradient_evaluations=one * min(1.0, self.batch_size / posterior.num_data),
        )
        return SGLDState(displacement, first, second, state.num_steps + 1), info


def build_sgld(posterior: LocalPosterior, whitening: Whitening, settings: SGLDSettings) -> SGLD:
    """SGLD as `settings` say."""

    def traced(value: float) -> Array:
        return jnp.asarray(value, posterior.w0.dtype)

    return SGLD(
        posterior=posterior,
        whitening=whitening,
        batch_size=min(settings.batch_size, posterior.num_data),
        initial_step_size=traced(settings.initial_step_size),
        annealing_exponent=traced(settings.annealing_exponent),
        annealing_offset=traced(settings.annealing_offset),
        preconditioner=jnp.asarray(PRECONDITIONERS.index(settings.preconditioner), jnp.int32),
        gradient_decay=traced(settings.gradient_decay),
        square_decay=traced(settings.square_decay),
        damping=traced(settings.damping),
    )
