"""Stochastic-gradient Hamiltonian Monte Carlo with friction (Chen, Fox & Guestrin 2014, 1402.4102)."""

from __future__ import annotations

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lambda_hat.config.methods.sghmc import SGHMCSettings
from lambda_hat.draws.info import Info
from lambda_hat.posterior import Coordinates, LocalPosterior, Whitening
from lambda_hat.samplers.base import Held, LangevinSampler
from lambda_hat.samplers.bias import measure_bias_traces
from lambda_hat.samplers.method import Built, Ended, Judgement, starts_at_w0
from lambda_hat.samplers.noise import normals

__all__ = ["PRECONDITIONERS", "SGHMC", "SGHMCState", "build", "predict_bias"]

PRECONDITIONERS = ("none", "whitened")


class SGHMCState(NamedTuple):
    """w − w0 and its square, the velocity v in the coordinates sampled in, and what is held of the identities."""

    displacement: Float[Array, " d"]
    squared_distance: Array
    velocity: Float[Array, " d"]
    held: Held


class SGHMC(LangevinSampler):
    """v ← (1 − α) v − η ∇U_B(w) + √(2 (α − β̂) η) ξ, then w ← w + v, with U = nβL_n + (γ_loc/2) |w − w0|².

    That is equation 15 of the paper: learning rate η = ε² M⁻¹, friction α = ε M⁻¹ C, and β̂ = ε M⁻¹ B̂ for what
    minibatches add to the noise by themselves, here `noise_share` · α. At α = 1 it is SGLD with steps of 2η.
    `whitened`: the same in the coordinates z of w = w0 + A z, with Aᵀ∇U_B for the gradient and v a velocity of z.

    The loss of a draw is the paired minibatch reading at the position *before* the step, whose batch is independent of
    it; the identities are read with the gradient of the same batch. Once stationary, E[r·ĝ] = (1 − α/2) E[|v|²]/η for
    ĝ = ∇U_B and the velocity after the step, whatever η: Info's `stationarity` is half the difference.
    """

    step_size: Array
    friction: Array
    noise_share: Array

    @classmethod
    def from_settings(
        cls, posterior: LocalPosterior, whitening: Whitening, settings: SGHMCSettings, *, at_w0: Whitening | None = None
    ) -> Self:
        """SGHMC as `settings` say. `at_w0`, by the curvature at w0, is for the identities; `whitening` unless given."""
        dtype, batch_size = posterior.w0.dtype, min(settings.batch_size, posterior.num_data)
        return cls(
            posterior=posterior,
            batch_size=batch_size,
            whitening=whitening,
            **cls.reading(posterior, batch_size, whitening, at_w0, is_whitened=settings.is_whitened),
            step_size=jnp.asarray(settings.step_size, dtype),
            friction=jnp.asarray(settings.friction, dtype),
            noise_share=jnp.asarray(settings.noise_share, dtype),
            preconditioner=jnp.asarray(PRECONDITIONERS.index(settings.preconditioner), jnp.int32),
        )

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> SGHMCState:
        """State of a chain that starts at w0 + displacement, with a velocity of the stationary variance η."""
        velocity = jnp.sqrt(self.step_size) * normals(rng_key, displacement.size, displacement.dtype)
        return SGHMCState(displacement, displacement @ displacement, velocity, Held.nothing(displacement.dtype))

    def displacement(self, state: SGHMCState) -> Float[Array, " d"]:
        """w − w0."""
        return state.displacement

    def step(self, rng_key: Array, state: SGHMCState) -> tuple[SGHMCState, Info]:
        """One minibatch gradient, one update of the velocity, one of the position."""
        excess_loss, gradient = jax.value_and_grad(self.draw_loss(rng_key))(state.displacement)
        force = self.posterior.nbeta * gradient + self.posterior.localization * state.displacement
        virials, held = self.virials(excess_loss, state.displacement, force, state.held)
        variance = 2 * (1 - self.noise_share) * self.friction * self.step_size
        kick = jnp.sqrt(variance) * normals(rng_key, force.size, force.dtype)
        coasting = (1 - self.friction) * state.velocity + kick

        def plain() -> tuple[Array, Array]:
            velocity = coasting - self.step_size * force
            return velocity, velocity

        def whitened() -> tuple[Array, Array]:
            velocity = coasting - self.step_size * self.whitening.pullback(force)
            return velocity, self.whitening.displacement(velocity)

        # A branch on a value that all chains share: nobody pays for A without using it.
        velocity, move = lax.switch(self.preconditioner, (plain, whitened))
        displacement = state.displacement + move
        squared_distance = displacement @ displacement
        work = state.displacement @ force
        one = jnp.ones((), force.dtype)
        info = Info(
            excess_loss=excess_loss,
            squared_distance=state.squared_distance,
            acceptance_rate=one,
            energy=0 * one,
            is_divergent=(~jnp.isfinite(squared_distance)).astype(force.dtype),
            is_undefined=jnp.zeros_like(squared_distance),
            weight=one,
            num_gradient_evaluations=one * self.share_of_data,
            virial=virials.plain,
            curved_virial=virials.curved,
            stationarity=0.5 * (work - (1 - self.friction / 2) * (velocity @ velocity) / self.step_size),
        )
        return SGHMCState(displacement, squared_distance, velocity, held), info


