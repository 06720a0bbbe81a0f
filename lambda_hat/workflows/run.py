"""What every command does on its executors: references, then the lanes of its story; log and table at any end."""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from lambda_hat.artifacts.files import write_text_atomic
from lambda_hat.artifacts.ids import problem_id
from lambda_hat.artifacts.paths import PROBLEM_YAML
from lambda_hat.clock import now
from lambda_hat.config.card import LocalCard
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.problems import PythonProblem
from lambda_hat.errors import ExecutionError, LambdaHatError, StorageError, UncertifiedReference
from lambda_hat.execution.port import Executors, open_executors
from lambda_hat.records.base import append_line
from lambda_hat.records.event import Begin, End, EventLine, Stalled, TaskEvent
from lambda_hat.records.reference import ReferenceFailure, ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow, OutcomeRow
from lambda_hat.report.progress import ExecutorLine, Progress, ReferenceLine, Snapshot, StudyLine
from lambda_hat.report.run_files import short_titles
from lambda_hat.scheduling.pace import Ahead, seconds_left
from lambda_hat.scheduling.scheduler import AnyLane, Event, Scheduler
from lambda_hat.tasks import import_task
from lambda_hat.workflows.endings import doubled
from lambda_hat.workflows.plan import Plan, problem_titles
from lambda_hat.workflows.references import ReferenceLane, stored_reference

__all__ = ["Controller", "Outcome", "Story", "lane_title"]


_STAGES = {"confirm": ", confirming", "across": ", on all problems"}  # of lanes that follow a search

