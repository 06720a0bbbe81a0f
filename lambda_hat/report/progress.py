"""What is going on, on stderr: live tables on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lambda_hat.formatting import MISSING, clock, number

__all__ = ["ExecutorLine", "Progress", "ReferenceLine", "Snapshot", "StudyLine"]

SECONDS_BETWEEN_LINES = 30.0  # off a terminal
_BAR_WIDTH = 40


@dataclass(frozen=True, kw_only=True)
class StudyLine:
    """One (problem, method) pair, or another group of tasks.

    `done` counts completed ones only; failed and pruned ones are counted apart.
    """

    name: str  # "p_0123456789ab:sgld"
    noun: str = "trials"  # what its tasks are called
    done: int
    running: int
    setting_up: int = 0  # of those that run
    failed: int
    pruned: int
    total: int
    best: float | None = None  # smallest objective so far

    @property
    def num_finished(self) -> int:
        """Trials that have ended, however."""
        return self.done + self.failed + self.pruned


@dataclass(frozen=True)
class ReferenceLine:
    """The reference of one problem, and in words how far it is."""

    pid: str
    state: str


@dataclass(frozen=True)
class ExecutorLine:
    """Tasks in flight on one executor, and how many it takes at once."""

    label: str
    busy: int
    cap: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The whole run at one moment; `elapsed` seconds after it began."""

    studies: tuple[StudyLine, ...] = ()
    references: tuple[ReferenceLine, ...] = ()
    executors: tuple[ExecutorLine, ...] = ()
    elapsed: float = 0.0
    num_ended: int = 0  # tasks of all kinds
    num_tasks: int = 0  # those, and what is still to come, as far as that is known
    seconds_left: float | None = None


class Progress:
    """Shows snapshots and messages on `stream` while its `with` block runs, without ever touching stdout.

    `is_quiet` leaves warnings only. Messages with a `level` above `verbosity` are left out. Colours follow NO_COLOR.
    Unless it `may_redraw` tables, there are plain lines on a terminal too: a debugger needs it for itself.
    """

    def __init__(self, stream: TextIO, is_quiet: bool = False, verbosity: int = 0, *, may_redraw: bool = True) -> None:
        self._console = Console(file=stream, highlight=False)
        self._stream = stream
        self._is_quiet = is_quiet
        self._verbosity = verbosity
        self._may_redraw = may_redraw and not is_quiet
        self._live: Live | None = None
        self._snapshot: Snapshot | None = None
        self._is_shown = False  # whether the last snapshot has been printed as lines
        self._next_lines = 0.0

    def __enter__(self) -> Self:
        # A terminal, not FORCE_COLOR, decides: a file full of redrawn tables helps nobody.
        if self._stream.isatty() and not self._console.is_dumb_terminal and self._may_redraw:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=True)
            self._live.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._snapshot is not None and not self._is_shown:
            self._print_lines(self._snapshot)

    def update(self, snapshot: Snapshot) -> None:
        """Show a newer snapshot; cheap enough for once a second."""
        self._snapshot, self._is_shown = snapshot, False
        if self._live is not None:
            self._live.update(self._tables(snapshot), refresh=True)
        elif time.monotonic() >= self._next_lines:
            self._print_lines(snapshot)

    def message(self, text: str, level: int = 0) -> None:
        """One line for whoever watches; level 1 is for `-v`, 2 for `-vv`."""
        if not self._is_quiet and level <= self._verbosity:
            self._print(text)

    def warning(self, text: str) -> None:
        """One line that even `-q` shows."""
        self._print(f"Warning: {text}", style="yellow")

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(Text(text, style=style or ""), soft_wrap=True)

    def _print_lines(self, snapshot: Snapshot) -> None:
        self._is_shown = True
        self._next_lines = time.monotonic() + SECONDS_BETWEEN_LINES
        if not self._is_quiet:
            for line in self._lines(snapshot):
                self._print(f"[{clock(snapshot.elapsed)}] {line}")

    def _lines(self, snapshot: Snapshot) -> Iterator[str]:
        for reference in snapshot.references:
            yield f"{reference.pid} reference: {reference.state}"
        for study in snapshot.studies:
            compiling = f", {study.setting_up} of them compiling" if study.setting_up else ""
            counts = f"{study.running} running{compiling}, {study.failed} failed, {study.pruned} pruned"
            best = f", best {number(study.best)}" if study.noun == "trials" else ""  # others have no objective
            yield f"{study.name}: {study.num_finished}/{study.total} {study.noun} ({counts}){best}"
        yield f"{_total_text(snapshot)}, busy: {_busy_text(snapshot)}"

    def _tables(self, snapshot: Snapshot) -> Group:
        references = Table("reference", "state", box=None, pad_edge=False)
        for reference in snapshot.references:
            references.add_row(reference.pid, Text(reference.state))
        studies = Table("study", box=None, pad_edge=False)
        for header in ("done", "running", "failed", "pruned", "of", "best"):
            studies.add_column(header, justify="right", no_wrap=True)
        for study in snapshot.studies:
            running = f"{study.running} ({study.setting_up} compiling)" if study.setting_up else str(study.running)
            counts = (str(study.done), running, str(study.failed), str(study.pruned), str(study.total))
            studies.add_row(Text(study.name), *counts, number(study.best))
        parts = [table for table in (references, studies) if table.row_count]
        total = Table.grid(padding=(0, 1))
        bar = ProgressBar(max(1, snapshot.num_tasks), snapshot.num_ended, width=_BAR_WIDTH)
        total.add_row(bar, Text(_total_text(snapshot)))
        busy = Text(f"{clock(snapshot.elapsed)}  {_busy_text(snapshot)}", style="dim")
        return Group(*parts, total, busy)


def _total_text(snapshot: Snapshot) -> str:
    left = MISSING if snapshot.seconds_left is None else clock(snapshot.seconds_left)
    return f"{snapshot.num_ended}/{snapshot.num_tasks} tasks, ETA {left}"


def _busy_text(snapshot: Snapshot) -> str:
    return ", ".join(f"{pool.label} {pool.busy}/{pool.cap}" for pool in snapshot.executors)
