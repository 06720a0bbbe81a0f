"""`auto` against closed forms, with either of its samplers, and what it says when it lacks time."""

from __future__ import annotations

import itertools
import math

import jax
import numpy as np
import pytest

from lambda_hat.config.methods import parse_settings
from lambda_hat.estimate import auto
from lambda_hat.estimate.method import run_method
from lambda_hat.estimate.reliability import reasons_against
from lambda_hat.posterior import Coordinates, DiagonalWhitening, build_posterior, geometry_at_w0
from lambda_hat.records.state import State
from lambda_hat.samplers.pace import OutOfTime

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.slow]

DIM, NUM_DATA = 6, 400
LONG = 1e6  # seconds: no test depends on how fast a machine is


def squared_error(position, batch):
    return 0.5 * (batch[0] @ position - batch[1]) ** 2


def quartic(position, batch):
    """Σ_j w_j⁴/4 on average, whose λ at γ → 0 is d/4."""
    return 0.25 * jax.numpy.sum(batch[0] * position**4, axis=-1)


def regression():
    """A posterior that is Gaussian, its coordinates, and its λ = ½ tr H(H + γ)⁻¹."""
    rng = np.random.default_rng(0)
    inputs, w0 = rng.standard_normal((NUM_DATA, DIM)), rng.standard_normal(DIM)
    data = inputs, inputs @ w0 + rng.standard_normal(NUM_DATA)
    solution = np.linalg.lstsq(*data, rcond=None)[0]
    posterior = build_posterior(squared_error, solution, data, nbeta=60.0, localization=20.0, dtype="float64")
    geometry = geometry_at_w0(posterior, jax.random.key(0))
    values = np.linalg.eigvalsh(60.0 * inputs.T @ inputs / NUM_DATA)
    return posterior, Coordinates(geometry.whitening, geometry.whitening), 0.5 * np.sum(values / (values + 20.0))


def run(posterior, coordinates, num_looks=math.inf, **settings):
    looks = itertools.count()
    settings = parse_settings("auto", {"seconds": LONG} | settings)
    deadline = lambda: math.inf if next(looks) < num_looks else 0.0  # noqa: E731
    result = run_method(posterior, settings, coordinates=coordinates, seed=1, deadline=deadline)
    return result, reasons_against(result, settings, 0.0)


@pytest.fixture
def only_sgld(monkeypatch):
    monkeypatch.setattr(auto, "GRADIENTS_OF_HMC", math.inf)


def test_hmc_where_it_is_affordable():
    posterior, coordinates, truth = regression()
    result, reasons = run(posterior, coordinates)
    assert (reasons, result.extras["is_by_hmc"]) == ((), 1.0)
    assert result.estimate.llc == pytest.approx(truth, rel=1e-5)


@pytest.mark.usefixtures("only_sgld")
def test_sgld_at_two_step_sizes_where_it_is_not():
    """A linear regression: what minibatches add is taken off, and the interval holds the truth."""
    posterior, coordinates, truth = regression()
    result, reasons = run(posterior, coordinates, batch=64)
    assert (reasons, result.extras["is_by_hmc"]) == ((), 0.0)
    assert abs(result.estimate.llc - truth) <= result.extras["half_width"] <= 0.05 * truth


@pytest.mark.usefixtures("only_sgld")
def test_a_loss_that_is_not_quadratic_has_a_wider_interval_that_holds_the_truth():
    """E[nβΔL] of each coordinate under exp(−nβ w⁴/4 − γ w²/2), by quadrature."""
    rng = np.random.default_rng(1)
    data = (rng.gamma(20.0, 1 / 20.0, (NUM_DATA, 2)),)
    scales = 200.0 * data[0].mean(axis=0)
    posterior = build_posterior(quartic, np.zeros(2), data, nbeta=200.0, localization=5.0, dtype="float64")
    grid = np.linspace(-2, 2, 20_001)
    truth = 0.0
    for scale in scales:
        weights = np.exp(-scale * grid**4 / 4 - 2.5 * grid**2)
        truth += np.sum(weights * scale * grid**4 / 4) / np.sum(weights)
    geometry = geometry_at_w0(posterior, jax.random.key(0))
    result, _ = run(posterior, Coordinates(geometry.whitening, geometry.whitening), num_looks=500, tolerance=0.3)
    assert abs(result.estimate.llc - truth) <= result.extras["half_width"]


@pytest.mark.parametrize("num_looks", [0, 60])
def test_too_little_time_leaves_an_estimate_that_says_so(num_looks):
    """The deadline passes at some look at it, even the first."""
    posterior, coordinates, truth = regression()
    looks = itertools.count()
    settings = parse_settings("auto", {"tolerance": 1e-9, "seconds": LONG})
    result = run_method(
        posterior,
        settings,
        coordinates=coordinates,
        seed=1,
        deadline=lambda: math.inf if next(looks) < num_looks else 0.0,
    )
    assert (result.state, result.is_truncated) == (State.COMPLETE, True)
    assert result.estimate.llc == pytest.approx(truth, rel=0.3)
    assert any("half-width over λ̂" in reason for reason in reasons_against(result, settings, 0.0))


def test_a_look_from_outside_ends_it():
    posterior, coordinates, _ = regression()
    settings = parse_settings("auto", {"tolerance": 1e-9, "seconds": LONG})
    told = []
    result = run_method(
        posterior, settings, coordinates=coordinates, seed=1, should_stop=lambda: True, on_progress=told.append
    )
    assert (result.state, len(told)) == (State.PRUNED, 1)


@pytest.mark.usefixtures("only_sgld")
def test_a_pilot_alone_is_never_relied_on(monkeypatch):
    """However good it looks: it has one step size, and says nothing of the error of that."""
    posterior, coordinates, _ = regression()
    monkeypatch.setattr(auto, "PILOT_STEPS", 4000)
    found = auto._Run.find_step_size

    def out_of_time(self):
        found(self)
        raise OutOfTime

    monkeypatch.setattr(auto._Run, "find_step_size", out_of_time)
    _, reasons = run(posterior, coordinates, tolerance=0.5)
    assert reasons[-1] == "There was no time for a second step size. Raise `seconds`."


@pytest.mark.parametrize(
    ("monte_carlo", "step_size", "is_asked"),
    [(0.2, 0.5, True), (0.2, 0.2, False), (0.9, 0.5, False)],
    ids=["wide of the step size", "narrow", "wide of noise"],
)
def test_steps_become_smaller_for_what_is_more_than_noise(monte_carlo, step_size, is_asked):
    """The difference of two step sizes is noise as well: halving for that makes chains slower, and noise larger."""
    assert auto.Interval(10.0, monte_carlo, step_size).asks_for_smaller_steps(0.05) == is_asked


@pytest.mark.usefixtures("only_sgld")
def test_coordinates_in_which_no_step_size_is_small_enough_are_named(monkeypatch):
    """More time would not help: no chains are run beside the pilots."""
    monkeypatch.setattr(auto, "MAX_PILOTS", 1)
    posterior, _, _ = regression()
    wide = DiagonalWhitening(jax.numpy.full(DIM, 0.4))
    _, reasons = run(posterior, Coordinates(wide, wide))
    assert "no step size here: at η = 2.0e-01" in reasons[0]
    assert not any("Raise `seconds`" in reason for reason in reasons)
