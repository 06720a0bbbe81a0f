"""Parsl's manager of a node's workers, which leaves no process behind: `python -P -m lambda_hat.execution.manager`.

On the controller's machine it ends with the controller. Elsewhere Parsl's heartbeats end it, but they begin only after
an answer of the interchange that Parsl would await for ever: here it gets as long as a heartbeat may be late.

Workers notice by themselves that their manager is gone only between two tasks, and would go on writing to the folder of
a task that has been given away; the server of their shared state never does. What multiprocessing starts imports the
main module, which is this one, under the name `__mp_main__`.
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any

from lambda_hat.environment import CONTROLLER_VARIABLE
from lambda_hat.execution import lean as lean  # before Parsl
from lambda_hat.execution.lifeline import end_with, end_with_parent

_PID_VARIABLE = "LAMBDA_HAT_MANAGER_PID"
_PATIENCE = "--hb_threshold="  # Parsl's argument, seconds


def _end_at_silence(seconds: int) -> None:
    """No socket waits longer for an answer, and the process ends when one of its threads fails."""
    from parsl import curvezmq

    class Context(curvezmq.ClientContext):
        def socket(self, *args: Any, **kwargs: Any) -> Any:
            socket = super().socket(*args, **kwargs)
            socket.rcvtimeo = 1000 * seconds
            return socket

    def end(failure: threading.ExceptHookArgs) -> None:
        threading.__excepthook__(failure)
        os._exit(1)

    curvezmq.ClientContext = Context
    threading.excepthook = end


if __name__ == "__main__":
    os.environ[_PID_VARIABLE] = str(os.getpid())
    if controller := os.environ.get(CONTROLLER_VARIABLE):
        end_with(int(controller))
    for word in sys.argv:
        if word.startswith(_PATIENCE):
            _end_at_silence(int(word.removeprefix(_PATIENCE)))
elif __name__ == "__mp_main__":
    end_with_parent(int(os.environ[_PID_VARIABLE]))

if __name__ in ("__main__", "__mp_main__"):
    from parsl.executors.high_throughput import process_worker_pool

    # Parsl's own main module runs in this namespace, where the processes that it starts look for its functions.
    script = Path(process_worker_pool.__file__)
    exec(compile(script.read_bytes(), script, "exec"))
