"""Means, covariances and correlations of many traces: right on average, with errors that are right as well."""

from __future__ import annotations

import numpy as np
import pytest

from lambda_hat.draws import many
from lambda_hat.draws.diagnostics import diagnose_trace
from lambda_hat.draws.many import correlations, covariances, means

AUTOCORRELATION = 0.6


def chains(rng: np.random.Generator, num_draws: int = 600, covariance=((1.0, 0.5), (0.5, 2.0))) -> np.ndarray:
    """Four chains of a Gaussian autoregression of two variables with this stationary covariance."""
    factor = np.linalg.cholesky(np.asarray(covariance))
    noise = rng.standard_normal((4, num_draws, 2)) @ factor.T
    traces = np.empty_like(noise)
    traces[:, 0] = noise[:, 0]
    for t in range(1, num_draws):
        traces[:, t] = AUTOCORRELATION * traces[:, t - 1] + np.sqrt(1 - AUTOCORRELATION**2) * noise[:, t]
    return traces


@pytest.mark.slow
def test_errors_are_those_of_repetitions():
    rng = np.random.default_rng(0)
    found = [chains(rng) for _ in range(200)]
    wanted = {
        means: np.zeros(2),
        lambda x: covariances(x, x): np.array([[1.0, 0.5], [0.5, 2.0]]),
        correlations: np.array([[1.0, 0.5 / np.sqrt(2)], [0.5 / np.sqrt(2), 1.0]]),
    }
    for function, truth in wanted.items():
        measured = [function(traces) for traces in found]
        values = np.stack([one.value for one in measured])
        told = np.sqrt(np.mean([one.se**2 for one in measured], axis=0))
        spread = values.std(axis=0)
        is_known = spread > 1e-9  # a correlation with itself
        np.testing.assert_allclose((told / spread)[is_known], 1.0, atol=0.2)
        assert np.all(np.abs(values.mean(axis=0) - truth) < 4 * spread / np.sqrt(200) + 0.01)
        assert np.median([one.rhat for one in measured]) < 1.01


def test_the_error_of_a_mean_is_that_of_arviz():
    traces = chains(np.random.default_rng(1), 2000)
    for index in range(2):
        wanted = diagnose_trace(traces[..., index])
        found = means(traces)
        assert found.value[index] == pytest.approx(wanted.mean)
        assert found.se[index] == pytest.approx(wanted.mcse, rel=0.25)
        assert found.rhat[index] == pytest.approx(wanted.rhat, abs=0.005)


def test_chains_that_disagree_are_seen():
    traces = chains(np.random.default_rng(2))
    traces[0] *= 3  # another variance
    assert np.diag(covariances(traces, traces).rhat).min() > 1.05
    assert means(traces + np.arange(4)[:, None, None]).rhat.min() > 1.05


def test_slabs_change_nothing(monkeypatch):
    traces = chains(np.random.default_rng(3))
    whole = covariances(traces, traces)
    monkeypatch.setattr(many, "_MAX_NUMBERS", 1)
    for one, other in zip(whole, covariances(traces, traces), strict=True):
        np.testing.assert_array_equal(one, other)


def test_chains_that_diverged_have_no_values_and_no_warnings():
    traces = chains(np.random.default_rng(4))
    traces[0, -1, 0] = np.inf
    found = covariances(traces, traces)
    assert np.isnan(found.value[0]).all()
    assert np.isfinite(found.value[1, 1])
    assert np.isnan(found.rhat[0, 0])


def test_few_draws_have_no_error_and_constants_have_none_to_have():
    few = covariances(np.ones((4, 10, 1)), np.ones((4, 10, 2)))
    assert few.value.shape == (1, 2)
    assert np.isinf(few.se).all()
    constant = means(np.ones((4, 100, 1)))
    assert (constant.value, constant.se) == (1.0, 0.0)
    assert constant.rhat[0] <= 1
    assert covariances(np.ones((4, 100, 0)), np.ones((4, 100, 2))).value.shape == (0, 2)
    assert np.isnan(means(np.ones((4, 0, 1))).value).all()
