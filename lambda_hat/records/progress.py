"""`progress.jsonl`: what a worker tells of a trial or a reference while it is at it, one line at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lambda_hat.records.base import Figure, Moment, Part, Record, read_lines
from lambda_hat.records.state import State

__all__ = ["TRAINING", "Alive", "Chunk", "Ended", "ProgressLine", "Stage", "Started", "read_progress"]

TRAINING = "training"  # the stage whose seconds are those of setting up


class Started(Record):
    """A worker began the task, perhaps not for the first time."""

    event: Literal["started"] = "started"
    """The kind of the line."""
    pid: int | None = None
    """Id of the worker's process."""
    host: str | None = None
    """Name of the worker's machine."""
    time: Moment | None = None
    """When the line was written."""


class Chunk(Part):
    """A trial after one more chunk of its steps."""

    step: int
    """Steps of each chain so far."""
    fraction: float
    """Share of all steps."""
    llc_hat: Figure = None
    """Estimate from the steps so far, without their burn-in."""


class Stage(Part):
    """A reference that has come to a stage or round."""

    stage: str
    """Name of the stage that runs now."""
    seconds: Figure = None
    """Seconds of the budget that are spent."""
    llc: Figure = None
    """λ̂ so far."""
    se: Figure = None
    """Standard error of λ̂ so far."""
    rhat: Figure = None
    """The larger of the R̂ of the loss and that of r²."""
    ess: Figure = None
    """The smaller of the bulk ESS of the loss and that of r²."""
    num_met: int | None = None
    """Criteria of the certificate that are met by now."""
    num_criteria: int | None = None
    """Criteria of the certificate."""


class Alive(Part):
    """A task has written nothing else for some seconds, and its worker lives."""

    event: Literal["alive"] = "alive"
    """The kind of the line."""
    seconds: Figure = None
    """Seconds of the budget that are spent."""
    setup_seconds: Figure = None
    """Seconds of setting up, training included, which do not count."""
    is_compiling: bool = False
    """Whether a program was being compiled."""


class Ended(Part):
    """The task has ended, and its result is on the disk."""

    event: Literal["ended"] = "ended"
    """The kind of the line."""
    state: State | None = None
    """How the task ended."""
    time: Moment | None = None
    """When the line was written."""


ProgressLine = Started | Chunk | Stage | Alive | Ended
_EVENTS: dict[Any, type[Started | Alive | Ended]] = {"started": Started, "alive": Alive, "ended": Ended}


def read_progress(path: Path, offset: int = 0) -> tuple[list[ProgressLine], int]:
    """The lines added after byte `offset`, and the offset to go on from; raises as `read_lines`."""
    return read_lines(path, _kind_of, offset)


def _kind_of(content: Mapping[str, Any]) -> type[ProgressLine] | None:
    if "event" in content:
        return _EVENTS.get(content["event"])
    return Stage if "stage" in content else Chunk if "step" in content else None
