"""What the process that builds networks of one's own is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lambda_hat.records.base import Part, Record

__all__ = ["BuildOrder", "BuildReport", "BuiltProblem", "KnownContents"]


class BuiltProblem(Part):
    """One problem, once its function was called, or looked for."""

    content: str = ""
    """Hash of what the function gave; empty where it was not called."""
    sources: Mapping[str, str] = {}
    """Hashes of the source files that it comes from."""
    sketch: tuple[float, ...] = ()
    """Two numbers for each of its arrays."""
    files: Mapping[str, str] = {}
    """Hashes of the files that its arguments name, by those names."""
    fault: str = ""
    """Why it cannot be used."""


class BuildOrder(Record):
    """Problems to build."""

    FORMAT: ClassVar[int] = 1

    problems: tuple[Mapping[str, Any], ...]
    """Problems as plain data."""
    is_called: bool
    """Whether the functions are called, or only looked for."""


class BuildReport(Record):
    """What has become of the problems of an order, in its order."""

    FORMAT: ClassVar[int] = 1

    problems: tuple[BuiltProblem, ...]
    """Each of them."""


class KnownContents(Record):
    """What the last command of a run built, for dry runs, which build nothing: `meta/built.json`."""

    FORMAT: ClassVar[int] = 1

    problems: Mapping[str, BuiltProblem] = {}
    """By the id of a problem without its content."""
