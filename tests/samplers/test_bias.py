"""The predicted bias of SGLD against its exact stationary law on a quadratic, and against runs."""

from __future__ import annotations

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.draws.llc import estimate_llc_from_traces
from lambda_hat.estimate.method import run_method
from lambda_hat.posterior import (
    Coordinates,
    DenseWhitening,
    build_posterior,
    hessian_whitening,
    identity_whitening,
    whitening_from_arrays,
)
from lambda_hat.samplers.hmc import HMC
from lambda_hat.samplers.runner import init_chains, run_chains
from lambda_hat.samplers.sgld import SGLD, predict_bias
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

pytestmark = pytest.mark.usefixtures("float64")

DATA = Path(__file__).parents[1] / "data"
MAX_DEVIATION = 4.0
NUM_DATA = 200  # few enough for the prediction to look at every row
NOISE = 2.0


def exact_bias(target, posterior, settings: SGLDSettings) -> float:
    """(λ̂ − λ)/λ of the discretised, noisy chain at stationarity, whatever its step size."""
    (rows,) = target.data
    hessian, eta = float(posterior.nbeta) * target.loss_fn.geometry.hessian, settings.initial_step_size
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
    sampler = SGLD.from_settings(posterior, whitening, settings)
    return predict_bias(sampler, jnp.zeros((3, 5)), jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [16, NUM_DATA])
@pytest.mark.parametrize(("preconditioner", "step_size"), [("none", 2e-5), ("whitened", 2e-3)])
def test_it_is_the_exact_bias_of_small_steps(quadratic, preconditioner, step_size, batch_size):
    target, posterior, whitening = quadratic
    settings = SGLDSettings(initial_step_size=step_size, batch_size=batch_size, preconditioner=preconditioner)
    bias = predict(posterior, whitening, settings)
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
    rows = rows @ np.linalg.cholesky(target.loss_fn.geometry.hessian).T
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


@pytest.mark.slow
def test_nothing_is_predicted_without_ground(quadratic):
    _, posterior, whitening = quadratic
    for preconditioner in ("rmsprop", "adam"):
        settings = SGLDSettings(preconditioner=preconditioner, num_steps=20, dtype="float64")
        run = run_method(posterior, settings, coordinates=Coordinates(whitening, whitening), seed=0)
        assert run.extras == {}
    # γ_loc = 10: A = 1 says that the curvature is negative in every direction.
    assert not predict(posterior, identity_whitening(posterior), SGLDSettings()).is_known
    assert predict(posterior, whitening, SGLDSettings()).is_known


def test_probes_agree_with_the_exact_traces(quadratic, monkeypatch):
    _, posterior, whitening = quadratic
    for preconditioner in ("none", "whitened"):
        exact = predict(posterior, whitening, SGLDSettings(preconditioner=preconditioner))
        monkeypatch.setattr("lambda_hat.samplers.bias.NUM_PROBES", 4)
        probed = predict(posterior, whitening, SGLDSettings(preconditioner=preconditioner))
        assert probed.discretisation != exact.discretisation or preconditioner == "whitened"
        assert probed.discretisation == pytest.approx(exact.discretisation, rel=0.3)
        monkeypatch.undo()


@pytest.mark.slow
def test_a_run_is_biased_as_it_says(quadratic, is_within):
    target, posterior, whitening = quadratic
    exact = target.exact_llc(float(posterior.nbeta), 10.0)
    coordinates = Coordinates(DenseWhitening(jnp.eye(5)), whitening)
    settings = SGLDSettings(
        eta0=0.1, batch=32, precond_type="whitened", gamma=0.3, steps=10_000, num_chains=8, dtype="float64"
    )
    run = run_method(posterior, settings, coordinates=coordinates, seed=0)
    error, se = run.estimate.raw_llc / exact - 1, run.estimate.raw_se / exact
    assert is_within(error, se, run.extras["predicted_bias"])
    assert not is_within(error, se, 0.0)


def relu45(dtype: str):
    with np.load(DATA / "relu45.npz") as arrays:
        loss_fn = SquaredError(MLP(tuple(int(size) for size in arrays["sizes"]), "relu"), 0.5 / 0.05**2)
        data, w0 = (arrays["X"], arrays["Y"]), arrays["w0"]
    return build_posterior(loss_fn, w0, data, nbeta=PosteriorSpec().nbeta(2000), localization=100.0, dtype=dtype)


def averaged_whitening(posterior):
    """A1 of a pilot in A0."""
    at_w0, _ = hessian_whitening(posterior, posterior.w0[None])
    sampler = HMC.from_settings(posterior, at_w0, HMCSettings(step_size=0.1))
    noise = jax.random.normal(jax.random.key(0), (8, posterior.dim))
    chains = run_chains(
        sampler, jax.random.key(1), init_chains(sampler, jax.random.key(2), noise @ at_w0.matrix.T), 300
    )
    draws = []
    for i in range(20):
        chains = run_chains(sampler, jax.random.key(2 + i), chains.states, 20)
        draws.append(jax.vmap(sampler.displacement)(chains.states))
    return hessian_whitening(posterior, posterior.w0 + jnp.concatenate(draws))[0]


@pytest.mark.nightly  # in short: `test_a_run_is_biased_as_it_says`
def test_a_relu_network_with_a_known_answer(is_within):
    matrix = averaged_whitening(relu45("float64")).to_arrays()
    with jax.enable_x64(False):
        whitening = whitening_from_arrays(matrix, "float32")
        for step_size, bound in ((0.02, 0.04), (0.1, 0.12)):
            settings = SGLDSettings(eta0=step_size, precond_type="whitened", steps=20_000, num_chains=16)
            run = run_method(relu45("float32"), settings, coordinates=Coordinates(whitening, whitening), seed=0)
            error, se = run.estimate.raw_llc / 15.637 - 1, run.estimate.raw_se / 15.637
            # First order, on a posterior that is no Gaussian: the prediction is good to two fifths of itself.
            margin = 0.4 * run.extras["predicted_bias"] / MAX_DEVIATION
            assert is_within(error, np.hypot(se, margin), run.extras["predicted_bias"])
            assert abs(error) < bound
            assert (
                estimate_llc_from_traces(run.info, PosteriorSpec().nbeta(2000), has_minibatch_noise=True).rhat_loss
                < 1.03
            )
    assert not is_within(error, se, 0.0)
