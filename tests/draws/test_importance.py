"""Pareto-smoothed importance sampling between normals, where every answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from lambda_hat.draws.importance import psis_estimate
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
