"""What every executor did when: read from the log of events that a run leaves."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambda_hat.artifacts.files import read_json_lines

__all__ = ["Span", "Use", "read_events", "spans_of", "use_of"]

_ENDS = ("done", "error", "retried")


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


def read_events(path: Path) -> list[list[dict[str, Any]]]:
    """The events of `meta/events.jsonl`, by command: each begins with a line of kind `begin`."""
    commands: list[list[dict[str, Any]]] = []
    for event in read_json_lines(path)[0]:
        if event.get("kind") == "begin":
            commands.append([])
        if commands:
            commands[-1].append(event)
    return commands


def spans_of(events: Iterable[Mapping[str, Any]]) -> list[Span]:
    """Every attempt at a task of one command, by its start."""
    begun: dict[tuple[str, str], Mapping[str, Any]] = {}
    spans: list[Span] = []

    def add(start: Mapping[str, Any], end: float | None, how: str) -> None:
        spans.append(Span(start["lane"], start["label"], start["task"], start["at"], end, how))

    for event in events:
        key = (str(event.get("lane")), str(event.get("task")))
        if event["kind"] == "started":
            begun[key] = event
        elif event["kind"] in _ENDS and key in begun:
            add(begun.pop(key), event["at"], event["kind"])
    for start in begun.values():
        add(start, None, "unfinished")
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
