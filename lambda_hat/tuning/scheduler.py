"""Keeping every executor busy with tasks from several lanes, in fair turns, in one thread."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from lambda_hat.errors import WorkerLostError

__all__ = ["Event", "Lane", "Scheduler", "Task"]


@dataclass(frozen=True)
class Task:
    """A function to run on some executor, and what it is called in messages."""

    name: str
    function: Callable[..., dict[str, Any]]
    args: tuple[Any, ...] = ()


class Lane(Protocol):
    """A stream of tasks for one executor label, such as a study or a reference."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        ...

    @property
    def label(self) -> str:
        """The executor its tasks run on."""
        ...

    @property
    def max_in_flight(self) -> int:
        """How many of its tasks may be submitted and unfinished at once."""
        ...

    def next_task(self) -> Task | None:
        """A task to start now, or None: then the lane is asked again when something has finished."""
        ...

    def on_progress(self, task: Task) -> None:
        """Called about once per poll interval while the task is in flight."""
        ...

    def on_retry(self, task: Task) -> None:
        """The task's worker was lost; it is submitted again after this call."""
        ...

    def on_done(self, task: Task, result: dict[str, Any]) -> Sequence[Lane]:
        """The task returned; the lanes that this opens."""
        ...

    def on_error(self, task: Task, error: Exception) -> Sequence[Lane]:
        """The task raised, or its worker was lost once too often; the lanes that this opens."""
        ...

    def close(self) -> None:
        """The scheduler ends, whether in peace or by an exception; tasks may still be in flight."""
        ...


@dataclass(frozen=True)
class Event:
    """Something that happened to a task. `seconds` counts from its last submission."""

    kind: Literal["started", "retried", "done", "error"]
    lane: str
    label: str
    task: str
    seconds: float = 0.0
    message: str = ""


@dataclass(eq=False)
class _InFlight:
    lane: Lane
    task: Task
    num_lost: int
    started: float


class Scheduler:
    """Runs the tasks of all lanes until nothing is in flight and no lane has more.

    A label never idles while it is below its cap and a lane of it, below its own bound, has a task. Lanes of one label
    take turns. Every task that was submitted ends in exactly one `on_done` or `on_error`, unless the run is broken off.
    """

    def __init__(
        self,
        submit: Callable[[Task, str], Future[dict[str, Any]]],
        caps: Mapping[str, int],
        max_retries: int,
        poll_interval: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
        on_poll: Callable[[], None] | None = None,
    ) -> None:
        self._submit = submit
        self._caps = dict(caps)  # a label without a cap is bounded by its lanes alone
        self._max_retries = max_retries
        self._poll_interval = poll_interval  # seconds
        self._on_event = on_event
        self._on_poll = on_poll
        self._turns: dict[str, deque[Lane]] = {}
        self._retries: deque[_InFlight] = deque()
        self._in_flight: dict[Future[dict[str, Any]], _InFlight] = {}
        self._busy_labels: Counter[str] = Counter()
        self._busy_lanes: Counter[int] = Counter()
        self._closing = ExitStack()

    def add(self, lane: Lane) -> None:
        """Give `lane` turns from now on."""
        self._turns.setdefault(lane.label, deque()).append(lane)
        self._closing.callback(lane.close)

    @property
    def busy(self) -> dict[str, int]:
        """Number of tasks in flight by label."""
        return {label: self._busy_labels[label] for label in self._turns}

    def run(self) -> None:
        """Submit, watch and collect until everything is done, then close the lanes.

        Whatever a lane or `submit` raises, and KeyboardInterrupt and SystemExit, ends the run after the lanes are
        closed.
        """
        with self._closing:
            next_poll = time.monotonic() + self._poll_interval
            while True:
                has_started = self._start_one_per_label()
                if not self._in_flight:
                    return
                timeout = 0.0 if has_started else max(0.0, next_poll - time.monotonic())
                done, _ = wait(self._in_flight, timeout, FIRST_COMPLETED)
                for future in done:
                    self._collect(future)
                if time.monotonic() >= next_poll:
                    for flight in list(self._in_flight.values()):
                        flight.lane.on_progress(flight.task)
                    if self._on_poll is not None:
                        self._on_poll()
                    next_poll = time.monotonic() + self._poll_interval

    def _start_one_per_label(self) -> bool:
        # One at a time, since asking a search takes milliseconds in which other labels' tasks finish.
        flights = [self._next_flight(label) for label in self._turns if self._has_room(label)]
        for flight in flights:
            if flight is not None:
                self._start(flight)
        return any(flights)

    def _next_flight(self, label: str) -> _InFlight | None:
        for flight in self._retries:
            if flight.lane.label == label:
                self._retries.remove(flight)
                return flight
        turns = self._turns[label]
        for _ in range(len(turns)):
            lane = turns[0]
            turns.rotate(-1)
            task = lane.next_task() if self._busy_lanes[id(lane)] < lane.max_in_flight else None
            if task is not None:
                return _InFlight(lane, task, num_lost=0, started=0.0)
        return None

    def _has_room(self, label: str) -> bool:
        return label not in self._caps or self._busy_labels[label] < self._caps[label]

    def _start(self, flight: _InFlight) -> None:
        flight.started = time.monotonic()
        future = self._submit(flight.task, flight.lane.label)
        self._in_flight[future] = flight
        self._busy_labels[flight.lane.label] += 1
        self._busy_lanes[id(flight.lane)] += 1
        self._emit("started", flight)

    def _collect(self, future: Future[dict[str, Any]]) -> None:
        flight = self._in_flight.pop(future)
        self._busy_labels[flight.lane.label] -= 1
        self._busy_lanes[id(flight.lane)] -= 1
        try:
            result = future.result()
        except WorkerLostError as error:
            if flight.num_lost < self._max_retries:
                flight.num_lost += 1
                flight.lane.on_retry(flight.task)
                self._retries.append(flight)
                self._emit("retried", flight, str(error))
                return
            opened = flight.lane.on_error(flight.task, error)
            self._emit("error", flight, str(error))
        except Exception as error:
            opened = flight.lane.on_error(flight.task, error)
            self._emit("error", flight, f"{type(error).__name__}: {error}")
        else:
            opened = flight.lane.on_done(flight.task, result)
            self._emit("done", flight)
        for lane in opened:
            self.add(lane)

    def _emit(self, kind: Literal["started", "retried", "done", "error"], flight: _InFlight, message: str = "") -> None:
        if self._on_event is not None:
            seconds = time.monotonic() - flight.started
            self._on_event(Event(kind, flight.lane.name, flight.lane.label, flight.task.name, seconds, message))
