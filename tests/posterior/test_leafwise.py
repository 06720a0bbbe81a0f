"""Whitening of any JAX function by gradients of single rows, against its dense Hessian."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.posterior import LocalPosterior, build_posterior, leafwise
from lambda_hat.posterior.geometry import whitening_from_arrays
from lambda_hat.posterior.leafwise import leafwise_whitening
from lambda_hat.posterior.whitening import DiagonalWhitening, Whitening
from lambda_hat.targets import read_model

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.slow]

LOCALIZATION = 20.0
SIZES = (3, 6, 2)


def losses(params, batch):
    inputs, outputs = batch
    hidden = jnp.tanh(inputs @ params["in"]["weights"] + params["in"]["bias"])
    return 50.0 * jnp.sum((hidden @ params["out"] - outputs) ** 2, axis=-1)


def posterior_of(noise: float, sampled=None) -> LocalPosterior:
    """Of a network whose inputs differ in scale and are correlated; without noise it fits every row exactly."""
    rng = np.random.default_rng(0)
    d, h, o = SIZES
    params = {
        "in": {"weights": rng.standard_normal((d, h)), "bias": 0.1 * rng.standard_normal(h)},
        "out": rng.standard_normal((h, o)) / h**0.5,
    }
    inputs = rng.standard_normal((512, d)) @ np.array([[1.0, 0.9, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.1]])
    hidden = np.tanh(inputs @ params["in"]["weights"] + params["in"]["bias"])
    outputs = hidden @ params["out"] + noise * rng.standard_normal((512, o))
    model = read_model(losses, params, (inputs, outputs), sampled=sampled)
    return build_posterior(
        model.loss_fn, model.w0, model.columns("float64"), nbeta=80.0, localization=LOCALIZATION, dtype="float64",
        frozen=model.frozen,
    )  # fmt: skip


def matrix_of(whitening: Whitening, dim: int) -> np.ndarray:
    return np.asarray(jax.vmap(whitening.displacement)(jnp.eye(dim))).T


def spread(whitening: Whitening, posterior: LocalPosterior) -> float:
    """Standard deviation of the logarithms of the whitened curvatures; 0 is perfect."""
    precision = np.asarray(posterior.hessian(posterior.w0)) + LOCALIZATION * np.eye(posterior.dim)
    a = matrix_of(whitening, posterior.dim)
    return float(np.std(np.log(np.abs(np.linalg.eigvalsh(a.T @ precision @ a)))))


@pytest.mark.parametrize("noise", [pytest.param(0.1, marks=pytest.mark.nightly), 0.0])
def test_it_is_better_than_a_diagonal_also_where_every_row_is_fitted(noise, monkeypatch):
    posterior = posterior_of(noise)
    at, key = posterior.w0[None], jax.random.key(0)
    turned = leafwise_whitening(posterior, at, key)
    monkeypatch.setattr(leafwise, "MAX_SIDE", 0)
    jax.clear_caches()
    diagonal = leafwise_whitening(posterior, at, key)
    assert isinstance(diagonal, DiagonalWhitening)
    nothing = DiagonalWhitening(jnp.full(posterior.dim, LOCALIZATION**-0.5))
    assert spread(turned, posterior) < 0.9 * min(spread(diagonal, posterior), spread(nothing, posterior))


def test_it_is_one_linear_map_seen_from_all_sides(monkeypatch):
    monkeypatch.setattr(leafwise, "MAX_SIDE", 4)  # some sides are turned, others are not
    posterior = posterior_of(0.1)
    whitening = leafwise_whitening(posterior, posterior.w0[None], jax.random.key(0))
    assert [basis is None for basis in whitening.in_bases] == [True, False, True]  # bias, weights, out
    assert [basis is None for basis in whitening.out_bases] == [True, True, False]
    z = jax.random.normal(jax.random.key(1), (posterior.dim,))
    a = matrix_of(whitening, posterior.dim)
    np.testing.assert_allclose(whitening.displacement(z), a @ z, rtol=1e-8)
    np.testing.assert_allclose(whitening.coordinates(a @ z), z, rtol=1e-8)
    np.testing.assert_allclose(whitening.pullback(z), a.T @ z, rtol=1e-8)
    np.testing.assert_allclose(whitening.gradient(a.T @ z), z, rtol=1e-8)
    np.testing.assert_allclose(whitening.log_abs_det, np.linalg.slogdet(a)[1], rtol=1e-8)
    np.testing.assert_allclose(whitening.squared_norm, np.sum(a**2), rtol=1e-8)
    restored = whitening_from_arrays(whitening.to_arrays(), "float64")
    np.testing.assert_array_equal(restored.displacement(z), whitening.displacement(z))


def test_leaves_that_are_sampled_in_part_have_a_scale_for_each_entry():
    mask = np.zeros((SIZES[1], SIZES[2]), bool)
    mask[1:3] = True
    posterior = posterior_of(0.1, sampled={"in": {"weights": True, "bias": False}, "out": mask})
    whitening = leafwise_whitening(posterior, posterior.w0[None], jax.random.key(0))
    assert whitening.spans == ((0, 18), (18, 22))
    assert [basis is None for basis in whitening.in_bases] == [False, True]
    assert [scale.shape for scale in whitening.scales] == [(3, 6), (1, 4)]
