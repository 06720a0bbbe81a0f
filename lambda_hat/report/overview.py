"""A line of every run, problem and study, and a page of every artifact: `artifacts ls` and `artifacts show`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from lambda_hat.artifacts.files import read_yaml
from lambda_hat.artifacts.inventory import Found
from lambda_hat.artifacts.paths import CONFIRMING, MANIFEST_JSON, METRICS_JSON, Paths, shared_references
from lambda_hat.errors import RunStateError
from lambda_hat.formatting import count, estimate, number
from lambda_hat.records.columns import NamedColumn
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import OutcomeRow, RunRow
from lambda_hat.records.state import State
from lambda_hat.report.analysis import best_trial
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import (
    best_estimates,
    best_text,
    counts_text,
    preset_text,
    print_runs,
    print_summary,
    trials_by_method,
)
from lambda_hat.report.verdict import MethodVerdict, ProblemVerdict, judge_problem, settings_text

__all__ = ["Overview", "overview_of", "print_artifact", "problem_verdict"]

_COLUMNS = OutcomeRow.columns()
_FACTS = tuple(
    _COLUMNS[name] for name in ("error", "relative_error", "z", "rhat", "num_gradient_evaluations", "total_sec")
)
_NO_REFERENCE = ReferenceRecord(method="", llc=None, se=None, is_certified=False)


@dataclass(frozen=True)
class Overview:
    """What a run has come to."""

    state: str
    """The state of its last command; `unreadable` where a file is damaged or of another version."""
    certified: str
    """How many of its references are certified."""
    references: dict[str, str]
    """The value and the certificate of every problem's reference, by its id."""
    names: dict[str, str]
    """A name of every problem, by its id."""
    verdicts: dict[str, ProblemVerdict]
    """The verdict on every problem, by its id."""
    wanted: dict[str, int]
    """The trials that the last command wants of every study, or the runs of every sampler, by its name `p_…:method`."""

    @property
    def best(self) -> str:
        """The recommended method of every problem."""
        return ", ".join(dict.fromkeys(verdict.best for verdict in self.verdicts.values())) or "none"

    def method(self, pid: str, name: str) -> MethodVerdict | None:
        """The verdict on one method, or one sampler."""
        verdict = self.verdicts.get(pid)
        return next((method for method in verdict.methods if method.name == name), None) if verdict else None


def overview_of(paths: Paths) -> Overview:
    """What the run at `paths` has come to, by its files."""
    run = RunFiles(Paths(paths.root, shared_references(read_yaml(paths.resolved_config))))
    try:
        verdicts = {pid: problem_verdict(run, pid) for pid in run.titles}
        num_certified = sum(reference.is_certified for reference in run.references.values())
        references = {
            pid: f"{estimate(one.llc, one.se)} {'certified' if one.is_certified else 'not certified'}"
            for pid, one in run.references.items()
        }
        begun = run.begun
        wanted = {f"{pid}:{method}": begun.wanted(method) for pid in begun.pids for method in begun.methods}
        return Overview(
            run.state.word, f"{num_certified} of {len(run.titles)}", references, run.titles, verdicts, wanted
        )
    except RunStateError:
        return Overview("unreadable", "?", {}, {}, {}, {})


def problem_verdict(run: RunFiles, pid: str) -> ProblemVerdict:
    """The verdict on one problem of a run."""
    failure = run.reference_failures.get(pid)
    runs = {row.sampler: row for row in run.llc_runs if row.pid == pid}
    return judge_problem(
        run.references.get(pid),
        {**best_estimates(trials_by_method(run.rows, pid)), **runs},
        [row for row in run.confirmed if row.pid == pid],
        why_none=failure and failure.reason,
    )


def print_artifact(stream: TextIO, found: Found) -> None:
    """Print what a problem, a study or a trial has come to."""
    run = RunFiles(Paths(found.root, shared_references(read_yaml(Paths(found.root).resolved_config))))
    if found.kind == "problem":
        _print_problem(stream, run, found.id)
    else:
        for line in _trial_lines(run, found) if found.kind == "trial" else _study_lines(run, found):
            print(line, file=stream)
    if found.kind != "study":
        print(f"files   {', '.join(sorted(path.name for path in found.path.iterdir()))}", file=stream)
    print(f"folder  {found.path}", file=stream)
    print(f"run     {found.run}, {run.state.word}", file=stream)


