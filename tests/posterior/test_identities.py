"""Identities under closed-form posteriors, for every kind of whitening."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.posterior import DenseWhitening, DiagonalWhitening, Identities, build_posterior, hessian_whitening
from lambda_hat.posterior.kronecker import KroneckerWhitening

pytestmark = pytest.mark.usefixtures("float64")

DIM, NBETA, LOCALIZATION = 4, 30.0, 2.0


def orthogonal(rng, dim):
    return np.linalg.qr(rng.standard_normal((dim, dim)))[0]


def whitenings():
    rng = np.random.default_rng(0)
    turned = (orthogonal(rng, 2), orthogonal(rng, 2), jnp.asarray(rng.uniform(0.5, 2.0, (2, 2))))
    return {
        "dense": DenseWhitening(rng.standard_normal((DIM, DIM))),
        "diagonal": DiagonalWhitening(jnp.asarray(rng.uniform(0.1, 2.0, DIM))),
        "kronecker": KroneckerWhitening(((0, DIM),), *((jnp.asarray(one),) for one in turned)),
    }


@pytest.mark.parametrize("kind", ["dense", "diagonal", "kronecker"])
def test_sides_of_a_whitening_belong_together(kind):
    whitening = whitenings()[kind]
    matrix = np.stack([whitening.displacement(z) for z in np.eye(DIM)], axis=1)
    gradient = np.arange(1.0, 1 + DIM)
    np.testing.assert_allclose(whitening.pullback(gradient), matrix.T @ gradient)
    np.testing.assert_allclose(whitening.gradient(whitening.pullback(gradient)), gradient)
    np.testing.assert_allclose(whitening.coordinates(whitening.displacement(gradient)), gradient)
    np.testing.assert_allclose(whitening.squared_norm, np.sum(matrix**2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "diagonal", "kronecker"])
def test_means_vanish_under_the_posterior_of_any_whitening(kind):
    """π = N(0, (H + γ)⁻¹): E[½ (r·M∇U − tr M)] = 0 for every M, by 200,000 independent draws."""
    rng = np.random.default_rng(1)
    root = rng.standard_normal((DIM, DIM))
    precision = root @ root.T + LOCALIZATION * np.eye(DIM)
    draws = rng.multivariate_normal(np.zeros(DIM), np.linalg.inv(precision), 200_000)
    identities = Identities(whitenings()[kind], jnp.asarray(LOCALIZATION))
    for values in jax.vmap(identities.read)(draws, draws @ precision):
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))


@pytest.mark.slow
def test_of_a_quadratic_loss_the_corrected_reading_is_the_llc_everywhere():
    """nβ(L − L(w0)) − ½ (r·M∇U − tr M) = ½ tr H(H + γ)⁻¹, however wrong the law of w."""
    rng = np.random.default_rng(2)
    inputs, w0 = rng.standard_normal((20, DIM)), rng.standard_normal(DIM)

    def loss(position, batch):
        return 0.5 * (batch[0] @ position - batch[1]) ** 2

    data = inputs, inputs @ w0
    posterior = build_posterior(loss, w0, data, nbeta=NBETA, localization=LOCALIZATION, dtype="float64")
    whitening, eigenvalues = hessian_whitening(posterior, posterior.w0[None])
    identities = Identities(whitening, posterior.localization)

    def corrected(displacement):
        force = -jax.grad(posterior.logdensity)(posterior.w0 + displacement)
        return (
            posterior.nbeta * posterior.excess_loss(posterior.w0 + displacement)
            - identities.read(displacement, force).curved
        )

    truth = 0.5 * np.sum(eigenvalues / (eigenvalues + LOCALIZATION))
    np.testing.assert_allclose(jax.vmap(corrected)(10.0 * rng.standard_normal((50, DIM))), truth, rtol=1e-9)
