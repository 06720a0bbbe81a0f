"""The objective's three errors, its penalty, and that it is never told as infinity."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_hat.config.study import Objective
from lambda_hat.errors import InputError
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.state import State
from lambda_hat.tuning.objective import WORST_VALUE, clipped, gates_of, objective_value

finite = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("spec", "llc_hat", "expected"),
    [
        (Objective(type="abs"), 3.5, 1.5),
        (Objective(type="abs"), 0.5, 1.5),
        (Objective(type="relative"), 3.0, 0.5),
        (Objective(type="huber", delta=1.0), 2.5, 0.125),
        (Objective(type="huber", delta=1.0), 3.0, 0.5),
        (Objective(type="huber", delta=1.0), 5.0, 2.5),
    ],
)
def test_error_against_a_reference_of_two(spec, llc_hat, expected):
    assert objective_value(spec, llc_hat, 2.0) == pytest.approx(expected)


@given(finite, st.floats(1e-3, 1e3))
def test_huber_is_continuous_and_below_the_parabola(error, delta):
    value = objective_value(Objective(type="huber", delta=delta), error, 0.0)
    assert 0 <= value <= 0.5 * error**2 * (1 + 1e-12) + sys.float_info.min  # squares may be subnormal
    at_delta = objective_value(Objective(type="huber", delta=delta), delta, 0.0)
    beyond = objective_value(Objective(type="huber", delta=delta), delta * (1 + 1e-9), 0.0)
    assert beyond == pytest.approx(at_delta)


def test_penalty_of_chains_that_disagree():
    spec = Objective(rhat_penalty=2.0)
    assert objective_value(spec, 2.0, 2.0, rhat=1.04) == 0
    assert objective_value(spec, 2.0, 2.0, rhat=1.55) == pytest.approx(1.0)
    assert objective_value(spec, 2.0, 2.0, rhat=math.nan) == math.inf
    assert objective_value(spec, 2.0, 2.0, rhat=None) == 0
    assert objective_value(Objective(), 2.0, 2.0, rhat=math.nan) == 0


def test_a_trial_breaks_gates_by_shares_of_their_bounds():
    metrics = Metrics(
        state=State.COMPLETE, rhat=1.15, self_check_bias=-0.025, stationarity=8.0, reports={"k_hat": 0.35}
    )
    gates = gates_of(metrics)
    assert gates == {"rhat": pytest.approx(2.0), "k_hat": -0.5, "bias": -0.5, "stationarity": 1.0}
    assert gates_of(Metrics(state=State.COMPLETE, rhat=1.0, stationarity=math.nan)) == {"rhat": -1.0}


@pytest.mark.parametrize("llc_hat", [math.nan, math.inf, -math.inf])
def test_an_estimate_that_is_not_finite_is_infinitely_bad_and_clipped_when_told(llc_hat):
    value = objective_value(Objective(), llc_hat, 2.0)
    assert value == math.inf
    assert clipped(value) == clipped(1e300) == clipped(math.nan) == WORST_VALUE
    assert clipped(1.5) == 1.5


def test_relative_to_zero_is_refused():
    with pytest.raises(InputError, match="needs a reference that is not 0"):
        objective_value(Objective(type="relative"), 1.0, 0.0)
