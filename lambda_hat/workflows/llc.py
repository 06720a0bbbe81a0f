"""The story of experiments: references first, then every sampler, with its fixed settings, on every target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lambda_hat.artifacts.paths import RunContext, refuse_held
from lambda_hat.config.load import LoadedExperiments
from lambda_hat.errors import LambdaHatError, TooManyFailedTrials
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import RunRow
from lambda_hat.records.state import State
from lambda_hat.records.tables import rows_of_others, write_table
from lambda_hat.report.progress import Progress, StudyLine
from lambda_hat.scheduling.fixed import FixedLane, FixedTrial
from lambda_hat.scheduling.pace import Ahead
from lambda_hat.scheduling.scheduler import AnyLane
from lambda_hat.tasks import trial_task
from lambda_hat.workflows.begin import refuse_to_begin
from lambda_hat.workflows.builds import built, save_builds
from lambda_hat.workflows.changes import save_begun_runs
from lambda_hat.workflows.endings import more_time
from lambda_hat.workflows.plan import Plan, build_llc_plan, run_of
from lambda_hat.workflows.run import Controller, Outcome
from lambda_hat.workflows.snapshot import save_snapshot

__all__ = ["run_llc"]


def run_llc(loaded: LoadedExperiments, *, resume: bool, progress: Progress) -> Outcome[RunRow]:
    """Certify a reference for every target, run every sampler on it, and leave the table of all runs.

    A run that has ended is never repeated, one that failed is.

    Raises:
        ConfigError: labels or budgets do not fit the card.
        RunStateError: unfinished runs are there and `resume` is False, or another command holds the folder.
        ExecutionError: the executors could not be started or were lost.
    """
    loaded = built(loaded, progress.message)
    plan = build_llc_plan(loaded)
    refuse_held(plan.paths)
    refuse_to_begin(plan, resume=resume)
    with RunContext(plan.paths) as context:
        plan = build_llc_plan(loaded)  # again: what was there before may have changed while others held the folder
        refuse_to_begin(plan, resume=resume)
        save_snapshot(context, loaded)
        save_builds(plan.paths, loaded)
        samplers = [sampler.name for sampler in loaded.experiments.samplers]
        pids = [problem.pid for problem in plan.problems]
        save_begun_runs(plan.paths, pids, samplers, [run.run_id for run in plan.runs])
        return Controller(plan, _Experiments(loaded, plan), progress).carry_out()


class _Experiments:
    """A lane with one run for every sampler on every target."""

    noun = "run of these experiments"
    batch_size: int | None = None

    def __init__(self, loaded: LoadedExperiments, plan: Plan) -> None:
        self.table: Path = plan.paths.runs_table
        self.places: dict[str, Path] = {}
        self._experiments = loaded.experiments
        self._samplers = loaded.samplers
        self._problems = {problem.pid: problem for problem in plan.problems}
        self._plan = plan
        self._lanes: dict[tuple[str, str], FixedLane] = {}  # by problem and sampler
        self._references: dict[str, ReferenceRecord] = {}

    def open_lanes(self, pid: str, reference: ReferenceRecord) -> Sequence[AnyLane]:
        """A lane for every sampler."""
        self._references[pid] = reference
        lanes = {
            (pid, sampler.name): FixedLane(
                f"{pid}:{sampler.name}",
                self._plan.routes[f"methods.{sampler.method}"].label,
                [run_of(self._plan.paths, pid, sampler, self._experiments)],
                problem_dir=self._plan.paths.problem_dir(pid),
                function=trial_task,
            )
            for sampler in self._samplers
        }
        self._lanes |= lanes
        return list(lanes.values())

    def late_lanes(self) -> Sequence[AnyLane]:
        """None: nothing follows a run."""
        return ()

    @property
    def is_through(self) -> bool:
        """Whether every run has ended."""
        return all(lane.is_through for lane in self._lanes.values())

    @property
    def lines(self) -> tuple[StudyLine, ...]:
        """One line per target."""
        return tuple(self._line(pid) for pid in dict.fromkeys(pid for pid, _ in self._lanes))

    @property
    def ahead(self) -> Sequence[Ahead]:
        """Runs that have not ended, those of targets without a reference included."""
        opened = [lane.ahead for lane in self._lanes.values()]
        known = {pid for pid, _ in self._lanes}
        return [*opened, *(Ahead(run.label, run.num_to_run, None) for run in self._plan.runs if run.pid not in known)]

    def rows(self) -> list[RunRow]:
        """One row per sampler and target."""
        return [self._row(name, run, lane) for (_, name), lane in self._lanes.items() for run in lane.runs]

    def write_table(self) -> None:
        """The table of all runs, those of other targets and samplers in it kept."""
        write_table(self.table, [*rows_of_others(self.table, RunRow, self._lanes), *self.rows()], RunRow)

    def failure(self) -> LambdaHatError | None:
        """Runs that gave no estimate because something broke."""
        if failed := [lane.name for lane in self._lanes.values() if lane.counts[State.FAIL]]:
            return TooManyFailedTrials(
                f"Failed: {', '.join(failed)}. The column `reason` of {self.table} says why, and `metrics.json` in a "
                "run's folder where. Once that is mended, `--resume` runs them again."
            ).advising(*more_time(self._experiments.execution.budget, self.rows()))
        return None

    def _row(self, sampler: str, run: FixedTrial, lane: FixedLane) -> RunRow:
        """The row of a run; one that has not ended is RUNNING."""
        manifest, metrics = run.manifest, lane.metrics_of(run)
        reference, problem = self._references[manifest.pid], self._problems[manifest.pid]
        return RunRow.of(
            metrics,
            reference,
            lane.label,
            pid=manifest.pid,
            title=problem.title,
            arguments=problem.arguments,
            sampler=sampler,
            method=manifest.method,
            run_id=run.run_id,
            state=State.RUNNING if metrics is None else metrics.state,
            reason=None if metrics is None else metrics.reason or None,
            hyperparameters=manifest.settings,
            seed=manifest.seed,
            **RunRow.of_reference(reference, None if metrics is None else metrics.llc_hat),
        )

    def _line(self, pid: str) -> StudyLine:
        lanes = [lane for (other, _), lane in self._lanes.items() if other == pid]
        counts = sum((lane.counts for lane in lanes), Counter[State]())
        return StudyLine(
            name=pid,
            noun="runs",
            done=counts[State.COMPLETE],
            running=sum(lane.num_running for lane in lanes),
            setting_up=sum(lane.num_setting_up for lane in lanes),
            failed=counts[State.FAIL],
            pruned=counts[State.PRUNED],
            total=sum(len(lane.runs) for lane in lanes),
        )
