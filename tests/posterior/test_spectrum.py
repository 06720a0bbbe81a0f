"""The spectrum at w0: exact traces, and those by stochastic quadrature with an honest error."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from lambda_hat.posterior import Spectrum, geometry_at_w0
from lambda_hat.posterior import geometry as geometry_module
from lambda_hat.posterior.spectrum import spectrum_at_w0

pytestmark = pytest.mark.usefixtures("float64")


def test_laplace_value_is_exact_for_a_quadratic(build_quadratic):
    target, posterior = build_quadratic()
    geometry = geometry_at_w0(posterior, jax.random.key(0))
    exact = target.exact_llc(float(posterior.nbeta), 10.0)
    assert geometry.spectrum.laplace_llc(10.0) == (pytest.approx(exact, rel=1e-10), 0.0)
    assert geometry.num_passes == 5
    assert Spectrum.from_eigenvalues(np.array([-3.0, 3.0])).laplace_llc(1.0)[0] == pytest.approx(0.75)


@pytest.mark.slow
def test_quadrature_agrees_within_its_error(build_quadratic, is_within):
    target, posterior = build_quadratic(dim=60, smallest_curvature=1e-3, largest_curvature=100.0, localization=30.0)
    spectrum = spectrum_at_w0(posterior, jax.random.key(0))
    value, error = spectrum.laplace_llc(30.0)
    exact = target.exact_llc(float(posterior.nbeta), 30.0)
    assert not spectrum.is_exact
    assert 0 < error < 0.1 * exact
    assert is_within(value, error, exact)
    assert spectrum.largest == pytest.approx(float(posterior.nbeta) * 100.0, rel=1e-6)
    curvatures = target.loss_fn.geometry.curvatures
    trace, trace_error = spectrum.trace(lambda h: h)
    assert is_within(trace, trace_error, float(posterior.nbeta) * float(np.sum(curvatures)))


@pytest.mark.slow
def test_a_large_model_without_layers_is_whitened_by_stiff_directions_and_a_diagonal(build_quadratic, monkeypatch):
    monkeypatch.setattr(geometry_module, "MAX_DENSE_DIM", 3)
    _, posterior = build_quadratic(is_rotated=False, gradient_noise=0.1)
    geometry = geometry_at_w0(posterior, jax.random.key(0))
    assert type(geometry.whitening).__name__ == "SpikedWhitening"
    assert type(geometry.whitening.base).__name__ == "DiagonalWhitening"
    assert not geometry.spectrum.is_exact