R = TypeVar("R", bound=OutcomeRow)  # of the rows of the run's table
R_co = TypeVar("R_co", bound=OutcomeRow, covariant=True)


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What a run left: rows of its table, references by problem, where things lie, and what went wrong."""

    rows: Sequence[R]
    references: Mapping[str, ReferenceRecord]
    places: dict[str, Path]
    failure: LambdaHatError | None
    confirmed: Sequence[ConfirmedRow] = ()  # rows of the table of this name
    why_none: Mapping[str, str] = field(default_factory=dict)  # by problem, why it has no reference


class Story(Protocol[R_co]):
    """What one workflow does with references: lanes of tasks, and what it knows of them."""

    @property
    def noun(self) -> str:
        """What a task is called in messages."""
        ...

    @property
    def batch_size(self) -> int | None:
        """Tasks in flight of each lane, where the file bounds them."""
        ...

    @property
    def table(self) -> Path:
        """Where the table lies."""
        ...

    @property
    def places(self) -> dict[str, Path]:
        """What else to look at once it is over."""
        ...

    @property
    def lines(self) -> tuple[StudyLine, ...]:
        """How far the lanes are."""
        ...

    @property
    def ahead(self) -> Sequence[Ahead]:
        """What has not ended, lanes that are not open yet included."""
        ...

    @property
    def is_through(self) -> bool:
        """Whether nothing is missing of the lanes that were opened."""
        ...

    def open_lanes(self, pid: str, reference: ReferenceRecord) -> Sequence[AnyLane]:
        """The lanes of a problem whose reference is there."""
        ...

    def late_lanes(self) -> Sequence[AnyLane]:
        """Lanes that no task has opened by its end, asked for once the others are through."""
        ...

    def rows(self) -> Sequence[R_co]:
        """One row per task of every lane."""
        ...

    def write_table(self) -> None:
        """Replace the table; rows of others in it are kept."""
        ...

    def failure(self) -> LambdaHatError | None:
        """Why the command does not end well although the references did."""
        ...


class Controller(Generic[R]):
    """Samples the references that a plan misses, and gives each to the story, whose lanes keep the executors busy."""

    def __init__(self, plan: Plan, story: Story[R], progress: Progress) -> None:
        self._plan = plan
        self._story = story
        self._progress = progress
        self._paths = plan.paths
        self._card = plan.loaded.card
        self._loaded = plan.loaded
        self._sections = plan.loaded.sections
        self._problems = {problem_id(problem.identity()): problem for problem in plan.loaded.problems}
        self._references: dict[str, ReferenceRecord] = {}
        self._reference_lanes: list[ReferenceLane] = []
        titles = problem_titles(plan.loaded)
        self._names = dict(zip(titles, short_titles(list(titles.values())), strict=True))
        self._started = time.monotonic()

    def carry_out(self) -> Outcome[R]:
        """Do everything that is missing, and leave the table even where that was broken off.

        Raises:
            ExecutionError: the executors could not be started or were lost.
        """
        self._tell_routes()
        lanes = self._lanes_of_stored_references()
        has_work = len(self._references) < len(self._problems) or not self._story.is_through
        try:
            with self._logged():
                if has_work:
                    with open_executors(self._card, self._paths.parsl_dir, self._progress.warning) as executors:
                        self._drive(executors, lanes)
                else:
                    self._progress.message(f"Nothing is left to run: every {self._story.noun} has ended.")
                    for lane in lanes:  # as the scheduler does, so that its files are written
                        lane.close()
        except BaseException:
            with suppress(LambdaHatError, OSError):  # which would hide the first
                self._story.write_table()
            self._write_report()
            raise
        self._story.write_table()
        if has_work or not self._paths.report.is_file():
            self._write_report()
        return Outcome(
            self._story.rows(), self._references, self._places(), self._failure(), why_none=self._why_no_reference()
        )

    def _lanes_of_stored_references(self) -> list[AnyLane]:
        lanes: list[AnyLane] = []
        for pid in self._problems:
            reference = stored_reference(self._paths, pid, self._sections.reference)
            if reference is not None:
                self._keep_sources(pid)
                lanes += self._take(pid, reference)
        return lanes

    def _keep_sources(self, pid: str) -> None:
        """Have workers find the sources of a network of one's own where they lie now: its content alone names it."""
        problem = self._problems[pid]
        if isinstance(problem, PythonProblem):
            write_text_atomic(self._paths.problem_dir(pid) / PROBLEM_YAML, to_yaml(problem.to_dict()))

    def _drive(self, executors: Executors, lanes: Sequence[AnyLane]) -> None:
        """Keep the executors busy until every lane is through."""
        self._reference_lanes = [self._reference_lane(pid) for pid in self._problems if pid not in self._references]
        if self._reference_lanes and not lanes:
            self._warm_up(executors)
        lanes = [*lanes, *self._reference_lanes]
        while lanes:
            self._schedule(executors, lanes)
            lanes = self._story.late_lanes()
        for lane in self._reference_lanes:
            if isinstance(lane.result, ReferenceRecord):
                self._references.setdefault(lane.pid, lane.result)

    def _warm_up(self, executors: Executors) -> None:
        """Have workers of this machine that will only wait for the first reference import what trials need."""
        if isinstance(self._card, LocalCard):
            for label in {route.label for route in self._plan.routes.values()} - {self._plan.routes["hmc"].label}:
                for _ in range(self._plan.caps[label]):
                    executors.submit(import_task, label=label)

    def _schedule(self, executors: Executors, lanes: Sequence[AnyLane]) -> None:
        scheduler = Scheduler(
            submit=lambda task, label: executors.submit(
                task.function, *task.args, label=label, meanwhile=scheduler.poll
            ),
            caps=self._plan.caps,
            max_retries=self._card.retries,
            on_event=self._on_event,
            on_poll=lambda: self._progress.update(self._snapshot(scheduler.busy)),
            on_stall=lambda label, polls, has_begun: self._on_stall(executors, label, polls, has_begun),
        )
        for lane in lanes:
            scheduler.add(lane)
        scheduler.run()
        self._progress.update(self._snapshot(scheduler.busy))

    def _take(self, pid: str, reference: ReferenceRecord) -> Sequence[AnyLane]:
        self._references[pid] = reference
        return self._story.open_lanes(pid, reference)

    def _reference_lane(self, pid: str) -> ReferenceLane:
        budget = self._sections.execution.budget
        return ReferenceLane(
            pid,
            self._problems[pid],
            self._paths.problem_dir(pid),
            self._plan.routes["hmc"].label,
            self._sections.reference,
            budget.hmc_sec,
            budget.setup_sec,
            lambda reference: self._take(pid, reference),
        )

    def _places(self) -> dict[str, Path]:
        report = {"report": self._paths.report} if self._paths.report.is_file() else {}
        return {
            "run": self._paths.root,
            "table": self._story.table,
            **report,
            "configuration": self._paths.resolved_config,
            **self._story.places,
        }

    def _write_report(self) -> None:
        """Replace the report, whatever the end was; the run is none the worse without it."""
        self._progress.message("Writing the report.")
        try:
            from lambda_hat.report.html import write_report  # a second of imports

            write_report(self._paths)
        except Exception as error:
            self._progress.warning(f"The report could not be written ({type(error).__name__}: {error}).")

    def _why_no_reference(self) -> dict[str, str]:
        return {
            lane.pid: lane.result.reason or "no reason"
            for lane in self._reference_lanes
            if isinstance(lane.result, ReferenceFailure)
        }

    def _failure(self) -> LambdaHatError | None:
        """Why the command does not end with exit code 0; the gravest reason first."""
        lanes = self._reference_lanes
        if failed := [lane for lane in lanes if not isinstance(lane.result, ReferenceRecord)]:
            results = [lane.result for lane in failed if isinstance(lane.result, ReferenceFailure)]
            short = {result.short_of for result in results if result.short_of is not None}
            titles = problem_titles(self._loaded)
            message = "\n".join(f"The reference of {titles[lane.pid]} {lane.state}" for lane in failed)
            return ExecutionError(message).advising(*doubled(self._sections.execution.budget, short))
        uncertified = [pid for pid, reference in self._references.items() if not reference.is_certified]
        spec = self._sections.reference
        if uncertified and spec.is_certifiable and spec.on_uncertified == "fail":
            titles = problem_titles(self._loaded)
            reasons = "; ".join(f"{titles[pid]}: {', '.join(self._references[pid].reasons)}" for pid in uncertified)
            return UncertifiedReference(
                f"Not certified: {reasons}. Give it more time (`execution.budget.hmc_sec`), a larger localization "
                "(`posterior.localization`) or more chains (`reference.num_chains`); "
                "`reference.on_uncertified=warn` goes on all the same."
            ).advising(*doubled(self._sections.execution.budget, ["hmc_sec"]))
        return self._story.failure()

    @contextmanager
    def _logged(self) -> Generator[None]:
        """The beginning and the end of the command in the log of events."""
        begin = Begin(
            time=now(),
            at=self._seconds(),
            pid=os.getpid(),
            host=socket.gethostname(),
            caps=self._plan.caps,
            capacity=self._plan.capacity,
            batch_size=self._story.batch_size,
        )
        self._log(begin)
        try:
            yield
        except BaseException as error:
            with suppress(StorageError):  # which would hide the first
                self._log(self._end(error))
            raise
        self._log(self._end(self._failure()))

    def _end(self, error: BaseException | None) -> End:
        if error is None:
            return End(time=now(), at=self._seconds(), outcome="finished")
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return End(time=now(), at=self._seconds(), outcome="interrupted")
        reason = str(error) if isinstance(error, LambdaHatError) else f"{type(error).__name__}: {error}"
        return End(time=now(), at=self._seconds(), outcome="failed", reason=reason)

    def _tell_routes(self) -> None:
        workers = ", ".join(f"{label} ({number})" for label, number in self._plan.capacity.items())
        self._progress.message(f"executors: {workers}")
        for key, route in self._plan.routes.items():
            kind = "explicit" if route.is_explicit else "AUTO"
            self._progress.message(f"{key} → {route.label} ({kind}: {route.reason})")
        for warning in self._plan.warnings:
            self._progress.warning(warning)

    def _log(self, line: EventLine) -> None:
        append_line(self._paths.events, line)

    def _seconds(self, at: float | None = None) -> float:
        """From the command's beginning to `at` (`time.monotonic`), or to now."""
        return round((time.monotonic() if at is None else at) - self._started, 4)

    def _on_stall(self, executors: Executors, label: str, polls: int, has_begun: bool) -> None:
        reason = f"its workers gave no sign of life, {polls} times in a row that were looked for one"
        is_restarted = executors.restart(label, reason, has_begun=has_begun)
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
        self._progress.message(text.rstrip(), level)

    def _snapshot(self, busy: Mapping[str, int]) -> Snapshot:
        lines, ahead = self._story.lines, self._story.ahead
        made = [reference for reference in self._references.values() if reference.seconds is not None]
        num_open = sum(lane.result is None for lane in self._reference_lanes)
        seconds = statistics.median(reference.seconds or 0.0 for reference in made) if made else None
        references = Ahead(self._plan.routes["hmc"].label, num_open, seconds)
        num_ended = len(self._problems) - num_open + sum(line.num_finished for line in lines)
        is_known = not num_open or seconds is not None
        return Snapshot(
            num_ended=num_ended,
            num_tasks=num_ended + num_open + sum(item.num for item in ahead),
            seconds_left=seconds_left([references, *ahead], self._plan.caps) if is_known else None,
            studies=tuple(replace(line, name=lane_title(line.name, self._names)) for line in lines),
            references=tuple(
                ReferenceLine(lane_title(lane.pid, self._names), lane.state, lane.result is not None)
                for lane in self._reference_lanes
            ),
            executors=tuple(ExecutorLine(label, busy.get(label, 0), cap) for label, cap in self._plan.caps.items()),
            elapsed=time.monotonic() - self._started,
        )


def lane_title(lane: str, names: Mapping[str, str]) -> str:
    """What people read for a lane `pid`, `pid:method` or `pid:method:stage`; `names` are those of problems, by id.

    A problem that is alone is not named beside its methods.
    """
    pid, *parts = lane.split(":")
    name = names.get(pid, pid)
    if not parts:
        return name
    stage = _STAGES.get(parts[1], "") if len(parts) > 1 else ""
    return f"{parts[0]}{stage}" if len(names) == 1 else f"{parts[0]} on {name}{stage}"
