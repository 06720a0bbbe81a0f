"""Processes that end with the process that started them, however that one ended.

Run as a script (`python -P lifeline.py PARENT_PID`) it is Parsl's interchange.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import threading
import time

__all__ = ["end_with_parent"]

_PERIOD = 0.5  # seconds


def end_with_parent(parent_pid: int) -> None:
    """Start a thread that ends this process as soon as its parent is another than `parent_pid`."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_PERIOD)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    importlib.import_module("lambda_hat.execution.lean")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the controller, which still needs its interchange
    runpy.run_module("parsl.executors.high_throughput.interchange", run_name="__main__", alter_sys=True)
