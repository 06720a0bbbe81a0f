"""One executor of a card, with a Parsl kernel of its own: it can be lost and started again without the others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.jobs.errors import TooManyJobFailuresError
from parsl.providers import LocalProvider

from lambda_hat.config.card import ParslCard
from lambda_hat.errors import ExecutionError, ExecutorLostError, WorkerLostError
from lambda_hat.execution.parsl.cards import load_parsl_config_from_card
from lambda_hat.execution.parsl.private import Executor, blocks_of, cancel_blocks, submit

__all__ = ["Pool"]

_T = TypeVar("_T")

_LOST = (WorkerLost, ManagerLost)
_EXECUTOR_LOST = (BadStateException, TooManyJobFailuresError)
_CLEAN_UP_SECONDS = 30.0  # of Parsl's own clean-up; cancelling Slurm jobs is the slow part
_DEAD_CLEAN_UP_SECONDS = 2.0  # the same where it is known to wait for an interchange that is gone
_LATE_START_SECONDS = 1.0  # for a start that had its interchange's answer before that was gone
_END_SECONDS = 3.0  # that processes get between the clean-up and SIGKILL
_LOOK_SECONDS = 3.0  # between two looks at what processes have computed
_BUSY_SECONDS = 0.1  # of computing between them: more than an idle manager needs, less than a starved worker gets
_PERIOD = 0.1  # of looking at an interchange whose answer is awaited


class Pool:
    """The workers behind one label."""

    def __init__(self, card: ParslCard, label: str, run_dir: Path, cache_dir: Path) -> None:
        self.label = label
        self.num_done = 0  # tasks that ended since the last start
        self._card = card
        self._run_dir = run_dir
        self._cache_dir = cache_dir
        self._kernel: Future[DataFlowKernel] | None = None
        self._executor: Executor | None = None
        self._pending: set[Future[Any]] = set()
        self._reason_lost: str | None = None
        self._seen: set[psutil.Process] = set()
        self._cleaning: Future[None] | None = None

    def begin_start(self) -> None:
        """Have Parsl start interchange and blocks, in a thread, since it may never come back."""
        config = load_parsl_config_from_card(self._card, self._run_dir, self._cache_dir, self.label)
        (executor,) = config.executors
        assert isinstance(executor, Executor)
        self._executor, self._cleaning = executor, None
        self._reason_lost, self._seen, self.num_done = None, set(), 0
        self._kernel = _in_thread(f"{self.label}-start", partial(DataFlowKernel, config))

    def await_start(self) -> DataFlowKernel:
        """What was begun, once it is done.

        Raises:
            ExecutionError: its interchange ended meanwhile: Parsl would wait for its answer for two minutes.
            Exception: whatever Parsl raises.
        """
        kernel, executor = self._kernel, self._executor
        assert kernel is not None
        assert executor is not None
        code = None
        while not wait((kernel,), _PERIOD if code is None else _LATE_START_SECONDS).done:
            if code is not None:
                raise ExecutionError(f"the interchange of `{self.label}` ended with code {code} before it was ready")
            code = executor.end_of_interchange
        return kernel.result()

    @property
    def is_broken(self) -> bool:
        """Whether its blocks die before a worker reports: to start it again would not help."""
        return self._executor is not None and self._executor.why_broken is not None

    @property
    def reason_lost(self) -> str | None:
        """Why nothing can be submitted any more; None while something can."""
        broken = None if self._executor is None else self._executor.why_broken
        return self._reason_lost if broken is None else broken

    @property
    def is_waiting_for_blocks(self) -> bool:
        """Whether its scheduler has not given it a single block yet, which can take days."""
        executor = self._executor
        if executor is None or isinstance(executor.provider, LocalProvider):
            return False
        return not any(status.state.name == "RUNNING" for status in executor.block_states.values())

    @property
    def is_queued(self) -> bool:
        """Whether it has tasks, and no block that could run them."""
        return bool(self._pending) and self.is_waiting_for_blocks

    def submit(self, task: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run `task(*args)` on a worker of this pool; the future raises as that of `Cluster.submit`."""
        kernel = self.await_start()
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self._pending.add(future)
        app_future = submit(kernel, self.label, task, args)
        app_future.add_done_callback(partial(self._settle, future))
        return future

    def _settle(self, future: Future[Any], app_future: Future[Any]) -> None:
        error = app_future.exception()
        if not self._claim(future):  # given up before
            return
        if isinstance(error, _LOST + _EXECUTOR_LOST):
            kind = WorkerLostError if isinstance(error, _LOST) else ExecutorLostError
            lost = kind(f"The worker on `{self.label}` was lost: {error}")
            lost.__cause__ = error
            future.set_exception(lost)
        elif error is not None:
            future.set_exception(error)
        else:
            self.num_done += 1
            future.set_result(app_future.result())

    def _claim(self, future: Future[Any]) -> bool:
        try:
            self._pending.remove(future)  # one call, so that of two threads only one settles it
        except KeyError:
            return False
        return True

    def give_up(self, error: ExecutionError) -> None:
        """Fail every task that has not ended."""
        for future in list(self._pending):
            if self._claim(future):
                future.set_exception(error)

    def watch(self) -> None:
        """Notice an interchange that ended: Parsl does not, and its futures would wait for ever.

        Remember every process, too: those of a manager that was killed are nobody's children any more.
        """
        self._seen |= self._local_processes()
        code = None if self._executor is None else self._executor.end_of_interchange
        if self._reason_lost is not None:
            return
        if code is not None:
            self._kill_seen()  # its workers would go on writing to tasks that are given away
            self.lose(f"its interchange ended with code {code}")
        elif self._has_lost_manager:
            self._kill_seen()
            self.lose("the manager of its workers is gone", WorkerLostError)

    @property
    def _has_lost_manager(self) -> bool:
        """Whether the one block of this machine ended. On clusters blocks end as they should, and heartbeats decide."""
        executor = self._executor
        return executor is not None and isinstance(executor.provider, LocalProvider) and bool(executor.ended_blocks)

    def _kill_seen(self) -> None:
        own = {None} if self._executor is None else {self._executor.interchange_pid}
        others = [process for process in list(self._seen) if process.pid not in own]
        for process in others:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(others, timeout=_END_SECONDS)

    def lose(self, reason: str, kind: type[WorkerLostError] = ExecutorLostError) -> None:
        """Count it as lost, and its tasks with it, which fail as `kind`."""
        self._reason_lost = reason
        what = "executor" if kind is ExecutorLostError else "worker on"
        self.give_up(kind(f"The {what} `{self.label}` {'is' if kind is ExecutorLostError else 'was'} lost: {reason}"))

    def is_busy(self) -> bool:
        """Whether its processes on this machine compute, which takes some seconds to tell."""
        before = self._cpu_seconds()
        time.sleep(_LOOK_SECONDS)
        after = self._cpu_seconds()
        return any(seconds - before.get(pid, seconds) >= _BUSY_SECONDS for pid, seconds in after.items())

    def _cpu_seconds(self) -> dict[int, float]:
        """What each process of the pool on this machine has computed, its interchange left out."""
        interchange = None if self._executor is None else self._executor.interchange_pid
        seconds: dict[int, float] = {}
        for process in self._local_processes():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.pid != interchange:
                    times = process.cpu_times()
                    seconds[process.pid] = times.user + times.system
        return seconds

    def begin_end(self) -> None:
        """Have Parsl clean up, in a thread, since it may never come back; what is still starting is awaited first."""
        self._seen |= self._local_processes()
        if self._kernel is not None and self._cleaning is None:
            self._cleaning = _in_thread(f"{self.label}-clean-up", self._clean_up)

    def end(self) -> None:
        """End every process of the pool, with Parsl's help or without it."""
        self.begin_end()
        try:
            if self._cleaning is not None:
                wait((self._cleaning,), _DEAD_CLEAN_UP_SECONDS if self._reason_lost else _CLEAN_UP_SECONDS)
        finally:
            if self._cleaning is None or not self._cleaning.done() or self._cleaning.exception() is not None:
                self._cancel_blocks()
            processes = self._seen | self._local_processes()
            _, alive = psutil.wait_procs(processes, timeout=_END_SECONDS)
            for process in alive:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self.give_up(ExecutionError("The cluster was shut down before the task ended."))

    def _clean_up(self) -> None:
        kernel = self.await_start()
        try:
            kernel.cleanup()
        except Exception:
            logging.getLogger(__name__).warning("Parsl's clean-up failed", exc_info=True)
            raise

    def _cancel_blocks(self) -> None:
        if self._executor is not None:
            self._executor.end_interchange()
            with suppress(Exception):
                cancel_blocks(self._executor)

    def _local_processes(self) -> set[psutil.Process]:
        """The processes of this pool on this machine: interchange, blocks, managers, workers."""
        found: set[psutil.Process] = set()
        executor = self._executor
        if executor is None:
            return found
        with suppress(psutil.NoSuchProcess):
            if (pid := executor.interchange_pid) is not None:
                found.add(psutil.Process(pid))
        if not isinstance(executor.provider, LocalProvider):
            return found
        for pid, script in blocks_of(executor.provider):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                root = psutil.Process(pid)
                if any(script in part for part in root.cmdline()):  # else the number was used again
                    found |= {root, *root.children(recursive=True)}
        return found


def _in_thread(name: str, function: Callable[[], _T]) -> Future[_T]:
    """What `function` returns or raises, from a thread that no end of the program waits for."""
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
