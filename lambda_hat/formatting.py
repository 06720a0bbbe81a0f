"""Numbers in the form that people read, and text and paths in the form that they write."""

from __future__ import annotations

import math
import re
from pathlib import Path

__all__ = ["clock", "count", "escaped", "estimate", "number", "unescaped", "user_path"]

MISSING = "–"


def clock(seconds: float) -> str:
    """A duration in whole seconds as `h:mm:ss`."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def number(value: float | None, spec: str = ".4g") -> str:
    """The value in the given format; a dash if there is none."""
    return MISSING if value is None or not math.isfinite(value) else format(value, spec)


def count(num: int, what: str) -> str:
    """A number with its noun: `1 trial`, `2 trials`."""
    return f"{num} {what}{'' if num == 1 else 's'}"


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
    return f"{value:.{decimals}f} ± {se:.{decimals}f}"


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
