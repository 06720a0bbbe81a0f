"""Variational inference: a mixture of Gaussians with diagonal-plus-low-rank covariance, fitted by Adam."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.linalg import cho_solve
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from lambda_hat.config.methods import VISettings
from lambda_hat.errors import InputError
from lambda_hat.posterior import Coordinates, DiagonalWhitening, LocalPosterior, Whitening
from lambda_hat.samplers.base import Info
from lambda_hat.samplers.gradients import row_gradients
from lambda_hat.samplers.noise import indices, normals

__all__ = [
    "MOMENT_ROWS",
    "VI",
    "FitDraws",
    "Mixture",
    "VIState",
    "build_vi",
    "draw",
    "evaluate_fit",
    "whitening_scale",
]

INITIAL_SPREAD = 0.5  # whitened units: wide enough for a small learning rate, narrower than most of the posterior
MOMENT_ROWS = 1024  # rows whose gradients at w0 give the scale; each of its entries is then known to a few per cent
DRAWS_PER_PASS = 16  # draws whose full-data loss is computed at once


class Mixture(NamedTuple):
    """Unconstrained parameters, whitened: component k is N(mean, diag(e^(2 log_scale)) + F Fᵀ), F its `factors`."""

    logits: Float[Array, " components"]
    means: Float[Array, "components d"]
    log_scales: Float[Array, "components d"]
    factors: Float[Array, "components d rank"]


class VIState(NamedTuple):
    """The fit so far, Adam's moments, and the number of steps taken."""

    mixture: Mixture
    optimizer: optax.OptState
    num_steps: Array


class FitDraws(NamedTuple):
    """Draws of a fitted q judged on the full data, each `(num_draws,)`; weights lead to π, up to a constant."""

    excess_loss: Array | np.ndarray
    squared_distance: Array | np.ndarray
    log_weights: Array | np.ndarray


