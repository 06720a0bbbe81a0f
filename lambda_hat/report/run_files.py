"""What a run's folder says, read from its files alone: of a run that is through, of one at work, of one cut short."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lambda_hat.artifacts.files import read_yaml
from lambda_hat.artifacts.inventory import holder_of
from lambda_hat.artifacts.paths import (
    CONFIRMING,
    FAILURE_JSON,
    METRICS_JSON,
    PROBLEM_YAML,
    REFERENCE_JSON,
    Paths,
    shared_references,
)
from lambda_hat.config.experiments import Experiments
from lambda_hat.config.snapshot import parse_snapshot
from lambda_hat.config.study import Distribution, Objective, Study
from lambda_hat.errors import RunStateError, TargetError
from lambda_hat.formatting import count, sentence
from lambda_hat.records.base import FormatError
from lambda_hat.records.begun import Begun
from lambda_hat.records.event import Command, read_commands
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceFailure, ReferenceRecord
from lambda_hat.records.rows import AcrossRow, ConfirmedRow, RunRow, TrialRow
from lambda_hat.records.tables import read_table

__all__ = ["RunFiles", "RunState", "find_run", "short_titles"]


def find_run(root: Path) -> Paths:
    """The paths of the run in `root`.

    Raises:
        RunStateError: there is no run: what is missing.
    """
    if not root.is_dir():
        raise RunStateError(f"{root} is no run's folder: it does not exist. Name one such as `runs/quickstart/v1`.")
    paths = Paths(root.resolve())
    if not paths.resolved_config.is_file():
        inside = sorted(folder.parent.parent for folder in root.glob("*/meta/resolved_config.yaml"))
        advice = f"Did you mean `{inside[0]}`?" if inside else "Name one such as `runs/quickstart/v1`."
        raise RunStateError(f"{root} is no run's folder: there is no `meta/resolved_config.yaml` in it. {advice}")
    return Paths(paths.root, shared_references(read_yaml(paths.resolved_config)))


def short_titles(titles: Sequence[str]) -> list[str]:
    """The titles, each without what all have in common; a title that would lose all of it keeps its first part."""
    parts = [title.split(", ") for title in titles]
    common = set(parts[0]).intersection(*parts) if parts else set()
    return [", ".join(part for part in own if part not in common) or own[0] for own in parts]


@dataclass(frozen=True)
class RunState:
    """What has become of a run."""

    word: Literal["running", "finished", "failed", "interrupted", "unfinished"]
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The state in words."""
        text = {
            "running": "A command is working on this run: this is how far it has come",
            "finished": "The last command finished",
            "failed": "The last command failed",
            "interrupted": "The last command was interrupted: this is how far it came",
            "unfinished": "This run is not finished: this is how far it came",
        }[self.word]
        return sentence(f"{text}: {self.reason}" if self.word == "failed" and self.reason else text)


