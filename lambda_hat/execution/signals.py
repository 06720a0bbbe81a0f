"""Signals that end a command, as exceptions: so that what it holds is given back and the tables are written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

__all__ = ["signals_exit"]

_EXIT_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def signals_exit() -> Generator[None]:
    """SIGTERM and SIGHUP raise `SystemExit` in the block, unless they are handled or ignored already.

    Python hears signals in its main thread alone: in any other this does nothing.
    """
    is_main = threading.current_thread() is threading.main_thread()
    unhandled = [number for number in _EXIT_SIGNALS if is_main and signal.getsignal(number) is signal.SIG_DFL]
    earlier = {number: signal.signal(number, _exit) for number in unhandled}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
