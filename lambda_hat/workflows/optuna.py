"""The story of a tuning study: references, every method against its problem's, and the best settings once more."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from lambda_hat.artifacts.paths import RunContext, refuse_held
from lambda_hat.config.load import LoadedStudy
from lambda_hat.errors import LambdaHatError, TooManyFailedTrials
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow, TrialRow
from lambda_hat.records.state import State
from lambda_hat.records.tables import rows_of_others, write_table
from lambda_hat.report.listeners import Listening
from lambda_hat.report.progress import Progress, StudyLine
from lambda_hat.scheduling.pace import Ahead
from lambda_hat.scheduling.packing import packed
from lambda_hat.scheduling.scheduler import AnyLane
from lambda_hat.tasks import pack_task
from lambda_hat.tuning.plan import conditions
from lambda_hat.tuning.study import StudyStore
from lambda_hat.tuning.trials import TrialLane
from lambda_hat.workflows.begin import refuse_to_begin, study_plan
from lambda_hat.workflows.builds import built, save_builds
from lambda_hat.workflows.changes import save_begun_studies
from lambda_hat.workflows.confirm import Confirmation
from lambda_hat.workflows.endings import more_time
from lambda_hat.workflows.plan import Plan, build_plan, problem_titles
from lambda_hat.workflows.run import Controller, Outcome
from lambda_hat.workflows.snapshot import save_snapshot

__all__ = ["run_optuna"]


def run_optuna(loaded: LoadedStudy, *, resume: bool, progress: Progress) -> Outcome[TrialRow]:
    """Certify a reference for every problem, tune every method against it, and confirm what that found.

    It leaves tables of all trials and of the confirmed settings, and these as files of experiments.

    Raises:
        ConfigError: labels or budgets do not fit the card.
        RunStateError: an unfinished study is there and `resume` is False, or another command holds the run.
        ExecutionError: the executors could not be started or were lost.
    """
    loaded = built(loaded, progress.message)
    plan, study = build_plan(loaded), loaded.study
    refuse_held(plan.paths)
    refuse_to_begin(plan, resume=resume)
    with RunContext(plan.paths) as context:
        plan = build_plan(loaded)  # again: what was there before may have changed while others held the run
        refuse_to_begin(plan, resume=resume)
        pids = [problem.pid for problem in plan.problems]
        save_snapshot(context, loaded)
        save_builds(plan.paths, loaded)
        save_begun_studies(plan.paths, pids, {method: study.num_trials(method) for method in study.methods})
        listening = Listening(study.optuna.log_to, plan.paths.root)
        with _warned_of(listening, progress), StudyStore(plan.paths, study.optuna) as store:
            story = _Search(loaded, plan, store, listening)
            return replace(Controller(plan, story, progress).carry_out(), confirmed=story.confirmed)


@contextmanager
def _warned_of(listening: Listening, progress: Progress) -> Generator[None]:
    """Let listeners hear of trials within the block; say at its end which of them failed."""
    try:
        with listening:
            yield
    finally:
        for failure in listening.failures():
            progress.warning(failure)


class _Search:
    """A lane of trials for every method of every problem, and what follows each of them."""

    noun = "trial of this study"

    def __init__(self, loaded: LoadedStudy, plan: Plan, store: StudyStore, listening: Listening) -> None:
        self.batch_size: int | None = loaded.study.optuna.concurrency.batch_size
        self.table: Path = plan.paths.trials_table
        self._loaded = loaded
        self._study = loaded.study
        self._plan = plan
        self._store = store
        self._listening = listening
        self._titles = problem_titles(loaded)
        self._lanes: list[TrialLane] = []
        self._confirmation = Confirmation(loaded, plan.paths, [problem.pid for problem in plan.problems])

    def open_lanes(self, pid: str, reference: ReferenceRecord) -> Sequence[AnyLane]:
        """A lane for every method of a problem whose reference is there, and what follows those that are through."""
        lanes: list[TrialLane] = []
        for method in self._study.methods:
            space = self._study.space(method)
            plan = study_plan(self._loaded, self._plan, pid, method, reference)
            study = self._store.open(pid, method, space, conditions(method, plan.settings, space, reference))
            hear = partial(self._listening.hear, study=f"{method} on {self._titles[pid]}")
            lane = TrialLane(study, plan, self._study.optuna, self._plan.paths, self._confirmation.open_lanes, hear)
            lane.settle_interrupted()
            lane.study.repeat(plan.budget)
            lane.enqueue_known()
            lanes.append(lane)
        self._lanes += lanes
        return self._packed([*lanes, *(following for lane in lanes for following in lane.follow())])

    def late_lanes(self) -> Sequence[AnyLane]:
        """What follows studies whose last trials were there already, as after the loss of a journal."""
        return self._packed(following for lane in self._lanes for following in lane.follow())

    def _packed(self, lanes: Iterable[AnyLane]) -> Sequence[AnyLane]:
        return [packed(lane, self._plan.packs[lane.label], pack_task) for lane in lanes]

    @property
    def is_through(self) -> bool:
        """Whether no study misses a trial or a confirmation."""
        return all(lane.is_through for lane in self._lanes) and self._confirmation.is_through

    @property
    def lines(self) -> tuple[StudyLine, ...]:
        """One line per study, and per lane that confirms one."""
        return (*map(_study_line, self._lanes), *self._confirmation.lines)

    @property
    def ahead(self) -> Sequence[Ahead]:
        """Trials and confirmations that have not ended, those of problems without a reference included."""
        seconds = {lane.name: lane.ahead.seconds for lane in self._lanes}
        opened = {line.name for line in self._confirmation.lines}
        return (
            *(lane.ahead for lane in self._lanes),
            *(  # as long as a trial, until one has ended
                item if item.seconds is not None else replace(item, seconds=seconds.get(name.rpartition(":")[0]))
                for name, item in self._confirmation.ahead.items()
            ),
            *(
                Ahead(study.label, study.num_to_run, None)
                for study in self._plan.studies
                if f"{study.pid}:{study.method}" not in seconds
            ),
            *(
                Ahead(item.label, item.num_to_run, seconds.get(f"{item.pid}:{item.method}"))
                for item in self._plan.confirmations
                if f"{item.pid}:{item.method}:{item.kind}" not in opened
            ),
        )

    @property
    def places(self) -> dict[str, Path]:
        """The recommended settings, if there are any."""
        return {"recommended": self._plan.paths.recommended_dir} if self.confirmed else {}

    @property
    def confirmed(self) -> Sequence[ConfirmedRow]:
        """Rows of the table of confirmed settings."""
        return self._confirmation.rows()

    def rows(self) -> list[TrialRow]:
        """One row per trial of every study."""
        return [row for lane in self._lanes for row in lane.rows()]

    def write_table(self) -> None:
        """The tables, rows of other studies in them kept, and the recommended settings."""
        studies = {(lane.plan.pid, lane.plan.method) for lane in self._lanes}
        write_table(self.table, [*rows_of_others(self.table, TrialRow, studies), *self.rows()], TrialRow)
        self._confirmation.write()

    def failure(self) -> LambdaHatError | None:
        """Studies of which too many trials failed."""
        spoilt = [lane for lane in self._lanes if lane.has_too_many_failed]
        if not spoilt:
            return None
        names = ", ".join(lane.name for lane in spoilt)
        failed = [row for lane in spoilt for row in lane.rows() if row.state is State.FAIL]
        advice = more_time(self._study.execution.budget, failed)
        num_short = sum(row.short_of is not None for row in failed)
        if num_short < len(failed):
            advice = (*advice, "optuna.max_failed_fraction=1")
            total = self._study.optuna.max_trials_per_method
            if not advice[:-1] and all(lane.study.num_asked >= lane.plan.num_trials for lane in spoilt):
                advice = (*advice, f"optuna.max_trials_per_method={2 * total}")  # else nothing is left to run
        return TooManyFailedTrials(
            f"More than {self._study.optuna.max_failed_fraction:.0%} of the trials failed in {names}, "
            f"{num_short} of {len(failed)} for want of time. The column `reason` of {self.table} says why, and "
            "`metrics.json` in a trial's folder where."
        ).advising(*advice)


def _study_line(lane: TrialLane) -> StudyLine:
    counts = lane.study.counts
    best = lane.study.best
    return StudyLine(
        name=lane.name,
        done=counts.get(State.COMPLETE, 0),
        running=counts.get(State.RUNNING, 0),
        setting_up=lane.num_setting_up,
        failed=counts.get(State.FAIL, 0),
        pruned=counts.get(State.PRUNED, 0),
        total=lane.plan.num_trials,
        best=best.value if best else None,
    )
