"""Variational inference: a mixture of Gaussians with diagonal-plus-low-rank covariance, fitted by Adam."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from lambda_hat.config.methods.vi import VISettings
from lambda_hat.draws.importance import psis_estimate
from lambda_hat.draws.info import Info
from lambda_hat.draws.llc import pool_fits
from lambda_hat.errors import InputError
from lambda_hat.posterior import Coordinates, DiagonalWhitening, LocalPosterior, Whitening
from lambda_hat.samplers.base import MinibatchSampler
from lambda_hat.samplers.method import Built, Ended, FitDraws, Judgement, starts_at_w0
from lambda_hat.samplers.mixture import Blocks, Components, Mixture, components_of, log_density, log_density_and_score
from lambda_hat.samplers.noise import few_normals, normals

__all__ = ["MOMENT_ROWS", "VI", "VIState", "build", "draw", "elbo_trend", "evaluate_fit", "whitening_scale"]

INITIAL_SPREAD = 0.5  # whitened units: wide enough for a small learning rate, narrower than most of the posterior
MOMENT_ROWS = 1024  # rows whose gradients at w0 give the scale; each of its entries is then known to a few per cent
MOMENT_POINTS = 32  # around w0, between which gradients are compared
DRAWS_PER_PASS = 16  # draws whose full-data loss is computed at once


class VIState(NamedTuple):
    """The fit so far, Adam's moments, and the number of steps taken."""

    mixture: Mixture
    optimizer: optax.OptState
    num_steps: Array


class Readings(NamedTuple):
    """What a step tells of q: π-weighted over its components."""

    energy: Array  # −ELBO
    excess_loss: Array
    squared_distance: Array


