"""However a controller ends, no process of its cluster is left behind."""

import os
import pickle
import signal
import subprocess
import sys
import time
import uuid
from functools import partial

import psutil
import pytest
import zmq

from tests.conftest import HANGING, wait_until

ENTER = """
import os, select, sys, time
from pathlib import Path
from lambda_hat.config.card import LocalCard, LocalExecutor
from lambda_hat.execution.parsl.cluster import Cluster

card = LocalCard(executors=(LocalExecutor(label="only", max_workers=1),))
"""
CONTROLLER = f"""{ENTER}
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
PARSL_WAITS = 120  # seconds for the answer of an interchange
IDLE = f"{ENTER}\nwith Cluster(card, Path(sys.argv[1])): time.sleep(600)"


def family(mark):
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAMBDA_HAT_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def runs(process, name):
    """Whether a word of its command line ends with that."""
    try:
        return any(word.endswith(name) for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


is_manager = partial(runs, name="lambda_hat.execution.parsl.manager")
is_interchange = partial(runs, name="lifeline.py")


def wait_until_nothing_is_left(mark):
    wait_until(lambda: not family(mark), lambda: f"{family(mark)} are left")


@pytest.mark.slow
@pytest.mark.usefixtures("workers_find_package")
@pytest.mark.parametrize(
    ("ending", "code"),
    [
        pytest.param("leave\n", 0, marks=pytest.mark.nightly),
        pytest.param("raise\n", 1, marks=pytest.mark.nightly),
        (signal.SIGINT, -signal.SIGINT),
        pytest.param(signal.SIGTERM, 128 + signal.SIGTERM, marks=pytest.mark.nightly),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.nightly),
        pytest.param("manager and controller", -signal.SIGKILL, marks=pytest.mark.nightly),
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
            (manager,) = filter(is_manager, members)
            manager.kill()
            controller.kill()
        elif isinstance(ending, str):
            controller.stdin.write(ending)
            controller.stdin.flush()
        elif ending is signal.SIGINT:
            os.killpg(controller.pid, ending)  # as a terminal does
        else:
            controller.send_signal(ending)
        assert controller.wait(HANGING) == code
    wait_until_nothing_is_left(mark)


@pytest.mark.slow
@pytest.mark.usefixtures("workers_find_package")
@pytest.mark.parametrize("delay", [0.0, pytest.param(1.0, marks=pytest.mark.nightly)])
def test_a_manager_that_is_still_starting_ends_with_its_controller(tmp_path, delay):
    """It would wait for an interchange that is gone: for 30 s, or for good once it has had its first answer."""
    mark = uuid.uuid4().hex
    controller = subprocess.Popen(
        [sys.executable, "-c", IDLE, str(tmp_path / "run")],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"LAMBDA_HAT_TEST_MARK": mark},
        start_new_session=True,
    )
    with controller:
        while not any(map(is_manager, family(mark))):
            assert controller.poll() is None
            time.sleep(0.02)
        time.sleep(delay)
        controller.kill()
    wait_until_nothing_is_left(mark)


@pytest.mark.slow
@pytest.mark.usefixtures("workers_find_package")
@pytest.mark.parametrize(
    ("is_for_all", "number", "code"),
    [
        (True, signal.SIGTERM, 128 + signal.SIGTERM),  # as `timeout` does, and what ends a session
        pytest.param(True, signal.SIGINT, -signal.SIGINT, marks=pytest.mark.nightly),
        pytest.param(False, signal.SIGTERM, 128 + signal.SIGTERM, marks=pytest.mark.nightly),
        (None, signal.SIGKILL, 1),
    ],
    ids=["SIGTERM for all", "SIGINT for all", "SIGTERM", "interchange killed"],
)
def test_a_cluster_that_is_still_starting_ends_at_once(tmp_path, is_for_all, number, code):
    """Parsl would wait for two minutes for the answer of an interchange that is gone."""
    mark = uuid.uuid4().hex
    controller = subprocess.Popen(
        [sys.executable, "-c", IDLE, str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LAMBDA_HAT_TEST_MARK": mark},
        start_new_session=True,
    )
    with controller:
        while not (interchanges := list(filter(is_interchange, family(mark)))):
            assert controller.poll() is None
            time.sleep(0.01)
        if is_for_all is None:
            interchanges[0].send_signal(number)
        elif is_for_all:
            os.killpg(controller.pid, number)
        else:
            controller.send_signal(number)
        try:
            _, stderr = controller.communicate(timeout=PARSL_WAITS - 20)
        except subprocess.TimeoutExpired:
            controller.kill()
            raise
        assert controller.returncode == code, stderr
    if is_for_all is None:
        assert "the interchange of `only` ended with code -9 before it was ready" in stderr
    wait_until_nothing_is_left(mark)


@pytest.mark.slow
@pytest.mark.usefixtures("workers_find_package")
@pytest.mark.parametrize("num_answers", [0, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_manager_does_not_wait_for_an_interchange_that_is_gone(tmp_path, num_answers):
    """As on a node of a cluster, where no controller can be watched. Parsl would wait for ever after one answer."""
    mark = uuid.uuid4().hex
    with zmq.Context() as context, context.socket(zmq.ROUTER) as interchange:
        interchange.rcvtimeo, interchange.linger = int(1000 * HANGING), 0
        port = interchange.bind_to_random_port("tcp://127.0.0.1")
        module = [sys.executable, "-P", "-m", "lambda_hat.execution.parsl.manager"]
        options = f"--max_workers_per_node=1 -a 127.0.0.1 --port={port} -m None -c 0.001 --cert_dir None -l {tmp_path}"
        patience = "--hb_period=1 --hb_threshold=3 --address_probe_timeout=3 --drain_period=None --cpu-affinity none"
        manager = subprocess.Popen(
            [*module, *options.split(), *patience.split()],
            stderr=subprocess.DEVNULL,
            env=os.environ | {"LAMBDA_HAT_TEST_MARK": mark},
        )
        try:
            sender, question = interchange.recv_multipart()
            assert pickle.loads(question) == {"type": "connection_probe"}
            for _ in range(num_answers):
                interchange.send_multipart([sender, question])
            assert manager.wait(HANGING) == 1
        finally:
            manager.kill()
            manager.wait()
    wait_until_nothing_is_left(mark)
