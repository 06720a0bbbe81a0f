"""What every command does on its executors: references, then the lanes that they open; log and table at any end."""

from __future__ import annotations

import itertools
import os
import socket
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.clock import now
from lambda_hat.config.card import LocalCard
from lambda_hat.config.methods import Method
from lambda_hat.errors import ExecutionError, LambdaHatError, RunStateError, StorageError, UncertifiedReference
from lambda_hat.execution.cluster import Cluster
from lambda_hat.records.base import append_line
from lambda_hat.records.event import Begin, End, EventLine, Stalled, TaskEvent
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow, OutcomeRow
from lambda_hat.report.progress import ExecutorLine, Progress, ReferenceLine, Snapshot, StudyLine
from lambda_hat.scheduling.scheduler import AnyLane, Event, Scheduler
from lambda_hat.tasks import hard_limit
from lambda_hat.workflows.changes import refuse_changed_problems, refuse_other_workflow
from lambda_hat.workflows.compilation import CompileLane, Program
from lambda_hat.workflows.plan import Plan
from lambda_hat.workflows.references import ReferenceLane, stored_reference

__all__ = ["Outcome", "Run", "carry_out", "refuse_to_begin"]

R = TypeVar("R", bound=OutcomeRow)  # of the rows of the run's table


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What a run left: rows of its table, references by problem, where things lie, and what went wrong."""

    rows: Sequence[R]
    references: Mapping[str, ReferenceRecord]
    places: dict[str, Path]
    failure: LambdaHatError | None
    confirmed: Sequence[ConfirmedRow] = ()  # rows of the table of this name


def refuse_to_begin(plan: Plan, *, resume: bool) -> None:
    """Do nothing, unless the folder is another workflow's, an unfinished problem changed, or `--resume` is missing.

    Raises:
        RunStateError: that says which.
    """
    refuse_other_workflow(plan.paths, is_search=bool(plan.studies))
    problems = [problem.to_dict() for problem in plan.loaded.problems]
    refuse_changed_problems(plan.paths, {problem_id(problem): problem for problem in problems})
    if plan.needs_resume and not resume:
        what = "an unfinished study" if plan.studies else "unfinished runs"
        raise RunStateError(
            f"{plan.paths.root} holds {what}. Pass `--resume` to go on with it, or choose another `store.namespace`."
        )


def carry_out(run: Run[R]) -> Outcome[R]:
    """Do everything that is missing, and leave the table even where that was broken off.

    Raises:
        ExecutionError: the executors could not be started or were lost.
    """
    try:
        with run.logged():
            if run.has_work:
                with Cluster(run.card, run.paths.parsl_dir, notify=run.progress.warning) as cluster:
                    run.drive(cluster)
            else:
                run.progress.message(f"Nothing is left to run: every {run.noun} has ended.")
                run.close()
    except BaseException:
        with suppress(LambdaHatError, OSError):  # which would hide the first
            run.write_table()
        raise
    run.write_table()
    run.write_report()
    return Outcome(run.rows(), run.references, run.places, run.failure())


class Run(ABC, Generic[R]):
    """The references of one command, the lanes that they open, and what is known of them."""

    noun: str  # what a task is called in messages
    batch_size: int | None = None  # tasks in flight of each lane, where the file bounds them

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan = plan
        self.paths = plan.paths
        self.card = plan.loaded.card
        self.sections = plan.loaded.sections
        self.progress = progress
        self.references: dict[str, ReferenceRecord] = {}
        self.problems = {problem_id(problem.to_dict()): problem for problem in plan.loaded.problems}
        self._started = time.monotonic()
        self._reference_lanes: list[ReferenceLane] = []
        self._has_driven = False
        self._ready: list[AnyLane] = []  # lanes of problems whose references are there from the beginning
        self._tell_routes()
        for pid in self.problems:
            reference = stored_reference(self.paths, pid, self.sections.reference)
            if reference is not None:
                self._ready += self._take(pid, reference)

    @abstractmethod
    def open_lanes(self, pid: str, reference: ReferenceRecord) -> Sequence[AnyLane]:
        """The lanes of a problem whose reference is there."""

    @abstractmethod
    def programs(self, method: Method) -> Sequence[Program]:
        """What the lanes of `method` will compile."""

    @property
    @abstractmethod
    def are_lanes_through(self) -> bool:
        """Whether nothing is missing of the lanes that were opened."""

    @property
    @abstractmethod
    def lines(self) -> tuple[StudyLine, ...]:
        """How far the lanes are."""

    @property
    @abstractmethod
    def table(self) -> Path:
        """Where the table lies."""

    @abstractmethod
    def rows(self) -> Sequence[R]:
        """One row per task of every lane."""

    @abstractmethod
    def write_table(self) -> None:
        """Replace the table; rows of others in it are kept."""

    @abstractmethod
    def failure_of_tasks(self) -> LambdaHatError | None:
        """What the references are not to blame for."""

    def late_lanes(self) -> Sequence[AnyLane]:
        """Lanes that no task has opened by its end, asked for once the others are through."""
        return ()

    @property
    def has_work(self) -> bool:
        """Whether a reference or anything that depends on it is missing."""
        return len(self.references) < len(self.problems) or not self.are_lanes_through

    @property
    def places(self) -> dict[str, Path]:
        """What to look at next."""
        report = {"report": self.paths.report} if self.paths.report.is_file() else {}
        return {"run": self.paths.root, "table": self.table, **report, "configuration": self.paths.resolved_config}

    def write_report(self) -> None:
        """Replace the report, unless nothing was run and it is there; the run is none the worse without it."""
        if not self._has_driven and self.paths.report.is_file():
            return
        from lambda_hat.report.html import write_report  # a second of imports that a run cut short can do without

        try:
            write_report(self.paths)
        except Exception as error:
            self.progress.warning(f"The report could not be written ({type(error).__name__}: {error}).")

    def close(self) -> None:
        """Leave the files of every lane as the scheduler would: for a run with nothing to do."""
        for lane in self._ready:
            lane.close()

    def failure(self) -> LambdaHatError | None:
        """Why the command does not end with exit code 0; the gravest reason first."""
        lanes = self._reference_lanes
        if failed := [lane for lane in lanes if not isinstance(lane.result, ReferenceRecord)]:
            return ExecutionError("\n".join(f"The reference of {lane.pid} {lane.state}" for lane in failed))
        uncertified = [pid for pid, reference in self.references.items() if not reference.is_certified]
        if uncertified and self.sections.reference.on_uncertified == "fail":
            reasons = "; ".join(f"{pid}: {', '.join(self.references[pid].reasons)}" for pid in uncertified)
            return UncertifiedReference(
                f"Not certified: {reasons}. Give it more time (`execution.budget.hmc_sec`), a larger localization "
                "(`posterior.localization`) or more chains (`reference.num_chains`); "
                "`reference.on_uncertified=warn` goes on all the same."
            )
        return self.failure_of_tasks()

    @contextmanager
    def logged(self) -> Generator[None]:
        """The beginning and the end of the command in the log of events."""
        begin = Begin(
            time=now(),
            at=self._seconds(),
            pid=os.getpid(),
            host=socket.gethostname(),
            caps=self.plan.caps,
            capacity=self.plan.capacity,
            batch_size=self.batch_size,
        )
        self._log(begin)
        try:
            yield
        except BaseException:
            with suppress(StorageError):  # which would hide the first
                self._log(End(time=now(), at=self._seconds()))
            raise
        self._log(End(time=now(), at=self._seconds()))

    def drive(self, cluster: Cluster) -> None:
        """Keep the executors busy until every lane is through."""
        self._has_driven = True
        self._reference_lanes = [self._reference_lane(pid) for pid in self.problems if pid not in self.references]
        lanes: Sequence[AnyLane] = (*self._ready, *self._reference_lanes, *self._compile_lanes())
        while lanes:
            self._schedule(cluster, lanes)
            lanes = self.late_lanes()
        for lane in self._reference_lanes:
            if isinstance(lane.result, ReferenceRecord):
                self.references.setdefault(lane.pid, lane.result)

    def _schedule(self, cluster: Cluster, lanes: Sequence[AnyLane]) -> None:
        scheduler = Scheduler(
            submit=lambda task, label: cluster.submit(task.function, *task.args, label=label),
            caps=self.plan.caps,
            max_retries=self.card.retries,
            on_event=self._on_event,
            on_poll=lambda: self.progress.update(self._snapshot(scheduler.busy)),
            on_stall=lambda label, seconds: self._on_stall(cluster, label, seconds),
        )
        for lane in lanes:
            scheduler.add(lane)
        scheduler.run()
        self.progress.update(self._snapshot(scheduler.busy))

    def _take(self, pid: str, reference: ReferenceRecord) -> Sequence[AnyLane]:
        self.references[pid] = reference
        return self.open_lanes(pid, reference)

    def _reference_lane(self, pid: str) -> ReferenceLane:
        hmc_sec = self.sections.execution.budget.hmc_sec
        return ReferenceLane(
            pid,
            self.problems[pid],
            self.paths.problem_dir(pid),
            self.plan.routes["hmc"].label,
            self.sections.reference,
            hmc_sec,
            hard_limit(hmc_sec),
            lambda reference: self._take(pid, reference),
        )

    def _compile_lanes(self) -> Sequence[AnyLane]:
        """For executors that would only wait for the first reference, and have their workers by then."""
        if self._ready or not self._reference_lanes or not isinstance(self.card, LocalCard):
            return ()
        pid = self._reference_lanes[0].pid
        by_label: dict[str, list[Sequence[Program]]] = defaultdict(list)
        for method in self.plan.loaded.methods:
            by_label[self.plan.routes[f"methods.{method}"].label].append(self.programs(method))
        trial_sec = self.sections.execution.budget.trial_sec
        return [
            CompileLane(
                f"{pid}:compile",
                label,
                [program for turn in itertools.zip_longest(*programs) for program in turn if program is not None],
                problem_dir=self.paths.problem_dir(pid),
                num_workers=self.plan.caps[label],
                seconds=trial_sec,
                max_seconds=hard_limit(trial_sec),
                is_wanted=self._is_waiting,
            )
            for label, programs in by_label.items()
            if label != self.plan.routes["hmc"].label
        ]

    def _is_waiting(self) -> bool:
        return not self.references and any(lane.result is None for lane in self._reference_lanes)

    def _tell_routes(self) -> None:
        workers = ", ".join(f"{label} ({number})" for label, number in self.plan.capacity.items())
        self.progress.message(f"executors: {workers}")
        for key, route in self.plan.routes.items():
            kind = "explicit" if route.is_explicit else "AUTO"
            self.progress.message(f"{key} → {route.label} ({kind}: {route.reason})")
        for warning in self.plan.warnings:
            self.progress.warning(warning)

    def _log(self, line: EventLine) -> None:
        append_line(self.paths.events, line)

    def _seconds(self, at: float | None = None) -> float:
        """From the command's beginning to `at` (`time.monotonic`), or to now."""
        return round((time.monotonic() if at is None else at) - self._started, 4)

    def _on_stall(self, cluster: Cluster, label: str, seconds: float) -> None:
        reason = f"nothing moved on it for {seconds:.0f} s"
        is_restarted = cluster.restart(label, reason)
        self._log(Stalled(time=now(), at=self._seconds(), label=label, message=reason, is_restarted=is_restarted))

    def _on_event(self, event: Event) -> None:
        line = TaskEvent(
            kind=event.kind,
            time=now(),
            at=self._seconds(event.at),
            lane=event.lane,
            label=event.label,
            task=event.task,
            seconds=round(event.seconds, 4),
            message=event.message,
        )
        self._log(line)
        level = 0 if event.kind in ("retried", "error") else 1
        text = f"{event.lane} {event.task} {event.kind} on {event.label} after {event.seconds:.1f} s {event.message}"
        self.progress.message(text.rstrip(), level)

    def _snapshot(self, busy: Mapping[str, int]) -> Snapshot:
        return Snapshot(
            studies=self.lines,
            references=tuple(ReferenceLine(lane.pid, lane.state) for lane in self._reference_lanes),
            executors=tuple(ExecutorLine(label, busy.get(label, 0), cap) for label, cap in self.plan.caps.items()),
            elapsed=time.monotonic() - self._started,
        )
