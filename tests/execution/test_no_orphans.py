"""However a controller ends, no process of its cluster is left behind."""

import os
import signal
import subprocess
import sys
import time
import uuid

import psutil
import pytest

CONTROLLER = """
import os, select, sys, time
from pathlib import Path
from lambda_hat.config.card import LocalCard, LocalExecutor
from lambda_hat.execution.cluster import Cluster

card = LocalCard(executors=(LocalExecutor(label="only", max_workers=1),))
with Cluster(card, Path(sys.argv[1])) as cluster:
    cluster.submit(os.getpid, label="only").result(120)
    cluster.submit(time.sleep, 600, label="only")  # in C, as XLA is: Python's handlers in the worker would not run
    time.sleep(0.5)
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        pass  # a call that blocks for good would not notice a signal that came just before it
    if sys.stdin.readline() == "raise\\n":
        raise RuntimeError("on purpose")
"""


def family(mark):
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAMBDA_HAT_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("workers_find_package")
@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("leave\n", 0),
        ("raise\n", 1),
        (signal.SIGINT, -signal.SIGINT),
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGKILL, -signal.SIGKILL),
        ("manager and controller", -signal.SIGKILL),
    ],
)
def test_nothing_outlives_the_controller(tmp_path, ending, code):
    mark = uuid.uuid4().hex
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"LAMBDA_HAT_TEST_MARK": mark},
        start_new_session=True,
    )
    with controller:
        assert controller.stdout.readline() == "ready\n"
        members = family(mark)
        assert len(members) >= 5, "controller, interchange, block, manager, worker"
        if ending == "manager and controller":  # so that neither ends the workers
            (manager,) = (process for process in members if "lambda_hat.execution.manager" in process.cmdline())
            manager.kill()
            controller.kill()
        elif isinstance(ending, str):
            controller.stdin.write(ending)
            controller.stdin.flush()
        elif ending is signal.SIGINT:
            os.killpg(controller.pid, ending)  # as a terminal does
        else:
            controller.send_signal(ending)
        assert controller.wait(60) == code
    deadline = time.monotonic() + (15 if code == -signal.SIGKILL else 2)
    while (left := family(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []
