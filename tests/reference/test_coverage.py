"""Standard errors of the unbiased methods mean what they say, as a user gets them."""

from __future__ import annotations

import numpy as np
import pytest

from lambda_hat.config.methods import MethodSettings
from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.estimate.method import run_method
from lambda_hat.posterior import Coordinates, hessian_whitening

pytestmark = pytest.mark.usefixtures("float64")

NUM_SEEDS = 200
SETTINGS = {"hmc": HMCSettings(steps=400), "mclmc": MCLMCSettings(steps=400)}


def coverage(estimates: list, truth: float, factor: float = 1.0) -> float:
    return float(np.mean([abs(estimate.llc - truth) <= 1.96 * factor * estimate.se for estimate in estimates]))


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_intervals_cover_the_truth(build_quadratic, settings: MethodSettings) -> None:
    target, posterior = build_quadratic()
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    truth = target.exact_llc(float(posterior.nbeta), 10.0)
    coordinates = Coordinates(whitening, whitening)
    estimates = [
        run_method(posterior, settings, coordinates=coordinates, seed=seed).estimate for seed in range(NUM_SEEDS)
    ]
    assert 0.90 <= coverage(estimates, truth) <= 0.98
    # The criterion sees errors of two thirds and of half again the size, and a bias of 5 %.
    assert coverage(estimates, truth, 2 / 3) < 0.90
    assert coverage(estimates, truth, 3 / 2) > 0.98
    assert coverage(estimates, 1.05 * truth) < 0.90
