"""Seconds of this process that count towards no budget: setting up, and within it JAX's tracing and compiling."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import jax

__all__ = ["Stopwatch", "compiling", "setting_up"]

_COMPILED = (
    "/jax/core/compile/"  # events with a duration, told at their end; those of nested programs lie within others
)
_COMPILES = "/jax/compilation_cache/compile_requests_use_cache"  # told when XLA begins, where there is a cache


class Stopwatch:
    """The total of spans of time, by `now`. Where spans overlap, the time counts once."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.RLock()  # an alarm may ask in the middle of a change
        self._spans: list[tuple[float, float]] = []  # disjoint, in order
        self._total = 0.0
        self._since: float | None = None  # start of the outermost span that runs
        self._begun: float | None = None  # start of a span that will be told by its duration

    @property
    def seconds(self) -> float:
        """The total so far, the present span included."""
        with self._lock:
            since = self._running_since
            return self._total if since is None else self._until(since) + self._now() - since

    @property
    def is_running(self) -> bool:
        """Whether a span runs."""
        return self._running_since is not None

    @contextmanager
    def running(self) -> Generator[None]:
        """Count the time of the block, however it ends."""
        if self._since is not None:
            yield
            return
        since = self._since = self._now()
        try:
            yield
        finally:
            self._since = None
            self.add(self._now() - since)

    def begin(self) -> None:
        """A span begins here, and `add` will tell how long it was."""
        self._begun = self._now()

    def forget(self) -> None:
        """What began and did not end is none."""
        self._begun = None

    def add(self, seconds: float) -> None:
        """Count a span that ends here."""
        with self._lock:
            self._begun = None
            end = self._now()
            start = end - seconds
            while self._spans and self._spans[-1][0] >= start:
                earlier = self._spans.pop()
                self._total -= earlier[1] - earlier[0]
            start = max(start, self._spans[-1][1]) if self._spans else start
            self._spans.append((start, end))
            self._total += end - start

    @property
    def _running_since(self) -> float | None:
        return min((at for at in (self._since, self._begun) if at is not None), default=None)

    def _until(self, moment: float) -> float:
        total = self._total
        for start, end in reversed(self._spans):
            if end <= moment:
                break
            total -= end - max(start, moment)
        return total


compiling = Stopwatch()
"""JAX's tracing, lowering and compiling."""

setting_up = Stopwatch()
"""The same, and whatever else a task says it needs before it samples."""


def _on_duration(event: str, duration_secs: float, **_: Any) -> None:
    if event.startswith(_COMPILED):
        compiling.add(duration_secs)
        setting_up.add(duration_secs)


def _on_event(event: str, **_: Any) -> None:
    if event == _COMPILES:
        compiling.begin()
        setting_up.begin()


jax.monitoring.register_event_duration_secs_listener(_on_duration)
jax.monitoring.register_event_listener(_on_event)
