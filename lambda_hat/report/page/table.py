"""Tables of a report: what is read, what is sorted by, and where it leads."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lambda_hat.artifacts.paths import METRICS_JSON, Paths
from lambda_hat.formatting import MISSING
from lambda_hat.records.columns import NamedColumn
from lambda_hat.records.rows import AcrossRow, ConfirmedRow, RunRow, TrialRow
from lambda_hat.records.state import State
from lambda_hat.report.verdict import settings_text

__all__ = ["Cell", "Column", "Links", "Table", "TableRow", "address", "cells_of", "column_of", "plain_table"]

_PROBLEMS = ("pid", "found_on")
_HIDDEN = frozenset({"title", "arguments", "versions", "git_commit", "pid_worker", "x64"})  # the page says them once


@dataclass(frozen=True)
class Column:
    """One column; `name` is what the page's address sorts by."""

    name: str
    title: str
    is_number: bool = False


@dataclass(frozen=True)
class Cell:
    """What is read, what is sorted by, and where it leads."""

    text: str
    value: str = ""
    kind: str = ""  # "number" | "long" | "good" | "bad" | "number bad" | ""
    href: str = ""


@dataclass(frozen=True)
class TableRow:
    """One row, which may stand out."""

    cells: tuple[Cell, ...]
    is_best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under columns."""

    columns: tuple[Column, ...] = ()
    rows: tuple[TableRow, ...] = ()


class Links:
    """Addresses of a run's files from the folder where the page lies."""

    def __init__(self, paths: Paths, folder: Path) -> None:
        self._paths = paths
        self._folder = folder.resolve()

    def to(self, path: Path) -> str:
        """A relative address, empty where there is no such file."""
        return address(path, self._folder)

    def to_trial(self, row: TrialRow | ConfirmedRow, name: str = METRICS_JSON) -> str:
        """A relative address of a file of the trial that a row is about."""
        return self.to(self._paths.trial_dir(row.pid, row.method, row.run_id) / name) if row.run_id else ""


def address(path: Path, folder: Path) -> str:
    """The address of a file for a page in `folder`; empty where there is no such file."""
    try:
        relative = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # on another drive
        return ""
    return quote(Path(relative).as_posix()) if path.exists() else ""


def column_of(column: NamedColumn) -> Column:
    """A column of a record as the page shows it."""
    return Column(column.name, column.title, _is_number(column))


def cells_of(
    row: TrialRow | RunRow | ConfirmedRow | AcrossRow,
    columns: Sequence[NamedColumn],
    names: Mapping[str, str],
) -> dict[str, Cell]:
    """The values of a row in these columns as the page shows them, by the columns' names.

    `names` are those of problems, by id: nobody can read a hash.
    """
    values = row.to_cells() | {"hyperparameters": settings_text(row.hyperparameters)}
    values |= {name: names.get(values[name], values[name]) for name in _PROBLEMS if name in values}
    return {column.name: _cell(column, values.get(column.name)) for column in columns}


def plain_table(rows: Sequence[RunRow] | Sequence[AcrossRow], names: Mapping[str, str]) -> Table:
    """All columns of a file that are not empty."""
    known = [column for column in type(rows[0]).columns().values() if column.name not in _HIDDEN]
    cells = [cells_of(row, known, names) for row in rows]
    columns = [column for column in known if any(row[column.name].value for row in cells)]
    return Table(
        tuple(map(column_of, columns)),
        tuple(TableRow(tuple(row[column.name] for column in columns)) for row in cells),
    )


def _is_number(column: NamedColumn) -> bool:
    return column.kind in (int, float)


def _cell(column: NamedColumn, value: Any) -> Cell:
    match value:
        case None:
            return Cell(MISSING, kind="number" if _is_number(column) else "")
        case State():
            return Cell(value.word, value=value.word)
        case bool():
            return Cell("yes" if value else "no", value=str(value))
        case int() | float():
            return Cell(column.text(value), value=repr(value) if math.isfinite(value) else "", kind="number")
        case datetime():
            return Cell(value.strftime("%Y-%m-%d %H:%M"), value=value.isoformat())
        case _:
            return Cell(str(value), value=str(value), kind="long" if len(str(value)) > 40 else "")