@dataclass(frozen=True, eq=False)
class RunFiles:
    """The run at `paths`; every piece is read when it is first asked for."""

    paths: Paths

    @cached_property
    def config_values(self) -> dict[str, Any]:
        """The configuration of the last command as its file has it; empty where that is torn."""
        return read_yaml(self.paths.resolved_config) or {}

    @cached_property
    def config(self) -> Study | Experiments | None:
        """The configuration of the last command; None where this version cannot read it."""
        return parse_snapshot(self.config_values)

    @property
    def objective(self) -> Objective | None:
        """What the trials of a search were judged by; None where it is not known."""
        return self.config.optuna.objective if isinstance(self.config, Study) else None

    def search_space(self, method: str) -> Mapping[str, Distribution]:
        """What a search could try, by hyperparameter; empty where it is not known."""
        spaces = self.config.search_space if isinstance(self.config, Study) else {}
        return next((space for name, space in spaces.items() if name == method), {})

    @cached_property
    def begun(self) -> Begun:
        """What the last command worked on; nothing where that is not known."""
        return Begun.read(self.paths.begun) or Begun()

    @cached_property
    def rows(self) -> list[TrialRow]:
        """The table of trials."""
        return read_table(self.paths.trials_table, TrialRow)

    @cached_property
    def confirmed(self) -> list[ConfirmedRow]:
        """The table of confirmed settings."""
        return read_table(self.paths.confirmed_table, ConfirmedRow)

    @cached_property
    def across(self) -> list[AcrossRow]:
        """The table of each problem's best settings on the other problems."""
        return read_table(self.paths.across_table, AcrossRow)

    @cached_property
    def llc_runs(self) -> list[RunRow]:
        """The table of the workflow `llc`."""
        return read_table(self.paths.runs_table, RunRow)

    @cached_property
    def titles(self) -> dict[str, str]:
        """What every problem is, by its id: those of the last command first."""
        begun = self.begun.pids
        stored = sorted(folder.parent.name for folder in self.paths.problems_dir.glob(f"*/{PROBLEM_YAML}"))
        ours = stored if self.paths.references is None else []  # other runs have theirs in the same place
        pids = [*begun, *ours, *(row.pid for row in self.rows), *(row.pid for row in self.llc_runs)]
        titles = self._entry_titles()
        named = dict(zip(begun, titles, strict=True)) if len(titles) == len(begun) else {}
        return {pid: named.get(pid) or self._stored_title(pid) for pid in dict.fromkeys(pids)}

    @cached_property
    def names(self) -> dict[str, str]:
        """A short name of every problem, by its id: what tells its title from the others."""
        return dict(zip(self.titles, short_titles(list(self.titles.values())), strict=True))

    @cached_property
    def references(self) -> dict[str, ReferenceRecord]:
        """The reference of every problem that has one."""
        found = {pid: self._reference(pid) for pid in self.titles}
        return {pid: reference for pid, reference in found.items() if isinstance(reference, ReferenceRecord)}

    @cached_property
    def reference_failures(self) -> dict[str, ReferenceFailure]:
        """Why a problem has no reference, or none that this version can read, by its id."""
        found = {
            pid: ReferenceFailure.read(self.paths.problem_dir(pid) / FAILURE_JSON) or self._reference(pid)
            for pid in self.titles
        }
        return {pid: failure for pid, failure in found.items() if isinstance(failure, ReferenceFailure)}

    @cached_property
    def commands(self) -> list[Command]:
        """The log of events, by command."""
        return read_commands(self.paths.events)

    @cached_property
    def state(self) -> RunState:
        """What has become of the last command, as far as its files say."""
        end = self.commands[-1].end if self.commands else None
        if end is not None and end.outcome is not None:
            return RunState(end.outcome, end.reason)
        if end is not None:  # by a version that did not say how
            return RunState("unfinished" if self._unfinished_studies() or self._without_reference() else "finished")
        if (holder := holder_of(self.paths)) is not None:
            return RunState("running", holder)
        return RunState("interrupted", "it was killed") if self.commands else RunState("unfinished")

    @property
    def next_command(self) -> str:
        """What to type to go on."""
        workflow = "llc" if self.begun.run_ids or isinstance(self.config, Experiments) else "optuna"
        words = ["lambda-hat", "workflow", workflow, "--config", str(self.paths.resolved_config), "--resume"]
        return shlex.join(words)

    def _without_reference(self) -> list[str]:
        return [pid for pid in self.titles if pid not in self.references]

    def _unfinished_studies(self) -> list[tuple[str, str, int]]:
        """Problem, method and number of ended trials of those that have a table and miss some."""
        done = Counter((row.pid, row.method) for row in self.rows)
        wanted = [(pid, method) for pid in self.begun.pids for method in self.begun.methods] if self.rows else []
        return [(*study, done[study]) for study in wanted if done[study] < self.begun.wanted(study[1])]

    @property
    def studies(self) -> dict[tuple[str, str], list[TrialRow]]:
        """The trials of every (pid, method), by their number."""
        studies: dict[tuple[str, str], list[TrialRow]] = {}
        for row in self.rows:
            studies.setdefault((row.pid, row.method), []).append(row)
        order = list(self.titles)
        ours = sorted(studies.items(), key=lambda item: order.index(item[0][0]))
        return {study: sorted(trials, key=lambda trial: trial.number) for study, trials in ours}

    def missing(self) -> Iterator[str]:
        """What a run that is through would have, a sentence each."""
        if self.config is None:
            yield (
                "The configuration in `meta/resolved_config.yaml` cannot be read by this version of lambda-hat, so the "
                "figures of the searches do not show the objective and the ranges of the hyperparameters."
            )
        for pid in self._without_reference():
            failure = self.reference_failures.get(pid)
            what = f"The reference of {self.titles[pid]}"
            yield sentence(f"{what} failed: {failure.reason}" if failure else f"{what} is missing")
        if others := self.metrics_of_other_versions:
            yield (
                f"{count(len(others), 'trial')} ({', '.join(others[:3])}{', …' if len(others) > 3 else ''}) left a "
                "`metrics.json` of another version of lambda-hat, which this one does not read."
            )
        if not self.rows and not self.llc_runs and self.num_ended_trials:
            yield (
                f"There is no table of trials yet, but {self.num_ended_trials} trials have ended: it is written when "
                "the command ends, or by `--resume`."
            )
        elif not self.rows and not self.llc_runs:
            yield "No trial has ended yet."
        for pid, method, done in self._unfinished_studies():
            where = f" on {self.names[pid]}" if len(self.titles) > 1 else ""
            wanted = count(self.begun.wanted(method), "trial")
            yield f"{method}{where} has {done} of {wanted}; `--resume` runs the others."

    @cached_property
    def num_ended_trials(self) -> int:
        """Trials whose result is on the disk, whether or not the table has it; no runs that only confirm some."""
        results = self.paths.trials_dir.glob(f"*/*/*/{METRICS_JSON}")
        return sum(1 for path in results if not path.parts[-3].startswith(CONFIRMING))

    @cached_property
    def metrics_of_other_versions(self) -> list[str]:
        """Ids of trials whose `metrics.json` this version cannot read."""
        found: list[str] = []
        for path in sorted(self.paths.trials_dir.glob(f"*/*/*/{METRICS_JSON}")):
            try:
                Metrics.read(path)
            except FormatError:
                found.append(path.parent.name)
            except RunStateError:  # damaged
                continue
        return found

    def _reference(self, pid: str) -> ReferenceRecord | ReferenceFailure | None:
        try:
            return ReferenceRecord.read(self.paths.problem_dir(pid) / REFERENCE_JSON)
        except FormatError as error:
            return ReferenceFailure.failed(str(error))

    def _stored_title(self, pid: str) -> str:
        problem = read_yaml(self.paths.problem_dir(pid) / PROBLEM_YAML) or {}
        return f"{problem['target']}, seed {problem.get('seed')}" if "target" in problem else pid

    def _entry_titles(self) -> list[str]:
        try:
            return [entry.title for entry in self.config.entries] if self.config else []
        except TargetError:  # of a package that cannot be used any more
            return []
