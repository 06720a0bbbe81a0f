"""Executors that are this process: tasks run where they are submitted, one after the other."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lambda_hat.config.card import InlineCard
from lambda_hat.environment import INLINE_LABEL
from lambda_hat.errors import ExecutionError
from lambda_hat.execution.resources import compilation_cache, process_variables
from lambda_hat.execution.signals import signals_exit

__all__ = ["Inline"]

_PERIOD = 1.0  # seconds between two calls of `meanwhile`


class Inline:
    """The executors of a card without workers: see `lambda_hat.execution.port.Executors`.

    A debugger stops in a task, a traceback shows all of it, and what interrupts the process interrupts the task.
    """

    def __init__(self, card: InlineCard, run_dir: Path) -> None:
        self.labels: tuple[str, ...] = card.labels
        self._run_dir = run_dir.resolve()
        self._block = ExitStack()
        self._is_open = False

    def __enter__(self) -> Self:
        self._block.enter_context(signals_exit())
        self._block.enter_context(_as_in_a_worker(self._run_dir))
        self._is_open = True
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_open = False
        self._block.close()

    def submit(
        self, task: Callable[..., Any], *args: Any, label: str, meanwhile: Callable[[], None] | None = None
    ) -> Future[Any]:
        """Run `task(*args)` now; the future that comes back has its end.

        Raises:
            ExecutionError: there is no such executor, or the block is not open.
            Exception: what `meanwhile` raised, once the task has ended.
        """
        if label not in self.labels:
            raise ExecutionError(f"No executor is called `{label}`; there are {', '.join(self.labels)}.")
        if not self._is_open:
            raise ExecutionError("Tasks can be submitted only inside the executors' `with` block.")
        token = INLINE_LABEL.set(label)
        try:
            with _beside(meanwhile):
                return _ended(task, args)
        finally:
            INLINE_LABEL.reset(token)

    def restart(self, label: str, reason: str, *, has_begun: bool = True) -> bool:
        """False: there are no processes to give up."""
        return False


def _ended(task: Callable[..., Any], args: Sequence[Any]) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(task(*args))
    except Exception as error:
        future.set_exception(error)
    return future


@contextmanager
def _beside(function: Callable[[], None] | None) -> Generator[None]:
    """Call `function` in another thread now and then while the block runs; raise what it raised after the block."""
    if function is None:
        yield
        return
    is_over = threading.Event()

    def call() -> None:
        while not is_over.wait(_PERIOD):
            function()

    with ThreadPoolExecutor(1, "inline-meanwhile") as pool:
        calling = pool.submit(call)
        try:
            yield
        finally:
            is_over.set()
    calling.result()


@contextmanager
def _as_in_a_worker(run_dir: Path) -> Generator[None]:
    """The environment that a worker with one core has, for what JAX reads when it is imported; the user's own wins."""
    variables = process_variables(1.0, compilation_cache(run_dir)) if "jax" not in sys.modules else {}
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
