"""Executors that run while a `with` block does, and leave no process behind."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import yaml
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import HighThroughputExecutor
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.jobs.errors import TooManyJobFailuresError
from parsl.providers import LocalProvider

from lambda_hat.artifacts.files import write_text_atomic
from lambda_hat.config.card import LocalCard, SlurmCard
from lambda_hat.errors import ConfigError, ExecutionError, WorkerLostError
from lambda_hat.execution import lifeline
from lambda_hat.execution.cards import load_parsl_config_from_card
from lambda_hat.execution.resources import capacity, check_card
from lambda_hat.execution.routing import labels_of

__all__ = ["SELECTED_CARD_YAML", "Cluster"]

SELECTED_CARD_YAML = "selected_parsl_card.yaml"

_LOST = (WorkerLost, ManagerLost, BadStateException, TooManyJobFailuresError)
_EXIT_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_WATCH_PERIOD = 1.0  # seconds
_CLEAN_UP_SECONDS = 30.0  # of Parsl's own clean-up; cancelling Slurm jobs is the slow part
_DEAD_CLEAN_UP_SECONDS = 2.0  # the same where it is known to wait for an interchange that is gone
_END_SECONDS = 3.0  # that processes get between the clean-up and SIGKILL


class Cluster:
    """The executors of a card. Enter it in the main thread: then SIGTERM and SIGHUP end it like an exception does.

    Raises:
        ConfigError: on construction, the card contradicts itself.
        ExecutionError: on entry, the executors cannot be started.
    """

    def __init__(self, card: LocalCard | SlurmCard, run_dir: Path, cache_dir: Path | None = None) -> None:
        if faults := check_card(card):
            raise ConfigError(faults)
        self.labels: tuple[str, ...] = labels_of(card)
        self.capacity: dict[str, int] = capacity(card)
        self._card = card
        self._run_dir = run_dir.resolve()
        self._cache_dir = cache_dir
        self._kernel: DataFlowKernel | None = None
        self._executors: dict[str, HighThroughputExecutor] = {}
        self._pending: dict[Future[Any], str] = {}
        self._dead: dict[str, str] = {}  # label: why nothing can be submitted any more
        self._seen: set[psutil.Process] = set()
        self._is_ending = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="cluster-watch", daemon=True)
        self._old_handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._run_dir.mkdir(parents=True, exist_ok=True)
        write_text_atomic(self._run_dir / SELECTED_CARD_YAML, yaml.safe_dump(self._card.to_dict(), sort_keys=False))
        config = load_parsl_config_from_card(self._card, self._run_dir, self._cache_dir)
        self._executors = {pool.label: pool for pool in config.executors if isinstance(pool, HighThroughputExecutor)}
        logging.getLogger("parsl").propagate = False  # it has a file of its own under the run's folder
        self._catch_signals()
        try:
            self._kernel = DataFlowKernel(config)
            self._watcher.start()
        except BaseException as error:
            self._end()
            if isinstance(error, Exception):
                raise ExecutionError(f"Parsl could not start its executors: {error}. See {self._run_dir}.") from error
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def submit(self, task: Callable[..., Any], *args: Any, label: str) -> Future[Any]:
        """Run `task(*args)` on the executor `label`; `task` must be importable where the workers are.

        The future raises `WorkerLostError` where the process that ran the task is gone, and what the task raised
        otherwise. It cannot be cancelled.

        Raises:
            ExecutionError: there is no such executor, or it is beyond repair, or the cluster has not been entered.
        """
        if label not in self.labels:
            raise ExecutionError(f"No executor is called `{label}`; there are {', '.join(self.labels)}.")
        if self._kernel is None or self._is_ending.is_set():
            raise ExecutionError("Tasks can be submitted only inside the cluster's `with` block.")
        if reason := self._reason_dead(label):
            raise ExecutionError(f"The executor `{label}` is lost: {reason}. See {self._kernel.run_dir}.")
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self._pending[future] = label
        app_future = self._kernel.submit(
            lifeline.call, app_args=(task, *args), executors=[label], cache=False, ignore_for_cache=None, app_kwargs={}
        )
        app_future.add_done_callback(partial(self._settle, future))
        return future

    def _settle(self, future: Future[Any], app_future: Future[Any]) -> None:
        error = app_future.exception()
        label = self._pending.pop(future, None)
        if label is None:  # given up before
            return
        if isinstance(error, _LOST):
            lost = WorkerLostError(f"The worker on `{label}` was lost: {error}")
            lost.__cause__ = error
            future.set_exception(lost)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(app_future.result())

    def _give_up(self, error: ExecutionError, label: str | None = None) -> None:
        for future, its_label in list(self._pending.items()):
            if label in (None, its_label) and self._pending.pop(future, None) is not None:
                future.set_exception(error)

    def _reason_dead(self, label: str) -> str | None:
        executor = self._executors[label]
        if executor.bad_state_is_set:
            return str(executor.executor_exception).strip()
        return self._dead.get(label)

    def _watch(self) -> None:
        """Notice an interchange that ended: Parsl does not, and its futures would wait for ever.

        Remember every process, too: those of a manager that was killed are nobody's children any more.
        """
        while not self._is_ending.wait(_WATCH_PERIOD):
            self._seen |= self._local_processes()
            for label, executor in self._executors.items():
                process = executor.interchange_proc
                if label not in self._dead and process is not None and process.poll() is not None:
                    self._dead[label] = f"its interchange ended with code {process.returncode}"
                    self._give_up(WorkerLostError(f"The executor `{label}` is lost: {self._dead[label]}"), label)

    def _end(self) -> None:
        """End every process of the cluster, with Parsl's help or without it; a second interruption only hurries."""
        self._is_ending.set()
        processes = self._seen | self._local_processes()
        cleaner = threading.Thread(target=self._clean_up, name="cluster-clean-up", daemon=True)
        try:
            if self._kernel is not None:
                cleaner.start()
                cleaner.join(_DEAD_CLEAN_UP_SECONDS if self._dead else _CLEAN_UP_SECONDS)
        finally:
            if self._kernel is None or cleaner.is_alive():
                self._cancel_blocks()
            processes |= self._local_processes()
            _, alive = psutil.wait_procs(processes, timeout=_END_SECONDS)
            for process in alive:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._give_up(ExecutionError("The cluster was shut down before the task ended."))
            self._restore_signals()

    def _clean_up(self) -> None:
        assert self._kernel is not None
        try:
            self._kernel.cleanup()
        except Exception:
            logging.getLogger(__name__).warning("Parsl's clean-up failed", exc_info=True)

    def _cancel_blocks(self) -> None:
        for executor in self._executors.values():
            if executor.interchange_proc is not None:
                executor.interchange_proc.terminate()
            provider = executor.provider
            if provider is not None and (jobs := list(provider.resources)):
                with suppress(Exception):
                    provider.cancel(jobs)

    def _local_processes(self) -> set[psutil.Process]:
        """The processes of this cluster on this machine: interchanges, blocks, managers, workers."""
        found: set[psutil.Process] = set()
        for executor in self._executors.values():
            with suppress(psutil.NoSuchProcess):
                if executor.interchange_proc is not None and executor.interchange_proc.poll() is None:
                    found.add(psutil.Process(executor.interchange_proc.pid))
            if not isinstance(executor.provider, LocalProvider):
                continue
            for block in list(executor.provider.resources.values()):
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    root = psutil.Process(block["remote_pid"])
                    if any(block["script_path"] in part for part in root.cmdline()):  # else the number was used again
                        found |= {root, *root.children(recursive=True)}
        return found

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _EXIT_SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._old_handlers[number] = signal.signal(number, _exit)

    def _restore_signals(self) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers.clear()


def _exit(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
