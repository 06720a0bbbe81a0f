"""What a report says of one problem: the verdict, the best of every method, and the reference behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lambda_hat.formatting import estimate, number
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import TrialRow
from lambda_hat.report import figures
from lambda_hat.report.analysis import best_trial, doubts, doubts_of_settings, indistinguishable
from lambda_hat.report.drawing import Picture
from lambda_hat.report.page.table import Cell, Column, Links, Table, TableRow, cells_of, column_of
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import (
    FIGURES,
    all_doubts,
    all_doubts_of_settings,
    counts_text,
    figures_of,
    laplace_figures,
    reference_facts,
    settings_text,
    trials_by_method,
)

__all__ = ["ProblemPart", "ReferencePart", "problem_part"]

_COLUMNS = TrialRow.columns()
_WORK = _COLUMNS["num_gradient_evaluations"]
_SETTINGS = tuple(_COLUMNS[name] for name in ("method", "number", "run_id", "hyperparameters"))


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
    is_sure: bool  # the reference is certified and at least one method agrees with it
    verdict: tuple[str, ...]
    table: Table
    settings: Table | None
    estimates: Picture | None
    reference: ReferencePart | None
    no_reference: str
    cost: Picture | None


def problem_part(run: RunFiles, pid: str, title: str, links: Links) -> ProblemPart:
    """All of one problem."""
    reference = run.references.get(pid)
    by_method = trials_by_method(run.rows, pid)
    best = {method: trial for method, trials in by_method.items() if (trial := best_trial(trials)) is not None}
    closest = best_trial(best.values())
    rows = [
        TableRow(
            (
                Cell(method),
                *(Cell(text, kind="number") for text in figures_of(best.get(method))),
                Cell(_work(best.get(method)), kind="number"),
                Cell(counts_text(trials)),
                Cell(_standing(best[method], reference) if method in best else "", kind="bad"),
            ),
            is_best=closest is not None and best.get(method) is closest,
        )
        for method, trials in by_method.items()
    ]
    if by_method and reference:
        cells = (*(Cell(text, kind="number") for text in laplace_figures(reference)), *[Cell("")] * 3)
        rows.append(TableRow((Cell("Laplace"), *cells)))
    columns = (
        Column("best of", "best of"),
        *map(column_of, (*FIGURES, _WORK)),
        Column("trials", "trials"),
        Column("standing", ""),
    )
    failure = run.reference_failures.get(pid)
    return ProblemPart(
        pid=pid,
        title=title,
        is_sure=bool(reference and reference.is_certified) and bool(indistinguishable(best.values())),
        verdict=tuple(_verdict(run, pid, reference, best)),
        table=Table(columns, tuple(rows)),
        settings=_settings_table(best, links) if best else None,
        estimates=figures.estimates_figure(by_method, reference),
        reference=None if reference is None else _reference(reference),
        no_reference=f"There is no reference: {failure.reason}." if failure else "There is no reference yet.",
        cost=figures.cost_figure(by_method, reference),
    )


def _standing(best: TrialRow, reference: ReferenceRecord | None) -> str:
    """In two words: the verdict has more."""
    return "in doubt" if doubts(best) else "".join(all_doubts(best, reference))


def _work(trial: TrialRow | None) -> str:
    return number(trial.num_gradient_evaluations if trial else None, _WORK.spec)


def _verdict(run: RunFiles, pid: str, reference: ReferenceRecord | None, best: Mapping[str, TrialRow]) -> Iterator[str]:
    if reference is None:
        yield "There is no reference, so nothing can be said of the methods."
        return
    standing = "certified" if reference.is_certified else "NOT certified, so that all of this is in doubt"
    yield f"The reference is λ = {estimate(reference.llc, reference.se)}, {standing}."
    yield from _confirmed_verdict(run, pid, reference)
    if not best:
        if run.rows:
            yield "No trial was completed."
        return
    close = indistinguishable(best.values())
    for method, trial in best.items():
        if found := doubts(trial):
            yield f"{method} cannot be trusted at its best settings: {' and '.join(found)}."
    if len(close) > 1:
        names = _listed([trial.method for trial in best.values() if trial in close])
        yield f"{names} are within two combined standard errors of it at the best settings found."
        yield f"Of these, {close[0].method} needs the fewest gradient evaluations: {_result(close[0])}."
    elif close:
        yield f"{close[0].method} is within two combined standard errors of it: {_result(close[0])}."
    elif trusted := [trial for trial in best.values() if not doubts(trial)]:
        closest = min(trusted, key=lambda trial: math.inf if trial.error is None else abs(trial.error))
        yield "No method that can be trusted comes within two combined standard errors."
        yield f"{closest.method} is closest: {_result(closest)}."
    if reference.laplace_llc is not None:
        yield (
            f"The Laplace value, which costs one Hessian, is {number(reference.laplace_llc)} "
            f"({number(reference.laplace_relative_error, '+.1%')})."
        )
    if not any(row.pid == pid for row in run.confirmed):
        yield "The best of many trials is also the luckiest: its error on another seed will be larger."


def _confirmed_verdict(run: RunFiles, pid: str, reference: ReferenceRecord) -> Iterator[str]:
    known = [row for row in run.confirmed if row.pid == pid and row.rmse is not None]
    trusted = [row for row in known if not doubts_of_settings(row)]
    if known:
        best = min(trusted or known, key=lambda row: math.inf if row.rmse is None else row.rmse)
        error = f"{estimate(best.rmse, best.rmse_se)} ({number(best.relative_rmse, '.1%')})"
        among = " of those that can be trusted" if trusted and len(trusted) < len(known) else ""
        found = "".join(f"; {doubt}" for doubt in all_doubts_of_settings(best, reference))
        yield (
            f"On fresh seeds {best.method} is the most accurate{among}: "
            f"root mean square error {error}, by {settings_text(best.hyperparameters)}{found}."
        )


def _result(trial: TrialRow) -> str:
    value, relative = estimate(trial.llc_hat, trial.se_hat), number(trial.relative_error, "+.1%")
    settings = settings_text(trial.hyperparameters)
    return f"λ̂ = {value} ({relative}) for {_work(trial)} gradient evaluations, by {settings}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _settings_table(best: Mapping[str, TrialRow], links: Links) -> Table:
    rows = []
    for trial in best.values():
        cells = cells_of(trial, _SETTINGS)
        cells["run_id"] = replace(cells["run_id"], href=links.to_trial(trial))
        rows.append(TableRow(tuple(cells.values())))
    return Table(tuple(map(column_of, _SETTINGS)), tuple(rows))


def _reference(reference: ReferenceRecord) -> ReferencePart:
    rows = [
        TableRow(
            (
                Cell(criterion.name),
                Cell(number(criterion.value), kind="number"),
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