class VI(eqx.Module):
    """Maximises E_q[−nβ (L_B(w) − L_B(w0)) − (γ_loc/2) |w − w0|²] + H[q] by Adam.

    The learning rate falls linearly to 0 over `num_steps`. At a constant rate the iterates hover, with E[σ²] right but
    E[log σ] low: λ̂ of a Gaussian posterior came out 20 % low at a rate of 0.1, even from averaged iterates.

    q = Σ_k π_k N(μ_k, diag(σ_k²) + F_k F_kᵀ) in z, where w = w0 + S z by `whitening`. Every step takes one minibatch
    and one reparametrised sample per component, f_k = log p(w_k) − log q(w_k), and follows Σ_k π_k f_k. The
    parameters inside log q are held fixed ("sticking the landing", Roeder et al. 1703.09194): the term dropped has
    expectation E_q[∂ log q] = 0, for the mixture as a whole and so for its weights too, whose gradient is the
    stratified Σ_k ∂π_k f_k (no score-function noise).

    Masked components have logit −∞ and no gradient is computed of them; masked factor columns are zero and stay so: M
    and r are values, not shapes. Random numbers depend on a component's index alone, so that unused slots change
    nothing.

    Info's `excess_loss` and `squared_distance` are π-weighted readings before the step; `energy` is −ELBO as estimated
    by the step, with normalised q and the log-density that is zero at w0, so that −`energy` is a noisy lower bound of
    log ∫ π.
    """

    posterior: LocalPosterior
    batch_size: int = eqx.field(static=True)
    whitening: Whitening
    log_abs_det: Array  # of the whitening: a matrix has it only at some price
    learning_rate: Array
    num_steps: Array  # over which the rate falls to 0
    component_mask: Array  # (components,) of bool; the first M
    rank_mask: Array  # (rank,) of 0 and 1

    @property
    def is_minibatch(self) -> bool:
        """Whether a step looks at fewer rows than there are."""
        return self.batch_size < self.posterior.num_data

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> VIState:
        """State of a fit whose components start close to w0 + displacement."""
        num_components, rank, dim = self.component_mask.size, self.rank_mask.size, displacement.size
        dtype, start = displacement.dtype, self.whitening.coordinates(displacement)

        def component(k: Array) -> tuple[Array, Array]:
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(rng_key, k)))(jnp.arange(1 + rank))
            noise = jax.vmap(lambda key: normals(key, dim, dtype))(keys)
            return start + INITIAL_SPREAD * noise[0], INITIAL_SPREAD**2 * noise[1:].T * self.rank_mask

        means, factors = jax.vmap(component)(jnp.arange(num_components))
        mixture = Mixture(
            logits=jnp.zeros(num_components, dtype),
            means=means,
            log_scales=jnp.full((num_components, dim), math.log(INITIAL_SPREAD), dtype),
            factors=factors,
        )
        return VIState(mixture, optax.adam(self.learning_rate).init(mixture), jnp.zeros((), jnp.int32))

    def displacement(self, state: VIState) -> Float[Array, " d"]:
        """Mean of the fitted q, minus w0."""
        return self.whitening.displacement(jnp.exp(self.log_mixture_weights(state.mixture)) @ state.mixture.means)

    def log_mixture_weights(self, mixture: Mixture) -> Float[Array, " components"]:
        """log π_k; −∞ where masked."""
        logits = jnp.where(self.component_mask, mixture.logits, -jnp.inf)
        return logits - logsumexp(logits)

    def sample_component(self, rng_key: Array, mixture: Mixture, k: Array) -> Float[Array, " d"]:
        """z of one reparametrised sample of component k."""
        mean, log_scale, factors = mixture.means[k], mixture.log_scales[k], mixture.factors[k] * self.rank_mask
        # JAX's own where the number of columns must not change the first of them.
        along_factors = jax.random.normal(jax.random.fold_in(rng_key, 1), (self.rank_mask.size,), mean.dtype)
        return mean + jnp.exp(log_scale) * normals(rng_key, mean.size, mean.dtype) + factors @ along_factors

    def log_q(self, mixture: Mixture, z: Float[Array, " d"]) -> Array:
        """Normalised log-density of q at w0 + S z, with respect to w."""

        def component(mean: Array, log_scale: Array, factors: Array) -> Array:
            y = (z - mean) * jnp.exp(-log_scale)
            g = factors * self.rank_mask * jnp.exp(-log_scale)[:, None]
            root = jnp.linalg.cholesky(jnp.eye(g.shape[1], dtype=g.dtype) + g.T @ g)
            b = cho_solve((root, True), g.T @ y)
            # yᵀ(I + ggᵀ)⁻¹y as a sum of squares: Woodbury's |y|² − |root⁻¹gᵀy|² cancels in float32.
            square = jnp.sum((y - g @ b) ** 2) + jnp.sum(b**2)
            return -0.5 * square - jnp.sum(log_scale) - jnp.sum(jnp.log(jnp.diagonal(root)))

        logs = jax.vmap(component)(mixture.means, mixture.log_scales, mixture.factors)
        normalizer = 0.5 * z.size * math.log(2 * math.pi) + self.log_abs_det
        return logsumexp(self.log_mixture_weights(mixture) + logs) - normalizer

    def objective(self, mixture: Mixture, rng_key: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
        """Component k's share −π_k f_k of an estimate of −ELBO, of its excess loss and of its r².

        The gradient of the sum over k is unbiased.
        """
        posterior, fixed = self.posterior, jax.lax.stop_gradient(mixture)
        batch_key, sample_key = jax.random.split(rng_key)
        z = self.sample_component(jax.random.fold_in(sample_key, k), mixture, k)
        displacement = self.whitening.displacement(z)
        if not self.is_minibatch:
            excess_loss = posterior.excess_loss(posterior.w0 + displacement)
        else:
            batch, at_w0 = posterior.take(indices(batch_key, self.batch_size, posterior.num_data))
            excess_loss = posterior.paired_excess_loss(posterior.w0 + displacement, batch, at_w0)
        squared_distance = jnp.sum(displacement**2)
        log_p = -posterior.nbeta * excess_loss - 0.5 * posterior.localization * squared_distance
        weight = jnp.exp(self.log_mixture_weights(mixture)[k])
        return -weight * (log_p - self.log_q(fixed, z)), (weight * excess_loss, weight * squared_distance)

    def step(self, rng_key: Array, state: VIState) -> tuple[VIState, Info]:
        """One gradient of the ELBO and one step of Adam."""
        share = jax.value_and_grad(self.objective, has_aux=True)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(share, state.mixture, rng_key, 0))
        num_components = jnp.sum(self.component_mask)
        # A traced bound: unused slots cost no gradients.
        (energy, (excess_loss, squared_distance)), gradient = jax.lax.fori_loop(
            0, num_components, lambda k, total: jax.tree.map(jnp.add, total, share(state.mixture, rng_key, k)), zero
        )
        rate = self.learning_rate * jnp.maximum(1 - state.num_steps.astype(energy.dtype) / self.num_steps, 0)
        updates, optimizer = optax.adam(rate).update(gradient, state.optimizer)
        mixture: Mixture = optax.apply_updates(state.mixture, updates)  # pyright: ignore[reportAssignmentType]
        one = jnp.ones((), energy.dtype)
        info = Info(
            excess_loss=excess_loss,
            squared_distance=squared_distance,
            acceptance_rate=one,
            energy=energy,
            is_divergent=(~jnp.isfinite(energy + optax.tree.sum(mixture))).astype(energy.dtype),
            weight=one,
            num_gradient_evaluations=num_components * (one * self.batch_size / self.posterior.num_data),
        )
        return VIState(mixture, optimizer, state.num_steps + 1), info


