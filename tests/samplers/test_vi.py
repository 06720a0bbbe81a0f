"""Variational inference against closed forms: Gaussian posteriors that the family contains."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jaxtyping import Array

from lambda_hat.config.methods.vi import VISettings
from lambda_hat.draws.importance import psis_estimate
from lambda_hat.errors import InputError
from lambda_hat.posterior import Coordinates, LocalPosterior, build_posterior, hessian_whitening, identity_whitening
from lambda_hat.samplers.method import FitDraws
from lambda_hat.samplers.mixture import Components, Mixture
from lambda_hat.samplers.runner import Chains, init_chains, run_chains
from lambda_hat.samplers.vi import VI, Readings, draw, evaluate_fit, whitening_scale

NBETA, LOCALIZATION, NUM_DATA = 50.0, 5.0, 400
CURVATURE = np.array([0.02, 0.3, 1.0, 4.0, 20.0])  # of L_n along the axes
SLOTS = {
    "max_components": 2,
    "max_rank": CURVATURE.size - 1,
}  # the same for most tests, which then share their programs
SETTINGS = VISettings(lr=2e-2, M=2, r=1, steps=2500, batch_size=64, whitening_mode="rmsprop", **SLOTS)


@pytest.fixture(autouse=True)
def _enable_x64() -> Iterator[None]:
    # As in a worker: float32 fits run in processes where float64 exists, and must stay float32.
    with jax.enable_x64(True):
        yield


def regression_loss(position: Array, batch: tuple[Array, ...]) -> Array:
    """½ (x·w − y)², whose Hessian is E[x xᵀ] and whose per-example gradients at the minimum are noise · x."""
    inputs, outputs = batch
    return 0.5 * (inputs @ position - outputs) ** 2


def regression_posterior(
    rotation: np.ndarray | None = None, dtype: str = "float32"
) -> tuple[LocalPosterior, float, float]:
    """A Gaussian posterior whose minimum w0 is exact, with its λ̂ and log Z; axis-aligned without a rotation."""
    rng = np.random.default_rng(0)
    dim = CURVATURE.size
    basis, _ = np.linalg.qr(rng.normal(size=(NUM_DATA, dim + 1)))
    inputs = basis[:, :dim] * np.sqrt(NUM_DATA * CURVATURE)  # E[x xᵀ] = diag(CURVATURE) exactly
    if rotation is not None:
        inputs = inputs @ rotation.T
    noise = rng.normal(size=NUM_DATA)
    noise -= basis[:, :dim] @ (basis[:, :dim].T @ noise)
    w0 = rng.normal(size=dim)
    posterior = build_posterior(
        regression_loss, w0, (inputs, inputs @ w0 + noise), nbeta=NBETA, localization=LOCALIZATION, dtype=dtype
    )
    precision = NBETA * CURVATURE + LOCALIZATION
    llc = 0.5 * float(np.sum(NBETA * CURVATURE / precision))
    return posterior, llc, 0.5 * float(np.sum(np.log(2 * math.pi / precision)))


def at_w0(posterior: LocalPosterior) -> Coordinates:
    """A0, and an average that no fit may use."""
    return Coordinates(hessian_whitening(posterior, posterior.w0[None])[0], identity_whitening(posterior))


def fit(posterior: LocalPosterior, settings: VISettings, vi: VI | None = None, num_chains: int = 2) -> Chains:
    vi = VI.from_settings(posterior, at_w0(posterior), settings, jax.random.key(0)) if vi is None else vi
    states = init_chains(vi, jax.random.key(1), jnp.zeros((num_chains, posterior.dim), posterior.w0.dtype))
    return run_chains(vi, jax.random.key(2), states, settings.num_steps, chunk_size=500)


def judge(posterior: LocalPosterior, chains: Chains, num_draws: int = 4000) -> list[FitDraws]:
    keys = jax.random.split(jax.random.key(3), chains.info.energy.shape[0])
    return [
        evaluate_fit(chains.sampler, key, jax.tree.map(lambda leaf, i=i: leaf[i], chains.states), num_draws)
        for i, key in enumerate(keys)
    ]


def relative_excess(posterior: LocalPosterior, draws: FitDraws, llc: float) -> float:
    """(λ̂ − λ)/λ beyond 4 Monte Carlo errors, 0 within them."""
    values = float(posterior.nbeta) * np.asarray(draws.excess_loss, np.float64)
    error, margin = values.mean() - llc, 4 * values.std() / math.sqrt(values.size)
    return math.copysign(max(abs(error) - margin, 0.0), error) / llc


def random_rotation(dim: int) -> np.ndarray:
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(dim, dim)))
    return rotation


OPTIMISATION_TOLERANCE = 0.01  # of λ, on top of 4 Monte Carlo errors


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", [*(pytest.param(mode, marks=pytest.mark.nightly) for mode in ("none", "rmsprop")), "adam"]
)
def test_axis_aligned_gaussian(mode: str) -> None:
    posterior, llc, log_z = regression_posterior()
    chains = fit(posterior, SETTINGS.model_copy(update={"whitening_mode": mode}))
    for draws in judge(posterior, chains):
        assert abs(relative_excess(posterior, draws, llc)) <= OPTIMISATION_TOLERANCE
        log_weights = np.asarray(draws.log_weights, np.float64)
        assert log_weights.mean() <= log_z + 1e-3  # a lower bound
        assert log_weights.mean() == pytest.approx(log_z, abs=0.02)
        corrected, se, k_hat = psis_estimate(float(posterior.nbeta) * np.asarray(draws.excess_loss), log_weights)
        assert k_hat < 0.5
        assert corrected == pytest.approx(llc, abs=4 * se)
    trace = -chains.info.energy[:, -500:].mean()
    assert trace == pytest.approx(log_z, abs=0.3)  # the iterate hovers, with minibatch noise


@pytest.mark.nightly
def test_rotated_gaussian_needs_its_rank_or_the_hessian() -> None:
    posterior, llc, log_z = regression_posterior(random_rotation(CURVATURE.size))
    full = SETTINGS.model_copy(update={"num_components": 1, "rank": CURVATURE.size - 1, "num_steps": 4000})
    for draws in judge(posterior, fit(posterior, full)):
        assert abs(relative_excess(posterior, draws, llc)) <= 0.03
        assert float(draws.log_weights.mean()) == pytest.approx(log_z, abs=0.1)
    diagonal = SETTINGS.model_copy(update={"num_components": 1, "rank": 0})
    for draws in judge(posterior, fit(posterior, diagonal)):
        # A diagonal q has precision diag(H): λ̂ = ½ Σ nβ H_ii / (nβ H_ii + γ_loc), and it is the bias of the family.
        hessian = np.diagonal(np.asarray(posterior.hessian(posterior.w0)))
        biased = 0.5 * float(np.sum(hessian / (hessian + LOCALIZATION)))
        assert biased > 1.03 * llc
        assert abs(relative_excess(posterior, draws, biased)) <= OPTIMISATION_TOLERANCE
    # The same family in coordinates where the posterior is round, density and all.
    whitened = diagonal.model_copy(update={"whitening_mode": "hessian"})
    for draws in judge(posterior, fit(posterior, whitened)):
        assert abs(relative_excess(posterior, draws, llc)) <= OPTIMISATION_TOLERANCE
        assert float(draws.log_weights.mean()) == pytest.approx(log_z, abs=0.02)
        assert psis_estimate(np.asarray(draws.excess_loss), np.asarray(draws.log_weights))[2] < 0.5


class WithoutEntropy(VI):
    """A broken fit: nothing keeps q from collapsing."""

    def log_q_and_score(self, components: Components, z: Array) -> tuple[Array, Array]:
        return jnp.zeros(len(z), z.dtype), jnp.zeros_like(z)


class WrongSign(VI):
    """A broken fit: it minimises the ELBO."""

    def gradient(self, rng_key: Array, mixture: Mixture) -> tuple[Readings, Mixture]:
        readings, gradient = super().gradient(rng_key, mixture)
        return readings, jax.tree.map(jnp.negative, gradient)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [WithoutEntropy, pytest.param(WrongSign, marks=pytest.mark.nightly)])
def test_the_criterion_sees_a_broken_fit(broken: type[VI]) -> None:
    posterior, llc, _ = regression_posterior()
    sound = VI.from_settings(posterior, at_w0(posterior), SETTINGS, jax.random.key(0))
    chains = fit(posterior, SETTINGS, vi=broken(**vars(sound)))
    draws = judge(posterior, dataclasses.replace(chains, sampler=sound))[0]
    assert not abs(relative_excess(posterior, draws, llc)) <= OPTIMISATION_TOLERANCE


@pytest.mark.nightly
def test_the_gradient_is_that_of_the_exact_elbo() -> None:
    # One dimension, two overlapping components, far from the optimum: the exact ELBO by quadrature.
    inputs = np.random.default_rng(2).normal(size=(64, 1))
    posterior = build_posterior(
        regression_loss, np.zeros(1), (inputs, 0.1 * inputs[:, 0] ** 2), nbeta=3.0, localization=0.5, dtype="float64"
    )
    settings = VISettings(M=2, r=1, batch_size=8, whitening_mode="rmsprop", dtype="float64")
    vi = VI.from_settings(posterior, at_w0(posterior), settings, jax.random.key(0))
    mixture = Mixture(
        logits=jnp.array([0.4, -0.3]),
        means=jnp.array([[-0.8], [0.9]]),
        log_scales=jnp.array([[-0.2], [0.1]]),
        factors=jnp.array([[[0.5]], [[-0.7]]]),
    )
    z = np.linspace(-10, 10, 4001)[:, None]
    grid = np.asarray(jax.jit(jax.vmap(vi.whitening.displacement))(z))

    def exact_negative_elbo(mixture: Mixture) -> Array:
        components = vi.components(mixture)
        log_q = jax.vmap(lambda z: vi.log_q(components, z))(z)
        log_p = jax.vmap(posterior.logdensity)(posterior.w0 + grid)
        return -jnp.sum(jnp.exp(log_q) * (log_p - log_q)) * (grid[1, 0] - grid[0, 0])

    @jax.jit
    def estimates(keys: Array) -> Mixture:
        return jax.lax.map(lambda key: vi.gradient(key, mixture)[1], keys, batch_size=1000)

    exact = jax.grad(exact_negative_elbo)(mixture)
    samples = estimates(jax.random.split(jax.random.key(5), 200_000))
    for name, *leaves in zip(Mixture._fields, exact, samples, strict=True):
        truth, sample = map(np.asarray, leaves)
        error = sample.std(axis=0) / math.sqrt(sample.shape[0])
        np.testing.assert_array_less(np.abs(sample.mean(axis=0) - truth), 4.5 * error, err_msg=name)
        assert np.max(np.abs(truth) / error) > 20, name  # the comparison is not vacuous


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["rmsprop", "hessian"])
def test_log_q_is_the_mixture_density(mode: str) -> None:
    posterior, _, _ = regression_posterior(random_rotation(CURVATURE.size), dtype="float64")
    settings = SETTINGS.model_copy(update={"rank": 2, "max_rank": 2, "whitening_mode": mode})
    vi = VI.from_settings(posterior, at_w0(posterior), settings, jax.random.key(0))
    rng = np.random.default_rng(1)
    dim = posterior.dim
    mixture = Mixture(
        logits=rng.normal(size=2),
        means=rng.normal(size=(2, dim)),
        log_scales=0.5 * rng.normal(size=(2, dim)),
        factors=rng.normal(size=(2, dim, 2)),
    )
    z = rng.normal(size=dim)
    a = np.asarray(jax.jit(jax.vmap(vi.whitening.displacement))(np.eye(dim))).T
    density = 0.0
    for k, weight in enumerate(scipy.special.softmax(mixture.logits)):
        covariance = np.diag(np.exp(2 * mixture.log_scales[k])) + mixture.factors[k] @ mixture.factors[k].T
        normal = scipy.stats.multivariate_normal(a @ mixture.means[k], a @ covariance @ a.T)
        density += weight * normal.pdf(a @ z)
    log_q = jax.jit(lambda mixture, z: vi.log_q(vi.components(mixture), z))(mixture, z)
    assert float(log_q) == pytest.approx(math.log(density), abs=1e-9)


@pytest.mark.slow
def test_draws_follow_q() -> None:
    posterior, _, _ = regression_posterior(dtype="float64")
    vi = VI.from_settings(posterior, at_w0(posterior), SETTINGS, jax.random.key(0))

    @jax.jit
    def sample() -> tuple[Array, ...]:
        """Draws, log q, their coordinates and the mean of q."""
        state = vi.init(jax.random.key(1), jnp.zeros(posterior.dim))
        spread = state.mixture._replace(
            logits=jnp.array([0.5, -0.5]),
            log_scales=state.mixture.log_scales + 0.5,
            factors=state.mixture.factors + 0.2,
        )
        state = state._replace(mixture=spread)
        draws, log_q = draw(vi, jax.random.key(2), state, 20_000)
        return draws, log_q, jax.vmap(vi.whitening.coordinates)(draws), vi.displacement(state)

    displacements, log_q, z, mean = map(np.asarray, sample())
    error = displacements.std(axis=0) / math.sqrt(displacements.shape[0])
    np.testing.assert_array_less(np.abs(displacements.mean(axis=0) - mean), 4.5 * error)
    # E_q[r(w)/q(w)] = 1 for any density r that q dominates.
    narrow = -0.5 * np.sum((z / 0.5) ** 2 + math.log(2 * math.pi * 0.25), axis=1)
    ratios = np.exp(narrow - np.asarray(vi.whitening.log_abs_det) - log_q)
    assert ratios.mean() == pytest.approx(1.0, abs=4 * ratios.std() / math.sqrt(ratios.size))


@pytest.mark.nightly
def test_masked_slots_change_nothing() -> None:
    posterior, _, _ = regression_posterior()
    settings = SETTINGS.model_copy(update={"num_steps": 300, "num_components": 1})
    masked = fit(posterior, settings)
    exact = fit(posterior, settings.model_copy(update={"max_components": 1, "max_rank": 1}))
    np.testing.assert_allclose(masked.info.energy, exact.info.energy, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(masked.info.num_gradient_evaluations, exact.info.num_gradient_evaluations)
    for wide, narrow in zip(masked.states.mixture, exact.states.mixture, strict=True):
        np.testing.assert_allclose(wide[tuple(slice(size) for size in narrow.shape)], narrow, rtol=1e-3, atol=1e-3)
    assert not np.any(masked.states.mixture.factors[..., 1:])
    for wide, narrow in zip(judge(posterior, masked), judge(posterior, exact), strict=True):
        np.testing.assert_allclose(wide.excess_loss, narrow.excess_loss, rtol=1e-2, atol=1e-4)
        np.testing.assert_allclose(wide.log_weights, narrow.log_weights, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_numbers_compile_nothing() -> None:
    posterior, _, _ = regression_posterior()
    slots = SETTINGS.model_copy(update={"num_steps": 2})
    traces = 0

    class Counting(VI):
        def gradient(self, rng_key: Array, mixture: Mixture) -> tuple[Readings, Mixture]:
            nonlocal traces
            traces += 1
            return super().gradient(rng_key, mixture)

    for change in ({}, {"learning_rate": 0.1}, {"num_components": 1}, {"rank": 2}, {"whitening_mode": "none"}):
        settings = slots.model_copy(update=change)
        fit(
            posterior,
            settings,
            vi=Counting(**vars(VI.from_settings(posterior, at_w0(posterior), settings, jax.random.key(0)))),
        )
        if not change:
            first = traces
    assert traces == first


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [16, NUM_DATA])
def test_state_keeps_its_shapes_and_dtypes(dtype: str, batch_size: int) -> None:
    posterior, _, _ = regression_posterior(dtype=dtype)
    vi = VI.from_settings(
        posterior, at_w0(posterior), SETTINGS.model_copy(update={"batch_size": batch_size}), jax.random.key(0)
    )
    key, origin = jax.random.key(1), jnp.zeros_like(posterior.w0)
    state = jax.eval_shape(lambda: vi.init(key, origin))
    new, info = jax.eval_shape(lambda: vi.step(key, vi.init(key, origin)))
    assert new == state  # shapes and dtypes
    assert {x.dtype.name for x in jax.tree.leaves((state, info)) if x.dtype.name != "int32"} == {dtype}
    assert all(reading.shape == () for reading in info)
    draws = jax.eval_shape(lambda: evaluate_fit(vi, key, vi.init(key, origin), 40))
    assert all(x.shape == (40,) and x.dtype == dtype for x in draws)


def test_whitening_scale() -> None:
    posterior, _, _ = regression_posterior(dtype="float64")
    inputs, outputs = (np.asarray(rows).reshape(-1, *rows.shape[2:]) for rows in posterior.rows)
    gradients = inputs * (inputs @ np.asarray(posterior.w0) - outputs)[:, None]
    key = jax.random.key(0)
    square = (gradients**2).mean(axis=0)
    np.testing.assert_allclose(gradients.mean(axis=0), 0, atol=1e-10)  # w0 is the minimum
    np.testing.assert_allclose(whitening_scale(posterior, "rmsprop", key), (NBETA * square + LOCALIZATION) ** -0.5)
    hessian = np.diagonal(np.asarray(posterior.hessian(posterior.w0))) + LOCALIZATION
    around = np.asarray(whitening_scale(posterior, "adam", key))
    np.testing.assert_allclose(around, hessian**-0.5, rtol=1e-6)
    assert np.abs(around / np.asarray(whitening_scale(posterior, "rmsprop", key)) - 1).max() > 0.02
    isotropic = np.full(posterior.dim, (NBETA * square.mean() + LOCALIZATION) ** -0.5)
    np.testing.assert_allclose(whitening_scale(posterior, "none", key), isotropic)


def test_too_many_components_for_the_slots() -> None:
    posterior, _, _ = regression_posterior()
    settings = SETTINGS.model_copy(update={"num_components": 4, "max_components": 2})
    with pytest.raises(InputError, match="M = 4 does not fit in 2 slots"):
        VI.from_settings(posterior, at_w0(posterior), settings, jax.random.key(0))


def test_divergence_is_told() -> None:
    posterior, _, _ = regression_posterior()
    chains = fit(posterior, SETTINGS.model_copy(update={"learning_rate": 1e4, "num_steps": 20}))
    assert chains.info.is_divergent[:, -1].all()
