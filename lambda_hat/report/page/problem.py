"""What a report says of one problem: the verdict, the best of every method, and the reference behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lambda_hat.formatting import estimate, number
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow, TrialRow
from lambda_hat.report import figures
from lambda_hat.report.analysis import best_trial
from lambda_hat.report.drawing import Picture
from lambda_hat.report.overview import problem_verdict
from lambda_hat.report.page.confirmed import speaks_against
from lambda_hat.report.page.table import Cell, Column, Links, Table, TableRow, cells_of, column_of
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import (
    CONFIRMED,
    FIGURES,
    best_estimate,
    confirmed_lines,
    counts_text,
    estimate_lines,
    reference_facts,
    trials_by_method,
)
from lambda_hat.report.verdict import Estimate, ProblemVerdict, citation

__all__ = ["ProblemPart", "ReferencePart", "problem_part"]

_COLUMNS = TrialRow.columns()
_WORK = _COLUMNS["num_gradient_evaluations"]
_SETTINGS = tuple(_COLUMNS[name] for name in ("method", "number", "hyperparameters"))


@dataclass(frozen=True, kw_only=True)
class ReferencePart:
    """A problem's reference."""

    value: str
    is_certified: bool
    reasons: tuple[str, ...]
    facts: dict[str, str]
    certificate: Table
    figure: Picture | None


@dataclass(frozen=True, kw_only=True)
class ProblemPart:
    """A problem: what came out, and what that is measured by."""

    pid: str
    title: str
    verdict: ProblemVerdict
    confirmed: Table | None
    estimates: Table | None
    estimates_title: str
    settings: Table | None
    figure: Picture | None
    reference: ReferencePart | None
    no_reference: str
    cost: Picture | None


def problem_part(run: RunFiles, pid: str, title: str, links: Links) -> ProblemPart:
    """All of one problem."""
    reference, failure = run.references.get(pid), run.reference_failures.get(pid)
    by_method = trials_by_method(run.rows, pid)
    runs = {row.sampler: row for row in run.llc_runs if row.pid == pid}
    winners = {row.method: row for row in run.confirmed if row.pid == pid and row.rank == 1}
    best = {method: trial for method, trials in by_method.items() if (trial := best_trial(trials)) is not None}
    verdict = problem_verdict(run, pid)
    return ProblemPart(
        pid=pid,
        title=title,
        verdict=verdict,
        confirmed=_confirmed_table(winners, reference, verdict) if winners else None,
        estimates=_estimates_table(by_method or {name: [row] for name, row in runs.items()}, reference),
        estimates_title="Best trial of each method" if by_method else "Samplers",
        settings=_settings_table(best, links) if best else None,
        figure=figures.estimates_figure(by_method, reference, winners),
        reference=None if reference is None else _reference(reference),
        no_reference=citation(reference, failure and failure.reason),
        cost=figures.cost_figure(by_method, reference),
    )


def _confirmed_table(
    winners: Mapping[str, ConfirmedRow], reference: ReferenceRecord | None, verdict: ProblemVerdict
) -> Table:
    """The best settings of every method under fresh seeds; orange is what speaks against them."""
    good = {method.name for method in verdict.methods if method.is_good}
    best = min((row for row in winners.values() if row.method in good), key=lambda row: row.rank_key, default=None)
    rows = []
    for name, texts in confirmed_lines(winners.values(), reference).items():
        row = winners.get(name)
        against = set() if row is None else speaks_against(row, reference)
        cells = [
            Cell(text, kind="number bad" if column.name in against else "number")
            for column, text in zip(CONFIRMED, texts, strict=True)
        ]
        rows.append(TableRow((Cell(name), *cells), is_best=row is not None and row is best))
    return Table((Column("method", "confirmed"), *map(column_of, CONFIRMED)), tuple(rows))


def _estimates_table(rows: Mapping[str, Sequence[Estimate]], reference: ReferenceRecord | None) -> Table | None:
    """The best trial of every method, or the run of every sampler."""
    if not rows:
        return None
    lines = []
    for name, texts in estimate_lines(rows, reference).items():
        found = best_estimate(rows.get(name, ()))
        against = set() if found is None else speaks_against(found, reference)
        numbers = (*texts, _WORK.text(None if found is None else found.num_gradient_evaluations))
        cells = [
            Cell(text, kind="number bad" if column.name in against else "number")
            for column, text in zip((*FIGURES, _WORK), numbers, strict=True)
        ]
        lines.append(TableRow((Cell(name), *cells, Cell(counts_text(rows.get(name, ()))))))
    first = Column(
        "method", "best trial" if any(isinstance(row, TrialRow) for of in rows.values() for row in of) else ""
    )
    return Table((first, *map(column_of, (*FIGURES, _WORK)), Column("ended", "ended")), tuple(lines))


def _settings_table(best: Mapping[str, TrialRow], links: Links) -> Table:
    rows = []
    for trial in best.values():
        cells = cells_of(trial, _SETTINGS, {})
        cells["number"] = replace(cells["number"], href=links.to_trial(trial))
        rows.append(TableRow(tuple(cells.values())))
    return Table(tuple(map(column_of, _SETTINGS)), tuple(rows))


def _reference(reference: ReferenceRecord) -> ReferencePart:
    rows = [
        TableRow(
            (
                Cell(criterion.name),
                Cell(number(criterion.value, ".4g", criterion.bound), kind="number"),
                Cell(f"{'≤' if criterion.is_upper else '≥'} {number(criterion.bound, 'g')}", kind="number"),
                Cell("met", kind="good") if criterion.is_met else Cell("not met", kind="bad"),
            )
        )
        for criterion in reference.certificate
    ]
    facts = {"by": reference.method, **reference_facts(reference)}
    facts |= {"parameters d": number(reference.dim, ",d"), "examples n": number(reference.num_data, ",d")}
    facts |= {"Laplace value": number(reference.laplace_llc), "loss at w0": number(reference.loss_at_w0)}
    columns = (Column("criterion", "criterion"), Column("value", "value", is_number=True))
    return ReferencePart(
        value=estimate(reference.llc, reference.se),
        is_certified=reference.is_certified,
        reasons=() if reference.is_certified else reference.reasons,
        facts=facts,
        certificate=Table((*columns, Column("bound", "bound", is_number=True), Column("met", "")), tuple(rows)),
        figure=figures.certificate_figure(reference),
    )
