"""What a report says of the searches: their figures, the table of all trials, and those that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lambda_hat.artifacts.paths import FAILURE_JSON, METRICS_JSON, PROGRESS_JSONL
from lambda_hat.config.methods import REPORTS
from lambda_hat.formatting import count, estimate
from lambda_hat.records.columns import NamedColumn
from lambda_hat.records.rows import TrialRow
from lambda_hat.records.state import State
from lambda_hat.report import figures
from lambda_hat.report.analysis import best_trial, by_rank
from lambda_hat.report.drawing import Picture
from lambda_hat.report.page.table import Cell, Column, Links, Table, TableRow, cells_of, column_of
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.settings_map import settings_maps
from lambda_hat.report.summary import counts_text

__all__ = [
    "MapPart",
    "StudyPart",
    "failures_table",
    "failures_text",
    "maps",
    "study_part",
    "trials_table",
    "trials_text",
]

MAX_TABLE_ROWS = 2000  # of trials: a page that a phone can still open
MAX_FAILURES = 100


@dataclass(frozen=True, kw_only=True)
class StudyPart:
    """The search of one method on one problem."""

    title: str
    counts: str
    history: Picture | None
    importances: Picture | None
    parallel: Picture | None
    slices: Picture | None


def study_part(run: RunFiles, pid: str, method: str, trials: Sequence[TrialRow]) -> StudyPart:
    """One study."""
    objective, space = run.objective, run.search_space(method)
    return StudyPart(
        title=f"{method} on {run.titles.get(pid, pid)}" if len(run.titles) > 1 else method,
        counts=counts_text(trials),
        history=figures.history_figure(trials, objective, run.references.get(pid)),
        importances=figures.importances_figure(trials),
        parallel=figures.parallel_figure(trials, space),
        slices=figures.slices_figure(trials, space, objective),
    )


@dataclass(frozen=True, kw_only=True)
class MapPart:
    """The map of a method's settings, and how its trials fail."""

    title: str
    figure: Picture
    modes: Table


def maps(run: RunFiles) -> Iterator[MapPart]:
    """A map of every method."""
    columns = (
        Column("name", "it"),
        Column("trials", "trials", is_number=True),
        Column("sign", "sign"),
        Column("cure", "cure"),
    )
    for item in settings_maps(run):
        rows = tuple(
            TableRow(
                (
                    Cell(m.name),
                    Cell(str(m.num_trials), kind="number"),
                    Cell(m.sign, kind="long"),
                    Cell(m.cure, kind="long"),
                )
            )
            for m in item.modes
        )
        yield MapPart(title=item.title, figure=item.figure, modes=Table(columns, rows))


def failures_text(run: RunFiles) -> str:
    """How many failed, and why."""
    failed = [row for row in run.rows if row.state is State.FAIL]
    if not failed:
        return ""
    reasons = Counter(row.reason or "no reason" for row in failed)
    common = ", ".join(f"{count}× {reason}" for reason, count in reasons.most_common(3))
    return f"{len(failed)} of {count(len(run.rows), 'trial')} failed: {common}."


def failures_table(run: RunFiles, links: Links) -> Table:
    """References and trials that failed, with where to look."""
    rows = [
        TableRow(
            (
                Cell(f"reference of {run.names.get(pid, pid)}"),
                Cell(failure.reason or "no reason", kind="long"),
                Cell(FAILURE_JSON, href=links.to(run.paths.problem_dir(pid) / FAILURE_JSON)),
                Cell(PROGRESS_JSONL, href=links.to(run.paths.problem_dir(pid) / PROGRESS_JSONL)),
            )
        )
        for pid, failure in run.reference_failures.items()
    ]
    failed = [row for row in run.rows if row.state is State.FAIL]

    def of(pid: str) -> str:
        return f" on {run.names.get(pid, pid)}" if len(run.titles) > 1 else ""

    for row in failed[:MAX_FAILURES]:
        result, progress = links.to_trial(row), links.to_trial(row, PROGRESS_JSONL)
        cells = (
            Cell(f"{row.method} trial {row.number}{of(row.pid)}"),
            Cell(row.reason or "no reason", kind="long"),
            Cell(METRICS_JSON if result else "", href=result),
            Cell(PROGRESS_JSONL if progress else "", href=progress),
        )
        rows.append(TableRow(cells))
    columns = (Column("what", "what"), Column("reason", "why"), Column("result", "result"), Column("log", "log"))
    return Table(columns, tuple(rows))


_SHOWN = (
    "pid",
    "method",
    "number",
    "state",
    "objective",
    "llc_hat",
    "error",
    "relative_error",
    "z",
    "rhat",
    "k_hat",
    "predicted_bias",
    "num_gradient_evaluations",
    "total_sec",
    "hyperparameters",
    "run_id",
)
_OPTIONAL = frozenset(REPORTS)  # which only some methods have
_TRIAL_COLUMNS = tuple(TrialRow.columns()[name] for name in _SHOWN)


def trials_text(run: RunFiles) -> str:
    """Where the rest is, if the table does not have all."""
    if len(run.rows) <= MAX_TABLE_ROWS:
        return ""
    return f"The {MAX_TABLE_ROWS} best of {len(run.rows)}; tables/{run.paths.trials_table.name} has all."


def trials_table(run: RunFiles, links: Links) -> Table:
    """All trials, the best first."""
    best = [best_trial(trials) for trials in run.studies.values()]
    rows = by_rank(run.rows)[:MAX_TABLE_ROWS]
    columns = [column for column in _TRIAL_COLUMNS if column.name not in _OPTIONAL or _is_taken(column.name, rows)]
    if len(run.titles) == 1:  # one problem need not be named in every row
        columns = [column for column in columns if column.name != "pid"]
    return Table(
        tuple(map(column_of, columns)),
        tuple(
            TableRow(tuple(_trial_cells(row, columns, run, links)), is_best=any(row is one for one in best))
            for row in rows
        ),
    )


def _is_taken(name: str, rows: Sequence[TrialRow]) -> bool:
    return any(row.reports.get(name) is not None for row in rows)


def _trial_cells(row: TrialRow, columns: Sequence[NamedColumn], run: RunFiles, links: Links) -> Iterator[Cell]:
    for name, cell in cells_of(row, columns, run.names).items():
        if name == "llc_hat":
            yield replace(cell, text=estimate(row.llc_hat, row.se_hat))
        elif name == "run_id":
            yield replace(cell, href=links.to_trial(row))
        else:
            yield cell
