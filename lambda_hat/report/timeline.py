"""What every executor did when, by the events that a run leaves."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lambda_hat.records.event import TaskEvent

__all__ = ["Span", "Use", "spans_of", "use_of"]


@dataclass(frozen=True)
class Span:
    """One attempt at a task, in seconds since its command began; `end` is None where the command ended first."""

    lane: str
    label: str
    task: str
    start: float
    end: float | None
    how: str  # "done" | "error" | "retried" | "unfinished"


@dataclass(frozen=True)
class Use:
    """How an executor was used between the first start and the last end on it."""

    label: str
    cap: int
    max_in_flight: int
    busy_fraction: float  # share of cap · time that tasks were in flight
    seconds: float
    idle: tuple[tuple[float, float, int], ...]  # (from, to, tasks in flight) while below the cap


def spans_of(events: Iterable[TaskEvent]) -> list[Span]:
    """Every attempt at a task of one command, by its start."""
    begun: dict[tuple[str, str], TaskEvent] = {}
    spans: list[Span] = []
    for event in events:
        key = event.lane, event.task
        if event.kind == "started":
            begun[key] = event
        elif start := begun.pop(key, None):
            spans.append(Span(start.lane, start.label, start.task, start.at, event.at, event.kind))
    spans += [Span(start.lane, start.label, start.task, start.at, None, "unfinished") for start in begun.values()]
    return sorted(spans, key=lambda span: span.start)


def use_of(spans: Sequence[Span], label: str, cap: int) -> Use:
    """How `label` was used by `spans`, of which those that did not end are left out."""
    changes: dict[float, int] = {}
    for span in spans:
        if span.label == label and span.end is not None:
            changes[span.start] = changes.get(span.start, 0) + 1
            changes[span.end] = changes.get(span.end, 0) - 1
    times = sorted(changes)
    in_flight = busy = most = 0.0
    idle: list[tuple[float, float, int]] = []
    for time, following in itertools.pairwise(times):
        in_flight += changes[time]
        most = max(most, in_flight)
        busy += in_flight * (following - time)
        if in_flight < cap:
            idle.append((time, following, int(in_flight)))
    seconds = times[-1] - times[0] if times else 0.0
    return Use(label, cap, int(most), busy / (cap * seconds) if seconds else 0.0, seconds, tuple(idle))