def build(posterior: LocalPosterior, coordinates: Coordinates, settings: SGHMCSettings, rng_key: Array) -> Built:
    """Chains that start at w0."""
    del rng_key
    sampler = SGHMC.from_settings(posterior, coordinates.averaged, settings, at_w0=coordinates.at_w0)
    return Built(sampler, starts_at_w0(posterior, settings.num_chains), judge)


def judge(ended: Ended, rng_key: Array) -> Judgement:
    """The bias that step size and minibatches are expected to cause."""
    if ended.is_diverged:
        return Judgement()
    sampler: SGHMC = ended.chains.sampler
    displacements = jax.vmap(sampler.displacement)(ended.chains.settled_states())
    bias, num_gradient_evaluations = predict_bias(sampler, displacements, rng_key)
    reports = {"predicted_bias": bias} if jnp.isfinite(bias) else {}
    return Judgement(reports, num_gradient_evaluations=num_gradient_evaluations)


def predict_bias(sampler: SGHMC, displacements: Float[Array, "chains d"], rng_key: Array) -> tuple[float, float]:
    """(λ̂ − λ)/λ to first order in η and β̂ from where chains ended, and the gradients that it took to know.

    Let the posterior be N(w0, K⁻¹), K = H + γ_loc, H the Hessian of nβL_n, and the noise of a minibatch's gradient have
    covariance C. Along an eigenvector of K with eigenvalue k and noise c the step is a linear recursion, stable for
    ηk < 4 − 2α, whose position has the variance

        (1/k) (1 − β̂/α + ηc/(2α)) / (1 − ηk/(4 − 2α)),

    so that with P = 1, or P = K⁻¹ = A Aᵀ (whitened),

        λ̂/λ − 1 = η tr(PH)/((4 − 2α) tr(HK⁻¹)) + η tr(HK⁻¹PC)/(2α tr(HK⁻¹)) − β̂/α + …

    Minibatches cost what they cost SGLD at steps of 2η/α, as long a way per step; discretisation is less by the factor
    α/(2 − α). Not a number where the whitening is not one of this posterior.
    """
    posterior = sampler.posterior
    is_whitened = PRECONDITIONERS[int(sampler.preconditioner)] == "whitened"
    traces = measure_bias_traces(posterior, sampler.whitening, displacements, rng_key, is_whitened=is_whitened)
    step_size, friction = float(sampler.step_size), float(sampler.friction)
    discretisation = step_size / (4 - 2 * friction) * traces.discretisation
    minibatch = step_size / (2 * friction) * traces.minibatch_noise(sampler.batch_size, posterior.num_data)
    return discretisation + minibatch - float(sampler.noise_share), traces.num_gradient_evaluations
