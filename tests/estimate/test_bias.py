"""The predicted bias of SGLD against its exact stationary law on a quadratic, and against runs."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from lambda_hat.config.methods import SGLDSettings
from lambda_hat.estimate.bias import predict_sgld_bias
from lambda_hat.estimate.run import run_method
from lambda_hat.posterior import Coordinates, DenseWhitening, hessian_whitening, identity_whitening

pytestmark = pytest.mark.usefixtures("float64")

NUM_DATA = 200  # few enough for the prediction to look at every row
NOISE = 2.0


def exact_bias(target, posterior, settings: SGLDSettings) -> float:
    """(λ̂ − λ)/λ of the discretised, noisy chain at stationarity, whatever its step size."""
    (rows,) = target.data
    hessian, eta = float(posterior.nbeta) * target.per_example_loss_fn.geometry.hessian, settings.initial_step_size
    precision = hessian + float(posterior.localization) * np.eye(5)
    p = np.linalg.inv(precision) if settings.preconditioner == "whitened" else np.eye(5)
    noise = float(posterior.nbeta) ** 2 * np.cov(rows.T, ddof=0) / settings.batch_size
    if settings.batch_size >= NUM_DATA:
        noise = 0 * noise
    kick = eta * p + eta**2 / 4 * p @ noise @ p
    covariance = solve_discrete_lyapunov(np.eye(5) - eta / 2 * p @ precision, kick)
    return np.trace(hessian @ covariance) / np.trace(hessian @ np.linalg.inv(precision)) - 1


@pytest.fixture
def quadratic(build_quadratic):
    target, posterior = build_quadratic(num_data=NUM_DATA, gradient_noise=NOISE)
    return target, posterior, hessian_whitening(posterior, posterior.w0[None])[0]


def predict(posterior, whitening, settings):
    return predict_sgld_bias(posterior, whitening, settings, jnp.zeros((3, 5)), jax.random.key(0))


@pytest.mark.parametrize("batch_size", [16, NUM_DATA])
@pytest.mark.parametrize(("preconditioner", "step_size"), [("none", 2e-5), ("whitened", 2e-3)])
def test_it_is_the_exact_bias_of_small_steps(quadratic, preconditioner, step_size, batch_size):
    target, posterior, whitening = quadratic
    settings = SGLDSettings(initial_step_size=step_size, batch_size=batch_size, preconditioner=preconditioner)
    bias = predict(posterior, whitening, settings)
    assert bias is not None
    assert bias.at([step_size]) == pytest.approx(exact_bias(target, posterior, settings), rel=0.01)
    assert bias.num_gradient_evaluations == 3.0


def test_it_is_the_rule_of_thumb_where_the_model_is_true(quadratic):
    target, posterior, whitening = quadratic
    precision = np.linalg.inv(whitening.matrix @ whitening.matrix.T)
    share = np.eye(5) - 10.0 * np.linalg.inv(precision)  # H K⁻¹
    # Per-example gradients whose covariance is the Hessian of L_n: the Fisher information of a true model.
    rows = np.random.default_rng(0).normal(size=(NUM_DATA, 5))
    rows -= rows.mean(axis=0)
    rows = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T, ddof=0))).T
    rows = rows @ np.linalg.cholesky(target.per_example_loss_fn.geometry.hessian).T
    true = eqx.tree_at(lambda p: p.rows, posterior, (jnp.asarray(rows.reshape(posterior.rows[0].shape)),))
    bias = predict(true, whitening, SGLDSettings(batch_size=16, preconditioner="whitened"))
    kappa = np.trace(share @ share) / np.trace(share)
    assert bias.discretisation == pytest.approx(0.25)
    assert bias.minibatch == pytest.approx(0.25 * kappa * float(posterior.nbeta) / 16, rel=0.01)
    assert kappa > 0.7


def test_the_step_size_that_counts_is_the_weighted_mean(quadratic):
    _, posterior, whitening = quadratic
    bias = predict(posterior, whitening, SGLDSettings(preconditioner="whitened"))
    eta = np.array([[0.3, 0.2, 0.1]])
    assert bias.at(eta) == pytest.approx(bias.at([np.average(eta, weights=eta)]))


def test_nothing_is_predicted_without_ground(quadratic):
    _, posterior, whitening = quadratic
    for preconditioner in ("rmsprop", "adam"):
        assert predict(posterior, whitening, SGLDSettings(preconditioner=preconditioner)) is None
    # γ_loc = 10: A = 1 says that the curvature is negative in every direction.
    assert predict(posterior, identity_whitening(posterior), SGLDSettings()) is None


def test_probes_agree_with_the_exact_traces(quadratic, monkeypatch):
    _, posterior, whitening = quadratic
    for preconditioner in ("none", "whitened"):
        exact = predict(posterior, whitening, SGLDSettings(preconditioner=preconditioner))
        monkeypatch.setattr("lambda_hat.estimate.bias.NUM_PROBES", 4)
        probed = predict(posterior, whitening, SGLDSettings(preconditioner=preconditioner))
        assert probed.discretisation != exact.discretisation or preconditioner == "whitened"
        assert probed.discretisation == pytest.approx(exact.discretisation, rel=0.3)
        monkeypatch.undo()


def test_a_run_is_biased_as_it_says(quadratic, is_within):
    target, posterior, whitening = quadratic
    exact = target.exact_llc(float(posterior.nbeta), 10.0)
    coordinates = Coordinates(DenseWhitening(jnp.eye(5)), whitening)
    settings = SGLDSettings(
        eta0=0.1, batch=32, precond_type="whitened", gamma=0.3, steps=10_000, num_chains=8, dtype="float64"
    )
    run = run_method(posterior, settings, coordinates=coordinates, seed=0)
    error, se = run.estimate.llc / exact - 1, run.estimate.se / exact
    assert is_within(error, se, run.extras["predicted_bias"])
    assert not is_within(error, se, 0.0)
