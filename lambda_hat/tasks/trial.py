"""Trials, one or several at once: manifests in, progress and metrics out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lambda_hat.artifacts.paths import (
    MANIFEST_JSON,
    METRICS_JSON,
    PROGRESS_JSONL,
    REFERENCE_JSON,
    STOP_FLAG,
    TRACES_NPZ,
)
from lambda_hat.clock import now
from lambda_hat.draws.criteria import Correction
from lambda_hat.errors import StorageError
from lambda_hat.estimate.method import MethodResult, RunProgress, sample_method
from lambda_hat.estimate.traces import Traces
from lambda_hat.records.base import append_line
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.progress import Chunk
from lambda_hat.records.provenance import Provenance
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.state import State
from lambda_hat.samplers.pace import OutOfTime
from lambda_hat.samplers.runner import ChunkRequests, run_together
from lambda_hat.samplers.stopwatch import setting_up
from lambda_hat.tasks.budget import SETUP_BUDGET, Limits, end_busy_worker, log_ended, log_started, watchdog
from lambda_hat.tasks.problem import load_coordinates, load_problem
from lambda_hat.tasks.provenance import Clock, provenance

__all__ = ["run_trial", "run_trials"]


RESERVE = 0.1  # of the budget, for what comes after the sampling: losses of a fit's draws, SGLD's predicted bias


def run_trial(trial_dir: str, problem_dir: str, start_seconds: float = 0.0) -> Metrics:
    """Run the trial that the manifest in a folder describes: `lambda_hat.tasks.trial_task`."""
    (metrics,) = run_trials([trial_dir], problem_dir, start_seconds).values()
    return metrics


def run_trials(trial_dirs: Sequence[str], problem_dir: str, start_seconds: float = 0.0) -> dict[str, Metrics]:
    """Run trials of one problem side by side: `lambda_hat.tasks.pack_task`; `start_seconds` went before it."""
    trials = [_Trial(Path(folder), Path(problem_dir), start_seconds) for folder in trial_dirs]
    for dtype in ("float32", "float64"):  # one after the other: a process has one precision at a time
        with jax.enable_x64(dtype == "float64"):
            together = [trial for trial in trials if trial.dtype == dtype]
            for _ in run_together([trial.run(len(together)) for trial in together]):
                end_busy_worker()  # else the others would wait for what was interrupted; the next one runs them again
    return {trial.folder.name: trial.metrics for trial in trials if trial.metrics is not None}


class _Trial:
    """What a manifest asks for, and how it ended: `metrics`, which are there at once where there is nothing to run."""

    def __init__(self, folder: Path, problem_dir: Path, start_seconds: float) -> None:
        self.folder = folder
        self._start_seconds = start_seconds
        self.dtype: str | None = None  # of what there is to run
        self.metrics: Metrics | None = None
        self._problem_dir = problem_dir
        if self._has_ended:
            return
        log_started(folder)
        clock = Clock(start_seconds)
        try:
            manifest = Manifest.read(folder / MANIFEST_JSON)
            if manifest is None:
                raise FileNotFoundError(f"{folder / MANIFEST_JSON} is missing or torn")
            self._settings = manifest.parse()
            self._budget = manifest.budget
            self._seed = manifest.seed
            self.dtype = self._settings.dtype
        except StorageError:
            raise  # of the machine, not of this task
        except Exception as error:
            self._end(self._failure(error, clock, None))

    def run(self, num_together: int) -> ChunkRequests[None]:
        """Sample within the budget and write `metrics.json`; one of `num_together` runs."""
        clock = Clock(self._start_seconds)
        seconds = self._budget.trial_sec
        limits = Limits("trial_sec", seconds, RESERVE * seconds, self._budget.setup_sec)
        path = self.folder / METRICS_JSON
        try:
            with watchdog(limits, path, lambda reason: _stuck(reason, clock, limits.short_of)):
                metrics = yield from self._sample(clock, limits)
        except StorageError:
            raise
        except (Exception, OutOfTime) as error:
            metrics = self._failure(error, clock, limits)
        self._end(metrics.model_copy(update={"num_together": num_together}))

    def _sample(self, clock: Clock, limits: Limits) -> ChunkRequests[Metrics]:
        made_by = provenance()
        with limits.sampling_guard(), setting_up.running():
            loaded = load_problem(self._problem_dir)
            posterior = loaded.posterior(self._settings.dtype)
            coordinates = load_coordinates(self._problem_dir, self._settings.dtype)
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
            _traces(run, loaded.nbeta, self._settings.correction).save(self.folder / TRACES_NPZ)
        return _metrics(
            run,
            self._settings.correction,
            clock,
            made_by.between(clock.started, now()),
            may_be_negative=not _has_certifiable_reference(self._problem_dir),
        )

    def _on_progress(self, progress: RunProgress) -> None:
        chunk = Chunk(step=progress.num_steps_done, fraction=progress.fraction, llc_hat=progress.llc)
        append_line(self.folder / PROGRESS_JSONL, chunk)

    def _failure(self, error: BaseException, clock: Clock, limits: Limits | None) -> Metrics:
        short_of = limits.short_of if limits is not None and isinstance(error, OutOfTime) else None
        return Metrics.failed(
            error,
            reason=None if limits is None or short_of is None else _too_short(limits, short_of),
            short_of=short_of,
            timings=clock.timings(),
            provenance=provenance().between(clock.started, now()),
        )

    def _end(self, metrics: Metrics) -> None:
        if self._has_ended:
            return
        metrics.write(self.folder / METRICS_JSON)
        log_ended(self.folder, metrics.state)
        self.metrics = metrics

    @property
    def _has_ended(self) -> bool:
        """Whether the first end is there, which counts: that of a worker given up too early can come at any time."""
        if self.metrics is None:
            self.metrics = Metrics.read(self.folder / METRICS_JSON)
        return self.metrics is not None


def _too_short(limits: Limits, budget: str) -> str:
    when = "while it was set up" if budget == SETUP_BUDGET else "before the first draw"
    return f"out of time {when}: execution.budget.{budget} is {limits.seconds_of(budget):g} s"


def _stuck(reason: str, clock: Clock, short_of: str) -> Metrics:
    """The end of a trial in a call that nothing can interrupt; device and versions where they are known already."""
    made_by = provenance(may_wait=False).between(clock.started, now())
    return Metrics.failed(reason, short_of=short_of, timings=clock.timings(), provenance=made_by)


def _traces(run: MethodResult, nbeta: float, correction: Correction) -> Traces:
    of_draws = float(np.sum(run.info.num_gradient_evaluations))
    work_before = max(0.0, run.num_gradient_evaluations - of_draws)
    return Traces.of_draws(run.info, nbeta, work_before=work_before, correction=correction, fit_draws=run.fit_draws)


def _has_certifiable_reference(problem_dir: Path) -> bool:
    """Whether somebody asked for a reference, which w0 has to be a minimum for."""
    reference = ReferenceRecord.read_current(problem_dir / REFERENCE_JSON)
    return reference is None or reference.spec.is_certifiable


def _metrics(
    run: MethodResult, correction: Correction, clock: Clock, made_by: Provenance, *, may_be_negative: bool
) -> Metrics:
    estimate, check = run.estimate, run.self_check
    state, reason = run.state, run.reason
    if state is State.COMPLETE and estimate.llc < -2 * estimate.se:
        state = State.COMPLETE if may_be_negative else State.FAIL
        reason = f"λ̂ = {estimate.llc:.4g} ± {estimate.se:.2g} is negative by more than two standard errors"
    return Metrics(
        state=state,
        reason=reason,
        is_diverged=run.is_diverged,
        llc_hat=estimate.llc,
        se_hat=estimate.se,
        raw_llc_hat=estimate.raw_llc,
        virial_excess=None if check is None else check.virial_excess,
        self_check_bias=None if check is None or correction != "virial" else check.relative_bias,
        stationarity=None if check is None else check.stationarity,
        degree=None if check is None else check.degree,
        rhat=estimate.rhat,
        rhat_loss=estimate.rhat_loss,
        rhat_distance=estimate.rhat_distance,
        ess_bulk=estimate.ess_bulk,
        ess_tail=estimate.ess_tail,
        num_draws=estimate.num_draws,
        num_steps_done=run.num_steps_done,
        num_gradient_evaluations=run.num_gradient_evaluations,
        is_truncated=run.is_truncated,
        reports=run.extras,
        timings=clock.timings(),
        dtype=str(run.info.excess_loss.dtype),
        x64=jnp.result_type(float) == jnp.float64,
        provenance=made_by,
    )
