"""The end of a tuning study: its best settings under new seeds, on their own problem and, the best, on the others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lambda_hat.artifacts.files import make_dir, write_text_atomic
from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.load import LoadedStudy
from lambda_hat.records.rows import AcrossRow, ConfirmedRow, Verdict
from lambda_hat.records.state import State
from lambda_hat.records.tables import rows_of_others, write_table
from lambda_hat.report.progress import StudyLine
from lambda_hat.scheduling.fixed import FixedLane, FixedTrial
from lambda_hat.scheduling.pace import Ahead
from lambda_hat.scheduling.scheduler import AnyLane
from lambda_hat.tuning.confirmation import Candidate, best_candidates, confirming_runs, fresh_seeds, judge
from lambda_hat.tuning.trials import TrialLane
from lambda_hat.workflows.changes import save_confirmations
from lambda_hat.workflows.recommend import recommended_yaml

__all__ = ["Confirmation"]


@dataclass(frozen=True)
class _Rerun:
    """A candidate on one problem: its runs under new seeds, and the lane that has their metrics."""

    candidate: Candidate
    study: TrialLane  # of the problem that it is tried on
    runs: list[FixedTrial]
    lane: FixedLane

    @property
    def verdict(self) -> Verdict:
        """How far the runs were from the problem's reference."""
        plan = self.study.plan
        return judge([self.lane.metrics_of(run) for run in self.runs], plan.llc_ref, plan.se_ref)


