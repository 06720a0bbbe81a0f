"""Columns of tables: the fields of the tables' rows, with a title, a unit and a sentence each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin

from pydantic import ConfigDict

from lambda_hat.config.methods import REPORTS
from lambda_hat.formatting import number
from lambda_hat.records.base import Figure, Part, Value

__all__ = ["PARAM_PREFIX", "Arguments", "Column", "Hyperparameters", "NamedColumn", "Reports", "Row", "Versions"]

PARAM_PREFIX = "param_"


@dataclass(frozen=True)
class Column:
    """How people meet a field of a row: its title as a heading, its unit, and the format of its numbers.

    `bound` is what the numbers are read beside, if anything: none is rounded across it.
    """

    title: str
    unit: str = ""
    spec: str = ".4g"
    bound: float | None = None


@dataclass(frozen=True)
class NamedColumn:
    """One column of a file, and all that is said of it."""

    name: str
    kind: type  # str, float, int, bool or datetime
    title: str
    unit: str
    spec: str
    bound: float | None
    sentence: str

    def text(self, value: float | None) -> str:
        """A number of this column as people read it."""
        return number(value, self.spec, self.bound)


Hyperparameters = Annotated[Mapping[str, Value], Column("settings")]
"""A column of JSON, and one column `param_<name>` for each of them."""

Arguments = Annotated[Mapping[str, Any], Column("arguments")]
"""A column of JSON."""

Reports = Mapping[str, Figure]
"""One column for each figure in `REPORTS`."""

Versions = Annotated[Mapping[str, str | None], Column("versions")]
"""A column of JSON."""

_JSON_FIELDS = ("hyperparameters", "versions", "arguments")
_REPORTS = "reports"


class Row(Part):
    """A row of a table. Its fields are the columns, in order."""

    model_config = ConfigDict(extra="forbid")
    KEY: ClassVar[tuple[str, ...]] = ()  # what names whose row it is: rows of others are kept when a table is replaced

    @classmethod
    def columns(cls) -> dict[str, NamedColumn]:
        """The columns that every file has, by name; those of hyperparameters depend on the rows."""
        found: list[NamedColumn] = []
        for name, field in cls.model_fields.items():
            if name == _REPORTS:
                found += [
                    NamedColumn(r.name, float, r.title, r.unit, r.spec, r.bound, r.sentence) for r in REPORTS.values()
                ]
                continue
            column = next(mark for mark in field.metadata if isinstance(mark, Column))
            kind = str if name in _JSON_FIELDS else _scalar(field.annotation)
            sentence = " ".join((field.description or "").split())
            found.append(NamedColumn(name, kind, column.title, column.unit, column.spec, column.bound, sentence))
        return {column.name: column for column in found}

    @property
    def key(self) -> tuple[Any, ...]:
        """The values of `KEY`."""
        return tuple(getattr(self, name) for name in self.KEY)

    def to_cells(self) -> dict[str, Any]:
        """The value of every column, those of the hyperparameters included."""
        cells: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name == _REPORTS:
                cells |= value
            elif name in _JSON_FIELDS:
                cells[name] = json.dumps(dict(value), sort_keys=True, default=str)
            else:
                cells[name] = value
        params: Mapping[str, Value] = getattr(self, "hyperparameters", {})
        return cells | {PARAM_PREFIX + name: value for name, value in params.items()}

    @classmethod
    def from_cells(cls, cells: Mapping[str, Any]) -> Self:
        """The row of these values; columns that no field knows are left out, those that are missing are unknown."""
        values = {name: cells[name] for name in cls.model_fields if cells.get(name) is not None}
        values |= {name: json.loads(values[name]) for name in _JSON_FIELDS if name in values}
        if _REPORTS in cls.model_fields:
            values[_REPORTS] = {name: cells[name] for name in REPORTS if cells.get(name) is not None}
        return cls.model_validate(values)


def _scalar(annotation: Any) -> type:
    """The type of a column's values: that of its field without None and marks."""
    if get_origin(annotation) is Annotated:
        return _scalar(get_args(annotation)[0])
    kinds = {_scalar(part) for part in get_args(annotation) if part is not type(None)} or {annotation}
    (kind,) = kinds
    return next(base for base in (bool, str, float, int, datetime) if issubclass(kind, base))
