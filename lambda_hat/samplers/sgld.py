"""Stochastic gradient Langevin dynamics with annealing, diagonal preconditioners and whitening."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.draws.info import Info
from lambda_hat.posterior import Coordinates, LocalPosterior, Whitening
from lambda_hat.samplers.base import Held, LangevinSampler
from lambda_hat.samplers.bias import measure_bias_traces
from lambda_hat.samplers.method import Built, Ended, Judgement, starts_at_w0
from lambda_hat.samplers.noise import normals

__all__ = ["PRECONDITIONERS", "SGLD", "SGLDBias", "SGLDState", "build", "predict_bias"]

PRECONDITIONERS = ("none", "rmsprop", "adam", "whitened")
PREDICTABLE = ("none", "whitened")  # P constant, so that there is a stationary law to speak of


class _Moved(NamedTuple):
    displacement: Float[Array, " d"]  # w − w0 after a step
    first_moment: Float[Array, " d"]
    second_moment: Float[Array, " d"]
    squared_force: Array  # ĝᵀPĝ of the step, where P is constant and ĝ is that of the step alone, else NaN


class SGLDState(NamedTuple):
    """w − w0 and its square, moments of the loss gradient, what is held of the identities, the number of steps."""

    displacement: Float[Array, " d"]
    squared_distance: Array
    first_moment: Float[Array, " d"]
    second_moment: Float[Array, " d"]
    held: Held
    num_steps: Array


class SGLD(LangevinSampler):
    """w ← w − (η_t/2) P (nβ ĝ + γ_loc (w − w0)) + √(η_t P) ξ, with η_t = η_0 (1 + t/t0)^(−exponent).

    The drift is η/2 and the noise √η (Lau et al. 2308.12108). `none`: P = 1. `rmsprop`: P = diag(1/(√v̂ + ε)). `adam`:
    the same P, and the bias-corrected first moment m̂ in place of ĝ. Moments are those of the loss gradient alone
    (Hitchcock & Hoogland 2507.21449, appendix D.3); they start at 0 *with* bias correction. After `num_adapting` steps
    P stays as it is. `whitened`: P = A Aᵀ, whose noise is √η A ξ; that is `none` in the coordinates z of w = w0 + A z.

    The loss of a draw is the paired minibatch reading at the position *before* the step, whose batch is independent of
    it; the identities are read with the gradient of the same batch. Once stationary, with constant η and P,
    E[½ (r·ĝ − d)] = (η/8) E[ĝᵀPĝ] for ĝ = ∇U_B, whatever the step size: Info's `stationarity` is the difference.
    """

    initial_step_size: Array
    annealing_exponent: Array
    annealing_offset: Array
    gradient_decay: Array
    square_decay: Array
    damping: Array
    num_adapting: Array

    @classmethod
    def from_settings(
        cls, posterior: LocalPosterior, whitening: Whitening, settings: SGLDSettings, *, at_w0: Whitening | None = None
    ) -> Self:
        """SGLD as `settings` say. `at_w0`, by the curvature at w0, is for the identities; `whitening` unless given."""

        def traced(value: float) -> Array:
            return jnp.asarray(value, posterior.w0.dtype)

        batch_size = min(settings.batch_size, posterior.num_data)
        return cls(
            posterior=posterior,
            batch_size=batch_size,
            whitening=whitening,
            **cls.reading(posterior, batch_size, whitening, at_w0, is_whitened=settings.is_whitened),
            initial_step_size=traced(settings.initial_step_size),
            annealing_exponent=traced(settings.annealing_exponent),
            annealing_offset=traced(settings.annealing_offset),
            preconditioner=jnp.asarray(PRECONDITIONERS.index(settings.preconditioner), jnp.int32),
            gradient_decay=traced(settings.gradient_decay),
            square_decay=traced(settings.square_decay),
            damping=traced(settings.damping),
            num_adapting=jnp.asarray(settings.num_adapting or np.iinfo(np.int32).max, jnp.int32),
        )

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> SGLDState:
        """State of a chain that starts at w0 + displacement."""
        del rng_key
        zeros, nothing = jnp.zeros_like(displacement), Held.nothing(displacement.dtype)
        return SGLDState(displacement, displacement @ displacement, zeros, zeros, nothing, jnp.zeros((), jnp.int32))

    def displacement(self, state: SGLDState) -> Float[Array, " d"]:
        """w − w0."""
        return state.displacement

    def step(self, rng_key: Array, state: SGLDState) -> tuple[SGLDState, Info]:
        """One minibatch gradient and one Langevin step."""
        excess_loss, gradient = jax.value_and_grad(self.draw_loss(rng_key))(state.displacement)
        time = state.num_steps.astype(gradient.dtype)
        step_size = self.initial_step_size * (1 + time / self.annealing_offset) ** (-self.annealing_exponent)
        noise = jnp.sqrt(step_size) * normals(rng_key, gradient.size, gradient.dtype)
        force = self._force(state, gradient)
        virials, held = self.virials(excess_loss, state.displacement, force, state.held)
        # A branch on a value that all chains share: nobody pays for the moments, or for A, of another.
        displacement, first, second, squared_force = lax.switch(
            self.preconditioner,
            (
                lambda: self._step_plain(state, force, noise, step_size),
                lambda: self._step_rmsprop(state, gradient, noise, step_size),
                lambda: self._step_adam(state, gradient, noise, step_size),
                lambda: self._step_whitened(state, force, noise, step_size),
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
            is_undefined=jnp.zeros_like(squared_distance),
            weight=step_size,
            num_gradient_evaluations=one * self.share_of_data,
            virial=virials.plain,
            curved_virial=virials.curved,
            stationarity=virials.plain - step_size / 8 * squared_force,
        )
        return SGLDState(displacement, squared_distance, first, second, held, state.num_steps + 1), info

    def _force(self, state: SGLDState, drift: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.posterior.nbeta * drift + self.posterior.localization * state.displacement

    def _step_plain(self, state: SGLDState, force: Array, noise: Array, step_size: Array) -> _Moved:
        displacement = state.displacement - 0.5 * step_size * force + noise
        return _Moved(displacement, state.first_moment, state.second_moment, force @ force)

    def _step_whitened(self, state: SGLDState, force: Array, noise: Array, step_size: Array) -> _Moved:
        pulled = self.whitening.pullback(force)
        move = self.whitening.displacement(noise - 0.5 * step_size * pulled)
        return _Moved(state.displacement + move, state.first_moment, state.second_moment, pulled @ pulled)

    def _step_rmsprop(self, state: SGLDState, gradient: Array, noise: Array, step_size: Array) -> _Moved:
        second, scale = self._second_moment(state, gradient)
        force = self._force(state, gradient)
        displacement = state.displacement - 0.5 * step_size * scale * force + jnp.sqrt(scale) * noise
        squared_force = jnp.where(self._is_frozen(state), force @ (scale * force), jnp.nan)
        return _Moved(displacement, state.first_moment, second, squared_force)

    def _step_adam(self, state: SGLDState, gradient: Array, noise: Array, step_size: Array) -> _Moved:
        second, scale = self._second_moment(state, gradient)
        first = self.gradient_decay * state.first_moment + (1 - self.gradient_decay) * gradient
        drift = first / (1 - self.gradient_decay ** (state.num_steps + 1).astype(gradient.dtype))
        force = self._force(state, drift)
        displacement = state.displacement - 0.5 * step_size * scale * force + jnp.sqrt(scale) * noise
        return _Moved(displacement, first, second, jnp.full((), jnp.nan, displacement.dtype))

    def _is_frozen(self, state: SGLDState) -> Array:
        return state.num_steps >= self.num_adapting

    def _second_moment(self, state: SGLDState, gradient: Array) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """Second moment of the gradient after this step, and the diagonal preconditioner that it makes."""
        moved = self.square_decay * state.second_moment + (1 - self.square_decay) * gradient**2
        second = jnp.where(self._is_frozen(state), state.second_moment, moved)
        count = jnp.minimum(state.num_steps + 1, self.num_adapting).astype(gradient.dtype)
        return second, 1 / (jnp.sqrt(second / (1 - self.square_decay**count)) + self.damping)


def build(posterior: LocalPosterior, coordinates: Coordinates, settings: SGLDSettings, rng_key: Array) -> Built:
    """Chains that start at w0."""
    del rng_key
    sampler = SGLD.from_settings(posterior, coordinates.averaged, settings, at_w0=coordinates.at_w0)
    return Built(sampler, starts_at_w0(posterior, settings.num_chains), judge)


def judge(ended: Ended, rng_key: Array) -> Judgement:
    """The bias that step size and minibatches are expected to cause, where P is constant."""
    sampler: SGLD = ended.chains.sampler
    if ended.is_diverged or PRECONDITIONERS[int(sampler.preconditioner)] not in PREDICTABLE:
        return Judgement()
    displacements = jax.vmap(sampler.displacement)(ended.chains.settled_states())
    bias = predict_bias(sampler, displacements, rng_key)
    reports = {"predicted_bias": bias.at(ended.info.weight)} if bias.is_known else {}
    return Judgement(reports, num_gradient_evaluations=bias.num_gradient_evaluations)


class SGLDBias(NamedTuple):
    """The relative bias (λ̂ − λ)/λ per unit of step size, and how many gradients on the full-data scale it took."""

    discretisation: float
    minibatch: float
    num_gradient_evaluations: float

    @property
    def is_known(self) -> bool:
        """Whether the whitening was one of this posterior, as the formula supposes."""
        return math.isfinite(self.discretisation + self.minibatch)

    def at(self, step_sizes: ArrayLike) -> float:
        """Relative bias of the η-weighted mean of readings taken at `step_sizes`: that of their η-weighted mean."""
        eta = np.asarray(step_sizes, np.float64)
        return (self.discretisation + self.minibatch) * float(np.sum(eta**2) / np.sum(eta))


def predict_bias(sampler: SGLD, displacements: Float[Array, "chains d"], rng_key: Array) -> SGLDBias:
    """The relative bias of SGLD with a constant preconditioner P, per unit of η, from where its chains ended.

    Around a posterior N(w0, K⁻¹), K = H + γ_loc, H the Hessian of nβL_n, with gradient noise of covariance C, the
    stationary covariance Σ of w ← w − (η/2) P (K (w − w0) + noise) + √(ηP) ξ solves
    PKΔ + ΔKP = (η/2)(PKP + PCP) to first order in Δ = Σ − K⁻¹, so that

        λ̂ − λ = ½ tr(HΔ) = (η/8) ( tr(PH) + tr(H K⁻¹ P C) ),      λ = ½ tr(H K⁻¹),

    for P = 1 and for P = K⁻¹ = A Aᵀ (whitened), where it becomes λ̂/λ − 1 = (η/4)(1 + κ nβ/B) if the model is true.
    """
    posterior = sampler.posterior
    is_whitened = PRECONDITIONERS[int(sampler.preconditioner)] == "whitened"
    traces = measure_bias_traces(posterior, sampler.whitening, displacements, rng_key, is_whitened=is_whitened)
    return SGLDBias(
        discretisation=0.25 * traces.discretisation,
        minibatch=0.25 * traces.minibatch_noise(sampler.batch_size, posterior.num_data),
        num_gradient_evaluations=traces.num_gradient_evaluations,
    )
