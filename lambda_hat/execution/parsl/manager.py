"""Parsl's manager of a node's workers, which leaves no process behind.

It is run as `python -P -m lambda_hat.execution.parsl.manager`. On the controller's machine it ends with the controller.
Elsewhere Parsl's heartbeats end it, but they begin only after an answer of the interchange that Parsl would await for
ever: here it gets as long as a heartbeat may be late.

Workers notice by themselves that their manager is gone only between two tasks, and would go on writing to the folder of
a task that has been given away; the server of their shared state never does. What multiprocessing starts imports the
main module, which is this one, under the name `__mp_main__`.
"""

import os
import sys
import tempfile
import threading

from lambda_hat.environment import CONTROLLER_VARIABLE
from lambda_hat.execution.parsl.lifeline import end_with, end_with_parent

_PID_VARIABLE = "LAMBDA_HAT_MANAGER_PID"
_MAX_TEMPORARY_BYTES = 64  # of 108 (104 on a Mac) for a socket's path, 32 of which are names of multiprocessing's


def _end(failure: threading.ExceptHookArgs) -> None:
    threading.__excepthook__(failure)
    os._exit(1)


# First, since the import of Parsl takes its time.
if __name__ == "__main__":
    os.environ[_PID_VARIABLE] = str(os.getpid())
    if controller := os.environ.get(CONTROLLER_VARIABLE):
        end_with(int(controller))
    if len(os.fsencode(tempfile.gettempdir())) > _MAX_TEMPORARY_BYTES:
        os.environ["TMPDIR"], tempfile.tempdir = "/tmp", None
elif __name__ == "__mp_main__":
    end_with_parent(int(os.environ[_PID_VARIABLE]))

if __name__ in ("__main__", "__mp_main__"):
    from lambda_hat.execution.parsl import lean as lean  # before Parsl
    from lambda_hat.execution.parsl.private import bound_silence, manager_program, silence_allowed

    if __name__ == "__main__":
        bound_silence(silence_allowed(sys.argv))
        threading.excepthook = _end
    # Parsl's own main module runs in this namespace, where the processes that it starts look for its functions.
    exec(manager_program())
