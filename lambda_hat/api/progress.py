"""What a long call is at: one line on a terminal or in a notebook, or a function of the caller's own."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from lambda_hat.errors import InputError
from lambda_hat.formatting import estimate, number

__all__ = ["CallProgress", "OnProgress", "ProgressArgument", "reporting"]

_SEC_BETWEEN_LINES = 0.2


@dataclass(frozen=True)
class CallProgress:
    """What `estimate_llc` or `certify_llc` is at, and the figures known by now; NaN or None where there are none."""

    stage: str  # "hessian", "sampling", "wells"; `certify_llc` has more
    seconds: float  # since the call
    fraction: float = math.nan  # of the steps, or of the time that `auto` may take
    llc: float = math.nan
    se: float = math.nan
    num_met: int | None = None  # criteria that are met
    num_criteria: int | None = None
    step: int | float | str | None = None  # of a series: the checkpoint

    def __str__(self) -> str:
        share = "" if math.isnan(self.fraction) else f" {self.fraction:.0%}"
        parts = [
            "" if self.step is None else f"step {self.step}",
            f"{self.stage}{share}",
            "" if math.isnan(self.llc) else f"λ̂ = {estimate(self.llc, self.se)}",
            "" if self.num_criteria is None else f"{self.num_met} of {self.num_criteria} criteria met",
            f"{number(self.seconds, '.0f')} s",
        ]
        return ", ".join(filter(None, parts))


OnProgress: TypeAlias = Callable[[CallProgress], object]
ProgressArgument: TypeAlias = bool | OnProgress | None


@contextmanager
def reporting(progress: Any) -> Generator[OnProgress]:
    """The function that a call tells its progress: the caller's, that of a line on stderr, or one that does nothing.

    Raises:
        InputError: `progress` is neither a truth value nor a function.
    """
    if callable(progress):
        yield progress
    elif progress is not None and not isinstance(progress, bool):
        raise InputError(f"progress: found {progress!r}, expected True, False or a function of what is known.")
    elif progress or (progress is None and _is_watched()):
        line = _Line()
        try:
            yield line
        finally:
            line.clear()
    else:
        yield lambda _: None


def _is_watched() -> bool:
    """Whether stderr is a terminal or a notebook."""
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)


class _Line:
    """One line that each new one overwrites, a few times a second."""

    def __init__(self) -> None:
        self._width = 0
        self._last = -math.inf

    def __call__(self, progress: CallProgress) -> None:
        if time.monotonic() - self._last >= _SEC_BETWEEN_LINES:
            self._write(str(progress))
            self._last = time.monotonic()

    def _write(self, text: str) -> None:
        print(f"\r{text:{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = max(self._width, len(text))

    def clear(self) -> None:
        """Leave nothing behind."""
        if self._width:
            self._write("")
            print("\r", end="", file=sys.stderr, flush=True)
