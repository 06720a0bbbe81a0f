"""What all records have in common: typed fields, one way to JSON and back, and a format version."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from lambda_hat.artifacts.files import append_json_line, read_json, read_json_lines, write_json_atomic
from lambda_hat.errors import RunStateError

__all__ = ["Beside", "Figure", "FormatError", "Moment", "Part", "Record", "Value", "append_line", "read_lines"]

FORMAT_KEY = "format"


def _known(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _with_zone(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("the time has no zone")
    return time


def _to_milliseconds(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")


Figure = Annotated[float | None, BeforeValidator(_known)]
"""A number, or None where it is not known: NaN and infinities, which JSON lacks, count as unknown."""

Moment = Annotated[datetime, AfterValidator(_with_zone), PlainSerializer(_to_milliseconds)]
"""A time with its zone; ISO 8601 text to the millisecond in files."""

Value = bool | int | float | str | None
"""A setting or a fact, as YAML and JSON have it."""


@dataclass(frozen=True)
class Beside:
    """Marks a field whose own keys, `names`, stand beside those of its record in the file."""

    names: Collection[str]


class FormatError(RunStateError):
    """A file is of another format version than this program reads."""

    def __init__(self, path: Path, found: object, known: int) -> None:
        self._arguments = path, found, known
        self.is_older = isinstance(found, int) and found < known
        super().__init__(
            f"{path} is of format {found}; this version of lambda-hat reads format {known}. "
            "Use the version that wrote it, or choose another `store.namespace`."
        )

    def __reduce__(self) -> tuple[type[FormatError], tuple[Path, object, int]]:
        return type(self), self._arguments


class Part(BaseModel):
    """Frozen, typed data: a record, or a part of one. Keys that no field knows are ignored.

    Its plain form leaves out unknown values that nobody set, and spreads the fields that are marked `Beside`.
    """

    model_config = ConfigDict(
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,  # the text below a field is its description
        defer_build=True,
    )

    @classmethod
    def _beside(cls) -> dict[str, Collection[str]]:
        fields = cls.model_fields.items()
        return {name: mark.names for name, field in fields for mark in field.metadata if isinstance(mark, Beside)}

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        inner = {
            name: {key: data[key] for key in keys if key in data}
            for name, keys in cls._beside().items()
            if name not in data
        }
        return data | {name: content for name, content in inner.items() if content}

    @model_serializer(mode="wrap")
    def _spread(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        plain = {name: value for name, value in values.items() if value is not None or name in self.model_fields_set}
        for name in self._beside():
            plain |= plain.pop(name, None) or {}
        return plain

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings, as in the file."""
        return self.model_dump(mode="json")


class Record(Part):
    """The content of one file, with the version of its format under the key `format`."""

    FORMAT: ClassVar[int] = 1  # files from before there was such a key have this one

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The record in `path`; None where there is no file, or a torn one.

        Raises:
            FormatError: the file is of another format version.
            RunStateError: the file cannot be read, or a value in it is none that the field can have.
        """
        content = read_json(path)
        return None if content is None else cls.from_json(content, path)

    @classmethod
    def from_json(cls, content: Mapping[str, Any], path: Path) -> Self:
        """The record that the file at `path` contains; raises as `read`."""
        _check_format(content, path, cls.FORMAT)
        try:
            return cls.model_validate(dict(content))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise RunStateError(
                f"{path} is damaged: {place}: {fault['msg']}. Remove it, or choose another `store.namespace`."
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Plain data, the format version first."""
        return {FORMAT_KEY: self.FORMAT, **super().to_json()}

    def write(self, path: Path) -> None:
        """Replace the file, atomically."""
        write_json_atomic(path, self.to_json())


P = TypeVar("P", bound=Part)


def read_lines(
    path: Path, kind_of: Callable[[Mapping[str, Any]], type[P] | None], offset: int = 0
) -> tuple[list[P], int]:
    """The lines added to a file after byte `offset`, and the offset to go on from.

    `kind_of` gives the type of a line, None for one of a kind that is not known. Such a line is left out, and so is one
    without what its kind has.

    Raises:
        FormatError: a line that bears a format version, as those that begin something do, bears another one.
        RunStateError: the file cannot be read.
    """
    contents, offset = read_json_lines(path, offset)
    lines: list[P] = []
    for content in contents:
        kind = kind_of(content)
        if kind is None:
            continue
        if issubclass(kind, Record):
            _check_format(content, path, kind.FORMAT)
        try:
            lines.append(kind.model_validate(content))
        except ValidationError:
            continue
    return lines, offset


def append_line(path: Path, line: Part) -> None:
    """Add one line to a file of lines, in one write."""
    append_json_line(path, line.to_json())


def _check_format(content: Mapping[str, Any], path: Path, known: int) -> None:
    if (found := content.get(FORMAT_KEY, 1)) != known:
        raise FormatError(path, found, known)
