"""What is going on, on stderr: live tables on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from types import TracebackType
from typing import Self, TextIO, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lambda_hat.formatting import MISSING, clock, listed, number

__all__ = ["ExecutorLine", "Progress", "ReferenceLine", "Snapshot", "StudyLine"]

SECONDS_BETWEEN_LINES = 30.0  # off a terminal
_BAR_WIDTH, _MIN_BAR_WIDTH = 40, 10
_LINES_AROUND = 6  # headings, what is left out, the bar, the executors
_COUNTS = {
    "done": 4,
    "running": 7,
    "compiling": 9,
    "failed": 6,
    "pruned": 6,
    "of": 4,
    "best obj.": 9,
}  # and their widths
_LEFT_OUT = ("compiling", "pruned", "running")  # in this order, where names would have too little room
_MIN_NAME, _MAX_NAME, _HEAD = 12, 60, 8

L = TypeVar("L")


@dataclass(frozen=True, kw_only=True)
class StudyLine:
    """One (problem, method) pair, or another group of tasks.

    `done` counts completed ones only; failed and pruned ones are counted apart.
    """

    name: str  # "sgld on seed 42"
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
    """The reference of one problem, under its name, and in words how far it is.

    `is_settled` once it is there, or has failed.
    """

    pid: str
    state: str
    is_settled: bool = False


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
            has_objective = study.noun == "trials"
            best = f", best objective {number(study.best)}" if has_objective else ""
            yield f"{study.name}: {study.num_finished}/{study.total} {study.noun} ({counts}){best}"
        yield f"{_total_text(snapshot)}, busy: {_busy_text(snapshot)}"

    def _columns(self) -> tuple[dict[str, int], int]:
        """The columns of numbers that there is room for, with their widths, and the width that is left for names."""
        counts, left_out = dict(_COUNTS), iter(_LEFT_OUT)
        while (width := self._console.width - sum(counts.values()) - len(counts) - 1) < _MIN_NAME:
            if (header := next(left_out, None)) is None:
                break
            del counts[header]
        return counts, max(_MIN_NAME, width)

    def _tables(self, snapshot: Snapshot) -> Group:
        """Two tables, one bar, and what the executors do: as wide as the terminal, and no higher.

        Numbers have columns of fixed widths, and names are cut off where they do not fit, so that nothing jumps.
        """
        room = max(4, self._console.height - _LINES_AROUND)
        references, hidden = _most_urgent(snapshot.references, lambda line: not line.is_settled, room // 2)
        studies, more = _most_urgent(
            snapshot.studies, lambda line: line.num_finished < line.total, room - len(references)
        )
        parts: list[RenderableType] = []
        counts, width = self._columns()
        if references:
            names = [line.pid for line in snapshot.references]
            widest = min(max(width, self._console.width // 3), max(_MIN_NAME, *map(len, names)), _MAX_NAME)
            parts.append(_reference_table(references, _shortened(names, widest), widest))
        if studies:
            width = min(width, _MAX_NAME)
            names = _shortened([line.name for line in snapshot.studies], width)
            parts.append(_study_table(studies, names, width, counts))
        if hidden or more:
            parts.append(_cut(f"and {listed(_counts(hidden, more))} more", style="dim"))
        total = Table.grid(padding=(0, 1))
        length = max(_MIN_BAR_WIDTH, min(_BAR_WIDTH, self._console.width - len(_total_text(snapshot)) - 2))
        bar = ProgressBar(max(1, snapshot.num_tasks), snapshot.num_ended, width=length)
        total.add_row(bar, _cut(_total_text(snapshot)))
        return Group(*parts, total, _cut(f"{clock(snapshot.elapsed)}  {_busy_text(snapshot)}", style="dim"))


def _reference_table(lines: Sequence[ReferenceLine], names: Mapping[str, str], width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column("reference", width=width)
    table.add_column("state", ratio=1)
    for line in lines:
        table.add_row(Text(names[line.pid], no_wrap=True), _cut(line.state))
    return table


def _study_table(lines: Sequence[StudyLine], names: Mapping[str, str], width: int, counts: Mapping[str, int]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("study", width=width)
    for header, of_header in counts.items():
        table.add_column(header, justify="right", no_wrap=True, width=of_header)
    for line in lines:
        cells = (line.done, line.running, line.setting_up, line.failed, line.pruned, line.total)
        shown = dict(zip(_COUNTS, [*map(str, cells), number(line.best)], strict=True))
        table.add_row(Text(names[line.name], no_wrap=True), *(shown[header] for header in counts))
    return table


def _shortened(names: Sequence[str], width: int) -> dict[str, str]:
    """Every name, without its middle where it is too long.

    Behind the ellipsis stands the end, or what tells names apart, if ends do not or a number would lose digits.
    """
    head = min(_HEAD, width // 3)
    rest = width - head - 1
    short: dict[str, str] = {}
    for beginning in {name[:head]: None for name in names}:
        alike = [name for name in names if name[:head] == beginning]
        ends = {name[-rest:] for name in alike}
        is_cut = any(len(name) > width and name[-rest - 1 : 1 - rest].isdigit() for name in alike)
        shared = commonprefix(alike).rstrip("0123456789")  # noqa: RUF071 - of text, not of paths
        start = len(shared) if is_cut or len(ends) < len({*alike}) else None
        short |= {name: _elided(name, width, head, start) for name in alike}
    return short


def _elided(name: str, width: int, head: int, start: int | None) -> str:
    """The first `head` characters and, behind an ellipsis, what fits from `start` on, or else the end."""
    if len(name) <= width:
        return name
    last = len(name) - (width - head - 1)
    start = last if start is None else max(head, min(start, last))
    return f"{name[:head]}…{name[start:][: width - head - 1]}"


def _cut(text: str, style: str = "") -> Text:
    """Text on one line, that ends with … where there is no more room."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _most_urgent(lines: Sequence[L], is_open: Callable[[L], bool], room: int) -> tuple[list[L], int]:
    """As many lines as there is room for, open ones first, in their own order; and how many are left out."""
    ranked = sorted(range(len(lines)), key=lambda index: (not is_open(lines[index]), index))
    kept = sorted(ranked[: max(1, room)])
    return [lines[index] for index in kept], len(lines) - len(kept)


def _counts(references: int, studies: int) -> list[str]:
    return [
        f"{num} {noun if num == 1 else plural}"
        for num, noun, plural in ((references, "reference", "references"), (studies, "study", "studies"))
        if num
    ]


def _total_text(snapshot: Snapshot) -> str:
    left = MISSING if snapshot.seconds_left is None else clock(snapshot.seconds_left)
    return f"{snapshot.num_ended}/{snapshot.num_tasks} tasks, ETA {left}"


def _busy_text(snapshot: Snapshot) -> str:
    return ", ".join(f"{pool.label} {pool.busy}/{pool.cap}" for pool in snapshot.executors)
