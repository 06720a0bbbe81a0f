"""Pareto-smoothed importance sampling between normals, where every answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lambda_hat.draws.importance import psis_estimate, weighted_mean
from lambda_hat.errors import InputError


def normal_log_weights(draws: np.ndarray, scale: float) -> np.ndarray:
    """Towards N(0, 1) from N(0, scale²), up to a constant."""
    return -0.5 * draws**2 + 0.5 * (draws / scale) ** 2


def test_corrects_the_mean_of_a_wider_proposal() -> None:
    draws = 1.5 * np.random.default_rng(0).normal(size=20_000)
    mean, se, k_hat = psis_estimate(draws**2, 1e3 + normal_log_weights(draws, 1.5))
    assert mean == pytest.approx(1.0, abs=4 * se)
    assert 0 < se < 0.02
    assert k_hat < 0.5


def test_the_standard_error_is_that_of_repetitions() -> None:
    rng = np.random.default_rng(1)
    means, errors = [], []
    for _ in range(200):
        draws = 1.5 * rng.normal(size=1000)
        mean, se, _ = psis_estimate(draws**2, normal_log_weights(draws, 1.5))
        means.append(mean)
        errors.append(se)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.2)


def test_a_proposal_much_too_narrow_is_told() -> None:
    draws = 0.3 * np.random.default_rng(2).normal(size=5000)
    _, _, k_hat = psis_estimate(draws**2, normal_log_weights(draws, 0.3))
    assert k_hat > 0.7


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(InputError, match="diverged"):
        psis_estimate(np.zeros(100), np.array([bad] + [0.0] * 99))


def test_equal_weights_have_no_tail():
    values = np.arange(100.0)
    assert weighted_mean(values, np.full(100, -14.0)) == pytest.approx((49.5, np.std(values) / 10, 0.0, 100.0))


def test_a_weight_of_zero_counts_for_nothing():
    values = np.array([np.inf, 1.0, 3.0, np.nan])
    mean, error, k_hat, size = weighted_mean(values, np.array([-np.inf, 0.0, 0.0, -np.inf]))
    assert (mean, k_hat, size) == (2.0, 0.0, 2.0)
    assert error == pytest.approx(math.sqrt(0.5))
    assert weighted_mean(values, np.full(4, -np.inf))[0] is math.nan


def test_one_weight_that_outweighs_all_others_tells_nothing():
    log_weights = -1e5 * np.arange(1000.0)
    mean, _, k_hat, size = weighted_mean(np.arange(1000.0), log_weights)
    assert (mean, size) == (0.0, 1.0)
    assert k_hat > 1e6


@pytest.mark.parametrize("height", [1e-6, 0.2, 3.0, 12.0])
def test_a_tail_that_cannot_be_fitted_is_as_heavy_as_it_is_long(height):
    """A plateau, and one draw in sight of the hole in it."""
    log_weights = np.zeros(4096)
    log_weights[7] = height
    _, _, k_hat, size = weighted_mean(log_weights, log_weights)
    assert k_hat == pytest.approx(height / math.log(192))
    assert size == pytest.approx((4095 + math.exp(height)) ** 2 / (4095 + math.exp(2 * height)))


def test_weights_that_are_nearly_equal_have_no_heavy_tail():
    """Whatever the shape of their differences: none of a millionth part outweighs another by more than a third."""
    excess = 1e-4 * np.minimum(np.random.default_rng(0).pareto(1.0, 4096), 3000)
    _, _, k_hat, size = weighted_mean(excess, np.log1p(excess))
    assert k_hat < 0.2
    assert size > 4090
