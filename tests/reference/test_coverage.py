"""Standard errors of the unbiased methods mean what they say, as a user gets them."""

from __future__ import annotations

import numpy as np
import pytest

from lambda_hat.config.methods import MethodSettings
from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.estimate.method import sample_method
from lambda_hat.posterior import Coordinates, hessian_whitening
from lambda_hat.samplers.runner import run_together

pytestmark = pytest.mark.usefixtures("float64")

SETTINGS = {"hmc": HMCSettings(steps=400), "mclmc": MCLMCSettings(steps=400)}
# By number of seeds, the coverage of honest intervals: 0.95 within two to three of its own standard errors.
BOUNDS = {200: (0.90, 0.98), 400: (0.92, 0.975)}


def coverage(estimates: list, truth: float, factor: float = 1.0) -> float:
    return float(np.mean([abs(estimate.llc - truth) <= 1.96 * factor * estimate.se for estimate in estimates]))


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [200, pytest.param(400, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_intervals_cover_the_truth(build_quadratic, settings: MethodSettings, num_seeds: int) -> None:
    target, posterior = build_quadratic()
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    truth = target.exact_llc(float(posterior.nbeta), 10.0)
    coordinates = Coordinates(whitening, whitening)
    runs = [sample_method(posterior, settings, coordinates=coordinates, seed=seed) for seed in range(num_seeds)]
    estimates = [run.estimate for _, run in run_together(runs)]  # one program for all seeds
    lowest, highest = BOUNDS[num_seeds]
    assert lowest <= coverage(estimates, truth) <= highest
    # The criterion sees errors of two thirds and of half again the size, and a bias of 5 %.
    assert coverage(estimates, truth, 2 / 3) < lowest
    assert coverage(estimates, truth, 3 / 2) > highest
    assert coverage(estimates, 1.05 * truth) < lowest
