"""Limits on the time of a task: an alarm inside Python, and a watchdog that ends a worker which does not hear it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import jax

from lambda_hat.artifacts.paths import PROGRESS_JSONL
from lambda_hat.clock import now
from lambda_hat.environment import EXECUTOR_VARIABLE
from lambda_hat.records.base import append_line
from lambda_hat.records.ending import Ending
from lambda_hat.records.progress import Chunk, Ended, Stage, Started, read_progress
from lambda_hat.records.state import State
from lambda_hat.samplers.pace import Guard, OutOfTime
from lambda_hat.tasks import hard_limit

__all__ = ["Limits", "alarm", "end_busy_worker", "log_ended", "log_started", "watchdog"]

EXIT_SEC = 0.3  # for writing why, and for the end of a process with a device
EXIT_CODE = 70  # EX_SOFTWARE: nothing else in a worker ends with it
SETTLE_SEC = 0.5  # for the device to finish what was interrupted

_unfinished: list[jax.Array] = []  # what the device was at when an alarm rang


@dataclass(frozen=True)
class Limits:
    """When what must end (`time.monotonic`), of a task that began at `start` and has `seconds`.

    Sampling plans its chunks to end `reserve` seconds before the budget does, for what comes after it. In the middle of
    that reserve an alarm interrupts what did not go to plan, and another one what comes after in the middle of the
    overrun that is allowed. At the end of that the watchdog ends the worker.
    """

    start: float
    seconds: float
    reserve: float

    @property
    def deadline(self) -> float:
        """When the sampling has to end (`time.monotonic`)."""
        return self.start + self.seconds - self.reserve

    @property
    def sampling_guard(self) -> Guard:
        """Raises `OutOfTime` in sampling that has outlived its deadline."""
        return partial(alarm, self.deadline + self.reserve / 2)

    @property
    def evaluation_guard(self) -> Guard:
        """Raises `OutOfTime` in what comes after, when half of the overrun is over."""
        return partial(alarm, self.start + self.seconds + self._overrun / 2)

    @property
    def end(self) -> float:
        """When the watchdog ends the worker (`time.monotonic`)."""
        return self.start + self.seconds + self._overrun - EXIT_SEC

    @property
    def _overrun(self) -> float:
        return hard_limit(self.seconds) - self.seconds


@contextlib.contextmanager
def alarm(at: float) -> Generator[None]:
    """Raise `OutOfTime` in the block at `at` (`time.monotonic`), or as soon after as Python has control.

    A signal is needed for that, which only the main thread gets, and not on Windows: elsewhere nothing happens.
    Waiting for the device is interrupted, but not the device: see `end_busy_worker`.
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return
    is_armed = True

    def ring(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_armed
        if is_armed:
            is_armed = False
            _unfinished.extend(array for array in jax.live_arrays() if _is_pending(array))
            raise OutOfTime

    earlier = signal.signal(signal.SIGALRM, ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, max(at - time.monotonic(), 1e-6))
            yield
        finally:
            is_armed = False  # a signal that is already on its way is not heard in what follows
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


@contextlib.contextmanager
def watchdog(limits: Limits, budget: str, path: Path, failed: Callable[[str], Ending]) -> Generator[None]:
    """End this process if the block has not ended at `limits.end`, and leave in `path` why: it failed.

    That is for a call of native code which never comes back: no exception can interrupt it. Only a worker is ended,
    never the process of a user. `budget` names the setting; `failed` makes a record of the reason.
    """
    if EXECUTOR_VARIABLE not in os.environ:
        yield
        return
    lock = threading.Lock()
    is_over = threading.Event()

    def watch() -> None:
        if is_over.wait(limits.end - time.monotonic()):
            return
        with lock:
            if not is_over.is_set():
                try:
                    _write_failure(limits, budget, path, failed)
                finally:
                    os._exit(EXIT_CODE)

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        with lock:  # held for good by a watchdog that has begun to write
            is_over.set()


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


def _write_failure(limits: Limits, budget: str, path: Path, failed: Callable[[str], Ending]) -> None:
    if path.exists():  # the end that another worker found: it came first
        return
    seconds = time.monotonic() - limits.start
    reason = (
        f"out of time: after {seconds:.1f} s a call that nothing can interrupt had not returned, so the worker was "
        f"ended; {budget} is {limits.seconds:g} s. {_last_progress(path.with_name(PROGRESS_JSONL))}"
    )
    failed(reason).write(path)
    log_ended(path.parent, State.FAIL)


def _last_progress(path: Path) -> str:
    """How far the task that started last had come, in words."""
    lines, _ = read_progress(path)
    match lines[-1] if lines else None:
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
