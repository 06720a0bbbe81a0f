"""What a workflow asks of executors, whichever they are, and which ones a card means."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from lambda_hat.config.card import AnyCard, InlineCard
from lambda_hat.errors import ExecutionError
from lambda_hat.execution.inline import Inline

__all__ = ["Executors", "open_executors"]


class Executors(Protocol):
    """Places where tasks run, by label, from the entry of the `with` block to its end.

    Enter it in the main thread: then SIGTERM and SIGHUP end the block like an exception does. Leaving it ends every
    process and task that it started.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """Names that tasks can be sent to."""
        ...

    def submit(
        self, task: Callable[..., Any], *args: Any, label: str, meanwhile: Callable[[], None] | None = None
    ) -> Future[Any]:
        """Run `task(*args)` on the executor `label`; `task` must be importable in other processes.

        The future raises what the task raised, `WorkerLostError` where the process that ran it is gone, and
        `ExecutorLostError` where its executor is. It cannot be cancelled. Executors that run the task in this thread
        return when it has ended, and call `meanwhile` about once a second from another thread.

        Raises:
            ExecutionError: there is no such executor, or it is beyond repair, or the block is not open.
        """
        ...

    def restart(self, label: str, reason: str, *, has_begun: bool = True) -> bool:
        """Give up the processes and tasks of an executor; the next task that is submitted finds new ones.

        False, and nothing is done, where that would not help. `has_begun` says whether a worker had begun a task.
        """
        ...

    def __enter__(self) -> Self:
        """Start.

        Raises:
            ExecutionError: it cannot be started.
        """
        ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End everything that was started."""
        ...


def open_executors(card: AnyCard, run_dir: Path, notify: Callable[[str], None] = lambda _: None) -> Executors:
    """The executors of `card`, to be entered; what they log lies in or beside `run_dir`, a folder of the run's.

    `notify` is told what a person should know of, such as an executor that is started again.

    Raises:
        ConfigError: the card does not say how many workers a node takes.
        RunStateError: its `run_dir` is a link that leads out of the run.
        ExecutionError: Parsl is needed, and is missing or another than lambda-hat works with.
    """
    if isinstance(card, InlineCard):
        return Inline(card, run_dir)
    try:
        from lambda_hat.execution.parsl.cluster import Cluster
    except ImportError as error:
        raise ExecutionError(
            f"Parsl cannot be imported as lambda-hat needs it: {error}. Install the project again: `pip install -e .`."
        ) from error
    return Cluster(card, run_dir, notify=notify)
