"""Errors that a user can cause or meet, by family. Each family has the exit code of the command line."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, overload

__all__ = [
    "ConfigError",
    "ExecutionError",
    "ExecutorLostError",
    "Fault",
    "InputError",
    "LambdaHatError",
    "RunStateError",
    "StorageError",
    "TargetError",
    "TooManyFailedTrials",
    "UncertifiedReference",
    "UsageError",
    "WorkerLostError",
    "told_together",
]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


_STORAGE_ERRNOS = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EFBIG") if hasattr(errno, name)
}


class LambdaHatError(Exception):
    """Base of every expected failure. It is shown without a traceback unless `--verbose` is given."""

    exit_code: int = 1
    advice: tuple[str, ...] = ()  # settings, as for `--set`, with which `--resume` gets further

    def advising(self, *settings: str) -> Self:
        """This error with the settings that help."""
        self.advice = settings
        return self


class UsageError(LambdaHatError):
    """The command line is wrong."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One mistake in a configuration: its place, what was found, what was expected, and what to do."""

    key: str  # dotted: "search_space.sgld.eta_0"; "" for the whole file
    message: str  # one sentence: what was found and what is expected
    hint: str = ""  # what to do, e.g. "Did you mean `eta0`?"
    source: str = ""  # the file as the user named it, or "--set optuna.x=1"
    line: int | None = None  # 1-based
    column: int | None = None  # 1-based

    def __str__(self) -> str:
        place = self.source
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        head = "  ".join(part for part in (place, f"{self.key}: {self.message}" if self.key else self.message) if part)
        return f"{head}\n    {self.hint}" if self.hint else head


class ConfigError(LambdaHatError):
    """All faults of a configuration at once."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)


class InputError(LambdaHatError, ValueError):
    """Data, parameters or a loss given to the Python API cannot be used as they are."""

    exit_code = 2


@overload
def told_together(a: Callable[[], A], b: Callable[[], B], /) -> tuple[A, B]: ...
@overload
def told_together(a: Callable[[], A], b: Callable[[], B], c: Callable[[], C], /) -> tuple[A, B, C]: ...
@overload
def told_together(
    a: Callable[[], A], b: Callable[[], B], c: Callable[[], C], d: Callable[[], D], /
) -> tuple[A, B, C, D]: ...
def told_together(*readings: Callable[[], Any]) -> tuple[Any, ...]:
    """What each of several readings gives.

    Raises:
        InputError: the faults of all of them, one after the other.
    """
    found: list[Any] = []
    faults: list[InputError] = []
    for read in readings:
        try:
            found.append(read())
        except InputError as error:
            faults.append(error)
    if faults:
        raise InputError("\n".join(map(str, faults))) from faults[0].__cause__
    return tuple(found)


class RunStateError(LambdaHatError):
    """The run's folder is not in a state that this command can work with (unfinished, locked, incompatible)."""

    exit_code = 2


class StorageError(LambdaHatError):
    """A file could not be written: the disk or a quota is full, or the disk is read-only or broken."""

    @classmethod
    def from_os_error(cls, error: OSError, path: Path | None = None) -> Self | None:
        """The error that `error` means for `path` (default: its own file); None if storage is not to blame."""
        if error.errno not in _STORAGE_ERRNOS:
            return None
        what = path or error.filename or "A file"
        return cls(
            f"{what} could not be written: {error.strerror}. "
            "Once there is room and it can be written, the same command does; `--resume` goes on with a run."
        )


class ExecutionError(LambdaHatError):
    """Executors could not be started, were lost, or stopped answering."""


class WorkerLostError(ExecutionError):
    """The process that ran a task is gone; the task itself may be fine."""


class ExecutorLostError(WorkerLostError):
    """The executor of a task went down and took the task with it; the task is not to blame."""


class TargetError(LambdaHatError):
    """A target could not be made or its stored file cannot be used."""


class TooManyFailedTrials(LambdaHatError):
    """More trials failed than `optuna.max_failed_fraction` allows."""

    exit_code = 3


class UncertifiedReference(LambdaHatError):
    """A reference did not meet its certificate and `reference.on_uncertified` is `fail`."""

    exit_code = 4
