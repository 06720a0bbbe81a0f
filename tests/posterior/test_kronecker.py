"""Whitening by Kronecker factors: exact where the curvature is a Kronecker product, close where it is nearly one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.posterior import LocalPosterior, build_posterior, hessian_whitening, whitening_from_arrays
from lambda_hat.posterior.kronecker import kronecker_whitening
from lambda_hat.posterior.leafwise import leafwise_whitening
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

pytestmark = pytest.mark.usefixtures("float64")


def posterior_of(network: MLP, num_data: int = 400, noise: float = 0.0) -> LocalPosterior:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((num_data, network.sizes[0])) * np.arange(1, network.sizes[0] + 1)
    w0 = network.init(rng)
    labels = np.asarray(network(jnp.asarray(w0), jnp.asarray(inputs)))
    labels = labels + noise * rng.standard_normal(labels.shape)
    loss_fn = SquaredError(network, 0.5)
    return build_posterior(loss_fn, w0, (inputs, labels), nbeta=100.0, localization=7.0, dtype="float64")


def whitened_curvatures(whitening, posterior: LocalPosterior) -> np.ndarray:
    matrix = jax.jacobian(whitening.displacement)(jnp.zeros(posterior.dim))
    curvature = posterior.hessian(posterior.w0) + posterior.localization * jnp.eye(posterior.dim)
    return np.linalg.eigvalsh(np.asarray(matrix.T @ curvature @ matrix))


@pytest.mark.slow
@pytest.mark.parametrize("has_bias", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_one_linear_layer_with_one_output_is_whitened_exactly(has_bias):
    posterior = posterior_of(MLP((3, 1), "identity", has_bias))
    whitening = kronecker_whitening(posterior, posterior.w0[None], jax.random.key(0))
    np.testing.assert_allclose(whitened_curvatures(whitening, posterior), 1.0, rtol=1e-8)


@pytest.mark.slow
def test_a_whitening_is_one_linear_map_seen_from_all_sides():
    posterior = posterior_of(MLP((3, 4, 2)))
    whitening = kronecker_whitening(posterior, posterior.w0[None], jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (posterior.dim,))
    matrix = jax.jacobian(whitening.displacement)(z)
    np.testing.assert_allclose(whitening.coordinates(whitening.displacement(z)), z, rtol=1e-8)
    np.testing.assert_allclose(whitening.pullback(z), matrix.T @ z, rtol=1e-8)
    np.testing.assert_allclose(whitening.log_abs_det, jnp.linalg.slogdet(matrix)[1], rtol=1e-8)
    restored = whitening_from_arrays(whitening.to_arrays(), "float64")
    np.testing.assert_array_equal(restored.displacement(z), whitening.displacement(z))


@pytest.mark.nightly
def test_conditions_get_better_from_nothing_to_diagonal_to_kronecker_to_dense():
    posterior = posterior_of(MLP((3, 6, 6, 2)), noise=0.1)
    key = jax.random.key(0)
    at = posterior.w0[None]
    whitenings = [leafwise_whitening(posterior, at, key), kronecker_whitening(posterior, at, key)]
    whitenings.append(hessian_whitening(posterior, at)[0])
    plain = np.linalg.eigvalsh(np.asarray(posterior.hessian(posterior.w0))) + 7.0
    spreads = [np.std(np.log(np.abs(plain)))]
    spreads += [np.std(np.log(np.abs(whitened_curvatures(whitening, posterior)))) for whitening in whitenings]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[2] < 0.9 * spreads[0]


@pytest.mark.slow
def test_curvature_is_averaged_over_positions():
    posterior = posterior_of(MLP((3, 4, 1)))
    key = jax.random.key(0)
    elsewhere = posterior.w0 + 1.0
    both = kronecker_whitening(posterior, jnp.stack([posterior.w0, elsewhere]), key)
    twice = kronecker_whitening(posterior, jnp.stack([posterior.w0, posterior.w0]), key)
    assert not np.allclose(both.scales[0], twice.scales[0])


@pytest.mark.slow
def test_the_diagonal_has_the_scale_of_the_hessian_for_any_loss():
    """The second moment of gradients alone would be off by the factor 4 between `mse` and a log-likelihood."""
    network = MLP((3, 1), "identity", False)
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((4000, 3))
    labels = inputs @ np.ones((3, 1)) + 0.5 * rng.standard_normal((4000, 1))
    posterior = build_posterior(
        SquaredError(network, 1.0), np.ones(3), (inputs, labels), nbeta=100.0, localization=1.0, dtype="float64"
    )
    whitening = leafwise_whitening(posterior, posterior.w0[None], jax.random.key(0))
    exact = np.diagonal(np.asarray(posterior.hessian(posterior.w0))) + 1.0
    np.testing.assert_allclose(1 / np.asarray(whitening.scale) ** 2, exact, rtol=0.15)
