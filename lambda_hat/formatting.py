"""Numbers in the form that people read."""

from __future__ import annotations

import math

__all__ = ["clock", "count", "estimate", "number"]

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
