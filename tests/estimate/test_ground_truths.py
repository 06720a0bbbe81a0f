"""What samplers find on targets whose answer is known without sampling."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from lambda_hat.config.problems import DeepLinearProblem, LinearNetworkProblem, ReducedRankProblem
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.estimate.reference import Reference, sample_reference
from lambda_hat.posterior import build_posterior
from lambda_hat.targets import Target, build_target

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.slow]


def reference(target: Target, nbeta: float, localization: float, seconds: float = 30) -> Reference:
    posterior = build_posterior(
        target.per_example_loss_fn, target.w0, target.data, nbeta=nbeta, localization=localization, dtype="float64"
    )
    spec = ReferenceSpec(max_relative_mcse=0.02)
    return sample_reference(posterior, spec, deadline=time.monotonic() + seconds)


def quadrature_111(nbeta: float, localization: float) -> float:
    """λ̂ of L(w) = (w₁w₂ − 1)² at w0 = (1, 1), by the trapezoidal rule."""
    w = np.linspace(1 - 12 / math.sqrt(localization), 1 + 12 / math.sqrt(localization), 4001)
    potential = nbeta * (np.outer(w, w) - 1) ** 2
    distance = 0.5 * localization * (w - 1) ** 2
    density = np.exp(-potential - distance[:, None] - distance)
    return float(np.sum(potential * density) / np.sum(density))


@pytest.mark.parametrize(("localization", "truth"), [(1.0, 0.500078), (10.0, 0.499072)])
def test_the_linear_network_1_1_1(localization: float, truth: float, is_within) -> None:
    assert quadrature_111(1000.0, localization) == pytest.approx(truth, abs=1e-6)
    target = build_target(DeepLinearProblem(widths=(1, 1, 1), rank=1, num_data=20))
    np.testing.assert_allclose(np.abs(target.w0), 1.0)
    scale = 0.5 * float(np.mean(target.data[0] ** 2)) / 0.1**2  # L_n = scale · (w₁w₂ ∓ 1)²
    result = reference(target, 1000.0 / scale, localization)
    assert is_within(result.llc, result.se, truth)
    assert not is_within(result.llc, result.se, 1.0)  # both parameters, were they both pinned down


@pytest.mark.parametrize("fibre", ["lowest", "full_rank"])
def test_close_to_w0_the_local_value_is_half_the_rank_of_the_jacobian(fibre: str, is_within) -> None:
    target = build_target(ReducedRankProblem(in_dim=3, hidden_dim=3, out_dim=3, rank=1, num_data=20, fibre=fibre))
    values = {"lowest": 4.0, "full_rank": 4.5}
    assert target.info["asymptotic_llc"] == values.pop(fibre)
    result = reference(target, 1e5, 1e3)
    assert result.certificate.is_certified, result.certificate.reasons
    bias = target.info["asymptotic_llc"] - result.laplace_llc  # what γ_loc takes away from the quadratic part
    assert 0 < bias < 0.02
    assert is_within(result.llc + bias, result.se, target.info["asymptotic_llc"])
    (other,) = values.values()
    assert not is_within(result.llc + bias, result.se, other)


@pytest.mark.parametrize(
    ("problem", "largest_gap"),
    [
        (ReducedRankProblem(in_dim=3, hidden_dim=2, out_dim=2, rank=1, num_data=20, noise_scale=1.0), 0.03),
        (DeepLinearProblem(widths=(2, 2, 2, 2), rank=1, num_data=20, noise_scale=1.0), 0.12),
    ],
    ids=lambda value: value.target if isinstance(value, LinearNetworkProblem) else "",
)
def test_the_estimate_rises_to_the_learning_coefficient(problem: LinearNetworkProblem, largest_gap: float) -> None:
    target = build_target(problem)
    coefficient = target.info["asymptotic_llc"]
    results = [reference(target, nbeta, 10.0, 12) for nbeta in (10.0, 100.0, 1000.0)]
    gaps = [coefficient - result.llc for result in results]
    assert gaps[0] > gaps[1] + 0.1
    assert gaps[1] > gaps[2] + 0.05
    assert 0 < gaps[2] + 4 * results[2].se
    assert gaps[2] < largest_gap * coefficient + 4 * results[2].se
