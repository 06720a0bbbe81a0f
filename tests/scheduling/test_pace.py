"""How long what is left takes, from what has ended."""

import pytest

from lambda_hat.records.metrics import Metrics
from lambda_hat.records.provenance import Timings
from lambda_hat.records.state import State
from lambda_hat.scheduling.pace import Ahead, expected_seconds, seconds_left


def ended(sample, setup=1.0, state=State.COMPLETE, **facts):
    timings = None if sample is None else Timings(start=0.5, total=setup - 0.5 + sample, sample=sample)
    return Metrics(state=state, llc_hat=1.0, timings=timings, **facts)


def test_pruned_trials_are_expected_by_their_share():
    complete = [ended(seconds) for seconds in (9.0, 11.0, 99.0)]
    pruned = [ended(2.0, state=State.PRUNED)]
    assert expected_seconds(complete) == 11.0 + 1.0
    assert expected_seconds([*complete, *pruned]) == (3 * 11.0 + 2.0) / 4 + 1.0
    assert expected_seconds([ended(20.0, num_together=4)]) == 5.0
    assert expected_seconds([ended(None)]) is None


def test_what_the_first_compiles_is_not_expected_of_the_next():
    assert expected_seconds([ended(4.0, setup=90.0)]) == 4.0
    assert expected_seconds([ended(4.0, setup=90.0), ended(4.0), ended(4.0)]) == 5.0


def test_what_is_left_takes_as_long_as_the_slowest_executor():
    ahead = [Ahead("a", 10, 2.0), Ahead("a", 5, 8.0), Ahead("b", 3, 9.0)]
    assert seconds_left(ahead, {"a": 4, "b": 1}) == 27.0
    assert seconds_left(ahead, {"a": 1, "b": 3}) == 60.0
    assert seconds_left([Ahead("a", 2, 6.0)], {"a": 8}) == 6.0, "two tasks keep two workers busy"


def test_kinds_of_which_none_has_ended_are_like_the_others():
    assert seconds_left([Ahead("a", 2, 3.0), Ahead("a", 2, None)], {"a": 1}) == pytest.approx(12.0)
    assert seconds_left([Ahead("a", 2, None)], {"a": 1}) is None
    assert seconds_left([Ahead("a", 0, None)], {"a": 1}) == 0.0