class Confirmation:
    """Runs the best settings of every study that is through once more, and knows what became of them.

    `pids` are all problems of the command. Once a method is confirmed on all of them, the winner of each is tried on
    the others, with the seeds that those had.
    """

    def __init__(self, loaded: LoadedStudy, paths: Paths, pids: Sequence[str]) -> None:
        self._loaded = loaded
        self._spec = loaded.study.confirm
        self._paths = paths
        self._pids = tuple(pids)
        self._own: dict[tuple[str, str], list[_Rerun]] = {}  # by problem and method
        self._across: dict[str, list[_Rerun]] = {}  # by method
        self._lanes: list[FixedLane] = []

    def open_lanes(self, study: TrialLane) -> Sequence[AnyLane]:
        """The lane that confirms the study, or those that follow it where that was done by an earlier command."""
        pid, method = study.plan.pid, study.plan.method
        if not self._spec.top_k:
            return ()
        candidates = best_candidates(pid, study.study.trials, self._spec.top_k)
        seeds = self._seeds(study)
        runs = {candidate.key: confirming_runs(self._paths, study.plan, candidate, seeds) for candidate in candidates}
        lane = self._lane(f"{pid}:{method}:confirm", study, runs, lambda: self._open_across(method))
        self._own[pid, method] = [_Rerun(item, study, runs[item.key], lane) for item in candidates]
        self._note()
        return [lane, *(self._open_across(method) if lane.is_through else ())]

    @property
    def is_through(self) -> bool:
        """Whether every lane that was opened has ended."""
        return all(lane.is_through for lane in self._lanes)

    @property
    def lines(self) -> tuple[StudyLine, ...]:
        """One line per lane."""
        return tuple(
            StudyLine(
                name=lane.name,
                noun="runs",
                done=lane.counts[State.COMPLETE],
                running=lane.num_running,
                setting_up=lane.num_setting_up,
                failed=lane.counts[State.FAIL],
                pruned=lane.counts[State.PRUNED],
                total=len(lane.runs),
            )
            for lane in self._lanes
        )

    @property
    def ahead(self) -> Mapping[str, Ahead]:
        """The runs that have not ended, by open lane."""
        return {lane.name: lane.ahead for lane in self._lanes}

    def rows(self) -> list[ConfirmedRow]:
        """One row per candidate of every study that is confirmed, by rank."""
        return [
            _confirmed_row(trial, rank)
            for key in itertools.product(self._pids, self._loaded.study.methods)
            if self._is_confirmed(key)
            for rank, trial in enumerate(self._ranked(key), start=1)
        ]

    def rows_across(self) -> list[AcrossRow]:
        """One row for each problem's winner on each problem."""
        return [row for method in sorted(self._across) for row in self._rows_across(method)]

    def write(self) -> None:
        """The tables, rows of other studies in them kept, and a file of experiments per method."""
        rows, across = self.rows(), self.rows_across()
        if rows:
            path = self._paths.confirmed_table
            others = rows_of_others(path, ConfirmedRow, {row.key for row in rows})
            write_table(path, [*others, *rows], ConfirmedRow)
        if across:
            path = self._paths.across_table
            write_table(path, [*rows_of_others(path, AcrossRow, {row.key for row in across}), *across], AcrossRow)
        for method in dict.fromkeys(row.method for row in rows):
            confirmed = [row for row in rows if row.method == method]
            elsewhere = [row for row in across if row.method == method]
            references = {pid: trials[0].study.plan.reference for (pid, _), trials in self._own.items() if trials}
            text = recommended_yaml(self._loaded, self._paths, method, confirmed, elsewhere, references)
            make_dir(self._paths.recommended_dir)
            write_text_atomic(self._paths.recommended(method), text)

    def _seeds(self, study: TrialLane) -> list[int]:
        taken = {trial.seed for trial in study.study.trials}
        return fresh_seeds(study.plan, self._spec.num_seeds, taken)

    def _lane(
        self,
        name: str,
        study: TrialLane,
        runs: Mapping[str, list[FixedTrial]],
        open_next: Callable[[], Sequence[AnyLane]] | None = None,
    ) -> FixedLane:
        # One seed after the other, so that no candidate waits for all of another's.
        lane = FixedLane(
            name,
            study.label,
            [run for same_seed in zip(*runs.values(), strict=True) for run in same_seed],
            problem_dir=self._paths.problem_dir(study.plan.pid),
            function=study.plan.function,
            max_in_flight=study.max_in_flight,
            may_fail=True,
            open_next=open_next,
        )
        self._lanes.append(lane)
        return lane

    def _open_across(self, method: str) -> Sequence[AnyLane]:
        """Every problem's winner on the other problems, once all have one."""
        keys = [(pid, method) for pid in self._pids]
        if len(keys) < 2 or method in self._across or not all(map(self._is_confirmed, keys)):
            return ()
        winners = [self._ranked(key)[0] for key in keys if self._own[key]]
        trials, lanes = [], []
        for winner in winners:
            study, pid = winner.study, winner.candidate.pid
            seeds = self._seeds(study)
            others = {other.candidate.key: other.candidate for other in winners}
            del others[winner.candidate.key]
            runs = {key: confirming_runs(self._paths, study.plan, item, seeds) for key, item in others.items()}
            lane = self._lane(f"{pid}:{method}:across", study, runs)
            lanes.append(lane)
            trials += [_Rerun(item, study, runs[key], lane) for key, item in others.items()]
        self._across[method] = [*winners, *trials]
        self._note()
        return lanes

    def _note(self) -> None:
        """Let commands that come after this one know which runs belong to it."""
        folders = {lane.name: [run.folder.relative_to(self._paths.root) for run in lane.runs] for lane in self._lanes}
        save_confirmations(self._paths, self._spec, folders)

    def _is_confirmed(self, key: tuple[str, str]) -> bool:
        return key in self._own and all(trial.lane.is_through for trial in self._own[key])

    def _ranked(self, key: tuple[str, str]) -> list[_Rerun]:
        return sorted(self._own[key], key=lambda trial: trial.verdict.rank_key)

    def _rows_across(self, method: str) -> list[AcrossRow]:
        trials = self._across[method]
        if not all(trial.lane.is_through for trial in trials):
            return []
        by_settings: dict[str, list[_Rerun]] = {}
        for trial in trials:
            by_settings.setdefault(trial.candidate.key, []).append(trial)
        own = {trial.study.plan.pid: trial.verdict for trial in trials if trial.candidate.pid == trial.study.plan.pid}
        rows: list[AcrossRow] = []
        for of_settings in by_settings.values():
            verdicts = [trial.verdict for trial in of_settings]
            known = [item.relative_rmse for item in verdicts if not item.num_failed and item.relative_rmse is not None]
            is_whole = len(known) == len(own)  # settings that fail somewhere are best nowhere
            mean, worst = (sum(known) / len(known), max(known)) if is_whole else (None, None)
            rows += [_across_row(trial, own[trial.study.plan.pid], mean, worst) for trial in of_settings]
        least_mean = min((row.mean_relative_rmse for row in rows if row.mean_relative_rmse is not None), default=None)
        least = min((row.worst_relative_rmse for row in rows if row.worst_relative_rmse is not None), default=None)
        return [
            row.model_copy(
                update={
                    "is_best_mean": least_mean is not None and row.mean_relative_rmse == least_mean,
                    "is_best_worst": least is not None and row.worst_relative_rmse == least,
                }
            )
            for row in rows
        ]


def _confirmed_row(trial: _Rerun, rank: int) -> ConfirmedRow:
    candidate, plan = trial.candidate, trial.study.plan
    return ConfirmedRow(
        pid=plan.pid,
        method=plan.method,
        rank=rank,
        run_id=candidate.run_id,
        number=candidate.number,
        hyperparameters=candidate.params,
        search_objective=candidate.objective,
        search_error=None if candidate.llc_hat is None else candidate.llc_hat - plan.llc_ref,
        llc_ref=plan.llc_ref,
        se_ref=plan.se_ref,
        **dict(trial.verdict),
    )


def _across_row(trial: _Rerun, own: Verdict, mean: float | None, worst: float | None) -> AcrossRow:
    verdict = trial.verdict
    relative, least = verdict.relative_rmse, own.relative_rmse
    return AcrossRow(
        method=trial.study.plan.method,
        found_on=trial.candidate.pid,
        pid=trial.study.plan.pid,
        run_id=trial.candidate.run_id,
        hyperparameters=trial.candidate.params,
        loss=None if relative is None or least is None else relative - least,
        mean_relative_rmse=mean,
        worst_relative_rmse=worst,
        **dict(verdict),
    )
