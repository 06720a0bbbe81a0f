"""Keeping every executor busy with tasks from several lanes, in fair turns, in one thread."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from lambda_hat.errors import ExecutorLostError, StorageError, WorkerLostError

__all__ = ["AnyLane", "Event", "Lane", "Scheduler", "Task"]

_LARGEST_POLL_SHARE = 0.1  # of the controller's time: reading a thousand files from a slow disk takes a second
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
SILENT_POLLS = 600  # without a sign of life until a label has stalled: a worker gives one every five seconds


@dataclass(frozen=True)
class Task(Generic[R_co]):
    """A function to run on some executor, and what it is called in messages.

    Tasks of a lane with equal `program` can share one.
    """

    name: str
    function: Callable[..., R_co]
    args: tuple[Any, ...] = ()
    program: Hashable | None = None


class Lane(Protocol[R]):
    """A stream of tasks for one executor label, such as a study or a reference, whose results are of type R."""

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

    def next_task(self) -> Task[R] | None:
        """A task to start now, or None: then the lane is asked again when something has finished."""
        ...

    def on_progress(self, task: Task[R]) -> bool:
        """Called about once per poll interval while the task is in flight; whether it gave a sign of life since."""
        ...

    def stored_result(self, task: Task[R]) -> R | None:
        """What the task left on disk if it had ended when its worker was lost; such a task is not run again."""
        ...

    def on_retry(self, task: Task[R]) -> None:
        """The task's worker was lost; it is submitted again after this call."""
        ...

    def on_done(self, task: Task[R], result: R) -> Sequence[AnyLane]:
        """The task returned; the lanes that this opens."""
        ...

    def on_error(self, task: Task[R], error: Exception) -> Sequence[AnyLane]:
        """The task raised, or its worker was lost once too often; the lanes that this opens."""
        ...

    def close(self) -> None:
        """The scheduler ends, whether in peace or by an exception; tasks may still be in flight."""
        ...


