"""Limits on the time of a task: an alarm inside Python, and a watchdog that ends a worker which does not hear it.

What counts towards a task's budget is its sampling. Setting up, with training and compiling in it, has a bound of its
own: see `lambda_hat.samplers.stopwatch`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from types import FrameType

import jax

from lambda_hat.artifacts.paths import PROGRESS_JSONL
from lambda_hat.clock import now
from lambda_hat.environment import EXECUTOR_VARIABLE
from lambda_hat.errors import LambdaHatError
from lambda_hat.records.base import append_line
from lambda_hat.records.ending import Ending
from lambda_hat.records.progress import Alive, Chunk, Ended, Stage, Started, read_progress
from lambda_hat.records.state import State
from lambda_hat.samplers.pace import Guard, OutOfTime
from lambda_hat.samplers.stopwatch import Stopwatch, compiling, setting_up
from lambda_hat.tasks import hard_limit

__all__ = ["SETUP_BUDGET", "Limits", "alarm", "end_busy_worker", "log_ended", "log_started", "watchdog"]

EXIT_SEC = 0.3  # for writing why, and for the end of a process with a device
EXIT_CODE = 70  # EX_SOFTWARE: nothing else in a worker ends with it
SETUP_BUDGET = "setup_sec"
MIN_ALARM_SEC = 0.05  # between two rings while something is set up
BEAT_SEC = 5.0  # between two signs of life of a task that writes nothing else
SETTLE_SEC = 0.5  # for the device to finish what was interrupted

_unfinished: list[jax.Array] = []  # what the device was at when an alarm rang


class Limits:
    """What is left of the seconds of a task that begins now: `seconds` that count, and `setup` that do not.

    Sampling plans its chunks to end `reserve` seconds before the budget does, for what comes after it. In the middle of
    that reserve an alarm interrupts what did not go to plan, and another one what comes after in the middle of the
    overrun that is allowed. At the end of that the watchdog ends the worker. Setting up is interrupted at its bound.
    `budget` is the key of `execution.budget` that gives `seconds`.
    """

    def __init__(
        self,
        budget: str,
        seconds: float,
        reserve: float,
        setup: float,
        *,
        now: Callable[[], float] = time.monotonic,
        watch: Stopwatch = setting_up,
    ) -> None:
        self.budget = budget
        self.seconds = seconds
        self.reserve = reserve
        self.setup = setup
        self.start = now()
        self._now = now
        self._watch = watch
        watch.forget()  # a compilation that another task was interrupted in
        self._before = watch.seconds

    @property
    def setup_seconds(self) -> float:
        """Seconds that did not count."""
        return self._watch.seconds - self._before

    @property
    def counted_seconds(self) -> float:
        """Seconds that counted."""
        return self._now() - self.start - self.setup_seconds

    def deadline(self) -> float:
        """When the sampling has to end (`time.monotonic`), if nothing more is set up."""
        return self.start + self.setup_seconds + self.seconds - self.reserve

    @property
    def sampling_guard(self) -> Guard:
        """Raises `OutOfTime` in sampling that has outlived its deadline, and in setting up at its bound."""
        return partial(alarm, partial(self._left, self.seconds - self.reserve / 2, self.setup))

    @property
    def evaluation_guard(self) -> Guard:
        """Raises `OutOfTime` in what comes after, when half of the overrun is over."""
        return partial(alarm, partial(self._left, self.seconds + _overrun(self.seconds) / 2, self.setup))

    @property
    def seconds_to_end(self) -> float:
        """Seconds until the watchdog ends the worker, as things are now."""
        return self._left(*(seconds + _overrun(seconds) - EXIT_SEC for seconds in (self.seconds, self.setup)))

    @property
    def short_of(self) -> str:
        """The budget that is over, or nearer its end."""
        return self.budget if self.seconds - self.counted_seconds < self.setup - self.setup_seconds else SETUP_BUDGET

    def seconds_of(self, budget: str) -> float:
        """The seconds of one of the two budgets."""
        return self.setup if budget == SETUP_BUDGET else self.seconds

    def _left(self, seconds: float, setup: float) -> float:
        return min(seconds - self.counted_seconds, setup - self.setup_seconds)


def _overrun(seconds: float) -> float:
    return hard_limit(seconds) - seconds


@contextlib.contextmanager
def alarm(seconds_left: Callable[[], float]) -> Generator[None]:
    """Raise `OutOfTime` in the block once `seconds_left()` is not positive, or as soon after as Python has control.

    A signal is needed for that, which only the main thread gets, and not on Windows: elsewhere nothing happens.
    Waiting for the device is interrupted, but not the device: see `end_busy_worker`.
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return
    is_armed, has_rung = True, False

    def ring(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_armed, has_rung
        if not is_armed:
            return
        if (seconds := seconds_left()) > 0:  # something was set up meanwhile
            signal.setitimer(signal.ITIMER_REAL, max(seconds, MIN_ALARM_SEC))
            return
        is_armed, has_rung = False, True
        _unfinished.extend(array for array in jax.live_arrays() if _is_pending(array))
        raise OutOfTime

    earlier = signal.signal(signal.SIGALRM, ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(seconds_left(), 1e-6))
            yield
        except Exception as error:
            if has_rung:  # JAX makes an error of its own of what is raised while it compares two programs
                raise OutOfTime from error
            raise
        finally:
            is_armed = False  # a signal that is already on its way is not heard in what follows
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


@contextlib.contextmanager
def watchdog(limits: Limits, path: Path, failed: Callable[[str], Ending]) -> Generator[None]:
    """Give signs of life in the progress beside `path`, and end this process if the block outlives its limits.

    The end is for a call of native code which never comes back: no exception can interrupt it. Why goes to `path`;
    `failed` makes a record of the reason. Only a worker is watched, never the process of a user. Signs come from the
    thread that ends the worker: while there are any, nobody else has to.
    """
    if EXECUTOR_VARIABLE not in os.environ:
        yield
        return
    lock = threading.Lock()
    is_over = threading.Event()
    beats = _Beats(limits, path.with_name(PROGRESS_JSONL))

    def watch() -> None:
        while (seconds := limits.seconds_to_end) > 0:
            if is_over.wait(min(seconds, BEAT_SEC)):
                return
            beats.beat()
        with lock:
            if not is_over.is_set():
                try:
                    _write_failure(limits, path, failed)
                finally:
                    os._exit(EXIT_CODE)

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with lock:  # held for good by a watchdog that has begun to write
            is_over.set()
        thread.join()  # no sign of life comes after the end of its block


class _Beats:
    """A line in the progress of a task whenever nothing else was written to it since the last look."""

    def __init__(self, limits: Limits, progress: Path) -> None:
        self._limits = limits
        self._progress = progress
        self._size = -1

    def beat(self) -> None:
        """Write the line if it is wanted; a disk that does not take it is the business of others."""
        with contextlib.suppress(LambdaHatError, OSError):
            if self._progress.stat().st_size == self._size:
                is_compiling = compiling.is_running
                line = Alive(
                    seconds=self._limits.counted_seconds,
                    setup_seconds=self._limits.setup_seconds,
                    is_compiling=is_compiling,
                )
                append_line(self._progress, line)
            self._size = self._progress.stat().st_size


def end_busy_worker() -> None:
    """End this worker if its device still computes what an alarm interrupted: the next task would wait for that.

    To be called when all that the interrupted trial or reference has found is written.
    """
    until = time.monotonic() + SETTLE_SEC
    is_worker = EXECUTOR_VARIABLE in os.environ
    while is_worker and any(map(_is_pending, _unfinished)):
        if time.monotonic() > until:
            os._exit(EXIT_CODE)
        time.sleep(0.02)
    _unfinished.clear()


def _is_pending(array: jax.Array) -> bool:
    return not array.is_deleted() and not array.is_ready()  # pyright: ignore[reportAttributeAccessIssue]


def _write_failure(limits: Limits, path: Path, failed: Callable[[str], Ending]) -> None:
    if path.exists():  # the end that another worker found: it came first
        return
    seconds = limits.counted_seconds + limits.setup_seconds
    budget = limits.short_of
    reason = (
        f"out of time: after {seconds:.1f} s a call that nothing can interrupt had not returned, so the worker was "
        f"ended; execution.budget.{budget} is {limits.seconds_of(budget):g} s. "
        f"{_last_progress(path.with_name(PROGRESS_JSONL))}"
    )
    failed(reason).write(path)
    log_ended(path.parent, State.FAIL)


def _last_progress(path: Path) -> str:
    """How far the task that started last had come, in words."""
    lines, _ = read_progress(path)
    told = [line for line in lines if not isinstance(line, Alive)]
    match told[-1] if told else None:
        case Chunk(step=step, fraction=fraction):
            return f"Steps done: {step} ({fraction:.1%})."
        case Stage(stage=stage):
            return f"The last stage it told of was: {stage}."
        case _:
            return "Steps done: 0."


def log_started(folder: Path) -> None:
    """Add to a task's progress that this worker has begun it."""
    append_line(folder / PROGRESS_JSONL, Started(pid=os.getpid(), host=socket.gethostname(), time=now()))


def log_ended(folder: Path, state: State) -> None:
    """Add to a task's progress that it has ended, and how."""
    append_line(folder / PROGRESS_JSONL, Ended(state=state, time=now()))