class VI(MinibatchSampler):
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

    whitening: Whitening
    log_abs_det: Array  # of the whitening: a matrix has it only at some price
    learning_rate: Array
    num_steps: Array  # over which the rate falls to 0
    component_mask: Array  # (components,) of bool; the first M
    rank_mask: Array  # (rank,) of 0 and 1

    @classmethod
    def from_settings(
        cls, posterior: LocalPosterior, coordinates: Coordinates, settings: VISettings, rng_key: Array
    ) -> Self:
        """A fit as `settings` say; `rng_key` chooses the rows that a scale is measured on.

        The diagonal modes share one program; `hessian`, which takes A0 and measures nothing, is another.

        Raises:
            InputError: more components or columns than there are slots for.
        """
        components, rank = settings.num_component_slots, settings.num_rank_slots
        for name, value, slots in (("M", settings.num_components, components), ("r", settings.rank, rank)):
            if value > slots:
                raise InputError(
                    f"vi: {name} = {value} does not fit in {slots} slots; raise max_components or max_rank."
                )
        dtype = posterior.w0.dtype
        if settings.is_whitened:
            whitening = coordinates.at_w0
        else:
            whitening = DiagonalWhitening(whitening_scale(posterior, settings.whitening_mode, rng_key))
        return cls(
            posterior=posterior,
            batch_size=min(settings.batch_size, posterior.num_data),
            whitening=whitening,
            log_abs_det=whitening.log_abs_det,
            learning_rate=jnp.asarray(settings.learning_rate, dtype),
            num_steps=jnp.asarray(settings.num_steps, dtype),
            component_mask=jnp.arange(components) < settings.num_components,
            rank_mask=(jnp.arange(rank) < settings.rank).astype(dtype),
        )

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
        return self._log_weights(mixture.logits)

    def _log_weights(self, logits: Array) -> Float[Array, " components"]:
        masked = jnp.where(self.component_mask, logits, -jnp.inf)
        return masked - logsumexp(masked)

    def sample_component(self, rng_key: Array, mixture: Mixture, k: Array) -> Float[Array, " d"]:
        """z of one reparametrised sample of component k."""
        return self._sample(rng_key, mixture.means[k], mixture.log_scales[k], mixture.factors[k])

    def _sample(self, rng_key: Array, mean: Array, log_scale: Array, factors: Array) -> Float[Array, " d"]:
        along_factors = few_normals(rng_key, self.rank_mask.size, mean.dtype)  # the first of them whatever the slots
        noise = jnp.exp(log_scale) * normals(rng_key, mean.size, mean.dtype)
        return mean + noise + (factors * self.rank_mask) @ along_factors

    @property
    def blocks(self) -> Blocks:
        """The components that are not masked."""
        return Blocks(jnp.sum(self.component_mask), self.component_mask.size)

    def components(self, mixture: Mixture) -> Components:
        """What densities of q need, with respect to z."""
        masked = mixture._replace(factors=mixture.factors * self.rank_mask)
        return components_of(masked, self.log_mixture_weights(mixture), self.blocks)

    def log_q(self, components: Components, z: Float[Array, " d"]) -> Array:
        """Normalised log-density of q at w0 + S z, with respect to w."""
        return log_density(components, z) - self.log_abs_det

    def log_q_and_score(
        self, components: Components, z: Float[Array, "samples d"]
    ) -> tuple[Float[Array, " samples"], Float[Array, "samples d"]]:
        """`log_q` of samples and its gradient in z."""
        logs, score = log_density_and_score(components, z, self.blocks)
        return logs - self.log_abs_det, score

    def gradient(self, rng_key: Array, mixture: Mixture) -> tuple[Readings, Mixture]:
        """Unbiased estimates of −ELBO, of the excess loss and of r² under q, and of the gradient of the first."""
        batch_key, sample_key = jax.random.split(rng_key)
        excess_loss = self.draw_loss(batch_key)
        components = self.components(mixture)
        posterior, blocks = self.posterior, self.blocks

        def shares(logits: Array, block: tuple[Array, ...], i: Array) -> tuple[Array, Readings]:
            """What block i of the components adds to the readings."""
            numbers = blocks.numbers(i)
            keys = jax.vmap(partial(jax.random.fold_in, sample_key))(numbers)
            z = jax.vmap(self._sample)(keys, *block)
            fixed = jax.lax.stop_gradient(z)
            log_q, score = self.log_q_and_score(components, fixed)
            log_q += jnp.sum(score * (z - fixed), axis=1)  # which has that gradient and no other
            displacements = jax.vmap(self.whitening.displacement)(z)
            losses = jax.vmap(excess_loss)(displacements)
            squares = jnp.sum(displacements**2, axis=1)
            log_p = -posterior.nbeta * losses - 0.5 * posterior.localization * squares
            weights = jnp.where(blocks.is_new(i), jnp.exp(self._log_weights(logits))[numbers], 0)
            energy = -weights @ (log_p - log_q)
            return energy, Readings(energy, weights @ losses, weights @ squares)

        def add_block(i: Array, total: tuple[Readings, Mixture]) -> tuple[Readings, Mixture]:
            readings, gradient = total
            slopes = jax.grad(shares, (0, 1), has_aux=True)
            (of_logits, of_block), more = slopes(mixture.logits, blocks.of(i, mixture[1:]), i)
            numbers = blocks.numbers(i)
            rest = [leaf.at[numbers].add(part) for leaf, part in zip(gradient[1:], of_block, strict=True)]
            return jax.tree.map(jnp.add, readings, more), Mixture(gradient.logits + of_logits, *rest)

        zero = jnp.zeros((), mixture.means.dtype)
        none = Readings(zero, zero, zero), jax.tree.map(jnp.zeros_like, mixture)
        return jax.lax.fori_loop(0, blocks.number, add_block, none)

    def step(self, rng_key: Array, state: VIState) -> tuple[VIState, Info]:
        """One gradient of the ELBO and one step of Adam."""
        readings, gradient = self.gradient(rng_key, state.mixture)
        energy = readings.energy
        rate = self.learning_rate * jnp.maximum(1 - state.num_steps.astype(energy.dtype) / self.num_steps, 0)
        updates, optimizer = optax.adam(rate).update(gradient, state.optimizer)
        mixture: Mixture = optax.apply_updates(state.mixture, updates)  # pyright: ignore[reportAssignmentType]
        one = jnp.ones((), energy.dtype)
        info = Info.without_identities(
            excess_loss=readings.excess_loss,
            squared_distance=readings.squared_distance,
            acceptance_rate=one,
            energy=energy,
            is_divergent=(~jnp.isfinite(energy + optax.tree.sum(mixture))).astype(energy.dtype),
            is_undefined=0 * one,
            weight=one,
            num_gradient_evaluations=jnp.sum(self.component_mask) * (one * self.share_of_data),
        )
        return VIState(mixture, optimizer, state.num_steps + 1), info


