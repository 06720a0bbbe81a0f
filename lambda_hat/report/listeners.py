"""Tells TensorBoard, MLflow and Weights & Biases of every trial that ended, all of them offline unless told otherwise.

`TrialListener` is the port: whoever wants to hear of trials elsewhere implements its two methods.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol, Self

from lambda_hat.records.rows import TrialRow
from lambda_hat.records.state import State

__all__ = ["LISTENERS", "Listening", "MLflow", "TensorBoard", "TrialListener", "WeightsAndBiases", "figures_of_trial"]

_FIGURES = (
    "objective", "llc_hat", "se_hat", "llc_ref", "error", "relative_error", "z", "rhat", "ess_bulk", "virial_excess",
    "self_check_bias", "num_gradient_evaluations", "total_sec",
)  # fmt: skip


class TrialListener(Protocol):
    """Hears of trials as they end: from one thread, one after the other, in no order of their numbers."""

    def on_trial(self, row: TrialRow, study: str) -> None:
        """A trial ended, however. `study` is a name of its problem and method."""
        ...

    def close(self) -> None:
        """No more trials will end."""
        ...


def figures_of_trial(row: TrialRow) -> dict[str, float]:
    """The numbers of a trial that are there, what only its method reports included."""
    found = {name: getattr(row, name) for name in _FIGURES} | dict(row.reports)
    return {name: float(value) for name, value in found.items() if value is not None}


class TensorBoard:
    """Event files in `folder/tensorboard`, a run for each study: scalars by the number of the trial."""

    def __init__(self, folder: Path) -> None:
        self._open: Callable[..., Any] = import_module("tensorboardX").SummaryWriter
        self._folder = folder / "tensorboard"
        self._writers: dict[str, Any] = {}

    def on_trial(self, row: TrialRow, study: str) -> None:
        """Add its figures and its hyperparameters that are numbers."""
        if study not in self._writers:
            self._writers[study] = self._open(str(self._folder / study.replace("/", "_")))
        writer = self._writers[study]
        for name, value in figures_of_trial(row).items():
            writer.add_scalar(name, value, row.number)
        for name, value in row.hyperparameters.items():
            if isinstance(value, int | float):
                writer.add_scalar(f"hyperparameters/{name}", value, row.number)
            else:
                writer.add_text(f"hyperparameters/{name}", str(value), row.number)
        writer.add_text("state", row.state.word, row.number)
        writer.flush()

    def close(self) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()


class MLflow:
    """An experiment for each study, a run for each trial: in `folder/mlflow.db`, or where MLFLOW_TRACKING_URI says."""

    def __init__(self, folder: Path) -> None:
        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
        self._entities = import_module("mlflow.entities")
        self._client = import_module("mlflow").MlflowClient(tracking_uri=where)
        self._experiments: dict[str, str] = {}

    def on_trial(self, row: TrialRow, study: str) -> None:
        """A run with its hyperparameters as parameters, its figures as metrics, its ids and state as tags."""
        tags = {"pid": row.pid, "run_id": str(row.run_id), "state": row.state.word, "reason": row.reason or ""}
        run = self._client.create_run(self._experiment(study), run_name=f"trial {row.number}", tags=tags)
        begin = run.info.start_time
        metrics = [self._entities.Metric(name, value, begin, 0) for name, value in figures_of_trial(row).items()]
        params = [self._entities.Param(name, str(value)) for name, value in row.hyperparameters.items()]
        self._client.log_batch(run.info.run_id, metrics=metrics, params=params)
        self._client.set_terminated(run.info.run_id, "FAILED" if row.state is State.FAIL else "FINISHED")

    def close(self) -> None:
        """Nothing is open."""

    def _experiment(self, study: str) -> str:
        if study not in self._experiments:
            found = self._client.get_experiment_by_name(study)
            self._experiments[study] = found.experiment_id if found else self._client.create_experiment(study)
        return self._experiments[study]


class WeightsAndBiases:
    """A run for each study, a step for each trial; in `folder/wandb`, offline unless `WANDB_MODE` says otherwise."""

    def __init__(self, folder: Path) -> None:
        self._wandb = import_module("wandb")
        self._folder = folder
        self._runs: dict[str, Any] = {}

    def on_trial(self, row: TrialRow, study: str) -> None:
        """A step with the figures and the hyperparameters of the trial."""
        if study not in self._runs:
            mode = os.environ.get("WANDB_MODE", "offline")
            settings = self._wandb.Settings(silent=True)
            self._runs[study] = self._wandb.init(
                project="lambda-hat",
                name=study,
                dir=str(self._folder),
                mode=mode,
                settings=settings,
                reinit="create_new",
            )
        known = {f"hyperparameters/{name}": value for name, value in row.hyperparameters.items()}
        self._runs[study].log({"trial": row.number, "state": row.state.word, **figures_of_trial(row), **known})

    def close(self) -> None:
        """Write what is left."""
        for run in self._runs.values():
            run.finish()


LISTENERS: Mapping[str, tuple[str, Callable[[Path], TrialListener]]] = {
    "tensorboard": ("tensorboardX", TensorBoard),
    "mlflow": ("mlflow", MLflow),
    "wandb": ("wandb", WeightsAndBiases),
}
"""What a study's `optuna.log_to` may name: the module that it needs, and the listener."""


class Listening:
    """Hands trials to listeners, in a thread of its own: what is slow or fails there holds nothing up.

    A listener that fails hears no more; `failures` says why, once for each.
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self._makers = {name: LISTENERS[name][1] for name in dict.fromkeys(names)}
        self._folder = folder
        self._queue: SimpleQueue[tuple[TrialRow, str] | None] = SimpleQueue()
        self._failures: SimpleQueue[str] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="listeners", daemon=True)

    def __enter__(self) -> Self:
        if self._makers:
            self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._makers:
            self._queue.put(None)
            self._thread.join()

    def hear(self, row: TrialRow, study: str) -> None:
        """Tell the listeners of a trial, some time soon."""
        if self._makers:
            self._queue.put((row, study))

    def failures(self) -> Iterator[str]:
        """What failed since the last time that it was asked."""
        while not self._failures.empty():
            yield self._failures.get()

    def _work(self) -> None:
        listeners: dict[str, TrialListener] = {}
        for name, make in self._makers.items():
            with self._guarded(name, listeners):
                listeners[name] = make(self._folder)
        while (item := self._queue.get()) is not None:
            for name, listener in [*listeners.items()]:
                with self._guarded(name, listeners):
                    listener.on_trial(*item)
        for name, listener in [*listeners.items()]:
            with self._guarded(name, listeners):
                listener.close()

    def _guarded(self, name: str, listeners: dict[str, TrialListener]) -> _Guard:
        return _Guard(name, listeners, self._failures)


class _Guard:
    """Whatever a listener raises ends it, and nothing else."""

    def __init__(self, name: str, listeners: dict[str, TrialListener], failures: SimpleQueue[str]) -> None:
        self._name, self._listeners, self._failures = name, listeners, failures

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if exc is None:
            return False
        self._listeners.pop(self._name, None)
        with suppress(Exception):
            self._failures.put(f"{self._name} hears of no more trials: {type(exc).__name__}: {exc}")
        return isinstance(exc, Exception)
