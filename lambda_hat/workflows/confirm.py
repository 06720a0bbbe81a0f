"""The end of a tuning study: its best settings under new seeds, on their own problem and, the best, on the others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lambda_hat.artifacts.files import make_dir, write_text_atomic
from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.load import LoadedStudy
from lambda_hat.report.progress import StudyLine
from lambda_hat.report.tables import ACROSS_COLUMNS, CONFIRMED_COLUMNS, rows_of_others, write_table
from lambda_hat.scheduling.fixed import FixedLane, FixedTrial
from lambda_hat.scheduling.scheduler import Lane
from lambda_hat.tuning.confirmation import (
    Candidate,
    Verdict,
    best_candidates,
    confirming_runs,
    fresh_seeds,
    judge,
    settings_columns,
)
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

    def open_lanes(self, study: TrialLane) -> Sequence[Lane]:
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
                done=lane.counts["COMPLETE"],
                running=lane.num_running,
                failed=lane.counts["FAIL"],
                pruned=lane.counts["PRUNED"],
                total=len(lane.runs),
            )
            for lane in self._lanes
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per candidate of every study that is confirmed, by rank."""
        return [
            _confirmed_row(trial, rank)
            for key in itertools.product(self._pids, self._loaded.study.methods)
            if self._is_confirmed(key)
            for rank, trial in enumerate(self._ranked(key), start=1)
        ]

    def rows_across(self) -> list[dict[str, Any]]:
        """One row for each problem's winner on each problem."""
        return [row for method in sorted(self._across) for row in self._rows_across(method)]

    def write(self) -> None:
        """The tables, rows of other studies in them kept, and a file of experiments per method."""
        rows, across = self.rows(), self.rows_across()
        if rows:
            studies = {(row["pid"], row["method"]) for row in rows}
            path = self._paths.confirmed_table
            others = rows_of_others(path, CONFIRMED_COLUMNS, ("pid", "method"), studies)
            write_table(path, [*others, *rows], CONFIRMED_COLUMNS)
        if across:
            path = self._paths.across_table
            others = rows_of_others(path, ACROSS_COLUMNS, ("method",), {(row["method"],) for row in across})
            write_table(path, [*others, *across], ACROSS_COLUMNS)
        for method in dict.fromkeys(row["method"] for row in rows):
            of_method = [[row for row in table if row["method"] == method] for table in (rows, across)]
            text = recommended_yaml(self._loaded, self._paths, method, *of_method)
            make_dir(self._paths.recommended_dir)
            write_text_atomic(self._paths.recommended(method), text)

    def _seeds(self, study: TrialLane) -> list[int]:
        taken = {record.attrs.get("seed") for record in study.study.trials}
        return fresh_seeds(study.plan, self._spec.num_seeds, taken)

    def _lane(
        self,
        name: str,
        study: TrialLane,
        runs: Mapping[str, list[FixedTrial]],
        open_next: Callable[[], Sequence[Lane]] | None = None,
    ) -> FixedLane:
        # One seed after the other, so that no candidate waits for all of another's.
        lane = FixedLane(
            name,
            study.label,
            [run for same_seed in zip(*runs.values(), strict=True) for run in same_seed],
            problem_dir=self._paths.problem_dir(study.plan.pid),
            function=study.plan.function,
            max_seconds=study.plan.max_seconds,
            max_in_flight=study.max_in_flight,
            may_fail=True,
            open_next=open_next,
        )
        self._lanes.append(lane)
        return lane

    def _open_across(self, method: str) -> Sequence[Lane]:
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
        save_confirmations(self._paths, self._spec.to_dict(), folders)

    def _is_confirmed(self, key: tuple[str, str]) -> bool:
        return key in self._own and all(trial.lane.is_through for trial in self._own[key])

    def _ranked(self, key: tuple[str, str]) -> list[_Rerun]:
        return sorted(self._own[key], key=lambda trial: trial.verdict.rank_key)

    def _rows_across(self, method: str) -> list[dict[str, Any]]:
        trials = self._across[method]
        if not all(trial.lane.is_through for trial in trials):
            return []
        by_settings: dict[str, dict[str, _Rerun]] = {}
        for trial in trials:
            by_settings.setdefault(trial.candidate.key, {})[trial.study.plan.pid] = trial
        own = {trial.study.plan.pid: trial.verdict for trial in trials if trial.candidate.pid == trial.study.plan.pid}
        rows: list[dict[str, Any]] = []
        for of_problem in by_settings.values():
            sound = [trial.verdict for trial in of_problem.values() if not trial.verdict.num_failed]
            known = [verdict.relative_rmse for verdict in sound if verdict.relative_rmse is not None]
            is_whole = len(known) == len(own)  # settings that fail somewhere are best nowhere
            rows += [
                {
                    **_across_row(trial, own[pid]),
                    "mean_relative_rmse": sum(known) / len(known) if is_whole else None,
                    "worst_relative_rmse": max(known) if is_whole else None,
                }
                for pid, trial in of_problem.items()
            ]
        for name, flag in (("mean_relative_rmse", "is_best_mean"), ("worst_relative_rmse", "is_best_worst")):
            best = min((row[name] for row in rows if row[name] is not None), default=None)
            for row in rows:
                row[flag] = best is not None and row[name] == best
        return rows


def _confirmed_row(trial: _Rerun, rank: int) -> dict[str, Any]:
    candidate, plan = trial.candidate, trial.study.plan
    return {
        "pid": plan.pid,
        "method": plan.method,
        "rank": rank,
        "run_id": candidate.run_id,
        "number": candidate.number,
        "search_objective": candidate.objective,
        "search_error": None if candidate.llc_hat is None else candidate.llc_hat - plan.llc_ref,
        "llc_ref": plan.llc_ref,
        "se_ref": plan.se_ref,
        **_verdict_columns(trial.verdict),
        **settings_columns(candidate),
    }


def _across_row(trial: _Rerun, own: Verdict) -> dict[str, Any]:
    verdict = trial.verdict
    relative, least = verdict.relative_rmse, own.relative_rmse
    return {
        "method": trial.study.plan.method,
        "found_on": trial.candidate.pid,
        "pid": trial.study.plan.pid,
        "run_id": trial.candidate.run_id,
        "loss": None if relative is None or least is None else relative - least,
        **_verdict_columns(verdict),
        **settings_columns(trial.candidate),
    }


def _verdict_columns(verdict: Verdict) -> dict[str, Any]:
    return {
        "rmse": verdict.rmse,
        "rmse_se": verdict.rmse_se,
        "mean_error": verdict.mean_error,
        "relative_rmse": verdict.relative_rmse,
        "rms_z": verdict.rms_z,
        "worst_rhat": verdict.worst_rhat,
        "worst_k_hat": verdict.worst_k_hat,
        "num_gradient_evaluations": verdict.num_gradient_evaluations,
        "seconds": verdict.seconds,
        "num_seeds": verdict.num_seeds,
        "num_failed": verdict.num_failed,
    }
