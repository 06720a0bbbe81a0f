"""Tables of a report: what is read, what is sorted by, and where it leads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lambda_hat.artifacts.paths import METRICS_JSON, Paths
from lambda_hat.formatting import number

__all__ = ["Cell", "Column", "Links", "Row", "Table", "TableRow", "plain_table"]

Row = Mapping[str, Any]

_HIDDEN = frozenset({"versions", "git_commit", "pid_worker", "x64", "hyperparameters"})


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
        try:
            relative = os.path.relpath(path, self._folder)
        except ValueError:  # on another drive
            return ""
        return quote(Path(relative).as_posix()) if path.exists() else ""

    def to_trial(self, row: Row, name: str = METRICS_JSON) -> str:
        """Of a file of a trial."""
        rid = row.get("run_id")
        return self.to(self._paths.trial_dir(row["pid"], row["method"], rid) / name) if rid else ""


def plain_table(rows: Sequence[Row]) -> Table:
    """A table of whatever columns a file has, without those that are empty."""
    names = [
        name for name in rows[0] if name not in _HIDDEN and any(row.get(name) not in (None, "", []) for row in rows)
    ]
    columns = tuple(Column(name, name.replace("_", " "), _is_numeric(row.get(name) for row in rows)) for name in names)
    return Table(columns, tuple(TableRow(tuple(_plain_cell(row.get(name)) for name in names)) for row in rows))


def _is_numeric(values: Iterable[Any]) -> bool:
    known = [value for value in values if value is not None]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)


def _plain_cell(value: Any) -> Cell:
    match value:
        case None:
            return Cell("–")
        case bool():
            return Cell("yes" if value else "no")
        case int():
            return Cell(f"{value:,}", kind="number")
        case float():
            return Cell(number(value), kind="number")
        case datetime():
            return Cell(value.strftime("%Y-%m-%d %H:%M"))
        case _:
            text = str(value)
            return Cell(text, kind="long" if len(text) > 40 else "")
