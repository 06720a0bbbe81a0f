"""Trials, one or several at once: manifests in, progress and metrics out."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lambda_hat.artifacts.files import append_json_line, read_json, write_json_atomic
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, PROGRESS_JSONL, STOP_FLAG, TRACES_NPZ
from lambda_hat.clock import now
from lambda_hat.config.methods import parse_settings
from lambda_hat.errors import StorageError
from lambda_hat.estimate.method import MethodResult, RunProgress, sample_method
from lambda_hat.estimate.traces import Traces
from lambda_hat.samplers.pace import OutOfTime
from lambda_hat.samplers.runner import ChunkRequests, run_together
from lambda_hat.tasks.budget import Limits, end_busy_worker, log_event, watchdog
from lambda_hat.tasks.problem import load_coordinates, load_problem
from lambda_hat.tasks.provenance import Clock, provenance

__all__ = ["run_trial", "run_trials"]


RESERVE = 0.1  # of the budget, for what comes after the sampling: losses of a fit's draws, SGLD's predicted bias


def run_trial(trial_dir: str, problem_dir: str) -> dict[str, Any]:
    """See `lambda_hat.tasks.trial_task`."""
    (metrics,) = run_trials([trial_dir], problem_dir).values()
    return metrics


def run_trials(trial_dirs: Sequence[str], problem_dir: str) -> dict[str, dict[str, Any]]:
    """See `lambda_hat.tasks.pack_task`."""
    trials = [_Trial(Path(folder), Path(problem_dir)) for folder in trial_dirs]
    for dtype in ("float32", "float64"):  # one after the other: a process has one precision at a time
        with jax.enable_x64(dtype == "float64"):
            together = [trial for trial in trials if trial.dtype == dtype]
            for _ in run_together([trial.run(len(together)) for trial in together]):
                end_busy_worker()  # else the others would wait for what was interrupted; the next one runs them again
    return {trial.folder.name: trial.metrics for trial in trials}


class _Trial:
    """What a manifest asks for, and how it ended: `metrics`, which are there at once where there is nothing to run."""

    def __init__(self, folder: Path, problem_dir: Path) -> None:
        self.folder = folder
        self.dtype: str | None = None  # of what there is to run
        self.metrics: dict[str, Any] = {}
        self._problem_dir = problem_dir
        if self._has_ended:
            return
        log_event(folder, "started", pid=os.getpid(), host=socket.gethostname())
        clock = Clock()
        try:
            manifest = read_json(folder / MANIFEST_JSON)
            if manifest is None:
                raise FileNotFoundError(f"{folder / MANIFEST_JSON} is missing or torn")
            self._settings = parse_settings(manifest["method"], manifest["settings"])
            self._seconds = float(manifest["budget"]["trial_sec"])
            self._seed = int(manifest["seed"])
            self.dtype = self._settings.dtype
        except StorageError:
            raise  # of the machine, not of this task
        except Exception as error:
            self._end(self._failure(error, clock))

    def run(self, num_together: int) -> ChunkRequests[None]:
        """Sample within the budget, which counts from here, and write `metrics.json`; one of `num_together` runs."""
        clock = Clock()
        limits = Limits(clock.start, self._seconds, RESERVE * self._seconds)
        path = self.folder / METRICS_JSON
        try:
            with watchdog(limits, "execution.budget.trial_sec", path, partial(_facts, clock)):
                metrics = yield from self._sample(clock, limits)
        except StorageError:
            raise
        except (Exception, OutOfTime) as error:
            metrics = self._failure(error, clock)
        self._end({**metrics, "num_together": num_together})

    def _sample(self, clock: Clock, limits: Limits) -> ChunkRequests[dict[str, Any]]:
        made_by = provenance()
        with limits.sampling_guard():
            loaded = load_problem(self._problem_dir)
            posterior = loaded.posterior(self._settings.dtype)
            coordinates = load_coordinates(self._problem_dir, self._settings.dtype)
        clock.mark_loaded()
        run = yield from sample_method(
            posterior,
            self._settings,
            coordinates=coordinates,
            seed=self._seed,
            deadline=limits.deadline,
            should_stop=lambda: (self.folder / STOP_FLAG).exists() or self._has_ended,
            on_progress=self._on_progress,
            sampling_guard=limits.sampling_guard,
            evaluation_guard=limits.evaluation_guard,
        )
        if not self._has_ended:
            _traces(run, loaded.nbeta).save(self.folder / TRACES_NPZ)
        return {
            **_judgement(run),
            **_facts(clock),
            "dtype": str(run.info.excess_loss.dtype),
            "x64": jnp.result_type(float) == jnp.float64,
            "finished": now(),
            **made_by,
        }

    def _on_progress(self, progress: RunProgress) -> None:
        append_json_line(
            self.folder / PROGRESS_JSONL,
            {"step": progress.num_steps_done, "fraction": progress.fraction, "llc_hat": progress.llc},
        )

    def _failure(self, error: BaseException, clock: Clock) -> dict[str, Any]:
        is_late = isinstance(error, OutOfTime)
        return {
            "state": "FAIL",
            "reason": "out of time before the first draw" if is_late else f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error)),
            **_facts(clock),
            "finished": now(),
            **provenance(),
        }

    def _end(self, metrics: dict[str, Any]) -> None:
        if self._has_ended:
            return
        write_json_atomic(self.folder / METRICS_JSON, metrics)
        log_event(self.folder, "ended", state=metrics["state"])
        self.metrics = metrics

    @property
    def _has_ended(self) -> bool:
        """Whether the first end is there, which counts: that of a worker given up too early can come at any time."""
        if not self.metrics:
            self.metrics = read_json(self.folder / METRICS_JSON) or {}
        return bool(self.metrics)


def _facts(clock: Clock) -> dict[str, Any]:
    return {"timings": clock.timings(), "started": clock.started}


def _traces(run: MethodResult, nbeta: float) -> Traces:
    of_draws = float(np.sum(run.info.num_gradient_evaluations))
    work_before = max(0.0, run.num_gradient_evaluations - of_draws)
    return Traces.of_draws(run.info, nbeta, work_before=work_before, fit_draws=run.fit_draws)


def _judgement(run: MethodResult) -> dict[str, Any]:
    estimate = run.estimate
    state, reason = ("COMPLETE" if run.state == "COMPLETE" else "PRUNED"), run.reason
    if state == "COMPLETE" and estimate.llc < -2 * estimate.se:
        state = "FAIL"
        reason = f"λ̂ = {estimate.llc:.4g} ± {estimate.se:.2g} is negative by more than two standard errors"
    return {
        "state": state,
        "reason": reason,
        "is_diverged": run.state == "DIVERGED",
        "llc_hat": estimate.llc,
        "se_hat": estimate.se,
        "rhat": estimate.rhat,
        "rhat_loss": estimate.rhat_loss,
        "rhat_distance": estimate.rhat_distance,
        "ess_bulk": estimate.ess_bulk,
        "ess_tail": estimate.ess_tail,
        "num_draws": estimate.num_draws,
        "num_steps_done": run.num_steps_done,
        "num_gradient_evaluations": run.num_gradient_evaluations,
        "is_truncated": run.is_truncated,
        **run.extras,
    }
