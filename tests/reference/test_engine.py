"""The reference: right where it is certified, and never certified where it is wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.posterior import LocalPosterior, build_posterior
from lambda_hat.posterior import geometry as geometry_module
from lambda_hat.reference import coordinates as coordinates_module
from lambda_hat.reference.engine import sample_reference
from lambda_hat.reference.result import Reference
from lambda_hat.samplers import runner as runner_module
from lambda_hat.samplers.work import OutOfTime, Progress
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

pytestmark = pytest.mark.usefixtures("float64")

DATA = Path(__file__).parents[1] / "data"
NBETA = 1000.0


def reference(
    posterior: LocalPosterior,
    *,
    deadline: float = math.inf,
    stored: Mapping[str, np.ndarray] | None = None,
    max_stages: float = math.inf,
    **fields: object,
) -> Reference:
    """Until it is certified, or out of time because it has told of `max_stages` stages, however long they took."""
    stages = itertools.count(1)

    def end_after_last(_: Progress) -> None:
        if next(stages) >= max_stages:
            raise OutOfTime

    return sample_reference(
        posterior, ReferenceSpec(**fields), deadline=deadline, stored=stored, on_progress=end_after_last
    )


def is_right(result: Reference, truth: float, error: float = 0.0) -> bool:
    return abs(result.llc - truth) <= 4 * math.hypot(result.se, error)


def without_data(loss_fn: Callable, dim: int, localization: float, row: float = 0.0) -> LocalPosterior:
    """The posterior of a loss whose rows are all the same."""
    rows = (np.full((2, 1), row),)
    return build_posterior(loss_fn, np.zeros(dim), rows, nbeta=NBETA, localization=localization, dtype="float64")


# λ̂ of the network of `test_a_large_network_goes_the_same_way` by dense matrices, its error, and Laplace's value.
DENSE = (2.6465, 0.0173, 2.6298171)

LANDSCAPES = ("saddle", "flat", "funnel", "w1^2 w2^2", "w1^2 w2^4")


def landscape(position, batch):
    """One program for all of these losses of two parameters: which of them it is, the data say.

    The funnel has nβL = ½ e^(2v) x²: the width of x changes by many orders of magnitude with v.
    """
    x, y = position
    losses = (
        0.5 * x**2 - 0.1 * y**2 + y**4,
        0.5 * x**2,
        0.5 * jnp.exp(2 * jnp.minimum(x, 100.0)) * y**2 / NBETA,
        x**2 * y**2,
        x**2 * y**4,
    )
    return jnp.stack(losses)[batch[0][:, 0].astype(int)]


def posterior_in(name: str, localization: float) -> LocalPosterior:
    return without_data(landscape, 2, localization, LANDSCAPES.index(name))


@dataclass(frozen=True)
class Wells:
    """nβL = −log(e^(−(w/0.05)²/2) + ½ e^(−((w−2)/0.4)²/2)), zero at 0: the far well holds most of the mass."""

    def potential(self, w):
        near, far = -0.5 * (w / 0.05) ** 2, math.log(0.5) - 0.5 * ((w - 2.0) / 0.4) ** 2
        return -jnp.logaddexp(near, far) + jnp.logaddexp(0.0, math.log(0.5) - 12.5)

    def __call__(self, position, batch):
        return self.potential(position[0]) / NBETA + 0 * batch[0][:, 0]


def expectation(value_fn: Callable, log_density_fn: Callable, low: float, high: float, points: list[float]) -> float:
    """E[value] under a one-dimensional density, by quadrature."""

    def integral(function: Callable) -> float:
        return integrate.quad(function, low, high, points=points, limit=500)[0]

    return integral(lambda x: value_fn(x) * math.exp(log_density_fn(x))) / integral(
        lambda x: math.exp(log_density_fn(x))
    )


@pytest.mark.slow
def test_a_quadratic_is_certified_and_right(build_quadratic) -> None:
    target, posterior = build_quadratic()
    result = reference(posterior)
    truth = target.exact_llc(float(posterior.nbeta), float(posterior.localization))
    assert result.certificate.is_certified, result.certificate.reasons
    assert is_right(result, truth)
    assert result.se < 0.01 * truth
    assert math.isclose(result.laplace_llc, truth, rel_tol=1e-9)
    assert result.decrease_available < 1e-6
    assert result.survey.masses.tolist() == [1.0]  # every descent ends in the one well there is


def test_too_small_a_budget_is_never_certified(build_quadratic) -> None:
    _, posterior = build_quadratic()
    result = reference(posterior, deadline=0.0)
    assert not result.certificate.is_certified
    assert result.certificate.reasons[0] == "number of draws is 0, at least 400 wanted"
    assert "disagreement with half the step size, in MCSE is not known yet" in result.certificate.reasons


@pytest.mark.slow
def test_a_later_call_goes_on_from_what_is_stored(build_quadratic) -> None:
    target, posterior = build_quadratic()
    fields = {"num_chains": 4, "max_relative_mcse": 0.02}
    whole = reference(posterior, **fields)
    more = reference(posterior, stored=whole.arrays, **fields | {"cross_check": "mclmc"})
    assert more.certificate.is_certified, more.certificate.reasons
    assert {"R̂ of the loss at mclmc", "disagreement with mclmc, in MCSE"} <= {c.name for c in more.certificate.criteria}
    assert more.num_gradient_evaluations > whole.num_gradient_evaluations
    assert math.isclose(more.llc, whole.llc, rel_tol=1e-6)  # its own draws, as they were stored
    assert is_right(more, target.exact_llc(float(posterior.nbeta), 10.0))
    assert "pilots" not in more.seconds
    beginning = reference(posterior, deadline=0.0, **fields)
    assert reference(posterior, stored=beginning.arrays, **fields).certificate.is_certified


@pytest.mark.slow
def test_a_start_that_is_no_minimum_is_refused(build_quadratic) -> None:
    target, posterior = build_quadratic()
    elsewhere = build_posterior(
        target.loss_fn,
        target.w0 + 0.05,
        target.data,
        nbeta=float(posterior.nbeta),
        localization=10.0,
        dtype="float64",
    )
    result = reference(elsewhere, num_chains=4, max_relative_mcse=0.02)
    assert [c.name for c in result.certificate.criteria if not c.is_met] == ["decrease still available at w0, over λ̂"]


@pytest.mark.nightly
def test_a_saddle_is_refused() -> None:
    """∇L is zero at w0, and every descent that starts exactly there stays there."""
    result = reference(posterior_in("saddle", 10.0), num_chains=4)
    assert "decrease still available at w0" in " ".join(result.certificate.reasons)
    assert math.isclose(result.decrease_available, 1000 * 0.0025, rel_tol=0.5)


@pytest.mark.nightly
def test_a_flat_direction_with_tiny_localization() -> None:
    result = reference(posterior_in("flat", 1e-8), num_chains=4, max_relative_mcse=0.02)
    assert not result.certificate.is_certified or is_right(result, 0.5)


@pytest.mark.nightly  # in short: "three wells" of `test_wells.py`
def test_wells_that_chains_do_not_leave_are_found() -> None:
    """Chains that start near w0 alone would agree on λ̂ = ½; the far well holds most of the posterior."""
    wells = Wells()
    potential = lambda w: float(wells.potential(w))  # noqa: E731
    truth = expectation(potential, lambda w: -potential(w) - 0.5 * w * w, -5.0, 6.0, [0.0, 0.5, 2.0])
    result = reference(without_data(wells, 1, 1.0), max_stages=20)
    assert result.certificate.is_certified, result.certificate.reasons
    assert is_right(result, truth)
    assert np.ptp(result.survey.displacements) > 1.0
    assert result.diagnostics["distance"].rhat > 1.1  # importance sampling tells, chains do not


@pytest.mark.nightly
@pytest.mark.parametrize("max_stages", [24, 80])
def test_a_funnel_is_not_certified_and_wrong(max_stages: int) -> None:
    localization = 0.05

    def log_density(v: float) -> float:
        return -0.5 * localization * v * v - 0.5 * math.log(math.exp(2 * v) + localization)

    def value(v: float) -> float:
        return 0.5 * math.exp(2 * v) / (math.exp(2 * v) + localization)

    truth = expectation(value, log_density, -40.0, 40.0, [-1.5, 0.0])
    result = reference(posterior_in("funnel", localization), max_stages=max_stages)
    assert not result.certificate.is_certified or is_right(result, truth)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "localization", "truth", "max_stages"),
    [
        pytest.param("w1^2 w2^2", 1.0, 0.390273, 60, marks=pytest.mark.nightly),
        pytest.param("w1^2 w2^4", 1.0, 0.224851, 38, marks=pytest.mark.nightly),
        pytest.param("w1^2 w2^2", 1e-4, None, 24, marks=pytest.mark.nightly),
    ],
)
def test_singular_potentials_are_not_certified_and_wrong(
    name: str, localization: float, truth: float | None, max_stages: int
) -> None:
    if truth is None:  # ½ + a (1 − K₁(a)/K₀(a)) at a = γ²/(8nβ)
        from scipy.special import k0e, k1e

        a = localization**2 / (8 * NBETA)
        truth = 0.5 + a * (1 - k1e(a) / k0e(a))
    result = reference(posterior_in(name, localization), max_stages=max_stages)
    assert not result.certificate.is_certified or is_right(result, truth)


@pytest.mark.slow
@pytest.mark.parametrize("max_stages", [24, pytest.param(50, marks=pytest.mark.nightly)])
def test_fixed_steps_that_never_enter_the_stiff_wings_are_not_certified_and_wrong(monkeypatch, max_stages) -> None:
    """HMC of w₁²w₂⁴ at steps that do not vary, acceptance 0.85: R̂ and ESS are perfect and λ̂ is 3 % low."""
    monkeypatch.setattr(coordinates_module, "LOG_STEP_SIZE_JITTER", 0.0)
    result = reference(posterior_in("w1^2 w2^4", 1.0), max_stages=max_stages, target_accept=0.85)
    assert not result.certificate.is_certified or is_right(result, 0.224851)


def relu45(localization: float) -> LocalPosterior:
    with np.load(DATA / "relu45.npz") as arrays:
        sizes = tuple(int(size) for size in arrays["sizes"])
        loss_fn = SquaredError(MLP(sizes, "relu", True), 0.5 / 0.05**2)
        data, w0 = (arrays["X"], arrays["Y"]), arrays["w0"]
    return build_posterior(
        loss_fn, w0, data, nbeta=PosteriorSpec().nbeta(2000), localization=localization, dtype="float64"
    )


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("localization", "truth", "error", "max_relative_mcse"),
    [
        (100.0, 15.637, 0.007, 0.01),
        (10.0, 17.41, 0.05, 0.01),
    ],
)
def test_a_relu_network_with_a_known_answer(localization, truth, error, max_relative_mcse) -> None:
    posterior = relu45(localization)
    assert math.isclose(float(posterior.loss_at_w0), 0.508438, abs_tol=1e-6)
    result = reference(posterior, max_relative_mcse=max_relative_mcse)
    assert result.certificate.is_certified, result.certificate.reasons
    assert abs(result.llc - truth) < 3 * math.hypot(result.se, error)


@pytest.mark.nightly
@pytest.mark.parametrize("max_stages", [6, 10])
def test_a_relu_network_in_too_little_time(max_stages: int) -> None:
    result = reference(relu45(100.0), max_stages=max_stages)
    assert not result.certificate.is_certified or is_right(result, 15.637, 0.007)


@pytest.mark.nightly
@pytest.mark.parametrize("has_dense", [False, True])
def test_a_large_network_goes_the_same_way(monkeypatch, has_dense: bool) -> None:
    """Kronecker factors, float32 evaluation, one chain after the other: λ̂ is that of the dense way."""
    rng = np.random.default_rng(0)
    network = MLP((3, 5, 1))
    inputs, w0 = rng.standard_normal((300, 3)), network.init(rng)
    labels = np.asarray(network(jnp.asarray(w0), jnp.asarray(inputs)))
    posterior = build_posterior(
        SquaredError(network, 50.0), w0, (inputs, labels), nbeta=50.0, localization=200.0, dtype="float64"
    )
    fields = {"num_chains": 4, "max_relative_mcse": 0.02}
    llc, se, laplace_llc = DENSE
    if has_dense:
        dense = reference(posterior, **fields)
        assert dense.certificate.is_certified, dense.certificate.reasons
        assert dense.evaluation_dtype == "float64"
        assert is_right(dense, llc, se)
        assert math.isclose(dense.laplace_llc, laplace_llc, rel_tol=1e-6)
    for module in (coordinates_module, runner_module):
        monkeypatch.setattr(module, "LARGE_DIM", 10)
    for module in (coordinates_module, geometry_module):
        monkeypatch.setattr(module, "MAX_DENSE_DIM", 10)
    large = reference(posterior, **fields)
    assert large.certificate.is_certified, large.certificate.reasons
    assert large.evaluation_dtype == "float32"
    assert 0 < large.evaluation_error < 0.01
    assert type(large.coordinates.averaged).__name__ == "KroneckerWhitening"
    assert is_right(large, llc, se)
    assert abs(large.laplace_llc - laplace_llc) < 4 * large.laplace_se
    again = reference(posterior, stored=large.arrays, **fields | {"max_relative_mcse": 0.018})
    assert again.certificate.is_certified
    assert again.evaluation_dtype == "float32"
