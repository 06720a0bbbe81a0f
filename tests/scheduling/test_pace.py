"""How long what is left takes, from what has ended."""

import pytest

from lambda_hat.records.metrics import Metrics
from lambda_hat.records.provenance import Timings
from lambda_hat.records.state import State
from lambda_hat.scheduling.pace import Ahead, expected_seconds, seconds_left


def ended(total, state=State.COMPLETE, **facts):
    timings = None if total is None else Timings(total=total, start=1.0)
    return Metrics(state=state, llc_hat=1.0, timings=timings, **facts)


def test_pruned_trials_are_expected_by_their_share():
    complete = [ended(seconds) for seconds in (9.0, 11.0, 99.0)]  # the first of a worker says nothing of the others
    pruned = [ended(1.0, State.PRUNED)]
    assert expected_seconds(complete) == 12.0
    assert expected_seconds([*complete, *pruned]) == (3 * 12.0 + 2.0) / 4
    assert expected_seconds([ended(19.0, num_together=4)]) == 5.0
    assert expected_seconds([ended(None)]) is None


def test_what_is_left_takes_as_long_as_the_slowest_executor():
    ahead = [Ahead("a", 10, 2.0), Ahead("a", 5, 8.0), Ahead("b", 3, 9.0)]
    assert seconds_left(ahead, {"a": 4, "b": 1}) == 27.0
    assert seconds_left(ahead, {"a": 1, "b": 3}) == 60.0
    assert seconds_left([Ahead("a", 2, 6.0)], {"a": 8}) == 6.0, "two tasks keep two workers busy"


def test_kinds_of_which_none_has_ended_are_like_the_others():
    assert seconds_left([Ahead("a", 2, 3.0), Ahead("a", 2, None)], {"a": 1}) == pytest.approx(12.0)
    assert seconds_left([Ahead("a", 2, None)], {"a": 1}) is None
    assert seconds_left([Ahead("a", 0, None)], {"a": 1}) == 0.0
