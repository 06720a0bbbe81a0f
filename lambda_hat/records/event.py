"""`meta/events.jsonl`: what commands and their schedulers did, one line at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lambda_hat.records.base import Moment, Part, Record, read_lines

__all__ = ["Begin", "End", "EventLine", "Stalled", "TaskEvent", "read_commands"]


class Begin(Record):
    """A command began."""

    kind: Literal["begin"] = "begin"
    """The kind of the line."""
    time: Moment | None = None
    """When the line was written."""
    at: float = 0.0
    """Seconds since the command began."""
    pid: int | None = None
    """Id of the command's process."""
    host: str | None = None
    """Name of the command's machine."""
    caps: Mapping[str, int] = {}
    """Tasks in flight at most, by executor."""
    capacity: Mapping[str, int] = {}
    """Workers by executor."""
    batch_size: int | None = None
    """Trials in flight of each study, where that is bounded."""


class TaskEvent(Part):
    """Something happened to a task."""

    kind: Literal["started", "retried", "done", "error"]
    """What happened."""
    time: Moment | None = None
    """When the line was written."""
    at: float
    """Seconds from the beginning of the command to what happened."""
    lane: str
    """Study, reference or other group that the task belongs to."""
    label: str
    """Label of the executor."""
    task: str
    """Name of the task."""
    seconds: float = 0.0
    """Seconds since the task was last submitted."""
    message: str = ""
    """What a watcher should know of it."""


class Stalled(Part):
    """Nothing moved on an executor for too long."""

    kind: Literal["stalled"] = "stalled"
    """The kind of the line."""
    time: Moment | None = None
    """When the line was written."""
    at: float
    """Seconds since the command began."""
    label: str
    """Label of the executor."""
    message: str = ""
    """For how long nothing moved."""
    is_restarted: bool = False
    """Whether the executor was started again."""


class End(Part):
    """A command ended, in peace or not."""

    kind: Literal["end"] = "end"
    """The kind of the line."""
    time: Moment | None = None
    """When the line was written."""
    at: float = 0.0
    """Seconds since the command began."""


EventLine = Begin | TaskEvent | Stalled | End
_KINDS: dict[Any, type[EventLine]] = {
    "begin": Begin,
    "end": End,
    "stalled": Stalled,
    **dict.fromkeys(("started", "retried", "done", "error"), TaskEvent),
}


def read_commands(path: Path) -> list[list[EventLine]]:
    """The lines of each command, which starts with its `Begin`; raises as `read_lines`."""
    commands: list[list[EventLine]] = []
    for event in read_lines(path, _kind_of)[0]:
        if isinstance(event, Begin):
            commands.append([])
        if commands:
            commands[-1].append(event)
    return commands


def _kind_of(content: Mapping[str, Any]) -> type[EventLine] | None:
    return _KINDS.get(content.get("kind"))
