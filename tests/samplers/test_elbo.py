"""Whether an ELBO was still rising when its fit ended."""

from __future__ import annotations

import numpy as np
import pytest

from lambda_hat.samplers.vi import elbo_trend


def trace(slope: float, rng: np.random.Generator) -> np.ndarray:
    """Two fits of 4000 steps that rise by `slope` per 1000 steps in the last 1000."""
    rise = np.concatenate([np.linspace(-500, -10, 3000), -10 + slope * np.arange(1000) / 1000])
    return rise + rng.normal(size=(2, 4000))


@pytest.mark.parametrize("slope", [0.0, 3.0])
def test_the_slope_is_that_of_the_last_quarter(slope: float) -> None:
    trend = elbo_trend(trace(slope, np.random.default_rng(0)))
    assert trend["elbo_slope"] == pytest.approx(slope, abs=4 * trend["elbo_slope_se"])
    assert trend["elbo"] == pytest.approx(-10 + slope / 2, abs=0.1)
    assert (trend["elbo_slope"] > 4 * trend["elbo_slope_se"]) == (slope > 0)


def test_the_error_of_the_slope_is_that_of_repetitions() -> None:
    rng = np.random.default_rng(1)
    trends = [elbo_trend(trace(0.0, rng)) for _ in range(100)]
    slopes, errors = (np.array([trend[name] for trend in trends]) for name in ("elbo_slope", "elbo_slope_se"))
    assert errors.mean() == pytest.approx(slopes.std(), rel=0.25)


def test_a_trace_too_short_for_a_slope_has_none() -> None:
    assert elbo_trend(np.array([[-3.0, -1.0]])) == {"elbo": -2.0}
