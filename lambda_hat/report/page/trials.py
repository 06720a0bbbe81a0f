"""What a report says of the searches: their figures, the table of all trials, and those that failed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lambda_hat.artifacts.paths import FAILURE_JSON, METRICS_JSON, PROGRESS_JSONL
from lambda_hat.formatting import count, number
from lambda_hat.report import figures
from lambda_hat.report.drawing import Picture
from lambda_hat.report.page.table import Cell, Column, Links, Row, Table, TableRow
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import best_row, counts_text, figures_of, settings_text

__all__ = ["StudyPart", "failures_table", "failures_text", "study_part", "trials_table", "trials_text"]

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


def study_part(run: RunFiles, pid: str, method: str, trials: Sequence[Row]) -> StudyPart:
    """One study."""
    objective, space = run.objective, run.search_space(method)
    return StudyPart(
        title=f"{method} on {run.titles.get(pid, pid)}",
        counts=counts_text(trials),
        history=figures.history_figure(trials, objective, run.references.get(pid, {})),
        importances=figures.importances_figure(trials),
        parallel=figures.parallel_figure(trials, space),
        slices=figures.slices_figure(trials, space, objective),
    )


def failures_text(run: RunFiles) -> str:
    """How many failed, and why."""
    num = sum(row["state"] == "FAIL" for row in run.rows)
    if num == 0:
        return ""
    reasons = Counter(str(row.get("reason") or "no reason") for row in run.rows if row["state"] == "FAIL")
    common = ", ".join(f"{count}× {reason}" for reason, count in reasons.most_common(3))
    return f"{num} of {count(len(run.rows), 'trial')} failed: {common}."


def failures_table(run: RunFiles, links: Links) -> Table:
    """References and trials that failed, with where to look."""
    rows = [
        TableRow(
            (
                Cell(f"{pid}:reference"),
                Cell(str(failure.get("reason")), kind="long"),
                Cell(FAILURE_JSON, href=links.to(run.paths.problem_dir(pid) / FAILURE_JSON)),
                Cell(PROGRESS_JSONL, href=links.to(run.paths.problem_dir(pid) / PROGRESS_JSONL)),
            )
        )
        for pid, failure in run.reference_failures.items()
    ]
    failed = [row for row in run.rows if row["state"] == "FAIL"]
    for row in failed[:MAX_FAILURES]:
        result, progress = links.to_trial(row), links.to_trial(row, PROGRESS_JSONL)
        cells = (
            Cell(f"{row['pid']}:{row['method']} trial {row['number']}"),
            Cell(str(row.get("reason") or "no reason"), kind="long"),
            Cell(METRICS_JSON if result else "", href=result),
            Cell(PROGRESS_JSONL if progress else "", href=progress),
        )
        rows.append(TableRow(cells))
    columns = (Column("what", "what"), Column("reason", "why"), Column("result", "result"), Column("log", "log"))
    return Table(columns, tuple(rows))


_TRIAL_COLUMNS = (
    Column("problem", "problem"),
    Column("method", "method"),
    Column("number", "trial", is_number=True),
    Column("state", "state"),
    Column("objective", "objective", is_number=True),
    Column("llc", "λ̂", is_number=True),
    Column("error", "error", is_number=True),
    Column("relative", "relative", is_number=True),
    Column("z", "z", is_number=True),
    Column("rhat", "R̂", is_number=True),
    Column("gradients", "gradients", is_number=True),
    Column("seconds", "seconds", is_number=True),
    Column("settings", "settings"),
    Column("run", "run"),
)


def trials_text(run: RunFiles) -> str:
    """Where the rest is, if the table does not have all."""
    if len(run.rows) <= MAX_TABLE_ROWS:
        return ""
    return f"The {MAX_TABLE_ROWS} best of {len(run.rows)}; tables/{run.paths.trials_table.name} has all."


def trials_table(run: RunFiles, links: Links) -> Table:
    """All trials, the best first."""
    best = [best_row(trials) for trials in run.studies.values()]
    rows = sorted(run.rows, key=_by_objective)[:MAX_TABLE_ROWS]
    return Table(
        _TRIAL_COLUMNS,
        tuple(TableRow(_trial_cells(row, links), is_best=any(row is one for one in best)) for row in rows),
    )


def _by_objective(row: Row) -> float:
    is_complete = row["state"] == "COMPLETE" and row.get("objective") is not None
    return row["objective"] if is_complete else math.inf


def _trial_cells(row: Row, links: Links) -> tuple[Cell, ...]:
    llc, error, relative, _, z, rhat, _ = figures_of(row)

    def sortable(text: str, value: float | None) -> Cell:
        is_known = value is not None and math.isfinite(value)
        return Cell(text, value=repr(float(value)) if is_known and value is not None else "", kind="number")

    def words(text: str, href: str = "") -> Cell:
        return Cell(text, value=text, href=href)

    gradients, seconds = row.get("num_gradient_evaluations"), row.get("total_sec")
    return (
        words(row["pid"]),
        words(row["method"]),
        sortable(str(row["number"]), row["number"]),
        words(row["state"].lower()),
        sortable(number(row.get("objective")), row.get("objective")),
        sortable(llc, row.get("llc_hat")),
        sortable(error, row.get("error")),
        sortable(relative, row.get("relative_error")),
        sortable(z, row.get("z")),
        sortable(rhat, row.get("rhat")),
        sortable(number(gradients, ",.0f"), gradients),
        sortable(number(seconds, ".1f"), seconds),
        words(settings_text(row)),
        words(row.get("run_id") or "", links.to_trial(row)),
    )