def _print_problem(stream: TextIO, run: RunFiles, pid: str) -> None:
    """What the end of a workflow prints of a problem."""
    titles = {pid: run.titles.get(pid, pid)}
    why_none = {pid: failure.reason or "no reason" for pid, failure in run.reference_failures.items()}
    if runs := [row for row in run.llc_runs if row.pid == pid]:
        print_runs(stream, runs, run.references, {}, titles, why_none)
    else:
        print_summary(stream, run.rows, run.references, {}, titles, run.confirmed, why_none)


def _study_lines(run: RunFiles, found: Found) -> Iterator[str]:
    pid, _, folder = found.id.partition(":")
    name = folder.removeprefix(CONFIRMING)
    yield f"{name} on {run.titles.get(pid, pid)}  {pid}"
    yield from _verdict_lines(run, pid, name)
    if trials := [row for row in run.rows if (row.pid, row.method) == (pid, name)]:
        yield f"  {counts_text(trials)}{best_text(best_trial(trials))}{preset_text(trials)}"
    else:
        num_ended = sum((path / METRICS_JSON).is_file() for path in found.path.iterdir())
        yield f"  {count(num_ended, 'run')} ended"


def _verdict_lines(run: RunFiles, pid: str, name: str) -> Iterator[str]:
    verdict = problem_verdict(run, pid)
    yield f"  {verdict.citation}"
    for method in verdict.methods:
        if method.name == name:
            yield f"  {method.sentence}" + (f" Settings: {method.settings}." if method.settings else "")


def _trial_lines(run: RunFiles, found: Found) -> Iterator[str]:
    row, pid, folder = _row_of(run, found.path), found.path.parent.parent.name, found.path.parent.name
    trial = next((trial for trial in run.rows if trial.run_id == found.id), None)
    confirms = "confirms " if folder.startswith(CONFIRMING) else ""
    yield f"{confirms}{row.sampler}{'' if trial is None else f' trial {trial.number}'}  {found.id}"
    yield f"  on {run.titles.get(pid, pid)}  {pid}"
    yield f"  {row.state.word}{f': {row.reason}' if row.reason else ''}"
    if row.llc_hat is not None:
        yield f"  λ̂ = {estimate(row.llc_hat, row.se_hat)}  {'  '.join(_facts(row, _FACTS))}"
    yield f"  settings  {settings_text(row.hyperparameters) or 'unknown'}"
    if made := [text for text in (row.executor, row.host, row.device, row.dtype) if text]:
        yield f"  made by  {', '.join(made)}, seed {number(row.seed, 'd')}"
    yield from _verdict_lines(run, pid, row.sampler)


def _facts(row: RunRow, columns: tuple[NamedColumn, ...]) -> Iterator[str]:
    cells = row.to_cells()
    for column in columns:
        if cells[column.name] is not None:
            yield f"{column.title} {column.text(cells[column.name])}"


def _row_of(run: RunFiles, folder: Path) -> RunRow:
    """A trial, also one that no table has yet, by its own files."""
    manifest, metrics = Manifest.read(folder / MANIFEST_JSON), Metrics.read(folder / METRICS_JSON)
    pid, name = folder.parent.parent.name, folder.parent.name.removeprefix(CONFIRMING)
    return RunRow.of(
        metrics,
        run.references.get(pid) or _NO_REFERENCE,
        "",
        pid=pid,
        sampler=name,
        method=manifest.method if manifest else name,
        run_id=folder.name,
        state=State.RUNNING if metrics is None else metrics.state,
        reason=None if metrics is None else metrics.reason,
        hyperparameters=(manifest.hyperparams or manifest.settings) if manifest else {},
        seed=manifest.seed if manifest else None,
    )
