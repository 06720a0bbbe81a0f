"""The trials of one study as a lane of the scheduler: manifests out, progress and metrics in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambda_hat.artifacts.files import touch
from lambda_hat.artifacts.ids import derive_seed
from lambda_hat.artifacts.paths import MANIFEST_JSON, PROGRESS_JSONL, STOP_FLAG, Paths
from lambda_hat.config.study import OptunaSection
from lambda_hat.records.base import Value
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.progress import Chunk, read_progress
from lambda_hat.records.rows import TrialRow
from lambda_hat.records.state import State
from lambda_hat.scheduling.folders import clear_folder, discard, fail_in, lacks_time, metrics_in, write_manifest
from lambda_hat.scheduling.pace import Ahead, expected_seconds
from lambda_hat.scheduling.scheduler import AnyLane, Task
from lambda_hat.tuning.algorithms import NUM_REPORT_STEPS
from lambda_hat.tuning.objective import WORST_VALUE, gates_of, objective_value
from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.tuning.space import nearest_params
from lambda_hat.tuning.study import AskedTrial, StudyTrial, TuningStudy

__all__ = ["TrialLane"]

_MIN_TRIALS_TO_JUDGE_FAILURES = 5


@dataclass
class _Running:
    trial: AskedTrial
    folder: Path
    offset: int = 0  # bytes of progress.jsonl already read
    last_step: int = 0  # the last tenth of its work that was reported
    is_stopped: bool = False
    is_sampling: bool = False  # it has done a step


class TrialLane:
    """Asks a study for trials until it has `plan.num_trials` of them, and tells it how they ended.

    A trial's folder holds what is known of it: `manifest.json` before it is submitted, `metrics.json` once it has
    ended. Too large a share of failed trials ends the study early; else `open_next` gives the lanes that follow it.
    `on_trial` hears of each trial that ends.
    """

    def __init__(
        self,
        study: TuningStudy,
        plan: StudyPlan,
        spec: OptunaSection,
        paths: Paths,
        open_next: Callable[[TrialLane], Sequence[AnyLane]] | None = None,
        on_trial: Callable[[TrialRow], object] | None = None,
    ) -> None:
        self.study = study
        self.plan = plan
        self._spec = spec
        self._paths = paths
        self._open_next = open_next
        self._on_trial = on_trial
        self._running: dict[str, _Running] = {}
        self._metrics: dict[int, Metrics] = {}  # by number
        self._interrupted: deque[int] = deque()  # numbers of trials to run again

    @property
    def name(self) -> str:
        """`<pid>:<method>`."""
        return self.study.name

    @property
    def label(self) -> str:
        """The executor its trials run on."""
        return self.plan.label

    @property
    def max_in_flight(self) -> int:
        """`optuna.concurrency.batch_size`."""
        return self._spec.concurrency.batch_size

    @property
    def has_too_many_failed(self) -> bool:
        """Whether more than `max_failed_fraction` of at least five finished trials failed."""
        num_finished = self.study.num_finished
        num_failed = self.study.counts.get(State.FAIL, 0)
        return (
            num_finished >= _MIN_TRIALS_TO_JUDGE_FAILURES and num_failed > self._spec.max_failed_fraction * num_finished
        )

    @property
    def is_through(self) -> bool:
        """Whether no trial is missing, or too many failed."""
        return self.has_too_many_failed or self.study.num_finished >= self.plan.num_trials

    @property
    def num_setting_up(self) -> int:
        """Trials in flight that have not sampled yet."""
        return sum(not running.is_sampling for running in self._running.values())

    @property
    def ahead(self) -> Ahead:
        """The trials that have not ended."""
        num = 0 if self.is_through else self.plan.num_trials - self.study.num_finished
        return Ahead(self.label, num, expected_seconds(self._metrics.values()))

    def enqueue_known(self) -> None:
        """Have `optuna.enqueue` tried first: what is new in it, where the study goes on."""
        by_method: Mapping[str, Sequence[str | Mapping[str, Value]]] = {**self._spec.enqueue}
        for known in by_method.get(self.plan.method, ("preset",)):
            settings = self.plan.settings if isinstance(known, str) else known
            if params := nearest_params(settings, self.study.space):
                self.study.enqueue(params, known if isinstance(known, str) else "enqueued")

    def settle_interrupted(self) -> None:
        """Tell what trials of an earlier command ended with; those that did not end will be run again, as they are.

        A worker that outlived its controller for some seconds can still end such a trial: with the same result, since
        the manifest says all.
        """
        for trial in self.study.running:
            folder = None if trial.run_id is None else self._folder(trial.run_id)
            metrics = None if folder is None else metrics_in(folder)
            if folder is None or metrics is None:
                self._interrupted.append(trial.number)
            else:
                self._tell(trial.number, folder, metrics)

    def next_task(self) -> Task[Metrics] | None:
        """The next trial: interrupted ones first, then new ones, unless there are enough of them or too many failed."""
        while (trial := self._next_trial()) is not None:
            manifest = self._manifest(trial)
            rid = manifest.run_id
            folder = self._folder(rid)
            known = metrics_in(folder)
            if known is not None and lacks_time(folder, known, manifest.budget):
                known = None
            write_manifest(folder, manifest)
            self.study.attach_run(trial.number, rid, manifest.seed)
            if known is not None and known.state is State.COMPLETE:  # an earlier run had the very same trial
                self._tell(trial.number, folder, known)
                continue
            self._running[rid] = _Running(trial, folder, clear_folder(folder))
            args = (str(folder), str(self._paths.problem_dir(self.plan.pid)))
            return Task(rid, self.plan.function, args, manifest.program)
        return None

    def _next_trial(self) -> AskedTrial | None:
        if self.has_too_many_failed:
            return None
        if self._interrupted:
            return self.study.ask_again(self._interrupted.popleft())
        return self.study.ask() if self.study.num_asked < self.plan.num_trials else None

    def on_progress(self, task: Task[Metrics]) -> bool:
        """Report new estimates to the study, and raise the trial's stop flag where the pruner says so."""
        running = self._running[task.name]
        lines, running.offset = read_progress(running.folder / PROGRESS_JSONL, running.offset)
        has_reported = False
        for chunk in (line for line in lines if isinstance(line, Chunk)):
            running.is_sampling = True
            step = math.floor(NUM_REPORT_STEPS * chunk.fraction + 1e-6)
            if chunk.llc_hat is not None and running.last_step < step < NUM_REPORT_STEPS:
                self.study.report(running.trial.number, step, self._objective(chunk.llc_hat, rhat=None))
                running.last_step = step
                has_reported = True
        if has_reported and not running.is_stopped and self.study.should_prune(running.trial.number):
            running.is_stopped = True
            touch(running.folder / STOP_FLAG)
        return bool(lines)

    def stored_result(self, task: Task[Metrics]) -> Metrics | None:
        """`metrics.json`, which its worker may have written before it was lost, or ended itself with: out of time."""
        return metrics_in(self._running[task.name].folder)

    def on_retry(self, task: Task[Metrics]) -> None:
        """The next worker starts afresh."""
        running = self._running[task.name]
        discard(running.folder, STOP_FLAG)
        running.is_stopped = running.is_sampling = False

    def on_done(self, task: Task[Metrics], result: Metrics) -> Sequence[AnyLane]:
        """Tell the study what `metrics.json` says, or the returned values where a shared disk is slow to show it."""
        return self._end(task, metrics_in(self._running[task.name].folder) or result)

    def on_error(self, task: Task[Metrics], error: Exception) -> Sequence[AnyLane]:
        """Fail the trial, and keep the reason and the traceback in its folder."""
        return self._end(task, fail_in(self._running[task.name].folder, error))

    def close(self) -> None:
        """Save the study; trials still in flight are settled when the run is resumed."""
        self.study.save_pickle()

    def rows(self) -> list[TrialRow]:
        """One row per trial, whatever its state, for the table of the run."""
        trials = self.study.trials
        repeated = {trial.again: trial.number for trial in trials if trial.again is not None}
        return [self._row(trial, repeated.get(trial.number)) for trial in trials if trial.state is not State.WAITING]

    def _row(self, trial: StudyTrial, repeated_as: int | None) -> TrialRow:
        metrics = self._metrics_of(trial)
        reason = trial.reason or (metrics and metrics.reason)
        return TrialRow.of(
            metrics,
            self.plan.reference,
            self.plan.label,
            pid=self.plan.pid,
            title=self.plan.title or None,
            arguments=self.plan.arguments,
            method=self.plan.method,
            run_id=trial.run_id,
            number=trial.number,
            state=trial.state,
            reason=reason if repeated_as is None else f"{reason}; run again as trial {repeated_as}",
            origin=trial.origin,
            hyperparameters=trial.params,
            objective=trial.value,
            violation=trial.violation,
            seed=trial.seed,
        )

    def _manifest(self, trial: AskedTrial) -> Manifest:
        plan = self.plan
        return Manifest.of(
            plan.pid,
            plan.method,
            hyperparams=trial.params,
            settings={**plan.settings, **trial.params},
            seed=derive_seed(plan.seed, plan.pid, plan.method, trial.number),
            trial_sec=plan.trial_sec,
            setup_sec=plan.setup_sec,
        )

    def follow(self) -> Sequence[AnyLane]:
        """The lanes that follow a study that is through; none before, none where too many failed, and each once."""
        is_over = self.is_through and not self.has_too_many_failed and not self.study.counts.get(State.RUNNING, 0)
        if self._open_next is None or not is_over:
            return ()
        open_next, self._open_next = self._open_next, None
        return open_next(self)

    def _end(self, task: Task[Metrics], metrics: Metrics) -> Sequence[AnyLane]:
        running = self._running.pop(task.name)
        self._tell(running.trial.number, running.folder, metrics)
        self.study.save_pickle_now_and_then()
        return self.follow()

    def _tell(self, number: int, folder: Path, metrics: Metrics) -> None:
        self._metrics[number] = metrics
        figures = {"llc_hat": metrics.llc_hat, "se_hat": metrics.se_hat, "rhat": metrics.rhat}
        facts = {name: value for name, value in figures.items() if value is not None}
        if metrics.state is State.COMPLETE and metrics.llc_hat is not None:
            self.study.annotate(number, facts)
            if self._spec.objective.gates:
                self.study.constrain(number, gates_of(metrics))
            self.study.tell_complete(number, self._objective(metrics.llc_hat, metrics.rhat))
        elif metrics.state is State.PRUNED:
            self.study.annotate(number, {**facts, "reason": metrics.reason})
            self.study.tell_pruned(number, WORST_VALUE if metrics.is_diverged else None)
        else:
            manifest = Manifest.read(folder / MANIFEST_JSON) if metrics.short_of else None
            budget = self.plan.budget if manifest is None else manifest.budget
            short_sec = getattr(budget, metrics.short_of or "", 0.0)
            self.study.tell_failed(number, metrics.reason or "", metrics.short_of, short_sec)
        if self._on_trial is not None:
            self._on_trial(self._row(self.study.trial(number), None))

    def _objective(self, llc_hat: float, rhat: float | None) -> float:
        return objective_value(self._spec.objective, llc_hat, self.plan.llc_ref, rhat)

    def _metrics_of(self, trial: StudyTrial) -> Metrics | None:
        if trial.number not in self._metrics and trial.run_id is not None:  # told by an earlier command
            metrics = metrics_in(self._folder(trial.run_id))
            if metrics is None and trial.state is not State.RUNNING:  # the file is lost: the journal knows the rest
                metrics = Metrics(
                    state=trial.state,
                    reason=trial.reason,
                    llc_hat=trial.llc_hat,
                    se_hat=trial.se_hat,
                    rhat=trial.rhat,
                    short_of=trial.short_of,
                )
            if metrics is None:
                return None
            self._metrics[trial.number] = metrics
        return self._metrics.get(trial.number)

    def _folder(self, rid: str) -> Path:
        return self._paths.trial_dir(self.plan.pid, self.plan.method, rid)
