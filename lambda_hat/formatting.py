"""Numbers in the form that people read, and text and paths in the form that they write."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = [
    "MISSING",
    "clock",
    "count",
    "escaped",
    "estimate",
    "html_table",
    "listed",
    "number",
    "sentence",
    "unescaped",
    "user_path",
]

MISSING = "–"
_MOST_DIGITS = 12
_DIGITS = re.compile(r"\.(\d+)")


def clock(seconds: float) -> str:
    """A duration in whole seconds as `h:mm:ss`, with the days before it from two on: `3 d 4:00:00`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24) if hours >= 48 else (0, hours)
    return f"{f'{days} d ' if days else ''}{hour}:{minute:02d}:{second:02d}"


def number(value: float | None, spec: str = ".4g", bound: float | None = None) -> str:
    """The value in the given format; a dash if there is none. What is rounded to zero has no sign.

    A value whose size is read beside a `bound` gets as many more digits as it takes to stand on its side of it: 0.7003
    is `0.7003` beside 0.7, not `0.70`.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text = _rounded(value, spec)
    if bound is None or abs(value) == bound:
        return text
    digits = _DIGITS.search(spec)
    for more in range(1, _MOST_DIGITS):
        shown = abs(_value_of(text))
        if digits is None or (shown != bound and (shown > bound) == (abs(value) > bound)):
            return text
        text = _rounded(value, spec.replace(digits[0], f".{int(digits[1]) + more}"))
    return text


def _rounded(value: float, spec: str) -> str:
    text = format(value, spec)
    return text if _value_of(text) else text.lstrip("+-")


def _value_of(text: str) -> float:
    plain = text.replace(",", "")
    return float(plain.removesuffix("%")) / 100 if plain.endswith("%") else float(plain)


def count(num: int, what: str) -> str:
    """A number with its noun: `1 trial`, `2 trials`."""
    return f"{num} {what}{'' if num == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Names in a row: `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def sentence(text: str) -> str:
    """The text with a full stop, unless it has an end of its own."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def estimate(value: float | None, se: float | None) -> str:
    """A value ± its standard error, both to the error's second significant digit: `15.637 ± 0.007`.

    Without a standard error: `0.390273 exactly`.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if se == 0:
        return f"{value:.6g} exactly"
    if se is None or not math.isfinite(se) or se <= 0:
        return f"{value:.4g} ± ?"
    decimals = max(0, 1 - math.floor(math.log10(se)))
    return f"{_rounded(value, f'.{decimals}f')} ± {se:.{decimals}f}"


def html_table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table for a notebook, with the keys of the first row as its head."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in (rows[0] if rows else ()))
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(value)}</td>" for value in row.values()) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def escaped(text: str) -> str:
    """The text as a study file says it: `${` would begin an interpolation, `\\${` does not."""
    return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", text)


def unescaped(text: str) -> str:
    """What `escaped` was given."""
    return re.sub(r"(\\*)\\\$\{", lambda found: found[1][: len(found[1]) // 2] + "${", text)


def user_path(text: str | Path) -> Path:
    """A path as people write it: `~` or `~name` at its beginning is a home."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:  # there is nobody of that name
        return path
