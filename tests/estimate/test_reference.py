"""The reference: right where it is certified, and never certified where it is wrong."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate

from lambda_hat.config.study import ReferenceSpec
from lambda_hat.estimate.reference import Reference, sample_reference
from lambda_hat.posterior import LocalPosterior, build_posterior, nbeta_of
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

pytestmark = pytest.mark.usefixtures("float64")

DATA = Path(__file__).parents[1] / "data"
NBETA = 1000.0


def reference(posterior: LocalPosterior, seconds: float, **fields: object) -> Reference:
    return sample_reference(posterior, ReferenceSpec(**fields), deadline=time.monotonic() + seconds)


@dataclass(frozen=True)
class Potential:
    """L(w) = w₁^a w₂^b on one row that it ignores."""

    a: int
    b: int

    def __call__(self, position, batch):
        return position[0] ** self.a * position[1] ** self.b + 0 * batch[0][:, 0]


def potential(loss_fn, localization: float) -> LocalPosterior:
    rows = (np.zeros((2, 1)),)
    return build_posterior(loss_fn, np.zeros(2), rows, nbeta=NBETA, localization=localization, dtype="float64")


def quadrature(loss_fn, localization: float) -> float:
    """λ̂ of a potential that is even in both parameters, by integration over the first quadrant."""

    def density(y: float, x: float) -> float:
        return math.exp(-NBETA * x**loss_fn.a * y**loss_fn.b - 0.5 * localization * (x * x + y * y))

    def moment(y: float, x: float) -> float:
        return NBETA * x**loss_fn.a * y**loss_fn.b * density(y, x)

    span = 9.0 / math.sqrt(localization)
    edges = [0.0, *np.geomspace(span / 1000, span, 8)]

    def integral(function) -> float:
        cells = [(x, y) for x in pairwise(edges) for y in pairwise(edges)]
        return sum(integrate.dblquad(function, *x, *y, epsabs=1e-9, epsrel=1e-7)[0] for x, y in cells)

    return integral(moment) / integral(density)


def test_a_quadratic_is_certified_and_right(build_quadratic) -> None:
    target, posterior = build_quadratic()
    result = reference(posterior, 60)
    truth = target.exact_llc(float(posterior.nbeta), float(posterior.localization))
    assert result.certificate.is_certified, result.certificate.reasons
    assert abs(result.llc - truth) < 4 * result.se
    assert result.se < 0.01 * truth
    assert math.isclose(result.laplace_llc, truth, rel_tol=1e-9)


def test_too_small_a_budget_is_never_certified(build_quadratic) -> None:
    _, posterior = build_quadratic()
    result = reference(posterior, 0.0)
    assert not result.certificate.is_certified
    assert result.certificate.reasons[0] == "number of draws is 0, at least 400 wanted"
    assert "disagreement with half the step size, in MCSE is not known yet" in result.certificate.reasons


@pytest.mark.slow
@pytest.mark.parametrize("loss_fn", [Potential(2, 2), Potential(2, 4)], ids=["w1^2 w2^2", "w1^2 w2^4"])
def test_singular_potentials_are_not_certified_and_wrong(loss_fn: Potential) -> None:
    truth = quadrature(loss_fn, 1.0)
    assert math.isclose(truth, {2: 0.390273, 4: 0.224851}[loss_fn.b], abs_tol=2e-5)
    result = reference(potential(loss_fn, 1.0), 20)
    assert not result.certificate.is_certified or abs(result.llc - truth) < 4 * result.se


def relu45(localization: float) -> LocalPosterior:
    with np.load(DATA / "relu45.npz") as arrays:
        sizes = tuple(int(size) for size in arrays["sizes"])
        loss_fn = SquaredError(MLP(sizes, "relu", True), 0.5 / 0.05**2)
        data, w0 = (arrays["X"], arrays["Y"]), arrays["w0"]
    return build_posterior(loss_fn, w0, data, nbeta=nbeta_of(2000, None), localization=localization, dtype="float64")


@pytest.mark.slow
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_a_relu_network_with_a_known_answer(share: float) -> None:
    posterior = relu45(100.0)
    assert math.isclose(float(posterior.loss_at_w0), 0.508438, abs_tol=1e-6)
    result = reference(posterior, 240 * share)
    is_right = abs(result.llc - 15.637) < 3 * math.hypot(result.se, 0.007)
    if share == 1.0:
        assert result.certificate.is_certified, result.certificate.reasons
        assert is_right
    else:
        assert is_right or not result.certificate.is_certified
