"""Turns pydantic's validation errors into findings in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeGuard

from pydantic import ValidationError
from yaml import YAMLError

from lambda_hat.config.base import IN_OWN_WORDS
from lambda_hat.config.describe import (
    TECHNICAL,
    accepts,
    closed_set,
    expected,
    hint_of,
    names_at,
    range_of,
    scalar_types,
    tags_of,
    type_at,
)
from lambda_hat.config.locate import Finding, KeyPath, parse_value
from lambda_hat.config.numbers import SMALLEST
from lambda_hat.config.suggest import did_you_mean, one_of

__all__ = ["findings_of", "found", "is_number", "unknown_key", "wrong_value"]


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether the value is an int or a float; `true` is neither."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def found(value: object) -> str:
    """The value in the words of someone who reads YAML: "'abc' (text)", "an empty list", "nothing (null)"."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a truth value)"
    if isinstance(value, str):
        return f"{_shortened(value)!r} (text)"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return str(value).replace("inf", ".inf").replace("nan", ".nan")


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def unknown_key(path: KeyPath, names: tuple[str, ...], what: str = "unknown key") -> Finding:
    """A finding on a key that does not exist, with the keys that do."""
    message = f"{what}; expected {one_of(names)}" if names else what
    return Finding(path, message, did_you_mean(path[-1], names), is_about_key=True)


def findings_of(error: ValidationError, annotation: Any, data: Any) -> list[Finding]:
    """One finding for every place that `error` complains about, in the order of the data."""
    findings: dict[KeyPath, Finding] = {}
    for detail in error.errors(include_url=False):
        finding = _finding(detail["type"], detail["loc"], detail.get("ctx", {}), annotation, data)
        findings.setdefault(finding.path, finding)

    def is_kept(finding: Finding) -> bool:  # of a union's members, the one that got furthest is the one that was meant
        path = finding.path
        return finding.is_about_key or not any(other[: len(path)] == path != other for other in findings)

    return [finding for finding in findings.values() if is_kept(finding)]


def _finding(kind: str, loc: tuple[str | int, ...], context: Mapping[str, Any], annotation: Any, data: Any) -> Finding:
    path, value = _follow(loc, data)
    if kind == "extra_forbidden" or loc[-1:] == ("[key]",):
        _, parent = _follow(path[:-1], data)
        return unknown_key(path, names_at(type_at(annotation, data, path[:-1]), parent))
    if kind == "missing":
        path = (*path, loc[-1])
        return Finding(path, f"missing; expected {expected(type_at(annotation, data, path))}")
    if kind == IN_OWN_WORDS:
        return Finding(path, context["message"])
    wanted = type_at(annotation, data, path)
    if kind.startswith("union_tag"):
        name = context["discriminator"].strip("'")
        tags = tags_of(wanted, name)
        if kind == "union_tag_not_found":
            return Finding((*path, name), f"missing; expected {one_of(tags)}")
        return wrong_value((*path, name), value[name], Literal[tags])
    return wrong_value(path, value, wanted)


def _follow(loc: tuple[str | int, ...], data: Any) -> tuple[KeyPath, Any]:
    """The part of pydantic's `loc` that the data has, and the value there. `loc` also names members of unions."""
    path: KeyPath = ()
    for part in loc:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            continue
        path = (*path, part)
    return path, data


def wrong_value(path: KeyPath, value: object, annotation: Any) -> Finding:
    """A finding on a value that is not what `annotation` wants."""
    wanted, values, types = expected(annotation), closed_set(annotation), scalar_types(annotation)
    what = found(value)
    if isinstance(value, float) and not math.isfinite(value):
        wanted = wanted.replace("a number", "a finite number")
    elif is_number(value) and types & {int, float}:
        wanted = _beyond(value, *range_of(annotation)) or wanted
    if isinstance(value, str) and str in types:
        what = what.removesuffix(" (text)")
    return Finding(path, f"found {what}, expected {wanted}", _hint(value, annotation) or did_you_mean(value, values))


def _beyond(value: float, low: float, high: float) -> str:
    """The bound that a number exceeds, if it is one that the words for the type leave out."""
    if high >= TECHNICAL and value > high:
        return f"at most {high}" if isinstance(high, int) else f"at most {high:g}"
    if low <= -TECHNICAL and value < low:
        return f"at least {low}" if isinstance(low, int) else f"at least {low:g}"
    return f"at least {low:g}" if low == SMALLEST and 0 < value < low else ""


def _hint(value: object, annotation: Any) -> str:
    """How to write what was probably meant; never something that would be refused, too."""
    if hint := hint_of(annotation):
        return hint
    if isinstance(value, str) and (number := _number_in_quotes(value)) is not None and accepts(annotation, number):
        return "Remove the quotes."
    if isinstance(value, str) and scalar_types(annotation) == {bool} and value.lower() in {"yes", "no", "on", "off"}:
        return "In YAML 1.2, `yes`, `no`, `on` and `off` are text."
    return "Put quotes around it." if is_number(value) and accepts(annotation, str(value)) else ""


def _number_in_quotes(text: str) -> int | float | None:
    try:
        value = parse_value(text)
    except YAMLError:
        return None
    return value if is_number(value) else None
