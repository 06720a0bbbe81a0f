"""Whitening: coordinates in which the posterior is standard, and never another posterior."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.posterior import (
    DenseWhitening,
    DiagonalWhitening,
    build_posterior,
    hessian_whitening,
    identity_whitening,
    whitening_from_arrays,
    whitening_from_hessian,
)

pytestmark = pytest.mark.usefixtures("float64")


def test_hessian_coordinates_of_a_quadratic_have_unit_covariance(build_quadratic):
    target, posterior = build_quadratic()
    whitening, eigenvalues = hessian_whitening(posterior, posterior.w0[None])
    precision = float(posterior.nbeta) * target.loss_fn.geometry.hessian + 10.0 * np.eye(5)
    np.testing.assert_allclose(whitening.matrix.T @ precision @ whitening.matrix, np.eye(5), atol=1e-10)
    np.testing.assert_allclose(eigenvalues, float(posterior.nbeta) * target.loss_fn.geometry.curvatures, rtol=1e-10)
    # The localization is part of the precision: without it the coordinates are another shape.
    without = whitening_from_hessian(jnp.asarray(precision - 10.0 * np.eye(5)), jnp.zeros(()))
    assert np.abs(without.matrix.T @ precision @ without.matrix - np.eye(5)).max() > 0.1


def test_negative_curvature_counts_by_its_size():
    whitening = whitening_from_hessian(jnp.diag(jnp.array([-9.0, 4.0])), jnp.asarray(1.0))
    np.testing.assert_allclose(np.abs(whitening.matrix).max(axis=1), [1 / np.sqrt(10), 1 / np.sqrt(5)])


def test_regions_of_opposite_curvature_do_not_cancel():
    posterior = build_posterior(cubic, np.zeros(2), (np.zeros((1, 1)),), nbeta=1.0, localization=1.0, dtype="float64")
    whitening, eigenvalues = hessian_whitening(posterior, jnp.array([[2.0, 0.0], [-2.0, 0.0]]))
    np.testing.assert_allclose(eigenvalues, [0.0, 12.0], atol=1e-12)
    np.testing.assert_allclose(np.abs(whitening.displacement(jnp.ones(2))).min(), 1 / np.sqrt(13))


def cubic(position, batch):
    """A per-example loss whose curvature changes sign with its first coordinate."""
    return position[0] ** 3 + 0.0 * batch[0][:, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "whitening",
    [DiagonalWhitening(np.array([0.5, 2.0, 3.0])), DenseWhitening(np.array([[1.0, 2, 0], [0, 1, 4], [5, 0, 1]]))],
    ids=["diagonal", "dense"],
)
def test_a_whitening_is_one_linear_map_seen_from_all_sides(whitening):
    z = jax.random.normal(jax.random.key(0), (3,))
    matrix = jax.jacobian(whitening.displacement)(z)
    np.testing.assert_allclose(whitening.coordinates(whitening.displacement(z)), z, rtol=1e-10)
    np.testing.assert_allclose(whitening.pullback(z), matrix.T @ z, rtol=1e-10)
    np.testing.assert_allclose(whitening.log_abs_det, jnp.linalg.slogdet(matrix)[1], rtol=1e-10)
    restored = whitening_from_arrays(whitening.to_arrays(), "float64")
    np.testing.assert_array_equal(restored.displacement(z), whitening.displacement(z))


def test_identity_leaves_displacements_alone(build_quadratic):
    _, posterior = build_quadratic()
    z = jax.random.normal(jax.random.key(0), (5,))
    np.testing.assert_array_equal(identity_whitening(posterior).displacement(z), z)
