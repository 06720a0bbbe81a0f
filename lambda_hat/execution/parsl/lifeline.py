"""Processes that end with the process that started them, or with their controller, however that one ended.

Run as a script (`python -P lifeline.py PARENT_PID`) it is Parsl's interchange.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import psutil

__all__ = ["end_with", "end_with_parent"]

_PERIOD = 0.5  # seconds


def end_with_parent(parent_pid: int) -> None:
    """Start a thread that ends this process as soon as its parent is another than `parent_pid`."""

    _end_unless(lambda: os.getppid() == parent_pid)


def end_with(pid: int) -> None:
    """Start a thread that ends this process as soon as process `pid` has ended, which need not be its parent."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        os._exit(1)

    def is_alive() -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    _end_unless(is_alive)


def _end_unless(is_alive: Callable[[], bool]) -> None:
    def watch() -> None:
        while is_alive():
            time.sleep(_PERIOD)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the controller, which still needs its interchange
    importlib.import_module("lambda_hat.execution.parsl.lean")
    importlib.import_module("lambda_hat.execution.parsl.private").run_interchange()