@eqx.filter_jit
def draw(
    vi: VI, rng_key: Array, state: VIState, num_draws: int
) -> tuple[Float[Array, "draws d"], Float[Array, " draws"]]:
    """Independent draws of the fitted q: w − w0, and log q(w)."""
    mixture, components = state.mixture, vi.components(state.mixture)

    def one(key: Array) -> tuple[Array, Array]:
        component_key, sample_key = jax.random.split(key)
        k = jax.random.categorical(component_key, vi.log_mixture_weights(mixture))
        z = vi.sample_component(sample_key, mixture, k)
        return vi.whitening.displacement(z), vi.log_q(components, z)

    return jax.lax.map(one, jax.random.split(rng_key, num_draws), batch_size=DRAWS_PER_PASS)


@eqx.filter_jit
def evaluate_fit(vi: VI, rng_key: Array, state: VIState, num_draws: int) -> FitDraws:
    """Full-data losses and importance weights log π(w) − log q(w) of independent draws of the fitted q.

    λ̂ = nβ · mean(excess_loss) under q itself; `draws.importance.psis_estimate` corrects towards π.
    """
    displacements, log_q = draw(vi, rng_key, state, num_draws)
    posterior = vi.posterior
    excess_loss = jax.lax.map(posterior.excess_loss, posterior.w0 + displacements, batch_size=DRAWS_PER_PASS)
    squared_distance = jnp.sum(displacements**2, axis=1)
    log_p = -posterior.nbeta * excess_loss - 0.5 * posterior.localization * squared_distance
    return FitDraws(excess_loss, squared_distance, log_p - log_q)


@eqx.filter_jit
def _gradient_squares(posterior: LocalPosterior, indices: Array) -> Float[Array, " d"]:
    return jnp.mean(posterior.row_gradients(posterior.w0, indices) ** 2, axis=0)


@eqx.filter_jit
def _curvature_around(
    posterior: LocalPosterior, scale: Float[Array, " d"], indices: Array, rng_key: Array
) -> Float[Array, " d"]:
    """rms(Δ∂U) / rms(Δw) per coordinate over points w0 + scale · z, U the negative log-density by the rows `indices`.

    Where the Hessian is diagonal that is its diagonal, whatever the scale.
    """
    batch, losses = posterior.take(indices)
    gradient_fn = jax.grad(lambda w: posterior.paired_excess_loss(w, batch, losses))
    at_w0 = gradient_fn(posterior.w0)

    def squares(key: Array) -> tuple[Array, Array]:
        step = scale * normals(key, scale.size, scale.dtype)
        change = posterior.nbeta * (gradient_fn(posterior.w0 + step) - at_w0) + posterior.localization * step
        return step**2, change**2

    steps, changes = jax.lax.map(squares, jax.random.split(rng_key, MOMENT_POINTS))
    return jnp.sqrt(jnp.mean(changes, axis=0) / jnp.mean(steps, axis=0))


def _num_moment_rows(posterior: LocalPosterior) -> int:
    return min(MOMENT_ROWS, posterior.num_data)


def whitening_scale(posterior: LocalPosterior, mode: str, rng_key: Array) -> Float[Array, " d"]:
    """Scale of each coordinate, 1/√(nβ v + γ_loc), from the moments of per-example loss gradients ĝ at w0.

    For a log-likelihood E[ĝ²] is the diagonal of the Fisher information, that is of the Hessian where the model is
    true. `rmsprop`: v = E[ĝ²]. `none`: its mean over coordinates, the same for all: the learning rate keeps its unit,
    nothing is reshaped. `adam` corrects the scale of `rmsprop` by gradients around w0 (`_curvature_around`), which are
    what Adam would average along a chain: it sees curvature that E[ĝ²] at w0 misses, as where a model is not true.
    """
    return _whitening_scale(posterior, jnp.asarray(mode == "none"), jnp.asarray(mode == "adam"), rng_key)


