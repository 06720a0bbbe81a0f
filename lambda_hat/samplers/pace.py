"""How long a chunk of steps may be, so that a run ends in time."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

__all__ = ["Guard", "Moment", "OutOfTime", "Pace"]

LONGEST_CHUNK_SEC = 5.0  # between two looks at the stop flag
LONGEST_CHUNK_SHARE = 0.05  # of all the time there is: what an interrupted chunk can cost

Guard = Callable[[], AbstractContextManager[object]]

Moment = float | Callable[[], float]
"""A time (`time.monotonic`), or what gives it: a deadline is put off by whatever does not count towards the budget."""


class OutOfTime(BaseException):
    """The deadline has passed.

    An alarm raises it anywhere in a computation. It is no `Exception`, because code on the way would take that for a
    failure of its own: JAX would go on without its compilation cache.
    """


class Pace:
    """Sizes of chunks that keep `deadline`, by the seconds that steps took in the chunk before.

    The first chunks have 1, 1, 2, 4, … steps. The first one of every call may hold a compilation and is not used to
    learn from. A chunk runs within `guard()`, which may raise `OutOfTime` in it. Without a deadline chunks are as large
    as allowed.
    """

    def __init__(
        self, deadline: Moment = math.inf, *, start: float | None = None, guard: Guard = contextlib.nullcontext
    ) -> None:
        self._deadline = deadline
        self.guard = guard
        start = time.monotonic() if start is None else start
        self._longest = min(LONGEST_CHUNK_SEC, LONGEST_CHUNK_SHARE * max(0.0, self.deadline - start))
        self._seconds_per_step: float | None = None
        self._size = 1  # of the largest chunk that has been timed

    @property
    def deadline(self) -> float:
        """When the last chunk has to end (`time.monotonic`), as things are now."""
        return self._deadline() if callable(self._deadline) else self._deadline

    def size(self, largest: int) -> int:
        """Number of steps of the next chunk, at most `largest`; 0 if not even one step would end in time."""
        deadline = self.deadline
        if math.isinf(deadline):
            return largest
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return 0
        if self._seconds_per_step is None:
            return 1
        if self._seconds_per_step > remaining:
            return 0
        fitting = int(min(remaining, self._longest) / self._seconds_per_step)
        return max(1, min(largest, 2 * self._size, fitting))

    def took(self, size: int, seconds: float) -> None:
        """Learn from a chunk of `size` steps."""
        self._seconds_per_step = max(seconds / size, 1e-9)
        self._size = max(self._size, size)
