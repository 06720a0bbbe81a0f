import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_hat.config.problems import LinearRegressionProblem, QuadraticProblem
from lambda_hat.targets import build_target
from lambda_hat.targets.quadratic import QuadraticLoss

PROBLEM = QuadraticProblem(dim=6, num_data=50, smallest_curvature=0.2, largest_curvature=20.0, seed=3)


@pytest.fixture
def target(float64):
    return build_target(PROBLEM)


def mean_loss_fn(target):
    return lambda w: jnp.mean(target.loss_fn(w, target.data))


@pytest.mark.slow
def test_gradient_vanishes_at_w0_and_hessian_is_exact(target):
    loss_fn = mean_loss_fn(target)
    assert np.abs(jax.grad(loss_fn)(jnp.asarray(target.w0))).max() < 1e-12
    hessian = jax.hessian(loss_fn)(jnp.asarray(target.w0 + 1.7))
    np.testing.assert_allclose(hessian, target.loss_fn.geometry.hessian, atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), np.geomspace(0.2, 20.0, 6), rtol=1e-12)


def test_loss_is_the_quadratic_form_plus_zero_sum_linear_terms(target):
    delta = np.linspace(-1, 1, 6)
    hessian = target.loss_fn.geometry.hessian
    losses = target.loss_fn(jnp.asarray(target.w0 + delta), target.data)
    np.testing.assert_allclose(losses, 0.5 * delta @ hessian @ delta + target.data[0] @ delta, rtol=1e-10, atol=1e-12)
    assert np.abs(target.data[0].sum(axis=0)).max() < 1e-12
    assert target.data[0].std() == pytest.approx(1.0, rel=0.1)


@settings(max_examples=25)
@given(nbeta=st.floats(0.1, 1e4), localization=st.floats(1e-3, 1e3))
def test_exact_llc_is_the_gaussian_expectation(nbeta, localization):
    loss = QuadraticLoss.from_problem(PROBLEM)
    precision = nbeta * loss.geometry.hessian + localization * np.eye(6)
    expected = 0.5 * nbeta * np.trace(np.linalg.solve(precision, loss.geometry.hessian))
    with jax.enable_x64(True):
        target = build_target(PROBLEM)
    assert target.exact_llc(nbeta, localization) == pytest.approx(expected, rel=1e-10)


def test_without_rotation_the_axes_are_eigenvectors(float64):
    target = build_target(PROBLEM.model_copy(update={"is_rotated": False}))
    np.testing.assert_array_equal(target.loss_fn.geometry.hessian, np.diag(target.exact_llc_fn.curvatures))


def test_noise_does_not_change_the_geometry(float64):
    plain, noisy = build_target(PROBLEM), build_target(PROBLEM.model_copy(update={"gradient_noise": 7.0}))
    np.testing.assert_array_equal(plain.w0, noisy.w0)
    assert plain.loss_fn == noisy.loss_fn


def test_losses_follow_the_precision_of_the_position(target):
    (rows,) = target.data
    losses = target.loss_fn(jnp.asarray(target.w0, jnp.float32), (jnp.asarray(rows, jnp.float32),))
    assert losses.dtype == jnp.float32


REGRESSION = LinearRegressionProblem(dim=4, num_data=30, input_condition=50.0, noise_scale=0.3, seed=2)


@pytest.mark.slow
def test_w0_of_the_regression_is_the_least_squares_solution(float64):
    target = build_target(REGRESSION)
    inputs, labels = target.data
    assert (inputs.shape, labels.shape) == ((30, 4), (30, 1))
    np.testing.assert_allclose(target.w0, np.linalg.solve(inputs.T @ inputs, inputs.T @ labels[:, 0]), rtol=1e-9)
    loss_fn = mean_loss_fn(target)
    assert np.abs(jax.grad(loss_fn)(jnp.asarray(target.w0))).max() < 1e-12
    assert float(loss_fn(jnp.asarray(target.w0))) == pytest.approx(target.info["loss"])
    residuals = labels[:, 0] - inputs @ target.w0
    np.testing.assert_allclose(
        target.loss_fn(jnp.asarray(target.w0), target.data), residuals**2 / (2 * 0.3**2), rtol=1e-9
    )
    assert np.sqrt(30 / 26 * np.mean(residuals**2)) == pytest.approx(0.3, rel=0.3)
    curvatures = np.linalg.eigvalsh(jax.hessian(loss_fn)(jnp.asarray(target.w0)))
    np.testing.assert_allclose(target.exact_llc_fn.curvatures, curvatures, rtol=1e-9)


def test_exact_llc_of_the_regression_is_that_of_independent_draws(float64, is_within):
    target = build_target(REGRESSION)
    nbeta, localization = 30.0, 40.0
    inputs, _ = target.data
    precision = nbeta * inputs.T @ inputs / (30 * 0.3**2) + localization * np.eye(4)
    draws = target.w0 + np.random.default_rng(0).multivariate_normal(np.zeros(4), np.linalg.inv(precision), 4000)
    losses = jax.jit(jax.vmap(mean_loss_fn(target)))(jnp.asarray(draws)) - target.info["loss"]
    readings = nbeta * np.asarray(losses)
    error = readings.std() / np.sqrt(4000)
    assert is_within(readings.mean(), error, target.exact_llc(nbeta, localization))
    assert not is_within(readings.mean(), error, target.exact_llc(2 * nbeta, localization))


def test_more_parameters_than_data_leave_directions_without_curvature(float64):
    target = build_target(REGRESSION.model_copy(update={"num_data": 3}))
    assert target.exact_llc_fn.curvatures[0] == 0.0
    assert target.exact_llc(1e9, 1e-3) == pytest.approx(1.5, rel=1e-6)
    assert target.info["loss"] == pytest.approx(0.0, abs=1e-20)
