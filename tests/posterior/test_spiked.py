"""Whitening by a few stiff directions and a diagonal for the rest, against Hessians that are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.posterior import DiagonalWhitening, Identities, LocalPosterior, build_posterior
from lambda_hat.posterior.geometry import factored_whitening, whitening_from_arrays
from lambda_hat.posterior.leafwise import leafwise_whitening
from lambda_hat.posterior.spiked import MAX_SPIKES, find_spikes, spiked_whitening
from lambda_hat.posterior.whitening import Whitening

pytestmark = pytest.mark.usefixtures("float64")

DIM, NUM_STIFF, NUM_DATA = 120, 8, 500
NBETA, LOCALIZATION = 50.0, 2.0


def squared_error(position, batch):
    return 0.5 * (batch[0] @ position - batch[1]) ** 2


def bare(position, batch):
    """A loss whose second derivative at zero is not a number."""
    return jnp.sum(jnp.abs(position) ** 1.5) + 0.0 * batch[0][:, 0]


def regression() -> tuple[LocalPosterior, np.ndarray]:
    """One whose Hessian has eight large eigenvalues along directions that are no axes; and H + γ."""
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    widths = np.where(np.arange(DIM) < NUM_STIFF, 2.0, 0.05)
    inputs = (rng.standard_normal((NUM_DATA, DIM)) * widths) @ turned.T
    data = inputs, 0.1 * rng.standard_normal(NUM_DATA)
    w0 = np.linalg.lstsq(*data, rcond=None)[0]
    posterior = build_posterior(squared_error, w0, data, nbeta=NBETA, localization=LOCALIZATION, dtype="float64")
    return posterior, NBETA * inputs.T @ inputs / NUM_DATA + LOCALIZATION * np.eye(DIM)


def curvatures(whitening: Whitening, precision: np.ndarray) -> np.ndarray:
    a = np.asarray(jax.vmap(whitening.displacement)(jnp.eye(DIM))).T
    return np.linalg.eigvalsh(a.T @ precision @ a)


def test_stiff_directions_become_like_all_others():
    posterior, precision = regression()
    at, key = posterior.w0[None], jax.random.key(0)
    diagonal = leafwise_whitening(posterior, at, key)
    whitening, num_passes = factored_whitening(posterior, at, key)
    assert curvatures(diagonal, precision).max() > 5.0
    assert curvatures(whitening, precision).max() < 1.1
    assert curvatures(whitening, precision).min() > 0.9
    assert num_passes == 3 + 48


def test_curvature_is_counted_once():
    """tr M = tr H(H + γ)⁻¹, not what a diagonal makes of curvature that a few directions have: 98 instead of 14.

    What the stiff directions leave of the trace is told by one random probe.
    """
    posterior, precision = regression()
    at, key = posterior.w0[None], jax.random.key(0)
    truth = DIM - LOCALIZATION * np.trace(np.linalg.inv(precision))
    diagonal, whitening = leafwise_whitening(posterior, at, key), factored_whitening(posterior, at, key)[0]
    traces = [DIM - float(Identities(one, posterior.localization).flat_trace) for one in (diagonal, whitening)]
    assert traces[0] > 2 * truth
    assert traces[1] == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize("num_positions", [1, 4])
def test_curvatures_are_those_of_the_hessian(num_positions):
    posterior, precision = regression()
    spikes, _ = find_spikes(posterior, jnp.tile(posterior.w0, (num_positions, 1)), jax.random.key(0))
    exact = np.linalg.eigvalsh(precision)[-NUM_STIFF:] - LOCALIZATION
    np.testing.assert_allclose(np.sort(spikes.curvatures)[-NUM_STIFF:], exact, rtol=1e-4)
    assert spikes.directions.shape == (MAX_SPIKES, DIM)
    np.testing.assert_allclose(spikes.directions @ spikes.directions.T, np.eye(MAX_SPIKES), atol=1e-6)


def test_some_rows_say_enough(monkeypatch):
    """Of more rows than are looked at, the whitening is by a part of them."""
    monkeypatch.setattr("lambda_hat.posterior.spiked.MAX_ROWS", 400)
    posterior, precision = regression()
    whitening, num_passes = factored_whitening(posterior, posterior.w0[None], jax.random.key(0))
    assert curvatures(whitening, precision).max() < 1.5
    assert num_passes == 3 + 39


@pytest.mark.parametrize("loss", [bare, lambda position, batch: 0.0 * position[0] * batch[0][:, 0]])
def test_without_curvature_it_is_its_base(loss):
    posterior = build_posterior(loss, np.zeros(4), (np.ones((3, 1)),), nbeta=1.0, localization=4.0, dtype="float64")
    base = DiagonalWhitening(jnp.array([1.0, 2.0, 3.0, 4.0]))
    whitening = spiked_whitening(base, find_spikes(posterior, posterior.w0[None], jax.random.key(0))[0])
    z = jnp.arange(1.0, 5.0)
    np.testing.assert_array_equal(whitening.displacement(z), base.displacement(z))


def test_it_is_one_linear_map_seen_from_all_sides():
    posterior, _ = regression()
    whitening, _ = factored_whitening(posterior, posterior.w0[None], jax.random.key(0))
    a = np.asarray(jax.vmap(whitening.displacement)(jnp.eye(DIM))).T
    z = jax.random.normal(jax.random.key(1), (DIM,))
    np.testing.assert_allclose(whitening.pullback(z), a.T @ z, atol=1e-5)
    np.testing.assert_allclose(whitening.coordinates(a @ z), z, atol=1e-5)
    np.testing.assert_allclose(whitening.gradient(a.T @ z), z, atol=1e-5)
    np.testing.assert_allclose(whitening.log_abs_det, np.linalg.slogdet(a)[1], rtol=1e-5)
    np.testing.assert_allclose(whitening.squared_norm, np.sum(a**2), rtol=1e-5)
    restored = whitening_from_arrays(whitening.to_arrays(), "float64")
    np.testing.assert_array_equal(restored.displacement(z), whitening.displacement(z))
    in_float32 = whitening_from_arrays(whitening.to_arrays(), "float32")
    assert in_float32.displacement(z.astype("float32")).dtype == "float32"
