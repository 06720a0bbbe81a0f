"""SGHMC against its own exact stationary law on a quadratic, its formula written out, and broken SGHMC against both."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from lambda_hat.config.methods.sghmc import SGHMCSettings
from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.estimate.method import run_method
from lambda_hat.posterior import Coordinates, DenseWhitening, hessian_whitening, identity_whitening
from lambda_hat.samplers.noise import indices, normals
from lambda_hat.samplers.sghmc import PRECONDITIONERS, SGHMC, predict_bias
from lambda_hat.samplers.sgld import SGLD
from lambda_hat.samplers.sgld import predict_bias as predict_sgld_bias

pytestmark = pytest.mark.usefixtures("float64")

NUM_STEPS = 12_000
NUM_DATA, LOCALIZATION = 300, 10.0


def a0(posterior) -> DenseWhitening:
    matrix = hessian_whitening(posterior, posterior.w0[None])[0].matrix
    return DenseWhitening(matrix.astype(posterior.w0.dtype))


def stationary_llc(target, posterior, settings: SGHMCSettings) -> float:
    """λ̂ of the discretised, noisy chain at stationarity, exactly: (z, v) is a linear recursion."""
    (rows,) = target.data
    dim, nbeta = rows.shape[1], float(posterior.nbeta)
    hessian, identity = nbeta * target.loss_fn.geometry.hessian, np.eye(dim)
    a = np.asarray(a0(posterior).matrix, np.float64) if settings.is_whitened else identity
    curvature = a.T @ (hessian + LOCALIZATION * identity) @ a
    noise = nbeta**2 * a.T @ (rows.T @ rows / len(rows) / settings.batch_size) @ a
    eta, keep = settings.step_size, 1 - settings.friction
    variance = 2 * settings.friction * (1 - settings.noise_share) * eta * identity
    if settings.batch_size < NUM_DATA:
        variance = variance + eta**2 * noise
    matrix = np.block([[identity - eta * curvature, keep * identity], [-eta * curvature, keep * identity]])
    kick = np.vstack([identity, identity])
    covariance = solve_discrete_lyapunov(matrix, kick @ variance @ kick.T)[:dim, :dim]
    return float(0.5 * np.trace(hessian @ a @ covariance @ a.T))


CASES = {
    "full data": SGHMCSettings(preconditioner="none", step_size=8e-3, friction=0.5, batch_size=300),
    "minibatch": SGHMCSettings(preconditioner="none", step_size=1e-3, friction=0.3, batch_size=32),
    "whitened": SGHMCSettings(step_size=0.1, friction=0.5, batch_size=32),
    "noise share": SGHMCSettings(step_size=0.1, friction=0.5, batch_size=300, noise_share=0.2),
    "no momentum": SGHMCSettings(step_size=0.1, friction=1.0, batch_size=32),
}


@pytest.fixture
def build(build_quadratic):
    def build(settings: SGHMCSettings, dtype: str = "float64"):
        target, posterior = build_quadratic(localization=LOCALIZATION, dtype=dtype)
        sampler = SGHMC.from_settings(posterior, a0(posterior), settings)
        return sampler, stationary_llc(target, posterior, settings), target

    return build


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_stationary_law_of_a_quadratic(case, build, sample_llc, is_within):
    sampler, truth, target = build(CASES[case])
    exact = target.exact_llc(float(sampler.posterior.nbeta), LOCALIZATION)
    estimate = sample_llc(sampler, NUM_STEPS, num_burn_in=1000, seed=1)
    assert is_within(estimate.llc, estimate.se, truth)
    assert estimate.se < 0.02 * truth
    # The test sees discretisation and minibatch noise, not only the posterior.
    assert not is_within(estimate.llc, estimate.se, exact)


@pytest.mark.nightly
def test_float32_has_the_same_law(build, sample_llc, is_within):
    sampler, truth, _ = build(CASES["whitened"], "float32")
    estimate = sample_llc(sampler, NUM_STEPS)
    assert is_within(estimate.llc, estimate.se, truth)


@pytest.mark.slow
@pytest.mark.parametrize("preconditioner", PRECONDITIONERS)
@pytest.mark.parametrize("batch_size", [32, 300])
def test_the_bias_vanishes_with_the_step(build, preconditioner, batch_size):
    """In proportion to it, and it is the predicted one."""
    biases = []
    for step_size in (0.02, 0.002, 0.0002):
        scale = 1.0 if preconditioner == "whitened" else 0.02  # of the narrowest direction's variance
        settings = SGHMCSettings(
            preconditioner=preconditioner, step_size=scale * step_size, friction=0.4, batch_size=batch_size
        )
        sampler, truth, target = build(settings)
        bias = truth / target.exact_llc(float(sampler.posterior.nbeta), LOCALIZATION) - 1
        predicted, num_gradients = predict_bias(sampler, jnp.zeros((3, 5)), jax.random.key(0))
        # To first order in the step; 256 of the 300 rows tell the noise.
        assert predicted == pytest.approx(bias, rel=0.1 if batch_size == 32 else 0.01 + 2 * step_size)
        assert num_gradients == pytest.approx(3 * 256 / 300)
        biases.append(bias)
    assert biases[0] > biases[1] > biases[2] > 0
    assert biases[1] / biases[2] == pytest.approx(10, rel=0.02)


@pytest.mark.nightly
def test_without_momentum_it_is_sgld_of_twice_the_step(build):
    settings = SGHMCSettings(step_size=0.01, friction=1.0, batch_size=32)
    sampler, _, _ = build(settings)
    bias, _ = predict_bias(sampler, jnp.zeros((3, 5)), jax.random.key(0))
    sgld = SGLDSettings(initial_step_size=0.02, preconditioner="whitened", batch_size=32)
    other = SGLD.from_settings(sampler.posterior, sampler.whitening, sgld)
    assert bias == pytest.approx(predict_sgld_bias(other, jnp.zeros((3, 5)), jax.random.key(0)).at([0.02]), rel=1e-6)
    key, start = jax.random.key(3), jnp.linspace(-0.1, 0.2, 5)
    moved, _ = eqx.filter_jit(sampler.step)(key, eqx.filter_jit(sampler.init)(key, start))
    expected, _ = eqx.filter_jit(other.step)(key, eqx.filter_jit(other.init)(key, start))
    np.testing.assert_allclose(moved.displacement, expected.displacement, rtol=1e-6)


@pytest.mark.nightly
def test_momentum_goes_further_than_sgld_at_the_same_bias_and_cost(build_quadratic):
    """On the full data, where discretisation is all the bias there is: 2.5 % for both."""
    _, posterior = build_quadratic(localization=LOCALIZATION)
    coordinates = Coordinates(a0(posterior), a0(posterior))
    common = {"batch": NUM_DATA, "precond_type": "whitened", "steps": 8000, "dtype": "float64"}
    momentum = run_method(posterior, SGHMCSettings(eta=0.075, friction=0.5, **common), coordinates=coordinates, seed=0)
    plain = run_method(posterior, SGLDSettings(eta0=0.1, **common), coordinates=coordinates, seed=0)
    assert momentum.extras["predicted_bias"] == pytest.approx(plain.extras["predicted_bias"], rel=1e-3)
    assert momentum.num_gradient_evaluations == plain.num_gradient_evaluations
    assert momentum.estimate.raw_se < 0.75 * plain.estimate.raw_se  # 2.5 times as many effective draws


class Distorted(SGHMC):
    """SGHMC with factors on its drift and its noise, and the loss read after the step by so much."""

    drift_factor: jax.Array
    noise_factor: jax.Array
    share_afterwards: jax.Array

    def step(self, rng_key, state):
        after, info = super().step(rng_key, state)
        scale = jnp.sqrt(2 * (1 - self.noise_share) * self.friction * self.step_size)
        noise = scale * normals(rng_key, state.velocity.size, state.velocity.dtype)
        kept = (1 - self.friction) * state.velocity
        velocity = kept + self.drift_factor * (after.velocity - kept - noise) + self.noise_factor * noise
        displacement = state.displacement + self.whitening.displacement(velocity)
        batch = self.posterior.take(indices(rng_key, self.batch_size, self.posterior.num_data))
        afterwards = self.posterior.paired_excess_loss(self.posterior.w0 + displacement, *batch)
        reading = info.excess_loss + self.share_afterwards * (afterwards - info.excess_loss)
        after = after._replace(
            displacement=displacement, squared_distance=displacement @ displacement, velocity=velocity
        )
        return after, info._replace(excess_loss=reading)


DISTORTIONS = {
    "none": (1.0, 1.0, 0.0),
    "drift with a half": (0.5, 1.0, 0.0),
    "drift uphill": (-1.0, 1.0, 0.0),
    "noise of half the variance": (1.0, 0.5**0.5, 0.0),
    "loss read after the step": (1.0, 1.0, 1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_distorted_kernels(distortion, build, sample_llc, is_within, recast):
    sampler, truth, _ = build(CASES["whitened"])
    names = ("drift_factor", "noise_factor", "share_afterwards")
    distorted = recast(sampler, Distorted, **dict(zip(names, DISTORTIONS[distortion], strict=True)))
    estimate = sample_llc(distorted, NUM_STEPS)
    assert is_within(estimate.llc, estimate.se, truth) == (distortion == "none")


def test_missing_localization_is_noticed(build, sample_llc, is_within, without_localization):
    sampler, truth, _ = build(CASES["whitened"])
    estimate = sample_llc(without_localization(sampler), NUM_STEPS)
    assert not is_within(estimate.llc, estimate.se, truth)


@pytest.mark.slow
@pytest.mark.parametrize("preconditioner", PRECONDITIONERS)
def test_steps_follow_the_formula(preconditioner, build):
    settings = SGHMCSettings(
        step_size=1e-3, friction=0.3, noise_share=0.2, batch_size=32, preconditioner=preconditioner
    )
    sampler, _, target = build(settings)
    nbeta, hessian = float(sampler.posterior.nbeta), target.loss_fn.geometry.hessian
    a = np.asarray(sampler.whitening.matrix) if preconditioner == "whitened" else np.eye(5)
    u = np.linspace(-0.1, 0.2, 5)
    state = eqx.filter_jit(sampler.init)(jax.random.key(0), jnp.asarray(u))
    v = np.sqrt(1e-3) * np.asarray(normals(jax.random.key(0), 5, jnp.float64))
    np.testing.assert_allclose(state.velocity, v, rtol=1e-6)
    step = eqx.filter_jit(sampler.step)
    for t in range(4):
        key = jax.random.fold_in(jax.random.key(1), t)
        state, info = step(key, state)
        rows = target.data[0][np.asarray(indices(key, 32, 300))]
        gradient = hessian @ u + rows.mean(axis=0)
        np.testing.assert_allclose(info.excess_loss, 0.5 * u @ hessian @ u + rows.mean(axis=0) @ u, rtol=1e-10)
        np.testing.assert_allclose(info.squared_distance, u @ u, rtol=1e-10)
        assert (float(info.weight), float(info.num_gradient_evaluations)) == (1.0, pytest.approx(32 / 300))
        noise = np.sqrt(2 * (0.3 - 0.2 * 0.3) * 1e-3) * np.asarray(normals(key, 5, jnp.float64))
        v = 0.7 * v - 1e-3 * a.T @ (nbeta * gradient + LOCALIZATION * u) + noise
        u = u + a @ v
        np.testing.assert_allclose(state.displacement, u, rtol=1e-6)  # the noise is of float32, and fused elsewhere
        u, v = np.asarray(state.displacement), np.asarray(state.velocity)


@pytest.mark.nightly
def test_nothing_is_predicted_where_the_whitening_is_not_of_this_posterior(build_quadratic):
    _, posterior = build_quadratic(localization=LOCALIZATION)
    elsewhere = Coordinates(identity_whitening(posterior), identity_whitening(posterior))
    settings = SGHMCSettings(eta=1e-4, precond_type="none", steps=20, dtype="float64")
    run = run_method(posterior, settings, coordinates=elsewhere, seed=0)
    assert run.extras == {}


@pytest.mark.nightly
def test_a_run_is_biased_as_it_says(build_quadratic, is_within):
    target, posterior = build_quadratic(num_data=200, gradient_noise=2.0, localization=LOCALIZATION)
    exact = target.exact_llc(float(posterior.nbeta), LOCALIZATION)
    coordinates = Coordinates(DenseWhitening(jnp.eye(5)), a0(posterior))
    settings = SGHMCSettings(eta=0.03, friction=0.3, batch=32, steps=10_000, num_chains=8, dtype="float64")
    run = run_method(posterior, settings, coordinates=coordinates, seed=0)
    error, se = run.estimate.raw_llc / exact - 1, run.estimate.raw_se / exact
    assert is_within(error, se, run.extras["predicted_bias"])
    assert not is_within(error, se, 0.0)