@eqx.filter_jit
def _whitening_scale(posterior: LocalPosterior, is_none: Array, is_adam: Array, rng_key: Array) -> Float[Array, " d"]:
    rows = jax.random.permutation(rng_key, posterior.num_data)[: _num_moment_rows(posterior)]
    square = _gradient_squares(posterior, rows)
    square = jnp.where(is_none, jnp.mean(square), square)
    scale = 1 / jnp.sqrt(posterior.nbeta * square + posterior.localization)

    def corrected() -> Array:
        around = _curvature_around(posterior, scale, rows, jax.random.fold_in(rng_key, 1))
        return (1 / jnp.sqrt(jnp.maximum(around, posterior.localization))).astype(scale.dtype)

    return jax.lax.cond(is_adam, corrected, lambda: scale)


def build(posterior: LocalPosterior, coordinates: Coordinates, settings: VISettings, rng_key: Array) -> Built:
    """Independent fits that start around w0."""
    num_points = {"hessian": 0, "adam": 2 + MOMENT_POINTS}.get(settings.whitening_mode, 1)
    return Built(
        sampler=VI.from_settings(posterior, coordinates, settings, rng_key),
        starts=starts_at_w0(posterior, settings.num_chains),
        judge=partial(judge, num_draws=settings.num_draws),
        num_gradient_evaluations=num_points * _num_moment_rows(posterior) / posterior.num_data,
    )


def judge(ended: Ended, rng_key: Array, *, num_draws: int) -> Judgement:
    """λ̂ under the fitted densities by full-data losses of fresh draws, and what importance sampling makes of it."""
    if ended.is_stopped or ended.is_diverged:
        return Judgement()
    states, vi = ended.chains.settled_states(), ended.chains.sampler.on_full_data
    nbeta, num_fits = float(vi.posterior.nbeta), ended.info.energy.shape[0]
    fits, readings, corrected, k_hats = [], [], [], []
    for fit in range(num_fits):
        state = jax.tree.map(lambda leaf, fit=fit: leaf[fit], states)
        draws = evaluate_fit(vi, jax.random.fold_in(rng_key, fit), state, num_draws)
        fits.append(draws)
        readings.append(nbeta * np.asarray(draws.excess_loss, np.float64))
        if np.isfinite(readings[-1]).all() and np.isfinite(draws.log_weights).all():
            mean, _, k_hat = psis_estimate(readings[-1], np.asarray(draws.log_weights))
            corrected.append(mean)
            k_hats.append(k_hat)
    all_draws = FitDraws(*(np.stack(traces) for traces in zip(*fits, strict=True)))
    reports = {"num_loss_evaluations": float(num_fits * num_draws)}
    if corrected:
        reports |= {"llc_psis": float(np.mean(corrected)), "k_hat": float(np.max(k_hats))}
    return Judgement(
        reports=reports | elbo_trend(-np.asarray(ended.info.energy)),
        estimate=pool_fits(np.stack(readings), np.asarray(all_draws.squared_distance, np.float64)),
        fit_draws=all_draws,
    )


def elbo_trend(elbo: ArrayLike) -> dict[str, float]:
    """Mean and slope of the ELBO's trace `(num_fits, num_steps)` over its last quarter, in nats per 1000 steps.

    The slope is that of least squares through the mean over fits, with the standard error that noise independent from
    step to step gives it. A slope of several errors: the fit was not finished.
    """
    trace = np.asarray(elbo, np.float64)
    trace = trace[:, -max(trace.shape[1] // 4, 3) :].mean(axis=0)
    time = np.arange(trace.size) - 0.5 * (trace.size - 1)
    spread = float(np.sum(time**2))
    if trace.size < 3:
        return {"elbo": float(trace.mean())}
    slope = float(time @ trace) / spread
    residual = trace - trace.mean() - slope * time
    error = float(np.sqrt(np.sum(residual**2) / (trace.size - 2) / spread))
    return {"elbo": float(trace.mean()), "elbo_slope": 1000 * slope, "elbo_slope_se": 1000 * error}
