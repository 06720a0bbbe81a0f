"""Signals that end a command, as exceptions: so that what it holds is given back and the tables are written."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

__all__ = ["interrupts_tell", "signals_exit"]

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


@contextmanager
def interrupts_tell() -> Generator[None]:
    """Ctrl-C in the block says at once that it ends the block; a second one ends this process and those it started.

    It does nothing outside the main thread, and where SIGINT is handled or ignored already.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    num = 0

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal num
        num += 1
        if num == 1:
            _say("Stopping: workers are ended and tables are written. Ctrl-C again ends at once.")
            raise KeyboardInterrupt
        _say("Ended at once. `--resume` goes on.")
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        os._exit(128 + signal.SIGINT)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _say(text: str) -> None:
    """Say it on stderr, past every buffer: a handler may come in the middle of a write."""
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