AnyLane = Lane[Any]
EventKind = Literal["started", "retried", "done", "error"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a task: an end when its executor was free again, whatever the controller did then.

    `seconds` counts from its last submission.
    """

    kind: EventKind
    at: float  # by `time.monotonic`
    lane: str
    label: str
    task: str
    seconds: float = 0.0
    message: str = ""


@dataclass(eq=False)
class _InFlight:
    lane: AnyLane
    task: Task[Any]
    num_lost: int
    started: float
    has_begun: bool = False  # by a sign of its worker


class _Ended(NamedTuple):
    flight: _InFlight
    future: Future[Any]
    at: float  # by `time.monotonic`


class Scheduler:
    """Runs the tasks of all lanes until nothing is in flight and no lane has more.

    A label never idles while it is below its cap and a lane of it, below its own bound, has a task. Lanes of one label
    take turns. Every task that was submitted ends in exactly one `on_done` or `on_error`, unless the run is broken off.

    `submit` starts a task and returns its future. It may run the task itself and return when that has ended: nothing
    else starts meanwhile.

    A task whose worker was lost is submitted again, `max_retries` times; where the executor itself went down the task
    is not to blame, and that does not count. A label on which nothing starts, ends or gives a sign of life for
    `SILENT_POLLS` polls has stalled: `on_stall(label, polls, has_begun)` has to fail its tasks, or to know why they
    wait. It is told whether a worker had begun one. Polls are counted, not seconds: a scheduler that was itself
    suspended or starved has missed no sign.
    """

    def __init__(
        self,
        submit: Callable[[Task[Any], str], Future[Any]],
        caps: Mapping[str, int],
        max_retries: int,
        poll_interval: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
        on_poll: Callable[[], None] | None = None,
        on_stall: Callable[[str, int, bool], object] | None = None,
    ) -> None:
        self._submit = submit
        self._caps = dict(caps)  # a label without a cap is bounded by its lanes alone
        self._max_retries = max_retries
        self._poll_interval = poll_interval  # seconds
        self._on_event = on_event
        self._on_poll = on_poll
        self._turns: dict[str, deque[AnyLane]] = {}
        self._retries: deque[_InFlight] = deque()
        self._in_flight: dict[int, _InFlight] = {}  # by identity
        self._ended: SimpleQueue[_Ended] = SimpleQueue()
        self._busy_labels: Counter[str] = Counter()
        self._busy_lanes: Counter[int] = Counter()
        self._on_stall = on_stall
        self._silent: Counter[str] = Counter()  # by label: polls since something of it started, ended or progressed
        self._closing = ExitStack()

    def add(self, lane: AnyLane) -> None:
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
        try:
            self._work()
        except BaseException:
            with suppress(StorageError):  # which would hide the first
                self._closing.close()
            raise
        self._closing.close()

    def _work(self) -> None:
        next_poll = time.monotonic() + self._poll_interval
        while True:
            has_started = self._start_one_per_label()
            if not self._in_flight:
                return
            for ended in self._wait(0.0 if has_started else max(0.0, next_poll - time.monotonic())):
                self._collect(ended)
            if (started := time.monotonic()) >= next_poll:
                self.poll()
                seconds = time.monotonic() - started
                next_poll = started + max(self._poll_interval, seconds / _LARGEST_POLL_SHARE)

    def _wait(self, timeout: float) -> Iterator[_Ended]:
        """Tasks that have ended, as soon as there is one."""
        with suppress(Empty):
            yield self._ended.get(timeout=timeout)
            while True:
                yield self._ended.get_nowait()

    def poll(self) -> None:
        """Look at the progress of every task in flight; `submit` may call this in another thread while it runs one."""
        flights = list(self._in_flight.values())
        self._silent.update({flight.lane.label for flight in flights})
        for flight in flights:
            if flight.lane.on_progress(flight.task):
                flight.has_begun = True
                self._silent[flight.lane.label] = 0
        if self._on_poll is not None:
            self._on_poll()
        for label in self._turns:
            if self._silent[label] >= SILENT_POLLS:
                self._silent[label] = 0  # once per so many
                has_begun = any(flight.has_begun for flight in flights if flight.lane.label == label)
                if self._on_stall is not None:
                    self._on_stall(label, SILENT_POLLS, has_begun)

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
        self._in_flight[id(flight)] = flight
        flight.has_begun = False
        self._silent[flight.lane.label] = 0
        self._busy_labels[flight.lane.label] += 1
        self._busy_lanes[id(flight.lane)] += 1
        self._emit("started", flight, flight.started)
        future = self._submit(flight.task, flight.lane.label)
        future.add_done_callback(lambda future: self._ended.put(_Ended(flight, future, time.monotonic())))

    def _collect(self, ended: _Ended) -> None:
        flight = self._in_flight.pop(id(ended.flight))
        self._silent[flight.lane.label] = 0
        self._busy_labels[flight.lane.label] -= 1
        self._busy_lanes[id(flight.lane)] -= 1
        try:
            result = self._result_of(ended)
        except StorageError:
            raise  # the next task would meet it too
        except Exception as error:
            message = str(error) if isinstance(error, WorkerLostError) else f"{type(error).__name__}: {error}"
            opened = flight.lane.on_error(flight.task, error)
            self._emit("error", flight, ended.at, message)
        else:
            if result is None:
                return
            opened = flight.lane.on_done(flight.task, result)
            self._emit("done", flight, ended.at)
        for lane in opened:
            self.add(lane)

    def _result_of(self, ended: _Ended) -> Any | None:
        """What the task returned or left; None if it is queued again; raises what it failed with."""
        flight = ended.flight
        try:
            return ended.future.result()
        except WorkerLostError as error:
            result = flight.lane.stored_result(flight.task)
            if result is not None:
                return result
            flight.num_lost += not isinstance(error, ExecutorLostError)
            if flight.num_lost > self._max_retries:
                raise
            flight.lane.on_retry(flight.task)
            self._retries.append(flight)
            self._emit("retried", flight, ended.at, str(error))
            return None

    def _emit(self, kind: EventKind, flight: _InFlight, at: float, message: str = "") -> None:
        if self._on_event is not None:
            lane, seconds = flight.lane, at - flight.started
            self._on_event(Event(kind, at, lane.name, lane.label, flight.task.name, seconds, message))
