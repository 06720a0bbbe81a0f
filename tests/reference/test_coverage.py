"""Standard errors of the unbiased methods mean what they say, as a user gets them."""

from __future__ import annotations

from collections.abc import Callable

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


@pytest.fixture
def deviations_of(build_quadratic):
    """(λ̂ − truth)/se under so many seeds, in one program, before the correction, which is exact here.

    The truth may be moved by a factor.
    """
    target, posterior = build_quadratic()
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    truth = target.exact_llc(float(posterior.nbeta), 10.0)

    def deviations_of(settings: MethodSettings, num_seeds: int) -> Callable[..., np.ndarray]:
        coordinates = Coordinates(whitening, whitening)
        runs = [sample_method(posterior, settings, coordinates=coordinates, seed=seed) for seed in range(num_seeds)]
        estimates = [run.estimate for _, run in run_together(runs)]

        def deviations(factor: float = 1.0) -> np.ndarray:
            return np.array([(estimate.raw_llc - factor * truth) / estimate.raw_se for estimate in estimates])

        return deviations

    return deviations_of


def is_standard(deviations: np.ndarray) -> bool:
    """Whether mean and spread are 0 and 1, within three of their standard errors."""
    num = deviations.size
    return abs(deviations.mean()) < 3 / np.sqrt(num) and abs(deviations.std() - 1) < 3 / np.sqrt(2 * num)


def coverage(deviations: np.ndarray) -> float:
    return float(np.mean(np.abs(deviations) <= 1.96))


@pytest.mark.nightly
@pytest.mark.nightly
@pytest.mark.parametrize("settings", [SETTINGS["hmc"], SETTINGS["mclmc"]], ids=SETTINGS)
def test_deviations_are_as_large_as_standard_errors_say(deviations_of, settings: MethodSettings) -> None:
    deviations = deviations_of(settings, 100)
    assert is_standard(deviations())
    # The criterion sees errors of two thirds and of half again the size, and a bias of 5 %.
    assert not is_standard(1.5 * deviations())
    assert not is_standard(deviations() / 1.5)
    assert not is_standard(deviations(1.05))


@pytest.mark.nightly
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_intervals_cover_the_truth(deviations_of, settings: MethodSettings) -> None:
    deviations = deviations_of(settings, 400)
    assert 0.92 <= coverage(deviations()) <= 0.975
    assert coverage(1.5 * deviations()) < 0.92
    assert coverage(deviations() / 1.5) > 0.975
    assert coverage(deviations(1.05)) < 0.92
