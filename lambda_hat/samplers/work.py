"""Time and evaluations that a long computation has spent, stage by stage, and its deadline."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lambda_hat.samplers.pace import Moment, OutOfTime, Pace

__all__ = ["OutOfTime", "Progress", "Work"]


@dataclass(frozen=True)
class Progress:
    """What a reference is at, and the figures known by now."""

    stage: str
    seconds: float
    llc: float = math.nan
    se: float = math.nan
    rhat: float = math.nan
    ess: float = math.nan
    num_met: int | None = None  # criteria of the certificate
    num_criteria: int | None = None


class Work:
    """Seconds by stage, and evaluations spent. `done` raises once the deadline has passed."""

    def __init__(self, deadline: Moment = math.inf, on_progress: Callable[[Progress], None] = lambda _: None) -> None:
        self._deadline = deadline
        self.on_progress = on_progress
        self.start = self.clock = time.monotonic()
        self.seconds: dict[str, float] = {}
        self.num_gradient_evaluations = 0.0  # on the full-data scale
        self.num_curvature_passes = 0  # over the data: one per column of a Hessian or Lanczos step

    def pace(self) -> Pace:
        """Chunk sizes that keep this deadline, for the chains of one sampler."""
        return Pace(self._deadline, start=self.start)

    @property
    def deadline(self) -> float:
        """When it has to end (`time.monotonic`), as things are now."""
        return self._deadline() if callable(self._deadline) else self._deadline

    def tell(self, stage: str, **figures: Any) -> None:
        """Report that `stage` is what runs now, and what is known."""
        self.on_progress(Progress(stage, time.monotonic() - self.start, **figures))

    def check(self) -> None:
        """Raise `OutOfTime` once the deadline has passed."""
        if time.monotonic() >= self.deadline:
            raise OutOfTime

    def done(self, stage: str) -> None:
        """Book the time since the last call to `stage`, and raise `OutOfTime` if none is left."""
        self.book(stage)
        self.check()

    def book(self, stage: str) -> None:
        """Book the time since the last call to `stage`."""
        now = time.monotonic()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.clock
        self.clock = now
