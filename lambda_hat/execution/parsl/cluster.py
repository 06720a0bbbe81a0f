"""Executors that run while a `with` block does, and leave no process behind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from lambda_hat.artifacts.files import make_dir, write_text_atomic
from lambda_hat.artifacts.paths import within
from lambda_hat.config.card import ParslCard
from lambda_hat.errors import ConfigError, ExecutionError
from lambda_hat.execution.parsl import lean as lean  # before Parsl
from lambda_hat.execution.parsl.pool import Pool
from lambda_hat.execution.parsl.private import check_parsl
from lambda_hat.execution.plain import plain_path
from lambda_hat.execution.resources import check_card, compilation_cache
from lambda_hat.execution.routing import labels_of
from lambda_hat.execution.signals import signals_exit

__all__ = ["SELECTED_CARD_YAML", "Cluster"]

SELECTED_CARD_YAML = "selected_parsl_card.yaml"

_WATCH_PERIOD = 1.0  # seconds
_LOOKS_BEFORE_TOLD = 60  # of the watcher at an executor that waits in a queue
_MAX_RESTARTS = 3  # of one executor, with no task done in between


class Cluster:
    """The executors of a card, by Parsl: see `lambda_hat.execution.port.Executors`.

    An executor whose interchange ended is started again when the next task is submitted to it, a few times in a row.
    `notify` is told of that.

    Raises:
        ConfigError: on construction, the card does not say how many workers a node takes.
        RunStateError: on construction, its `run_dir` is a link that leads out of the run.
        ExecutionError: on entry, the executors cannot be started, or the installed Parsl is not one that will do.
    """

    def __init__(
        self,
        card: ParslCard,
        run_dir: Path,
        cache_dir: Path | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        if faults := check_card(card):
            raise ConfigError(faults)
        self.labels: tuple[str, ...] = labels_of(card)
        self._card = card
        self._run_dir = run_dir.resolve()
        self._notify = notify
        self._cache_dir = (cache_dir or compilation_cache(self._run_dir)).resolve()
        within(self._run_dir.parent, "the run's", card.run_dir)
        self._pools: dict[str, Pool] = {}  # from the entry on
        self._restarts: dict[str, int] = dict.fromkeys(self.labels, 0)  # in a row
        self._looks: dict[str, int] = dict.fromkeys(self.labels, 0)  # in a row, at one that waits in a queue
        self._is_open = False
        self._is_ending = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="cluster-watch", daemon=True)
        self._block = ExitStack()

    def __enter__(self) -> Self:
        check_parsl()
        make_dir(self._run_dir)
        write_text_atomic(self._run_dir / SELECTED_CARD_YAML, yaml.safe_dump(self._card.to_dict(), sort_keys=False))
        logging.getLogger("parsl").propagate = False  # it has files of its own under the run's folder
        self._block.enter_context(signals_exit())
        try:
            files = self._block.enter_context(plain_path(self._run_dir.parent, self._card)) / self._card.run_dir
            self._pools = {label: Pool(self._card, label, files / label, self._cache_dir) for label in self.labels}
            for pool in self._pools.values():
                pool.begin_start()
            for pool in self._pools.values():
                pool.await_start()
            self._watcher.start()
        except BaseException as error:
            self._end()
            if isinstance(error, Exception):
                raise ExecutionError(f"Parsl could not start its executors: {error}. See {self._run_dir}.") from error
            raise
        self._is_open = True
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def submit(
        self, task: Callable[..., Any], *args: Any, label: str, meanwhile: Callable[[], None] | None = None
    ) -> Future[Any]:
        """Run `task(*args)` on the executor `label`; `task` must be importable where the workers are.

        Raises:
            ExecutionError: there is no such executor, or it is beyond repair, or the cluster has not been entered.
        """
        if label not in self.labels:
            raise ExecutionError(f"No executor is called `{label}`; there are {', '.join(self.labels)}.")
        if not self._is_open or self._is_ending.is_set():
            raise ExecutionError("Tasks can be submitted only inside the cluster's `with` block.")
        pool = self._pools[label]
        if reason := pool.reason_lost:
            self._start_again(pool, reason)
        return pool.submit(task, *args)

    def restart(self, label: str, reason: str, *, has_begun: bool = True) -> bool:
        """Give up the executor's processes and tasks; the next task that is submitted finds new ones.

        False, and nothing is done, where its processes compute, where it only waits for its scheduler to give it a
        block, and where none of its tasks `has_begun`: a worker that starts slowly would only start again.
        """
        pool = self._pools[label]
        if pool.is_waiting_for_blocks:
            self._notify(f"The executor `{label}` still waits for its first block.")
            return False
        if pool.is_busy():
            return False
        if not has_begun:
            self._notify(f"The executor `{label}` still waits for a worker to begin: see {self._run_dir / label}.")
            return False
        pool.lose(reason)
        return True

    def _start_again(self, pool: Pool, reason: str) -> None:
        lost = f"The executor `{pool.label}` is lost: {reason}. See {self._run_dir / pool.label}."
        self._restarts[pool.label] = 0 if pool.num_done else self._restarts[pool.label]
        if pool.is_broken or self._restarts[pool.label] >= _MAX_RESTARTS:
            raise ExecutionError(lost)
        self._notify(f"{lost} It is started again.")
        self._restarts[pool.label] += 1
        pool.end()
        try:
            pool.begin_start()
            pool.await_start()
        except Exception as error:
            raise ExecutionError(f"{lost} It cannot be started again: {error}") from error

    def _watch(self) -> None:
        while not self._is_ending.wait(_WATCH_PERIOD):
            for pool in self._pools.values():
                pool.watch()
                self._tell_if_queued(pool)

    def _tell_if_queued(self, pool: Pool) -> None:
        """Say so, once, where tasks wait for a job that the scheduler does not start: nothing else shows it."""
        self._looks[pool.label] = self._looks[pool.label] + 1 if pool.is_queued else 0
        if self._looks[pool.label] == _LOOKS_BEFORE_TOLD:
            self._notify(f"The executor `{pool.label}` waits for its scheduler to start a job; its tasks begin then.")

    def _end(self) -> None:
        """End every process of the cluster; a second interruption only hurries."""
        self._is_ending.set()
        try:
            for pool in self._pools.values():
                pool.begin_end()
        finally:
            try:
                for pool in self._pools.values():
                    pool.end()
            finally:
                self._block.close()
