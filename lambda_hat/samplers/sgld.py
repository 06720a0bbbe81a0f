"""Stochastic gradient Langevin dynamics with annealing, diagonal preconditioners and whitening."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lambda_hat.config.methods import SGLDSettings
from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.samplers.base import Info
from lambda_hat.samplers.noise import indices, normals

__all__ = ["PRECONDITIONERS", "SGLD", "SGLDState", "build_sgld"]

PRECONDITIONERS = ("none", "rmsprop", "adam", "whitened")

_Moved: TypeAlias = tuple[Array, Array, Array]  # w − w0 and the moments, after a step


class SGLDState(NamedTuple):
    """w − w0 and its square, the moments of the loss gradient, and the number of steps taken."""

    displacement: Float[Array, " d"]
    squared_distance: Array
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

    @property
    def is_minibatch(self) -> bool:
        """Whether a step looks at fewer rows than there are."""
        return self.batch_size < self.posterior.num_data

    @property
    def without_steps(self) -> SGLD:
        """The same for what does not depend on the size of a minibatch: one program for all sizes."""
        return dataclasses.replace(self, batch_size=0)

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> SGLDState:
        """State of a chain that starts at w0 + displacement."""
        del rng_key
        zeros = jnp.zeros_like(displacement)
        return SGLDState(displacement, displacement @ displacement, zeros, zeros, jnp.zeros((), jnp.int32))

    def displacement(self, state: SGLDState) -> Float[Array, " d"]:
        """w − w0."""
        return state.displacement

    def step(self, rng_key: Array, state: SGLDState) -> tuple[SGLDState, Info]:
        """One minibatch gradient and one Langevin step."""
        excess_loss, gradient = self._loss_and_gradient(rng_key, state)
        time = state.num_steps.astype(gradient.dtype)
        step_size = self.initial_step_size * (1 + time / self.annealing_offset) ** (-self.annealing_exponent)
        noise = jnp.sqrt(step_size) * normals(rng_key, gradient.size, gradient.dtype)
        # A branch on a value that all chains share: nobody pays for the moments, or for A, of another.
        displacement, first, second = lax.switch(
            self.preconditioner,
            (
                lambda: self._step_plain(state, gradient, noise, step_size),
                lambda: self._step_rmsprop(state, gradient, noise, step_size),
                lambda: self._step_adam(state, gradient, noise, step_size),
                lambda: self._step_whitened(state, gradient, noise, step_size),
            ),
        )
        squared_distance = displacement @ displacement
        one = jnp.ones((), gradient.dtype)
        info = Info(
            excess_loss=excess_loss,
            squared_distance=state.squared_distance,
            acceptance_rate=one,
            energy=0 * one,
            is_divergent=(~jnp.isfinite(squared_distance)).astype(gradient.dtype),
            weight=step_size,
            num_gradient_evaluations=one * min(1.0, self.batch_size / self.posterior.num_data),
        )
        return SGLDState(displacement, squared_distance, first, second, state.num_steps + 1), info

    def _loss_and_gradient(self, rng_key: Array, state: SGLDState) -> tuple[Array, Float[Array, " d"]]:
        posterior, position = self.posterior, self.posterior.w0 + state.displacement
        if not self.is_minibatch:  # the whole data: no minibatch noise
            return jax.value_and_grad(posterior.excess_loss)(position)
        batch, at_w0 = posterior.take(indices(rng_key, self.batch_size, posterior.num_data))
        return jax.value_and_grad(posterior.paired_excess_loss)(position, batch, at_w0)

    def _force(self, state: SGLDState, drift: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.posterior.nbeta * drift + self.posterior.localization * state.displacement

    def _step_plain(self, state: SGLDState, gradient: Array, noise: Array, step_size: Array) -> _Moved:
        displacement = state.displacement - 0.5 * step_size * self._force(state, gradient) + noise
        return displacement, state.first_moment, state.second_moment

    def _step_whitened(self, state: SGLDState, gradient: Array, noise: Array, step_size: Array) -> _Moved:
        pulled = self.whitening.pullback(self._force(state, gradient))
        move = self.whitening.displacement(noise - 0.5 * step_size * pulled)
        return state.displacement + move, state.first_moment, state.second_moment

    def _step_rmsprop(self, state: SGLDState, gradient: Array, noise: Array, step_size: Array) -> _Moved:
        second, scale = self._second_moment(state, gradient)
        displacement = self._step_diagonal(state, gradient, noise, step_size, scale)
        return displacement, state.first_moment, second

    def _step_adam(self, state: SGLDState, gradient: Array, noise: Array, step_size: Array) -> _Moved:
        second, scale = self._second_moment(state, gradient)
        first = self.gradient_decay * state.first_moment + (1 - self.gradient_decay) * gradient
        drift = first / (1 - self.gradient_decay ** (state.num_steps + 1).astype(gradient.dtype))
        return self._step_diagonal(state, drift, noise, step_size, scale), first, second

    def _second_moment(self, state: SGLDState, gradient: Array) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """Of the gradient, and the preconditioner that it makes."""
        second = self.square_decay * state.second_moment + (1 - self.square_decay) * gradient**2
        count = (state.num_steps + 1).astype(gradient.dtype)
        return second, 1 / (jnp.sqrt(second / (1 - self.square_decay**count)) + self.damping)

    def _step_diagonal(
        self, state: SGLDState, drift: Array, noise: Array, step_size: Array, scale: Array
    ) -> Float[Array, " d"]:
        force = self._force(state, drift)
        return state.displacement - 0.5 * step_size * scale * force + jnp.sqrt(scale) * noise


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
