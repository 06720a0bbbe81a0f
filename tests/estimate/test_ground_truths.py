"""What samplers find on targets whose answer is known without sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.problems import DeepLinearProblem, LinearNetworkProblem, ReducedRankProblem
from lambda_hat.draws.llc import LLCEstimate
from lambda_hat.estimate.method import run_method
from lambda_hat.posterior import Coordinates, build_posterior, hessian_whitening
from lambda_hat.targets import Model, build_target

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.slow]


def estimate(target: Model, nbeta: float, localization: float, num_steps: int = 3000) -> LLCEstimate:
    """By HMC in the coordinates of the Hessian at w0; its chains agree on the loss."""
    posterior = build_posterior(
        target.loss_fn, target.w0, target.data, nbeta=nbeta, localization=localization, dtype="float64"
    )
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    settings = HMCSettings(num_steps=num_steps, num_chains=8, num_integration_steps=12, target_accept=0.9)
    run = run_method(posterior, settings, coordinates=Coordinates(whitening, whitening), seed=0)
    assert run.state == "COMPLETE"
    assert run.estimate.rhat_loss < 1.05
    return run.estimate


def quadrature_111(nbeta: float, localization: float) -> float:
    """λ̂ of L(w) = (w₁w₂ − 1)² at w0 = (1, 1), by the trapezoidal rule."""
    w = np.linspace(1 - 12 / math.sqrt(localization), 1 + 12 / math.sqrt(localization), 4001)
    potential = nbeta * (np.outer(w, w) - 1) ** 2
    distance = 0.5 * localization * (w - 1) ** 2
    density = np.exp(-potential - distance[:, None] - distance)
    return float(np.sum(potential * density) / np.sum(density))


@pytest.mark.parametrize(
    ("localization", "truth"), [(1.0, 0.500078), pytest.param(10.0, 0.499072, marks=pytest.mark.nightly)]
)
def test_the_linear_network_1_1_1(localization: float, truth: float, is_within) -> None:
    assert quadrature_111(1000.0, localization) == pytest.approx(truth, abs=1e-6)
    target = build_target(DeepLinearProblem(widths=(1, 1, 1), rank=1, num_data=20))
    np.testing.assert_allclose(np.abs(target.w0), 1.0)
    scale = 0.5 * float(np.mean(target.data[0] ** 2)) / 0.1**2  # L_n = scale · (w₁w₂ ∓ 1)²
    result = estimate(target, 1000.0 / scale, localization, num_steps=8000)
    assert is_within(result.llc, result.se, truth)
    assert result.se < 0.02


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("fibre", "other"), [pytest.param("lowest", 4.5, marks=pytest.mark.nightly), ("full_rank", 4.0)]
)
def test_close_to_w0_the_local_value_is_half_the_rank_of_the_jacobian(fibre: str, other: float, is_within) -> None:
    target = build_target(ReducedRankProblem(in_dim=3, hidden_dim=3, out_dim=3, rank=1, num_data=20, fibre=fibre))
    assert target.info["asymptotic_llc"] == 8.5 - other
    result = estimate(target, 1e7, 1e5, num_steps=6000)
    expected = target.info["asymptotic_llc"]  # a limit, which is 1 % away at this localization
    assert is_within(result.llc, np.hypot(result.se, 0.01 * expected), expected)
    assert not is_within(result.llc, result.se, other)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("problem", "largest_gap"),
    [
        (ReducedRankProblem(in_dim=3, hidden_dim=2, out_dim=2, rank=1, num_data=20, noise_scale=1.0), 0.03),
        (DeepLinearProblem(widths=(2, 2, 2, 2), rank=1, num_data=20, noise_scale=1.0), 0.12),
    ],
    ids=["reduced_rank", "deep_linear"],
)
def test_the_estimate_rises_to_the_learning_coefficient(problem: LinearNetworkProblem, largest_gap: float) -> None:
    target = build_target(problem)
    coefficient = target.info["asymptotic_llc"]
    results = [estimate(target, nbeta, 10.0, num_steps=6000) for nbeta in (10.0, 100.0, 1000.0)]
    gaps = [coefficient - result.llc for result in results]
    errors = [result.se for result in results]
    assert gaps[0] > gaps[1] + 4 * (errors[0] + errors[1])
    assert gaps[1] > gaps[2] + 4 * (errors[1] + errors[2])
    assert gaps[2] > -4 * errors[2]
    assert gaps[2] < largest_gap * coefficient + 4 * errors[2]
