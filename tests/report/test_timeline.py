from __future__ import annotations

import pytest

from lambda_hat.records.base import append_line
from lambda_hat.records.event import Begin, Command, End, TaskEvent, read_commands
from lambda_hat.report.timeline import Span, spans_of, use_of


def event(kind, at, task, label="a"):
    return TaskEvent(kind=kind, at=at, lane="l", label=label, task=task)


EVENTS = [
    event("started", 0.0, "x"),
    event("started", 1.0, "y"),
    event("retried", 2.0, "x"),
    event("started", 3.0, "x"),
    event("done", 4.0, "y"),
    event("started", 4.0, "z", "b"),
    event("error", 5.0, "x"),
]


def test_every_attempt_is_a_span():
    assert spans_of(EVENTS) == [
        Span("l", "a", "x", 0.0, 2.0, "retried"),
        Span("l", "a", "y", 1.0, 4.0, "done"),
        Span("l", "a", "x", 3.0, 5.0, "error"),
        Span("l", "b", "z", 4.0, None, "unfinished"),
    ]


def test_use_of_an_executor_is_the_share_of_its_time():
    use = use_of(spans_of(EVENTS), "a", cap=2)
    assert (use.max_in_flight, use.seconds) == (2, 5.0)
    assert use.busy_fraction == pytest.approx((2 + 3 + 2) / (2 * 5))
    assert use.idle == ((0.0, 1.0, 1), (2.0, 3.0, 1), (4.0, 5.0, 1))


def test_an_executor_that_did_nothing_has_no_use():
    use = use_of(spans_of(EVENTS), "b", cap=2)
    assert (use.busy_fraction, use.seconds, use.idle) == (0.0, 0.0, ())


def test_events_are_read_by_command(tmp_path):
    path = tmp_path / "events.jsonl"
    begin, end = Begin(caps={"a": 1}), End(at=9.0)
    for line in (begin, EVENTS[0], end, Begin(), EVENTS[1]):
        append_line(path, line)
    assert read_commands(path) == [Command(begin, [EVENTS[0], end]), Command(Begin(), [EVENTS[1]])]
    first, second = read_commands(path)
    assert (first.tasks, first.end, first.last_moment) == ([EVENTS[0]], end, 9.0)
    assert (second.tasks, second.end, second.last_moment) == ([EVENTS[1]], None, 1.0)
    assert read_commands(tmp_path / "none") == []
