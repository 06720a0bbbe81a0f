"""Parsl's manager of a node's workers, whose processes do not outlive it: `python -P -m lambda_hat.execution.manager`.

Workers notice by themselves that their manager is gone only between two tasks, and would go on writing to the folder of
a task that has been given away; the server of their shared state never does. What multiprocessing starts imports the
main module, which is this one, under the name `__mp_main__`.
"""

import os
from pathlib import Path

from lambda_hat.execution import lean as lean  # before Parsl
from lambda_hat.execution.lifeline import end_with_parent

_PID_VARIABLE = "LAMBDA_HAT_MANAGER_PID"

if __name__ == "__main__":
    os.environ[_PID_VARIABLE] = str(os.getpid())
elif __name__ == "__mp_main__":
    end_with_parent(int(os.environ[_PID_VARIABLE]))

if __name__ in ("__main__", "__mp_main__"):
    from parsl.executors.high_throughput import process_worker_pool

    # Parsl's own main module runs in this namespace, where the processes that it starts look for its functions.
    script = Path(process_worker_pool.__file__)
    exec(compile(script.read_bytes(), script, "exec"))
