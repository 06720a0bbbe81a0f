"""Executors that are this process: a task runs where it is submitted, and what happens to one happens to the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lambda_hat.config.card import InlineCard
from lambda_hat.environment import EXECUTOR_VARIABLE, executor_label
from lambda_hat.errors import ExecutionError
from lambda_hat.execution import inline
from lambda_hat.execution.inline import Inline
from lambda_hat.execution.port import Executors
from lambda_hat.execution.resources import capacity
from lambda_hat.execution.routing import labels_of


@pytest.fixture
def executors(tmp_path):
    with Inline(InlineCard(), tmp_path / "parsl_runinfo") as running:
        yield running


def test_it_is_what_a_workflow_asks_for(tmp_path):
    executors: Executors = Inline(InlineCard(), tmp_path)
    assert executors.labels == labels_of(InlineCard()) == ("htex64", "htex32")
    assert capacity(InlineCard()) == {"htex64": 1, "htex32": 1}


def test_a_task_has_ended_when_submit_returns_and_knows_its_label(executors):
    for label in executors.labels:
        assert executors.submit(executor_label, label=label).result(0) == label
    assert executor_label() is None
    future = executors.submit(threading.current_thread, label="htex64")
    assert future.done()
    assert future.result() is threading.current_thread(), "where signals arrive and a debugger reads"


def test_a_debugger_stops_where_its_user_is(executors, monkeypatch):
    stopped = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stopped.append(threading.current_thread()))
    executors.submit(breakpoint, label="htex64", meanwhile=lambda: None)
    assert stopped == [threading.main_thread()]


def test_no_task_takes_this_process_for_a_worker(executors):
    assert executors.submit(os.environ.get, EXECUTOR_VARIABLE, label="htex64").result() is None


def test_an_error_of_a_task_is_in_its_future_with_all_of_its_traceback(executors):
    def fail(text):
        return int(text)

    error = executors.submit(fail, "x", label="htex64").exception()
    assert isinstance(error, ValueError)
    names = []
    traceback = error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert names[-1] == "fail"


def test_labels_and_the_block_are_checked(executors, tmp_path):
    with pytest.raises(ExecutionError, match=r"No executor is called `htex16`; there are htex64, htex32\."):
        executors.submit(os.getpid, label="htex16")
    with pytest.raises(ExecutionError, match="only inside the executors' `with` block"):
        Inline(InlineCard(), tmp_path).submit(os.getpid, label="htex64")


def test_there_is_nothing_to_start_again(executors):
    assert executors.restart("htex64", "nothing moved") is False


def test_somebody_looks_while_a_task_runs(executors, monkeypatch):
    monkeypatch.setattr(inline, "_PERIOD", 0.01)
    looked = threading.Event()
    future = executors.submit(looked.wait, 60, label="htex64", meanwhile=looked.set)
    assert future.result() is True
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("inline-meanwhile")]


def test_what_goes_wrong_while_looking_is_not_the_tasks_fault(executors, monkeypatch):
    monkeypatch.setattr(inline, "_PERIOD", 0.01)
    looked, ended = threading.Event(), []

    def look():
        looked.set()
        raise RuntimeError("the journal cannot be written")

    def task():
        looked.wait(60)
        ended.append(True)

    with pytest.raises(RuntimeError, match="the journal cannot be written"):
        executors.submit(task, label="htex64", meanwhile=look)
    assert ended == [True]


def test_an_interruption_of_a_task_is_one_of_the_command(executors):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        executors.submit(interrupt, label="htex64", meanwhile=lambda: None)
    assert executor_label() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_block_like_an_exception(tmp_path, number):
    with pytest.raises(SystemExit) as caught, Inline(InlineCard(), tmp_path) as executors:  # noqa: PT012
        executors.submit(os.kill, os.getpid(), number, label="htex64")
        time.sleep(60)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.slow
def test_jax_finds_the_environment_of_a_worker_unless_it_is_there_or_the_user_has_his_own(tmp_path):
    program = """
import os, sys
from pathlib import Path
from lambda_hat.config.card import InlineCard
from lambda_hat.execution.inline import Inline
names = ("OMP_NUM_THREADS", "PJRT_NPROC", "JAX_COMPILATION_CACHE_DIR")
with Inline(InlineCard(), Path(sys.argv[1])):
    print(*(os.environ[name] for name in names))
print(*(os.environ.get(name) for name in names))
print(*(set(sys.modules) & {"jax", "parsl", "optuna"}))
import jax
with Inline(InlineCard(), Path(sys.argv[1])):
    print(*(os.environ.get(name) for name in names))
"""
    own = {name: value for name, value in os.environ.items() if name not in ("PJRT_NPROC", "JAX_COMPILATION_CACHE_DIR")}
    command = [sys.executable, "-c", program, str(tmp_path / "parsl_runinfo")]
    done = subprocess.run(command, env=own | {"OMP_NUM_THREADS": "3"}, capture_output=True, text=True, check=True)
    cache = Path(tmp_path.resolve() / "cache" / "jax")
    assert done.stdout.splitlines() == [f"3 1 {cache}", "3 None None", "", "3 None None"]
