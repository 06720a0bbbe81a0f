"""`meta/events.jsonl`: what commands and their schedulers did, one line at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lambda_hat.records.base import Moment, Part, Record, read_lines

__all__ = ["Begin", "Command", "End", "EventLine", "Stalled", "TaskEvent", "read_commands"]


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
    outcome: Literal["finished", "failed", "interrupted"] | None = None
    """How it ended; None in logs of earlier versions."""
    reason: str = ""
    """Why it failed, as it told its user."""


EventLine = Begin | TaskEvent | Stalled | End
_KINDS: dict[Any, type[EventLine]] = {
    "begin": Begin,
    "end": End,
    "stalled": Stalled,
    **dict.fromkeys(("started", "retried", "done", "error"), TaskEvent),
}


@dataclass(frozen=True)
class Command:
    """The lines of one command."""

    begin: Begin
    lines: Sequence[EventLine]
    """Those after `begin`."""

    @property
    def tasks(self) -> list[TaskEvent]:
        """What happened to its tasks."""
        return [line for line in self.lines if isinstance(line, TaskEvent)]

    @property
    def end(self) -> End | None:
        """Its last line; None while the command is at work, and where it was killed."""
        return next((line for line in self.lines if isinstance(line, End)), None)

    @property
    def last_moment(self) -> float:
        """Seconds from the beginning to the last of its lines."""
        return max((line.at for line in self.lines), default=0.0)


def read_commands(path: Path) -> list[Command]:
    """The commands that worked on a run, the first one first; raises as `read_lines`."""
    commands: list[tuple[Begin, list[EventLine]]] = []
    for line in read_lines(path, _kind_of)[0]:
        if isinstance(line, Begin):
            commands.append((line, []))
        elif commands:
            commands[-1][1].append(line)
    return [Command(begin, lines) for begin, lines in commands]


def _kind_of(content: Mapping[str, Any]) -> type[EventLine] | None:
    return _KINDS.get(content.get("kind"))
