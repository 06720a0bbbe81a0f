"""Numbers as people read them."""

from __future__ import annotations

import math

__all__ = ["clock", "count", "estimate", "number"]

MISSING = "–"


def clock(seconds: float) -> str:
    """`h:mm:ss`, whole seconds."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def number(value: float | None, spec: str = ".4g") -> str:
    """The value in the given format; a dash where there is none."""
    return MISSING if value is None or not math.isfinite(value) else format(value, spec)


def count(num: int, what: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{num} {what}{'' if num == 1 else 's'}"


def estimate(value: float | None, se: float | None) -> str:
    """`15.637 ± 0.007`: both to the second significant digit of the standard error; `0.390273 exactly` without one."""
    if value is None or not math.isfinite(value):
        return MISSING
    if se == 0:
        return f"{value:.6g} exactly"
    if se is None or not math.isfinite(se) or se <= 0:
        return f"{value:.4g} ± ?"
    decimals = max(0, 1 - math.floor(math.log10(se)))
    return f"{value:.{decimals}f} ± {se:.{decimals}f}"