@eqx.filter_jit
def draw(
    vi: VI, rng_key: Array, state: VIState, num_draws: int
) -> tuple[Float[Array, "draws d"], Float[Array, " draws"]]:
    """Independent draws of the fitted q: w − w0, and log q(w)."""
    mixture = state.mixture

    def one(key: Array) -> tuple[Array, Array]:
        component_key, sample_key = jax.random.split(key)
        k = jax.random.categorical(component_key, vi.log_mixture_weights(mixture))
        z = vi.sample_component(sample_key, mixture, k)
        return vi.whitening.displacement(z), vi.log_q(mixture, z)

    return jax.lax.map(one, jax.random.split(rng_key, num_draws), batch_size=DRAWS_PER_PASS)


@eqx.filter_jit
def evaluate_fit(vi: VI, rng_key: Array, state: VIState, num_draws: int) -> FitDraws:
    """Full-data losses and importance weights log π(w) − log q(w) of independent draws of the fitted q.

    λ̂ = nβ · mean(excess_loss) under q itself; `estimate.importance.psis_estimate` corrects towards π.
    """
    displacements, log_q = draw(vi, rng_key, state, num_draws)
    posterior = vi.posterior
    excess_loss = jax.lax.map(posterior.excess_loss, posterior.w0 + displacements, batch_size=DRAWS_PER_PASS)
    squared_distance = jnp.sum(displacements**2, axis=1)
    log_p = -posterior.nbeta * excess_loss - 0.5 * posterior.localization * squared_distance
    return FitDraws(excess_loss, squared_distance, log_p - log_q)


@eqx.filter_jit
def _gradient_moments(posterior: LocalPosterior, indices: Array) -> tuple[Array, Array]:
    gradients = row_gradients(posterior, posterior.w0, indices)
    return jnp.mean(gradients, axis=0), jnp.mean(gradients**2, axis=0)


def whitening_scale(posterior: LocalPosterior, mode: str, rng_key: Array) -> Float[Array, " d"]:
    """Scale of each coordinate, 1/√(nβ v + γ_loc), from the moments of per-example loss gradients ĝ at w0.

    For a log-likelihood E[ĝ²] is the diagonal of the Fisher information, that is of the Hessian where the model is
    true. `rmsprop`: v = E[ĝ²]. `adam`: v = E[ĝ²] − E[ĝ]², which leaves out the slope that remains where w0 is not
    quite a minimum. `none`: the mean of E[ĝ²] over coordinates, the same for all: the learning rate keeps its unit,
    nothing is reshaped.
    """
    rows = jax.random.permutation(rng_key, posterior.num_data)[:MOMENT_ROWS]
    mean, square = _gradient_moments(posterior, rows)
    curvature = {"none": jnp.full_like(square, jnp.mean(square)), "rmsprop": square, "adam": square - mean**2}[mode]
    return 1 / jnp.sqrt(posterior.nbeta * jnp.maximum(curvature, 0) + posterior.localization)


def build_vi(posterior: LocalPosterior, coordinates: Coordinates, settings: VISettings, rng_key: Array) -> VI:
    """A fit as `settings` say; `rng_key` chooses the rows that a scale is measured on.

    The diagonal modes share one program; `hessian`, which takes A0 and measures nothing, is another.

    Raises:
        InputError: more components or columns than there are slots for.
    """
    components = settings.max_components or settings.num_components
    rank = settings.rank if settings.max_rank is None else settings.max_rank
    for name, value, slots in (("M", settings.num_components, components), ("r", settings.rank, rank)):
        if value > slots:
            raise InputError(f"vi: {name} = {value} does not fit in {slots} slots; raise max_components or max_rank.")
    dtype = posterior.w0.dtype
    if settings.whitening_mode == "hessian":
        whitening = coordinates.at_w0
    else:
        whitening = DiagonalWhitening(whitening_scale(posterior, settings.whitening_mode, rng_key))
    return VI(
        posterior=posterior,
        batch_size=min(settings.batch_size, posterior.num_data),
        whitening=whitening,
        log_abs_det=whitening.log_abs_det,
        learning_rate=jnp.asarray(settings.learning_rate, dtype),
        num_steps=jnp.asarray(settings.num_steps, dtype),
        component_mask=jnp.arange(components) < settings.num_components,
        rank_mask=(jnp.arange(rank) < settings.rank).astype(dtype),
    )
