import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_hat.config.problems import QuadraticProblem
from lambda_hat.targets import build_target
from lambda_hat.targets.analytic import QuadraticLoss

PROBLEM = QuadraticProblem(dim=6, num_data=50, smallest_curvature=0.2, largest_curvature=20.0, seed=3)


@pytest.fixture
def target(float64):
    return build_target(PROBLEM)


def mean_loss_fn(target):
    return lambda w: jnp.mean(target.per_example_loss_fn(w, target.data))


def test_gradient_vanishes_at_w0_and_hessian_is_exact(target):
    loss_fn = mean_loss_fn(target)
    assert np.abs(jax.grad(loss_fn)(jnp.asarray(target.w0))).max() < 1e-12
    hessian = jax.hessian(loss_fn)(jnp.asarray(target.w0 + 1.7))
    np.testing.assert_allclose(hessian, target.per_example_loss_fn.geometry.hessian, atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), np.geomspace(0.2, 20.0, 6), rtol=1e-12)


def test_loss_is_the_quadratic_form_plus_zero_sum_linear_terms(target):
    delta = np.linspace(-1, 1, 6)
    hessian = target.per_example_loss_fn.geometry.hessian
    losses = target.per_example_loss_fn(jnp.asarray(target.w0 + delta), target.data)
    np.testing.assert_allclose(losses, 0.5 * delta @ hessian @ delta + target.data[0] @ delta, rtol=1e-10, atol=1e-12)
    assert np.abs(target.data[0].sum(axis=0)).max() < 1e-12
    assert target.data[0].std() == pytest.approx(1.0, rel=0.1)


@settings(max_examples=25, deadline=None)
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
    np.testing.assert_array_equal(target.per_example_loss_fn.geometry.hessian, np.diag(target.exact_llc_fn.curvatures))


def test_noise_does_not_change_the_geometry(float64):
    plain, noisy = build_target(PROBLEM), build_target(PROBLEM.model_copy(update={"gradient_noise": 7.0}))
    np.testing.assert_array_equal(plain.w0, noisy.w0)
    assert plain.per_example_loss_fn == noisy.per_example_loss_fn


def test_losses_follow_the_precision_of_the_position(target):
    (rows,) = target.data
    losses = target.per_example_loss_fn(jnp.asarray(target.w0, jnp.float32), (jnp.asarray(rows, jnp.float32),))
    assert losses.dtype == jnp.float32
