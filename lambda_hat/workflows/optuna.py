"""The story of a tuning study: references first, then every method against its problem's reference."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambda_hat.artifacts.files import append_json_line
from lambda_hat.artifacts.ids import problem_id
from lambda_hat.artifacts.paths import Paths, RunContext
from lambda_hat.config.load import LoadedStudy
from lambda_hat.config.study import CategoricalDist, Distribution, IntDist
from lambda_hat.errors import (
    ConfigError,
    ExecutionError,
    LambdaHatError,
    RunStateError,
    StorageError,
    TooManyFailedTrials,
    UncertifiedReference,
)
from lambda_hat.execution.cluster import Cluster
from lambda_hat.numbers import now
from lambda_hat.report.progress import ExecutorLine, Progress, ReferenceLine, Snapshot, StudyLine
from lambda_hat.report.tables import rows_of_other_studies, with_reference, write_trials_table
from lambda_hat.tasks import hard_limit, trial_task
from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.tuning.scheduler import Event, Lane, Scheduler
from lambda_hat.tuning.study import StudyStore
from lambda_hat.tuning.trials import TrialLane
from lambda_hat.workflows.changes import refuse_changed_problems, save_begun_studies
from lambda_hat.workflows.plan import build_plan, check_execution
from lambda_hat.workflows.references import ReferenceLane, stored_reference

__all__ = ["Outcome", "run_optuna"]


@dataclass(frozen=True)
class Outcome:
    """What a run left: rows of the trials table, references by problem, where things lie, and what went wrong."""

    rows: list[dict[str, Any]]
    references: dict[str, dict[str, Any]]
    places: dict[str, Path]
    failure: LambdaHatError | None


def run_optuna(loaded: LoadedStudy, *, resume: bool, progress: Progress) -> Outcome:
    """Certify a reference for every problem, tune every method against it, and leave the table of all trials.

    Raises:
        ConfigError: labels or budgets do not fit the card.
        RunStateError: an unfinished study is there and `resume` is False, or another command holds the run.
        ExecutionError: the executors could not be started or were lost.
    """
    if faults := check_execution(loaded):
        raise ConfigError(faults)
    paths = Paths.from_store(loaded.study.store)
    problems = {problem_id(problem.to_dict()): problem for problem in loaded.study.resolved_problems}
    refuse_changed_problems(paths, {pid: problem.to_dict() for pid, problem in problems.items()})
    if not resume and build_plan(loaded).needs_resume:
        raise RunStateError(
            f"{paths.root} holds an unfinished study. Pass `--resume` to go on with it, "
            "or choose another `store.namespace`."
        )
    with RunContext(paths) as context:
        context.save_config(loaded.resolved)
        save_begun_studies(paths, list(problems), list(loaded.study.methods), loaded.study.optuna.max_trials_per_method)
        with StudyStore(paths, loaded.study.optuna) as store:
            run = _Run(loaded, paths, store, progress)
            try:
                with run.logged():
                    if run.has_work:
                        with Cluster(loaded.card, paths.parsl_dir, notify=progress.warning) as cluster:
                            run.drive(cluster)
                    else:
                        progress.message("Nothing is left to run: every trial of this study has ended.")
                        run.close()
            except BaseException:
                with suppress(LambdaHatError, OSError):  # which would hide the first
                    run.write_table()
                raise
            run.write_table()
            return Outcome(run.rows(), run.references, run.places, run.failure())


class _Run:
    """The lanes of one command, and what is known of them."""

    def __init__(self, loaded: LoadedStudy, paths: Paths, store: StudyStore, progress: Progress) -> None:
        self.study = loaded.study
        self.paths = paths
        self.progress = progress
        self.retries = loaded.card.retries
        self._store = store
        self._started = time.monotonic()
        self.trial_lanes: list[TrialLane] = []
        self.reference_lanes: list[ReferenceLane] = []
        self.references: dict[str, dict[str, Any]] = {}
        plan = build_plan(loaded)
        self.routes = plan.routes
        self.capacity = plan.capacity
        self.problems = {problem_id(problem.to_dict()): problem for problem in self.study.resolved_problems}
        progress.message(f"executors: {', '.join(f'{label} ({cap})' for label, cap in self.capacity.items())}")
        for key, route in self.routes.items():
            kind = "explicit" if route.is_explicit else "AUTO"
            progress.message(f"{key} → {route.label} ({kind}: {route.reason})")
        for warning in plan.warnings:
            progress.warning(warning)
        for pid in self.problems:
            reference = stored_reference(paths, pid, self.study.reference)
            if reference is not None:
                self.open_studies(pid, reference)

    @property
    def has_work(self) -> bool:
        """Whether a reference is missing or a study is not through."""
        return len(self.references) < len(self.problems) or not all(lane.is_through for lane in self.trial_lanes)

    def close(self) -> None:
        """Leave the files of every study as the scheduler would: for a run with nothing to do."""
        for lane in self.trial_lanes:
            lane.close()

    @property
    def studies(self) -> set[tuple[str, str]]:
        """(pid, method) of every study that was opened."""
        return {(lane.plan.pid, lane.plan.method) for lane in self.trial_lanes}

    @property
    def places(self) -> dict[str, Path]:
        """What to look at next."""
        return {"run": self.paths.root, "table": self.paths.trials_table, "configuration": self.paths.resolved_config}

    def open_studies(self, pid: str, reference: dict[str, Any]) -> Sequence[Lane]:
        """A lane for every method of a problem whose reference is there."""
        self.references[pid] = reference
        lanes = []
        for method in self.study.methods:
            space = self.study.search_space[method]
            plan = StudyPlan(
                pid=pid,
                method=method,
                label=self.routes[f"methods.{method}"].label,
                settings={**self.study.resolved_samplers[method], **_slots(method, space)},
                llc_ref=reference["llc"],
                se_ref=reference["se"],
                seed=self.study.optuna.sampler.seed,
                trial_sec=self.study.execution.budget.trial_sec,
                max_seconds=hard_limit(self.study.execution.budget.trial_sec),
                function=trial_task,
            )
            study = self._store.open(pid, method, space, plan.conditions(space))
            lane = TrialLane(study, plan, self.study.optuna, self.paths)
            lane.settle_interrupted()
            lane.enqueue_known()
            lanes.append(lane)
        self.trial_lanes += lanes
        return lanes

    @property
    def caps(self) -> dict[str, int]:
        """How many tasks may be in flight, by label."""
        most = self.study.optuna.concurrency.per_executor
        return {label: min(workers, most.get(label, workers)) for label, workers in self.capacity.items()}

    @contextmanager
    def logged(self) -> Generator[None]:
        """The beginning and the end of the command in the log of events."""
        self._log(
            "begin",
            pid=os.getpid(),
            host=socket.gethostname(),
            caps=self.caps,
            capacity=self.capacity,
            batch_size=self.study.optuna.concurrency.batch_size,
        )
        try:
            yield
        except BaseException:
            with suppress(StorageError):  # which would hide the first
                self._log("end")
            raise
        self._log("end")

    def drive(self, cluster: Cluster) -> None:
        """Keep the executors busy until every study is through."""
        caps = self.caps
        scheduler = Scheduler(
            submit=lambda task, label: cluster.submit(task.function, *task.args, label=label),
            caps=caps,
            max_retries=self.retries,
            on_event=self._on_event,
            on_poll=lambda: self.progress.update(self._snapshot(scheduler.busy, caps)),
            on_stall=lambda label, seconds: self._on_stall(cluster, label, seconds),
        )
        for lane in self.trial_lanes:
            scheduler.add(lane)
        for pid, problem in self.problems.items():
            if pid not in self.references:
                lane = ReferenceLane(
                    pid,
                    problem,
                    self.paths.problem_dir(pid),
                    self.routes["hmc"].label,
                    self.study.reference,
                    self.study.execution.budget.hmc_sec,
                    hard_limit(self.study.execution.budget.hmc_sec),
                    lambda reference, pid=pid: self.open_studies(pid, reference),
                )
                self.reference_lanes.append(lane)
                scheduler.add(lane)
        scheduler.run()
        self.progress.update(self._snapshot(scheduler.busy, caps))
        for lane in self.reference_lanes:
            if lane.result is not None and lane.result["state"] != "FAIL":
                self.references.setdefault(lane.pid, lane.result)

    def rows(self) -> list[dict[str, Any]]:
        """One row per trial of every study."""
        return [with_reference(row, self.references[lane.plan.pid]) for lane in self.trial_lanes for row in lane.rows()]

    def write_table(self) -> None:
        """The table of all trials, those of other studies in it kept."""
        others = rows_of_other_studies(self.paths.trials_table, self.studies)
        write_trials_table(self.paths.trials_table, [*others, *self.rows()])

    def failure(self) -> LambdaHatError | None:
        """Why the command does not end with exit code 0; the gravest reason first."""
        failed = [lane for lane in self.reference_lanes if lane.result is None or lane.result["state"] == "FAIL"]
        if failed:
            return ExecutionError("\n".join(f"The reference of {lane.pid} {lane.state}" for lane in failed))
        uncertified = [pid for pid, reference in self.references.items() if not reference["is_certified"]]
        if uncertified and self.study.reference.on_uncertified == "fail":
            reasons = "; ".join(f"{pid}: {', '.join(self.references[pid]['reasons'])}" for pid in uncertified)
            return UncertifiedReference(
                f"Not certified: {reasons}. Give it more time (`execution.budget.hmc_sec`), a larger localization "
                "(`posterior.localization`) or more chains (`reference.num_chains`); "
                "`reference.on_uncertified=warn` goes on all the same."
            )
        if spoilt := [lane.name for lane in self.trial_lanes if lane.has_too_many_failed]:
            return TooManyFailedTrials(
                f"More than {self.study.optuna.max_failed_fraction:.0%} of the trials failed in {', '.join(spoilt)}. "
                f"The column `reason` of {self.paths.trials_table} says why, and `metrics.json` in a trial's folder "
                "where. Once that is mended, `--resume --set optuna.max_failed_fraction=1` goes on."
            )
        return None

    def _log(self, kind: str, at: float | None = None, **facts: object) -> None:
        """One line: `time` is when it is written, `at` the seconds from the command's beginning to what happened."""
        seconds = (time.monotonic() if at is None else at) - self._started
        append_json_line(self.paths.events, {"kind": kind, "time": now(), "at": round(seconds, 4), **facts})

    def _on_stall(self, cluster: Cluster, label: str, seconds: float) -> None:
        reason = f"nothing moved on it for {seconds:.0f} s"
        self._log("stalled", label=label, message=reason, is_restarted=cluster.restart(label, reason))

    def _on_event(self, event: Event) -> None:
        self._log(
            event.kind, event.at, lane=event.lane, label=event.label, task=event.task,
            seconds=round(event.seconds, 4), message=event.message,
        )  # fmt: skip
        level = 0 if event.kind in ("retried", "error") else 1
        text = f"{event.lane} {event.task} {event.kind} on {event.label} after {event.seconds:.1f} s {event.message}"
        self.progress.message(text.rstrip(), level)

    def _snapshot(self, busy: Mapping[str, int], caps: Mapping[str, int]) -> Snapshot:
        return Snapshot(
            studies=tuple(_study_line(lane, self.study.optuna.max_trials_per_method) for lane in self.trial_lanes),
            references=tuple(ReferenceLine(lane.pid, lane.state) for lane in self.reference_lanes),
            executors=tuple(ExecutorLine(label, busy.get(label, 0), cap) for label, cap in caps.items()),
            elapsed=time.monotonic() - self._started,
        )


def _study_line(lane: TrialLane, total: int) -> StudyLine:
    counts = lane.study.counts
    best = lane.study.best
    return StudyLine(
        name=lane.name,
        done=counts.get("COMPLETE", 0),
        running=counts.get("RUNNING", 0),
        failed=counts.get("FAIL", 0),
        pruned=counts.get("PRUNED", 0),
        total=total,
        best=best.value if best else None,
    )


def _slots(method: str, space: Mapping[str, Distribution]) -> dict[str, int]:
    """VI compiles for the largest M and r of the search space and masks the rest: one program for all of them."""
    if method != "vi":
        return {}
    slots = {}
    for name, slot in (("M", "max_components"), ("r", "max_rank")):
        match space.get(name):
            case CategoricalDist(choices=choices):
                slots[slot] = max(int(choice) for choice in choices if isinstance(choice, int))
            case IntDist(high=high):
                slots[slot] = high
            case _:
                pass
    return slots
