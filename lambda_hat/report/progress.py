"""What is going on, on stderr: live tables on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lambda_hat.formatting import MISSING, clock, number

__all__ = ["ExecutorLine", "Progress", "ReferenceLine", "Snapshot", "StudyLine"]

SECONDS_BETWEEN_LINES = 30.0  # off a terminal


@dataclass(frozen=True, kw_only=True)
class StudyLine:
    """One (problem, method) pair, or another group of tasks.

    `done` counts completed ones only; failed and pruned ones are counted apart.
    """

    name: str  # "p_0123456789ab:sgld"
    noun: str = "trials"  # what its tasks are called
    done: int
    running: int
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
        self._starts: dict[str, tuple[float, int]] = {}  # by study: when its trials began, and how many there were

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
        for study in snapshot.studies:
            if study.running:
                self._starts.setdefault(study.name, (snapshot.elapsed, study.num_finished))
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

    def eta(self, study: StudyLine, elapsed: float) -> float | None:
        """Seconds until the study has all its trials, at its own rate since this command began them."""
        start, num_before = self._starts.get(study.name, (elapsed, study.num_finished))
        num_new = study.num_finished - num_before
        if num_new <= 0 or elapsed <= start:
            return None
        return (study.total - study.num_finished) * (elapsed - start) / num_new

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
            counts = f"{study.running} running, {study.failed} failed, {study.pruned} pruned"
            best = f", best {number(study.best)}" if study.noun == "trials" else ""  # others have no objective
            yield (
                f"{study.name}: {study.num_finished}/{study.total} {study.noun} ({counts}){best}, "
                f"ETA {self._eta_text(study, snapshot.elapsed)}"
            )
        if snapshot.executors:
            yield "busy: " + ", ".join(f"{pool.label} {pool.busy}/{pool.cap}" for pool in snapshot.executors)

    def _tables(self, snapshot: Snapshot) -> Group:
        references = Table("reference", "state", box=None, pad_edge=False)
        for reference in snapshot.references:
            references.add_row(reference.pid, Text(reference.state))
        studies = Table("study", box=None, pad_edge=False)
        for header in ("done", "running", "failed", "pruned", "of", "best", "ETA"):
            studies.add_column(header, justify="right", no_wrap=True)
        for study in snapshot.studies:
            counts = (study.done, study.running, study.failed, study.pruned, study.total)
            eta = self._eta_text(study, snapshot.elapsed)
            studies.add_row(Text(study.name), *map(str, counts), number(study.best), eta)
        busy = "  ".join(f"{pool.label} {pool.busy}/{pool.cap}" for pool in snapshot.executors)
        parts = [table for table in (references, studies) if table.row_count]
        return Group(*parts, Text(f"{clock(snapshot.elapsed)}  {busy}", style="dim"))

    def _eta_text(self, study: StudyLine, elapsed: float) -> str:
        if study.num_finished >= study.total:
            return "done"
        seconds = self.eta(study, elapsed)
        return MISSING if seconds is None else clock(seconds)
