"""What a report says of one problem: the verdict, the best of every method, and the reference behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lambda_hat.formatting import estimate, number
from lambda_hat.report import figures
from lambda_hat.report.analysis import doubts, doubts_of_settings, indistinguishable
from lambda_hat.report.drawing import Picture
from lambda_hat.report.page.table import Cell, Column, Links, Row, Table, TableRow
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import (
    FIGURES,
    all_doubts,
    all_doubts_of_settings,
    best_row,
    counts_text,
    figures_of,
    laplace_row,
    reference_facts,
    settings_text,
    trials_by_method,
)

__all__ = ["ProblemPart", "ReferencePart", "problem_part"]


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
    best = {method: row for method, trials in by_method.items() if (row := best_row(trials)) is not None}
    laplace = laplace_row(reference or {})
    closest = min(best.values(), key=lambda row: row["objective"], default=None)
    rows = [
        TableRow(
            (
                Cell(method),
                *(Cell(text, kind="number") for text in figures_of(best.get(method, {}))),
                Cell(number(best.get(method, {}).get("num_gradient_evaluations"), ",.0f"), kind="number"),
                Cell(counts_text(trials)),
                Cell(_standing(best[method], laplace) if method in best else "", kind="bad"),
            ),
            is_best=closest is not None and best.get(method) is closest,
        )
        for method, trials in by_method.items()
    ]
    if by_method and reference:
        cells = (*(Cell(text, kind="number") for text in figures_of(laplace, is_baseline=True)), *[Cell("")] * 3)
        rows.append(TableRow((Cell("Laplace"), *cells)))
    columns = ("best of", *FIGURES, "gradients", "trials", "")
    numbers = {*FIGURES, "gradients"}
    failure = run.reference_failures.get(pid, {}).get("reason")
    return ProblemPart(
        pid=pid,
        title=title,
        is_sure=bool(reference and reference.get("is_certified")) and bool(indistinguishable(best.values())),
        verdict=tuple(_verdict(run, pid, reference, best)),
        table=Table(tuple(Column(name, name, name in numbers) for name in columns), tuple(rows)),
        settings=_settings_table(best, links) if best else None,
        estimates=figures.estimates_figure(by_method, reference or {}),
        reference=None if reference is None else _reference(reference),
        no_reference=f"There is no reference: {failure}." if failure else "There is no reference yet.",
        cost=figures.cost_figure(by_method, reference or {}),
    )


def _standing(row: Row, laplace: Row) -> str:
    """In two words: the verdict has more."""
    return "in doubt" if doubts(row) else "".join(all_doubts(row, laplace))


def _verdict(run: RunFiles, pid: str, reference: Row | None, best: Mapping[str, Row]) -> Iterator[str]:
    if reference is None:
        yield "There is no reference, so nothing can be said of the methods."
        return
    standing = "certified" if reference.get("is_certified") else "NOT certified, so that all of this is in doubt"
    yield f"The reference is λ = {estimate(reference.get('llc'), reference.get('se'))}, {standing}."
    yield from _confirmed_verdict(run, pid, laplace_row(reference))
    if not best:
        if run.rows:
            yield "No trial was completed."
        return
    close = indistinguishable(best.values())
    for method, row in best.items():
        if found := doubts(row):
            yield f"{method} cannot be trusted at its best settings: {' and '.join(found)}."
    if len(close) > 1:
        names = _listed([row["method"] for row in best.values() if row in close])
        yield f"{names} are within two combined standard errors of it at the best settings found."
        yield f"Of these, {close[0]['method']} needs the fewest gradient evaluations: {_result(close[0])}."
    elif close:
        yield f"{close[0]['method']} is within two combined standard errors of it: {_result(close[0])}."
    elif trusted := [row for row in best.values() if not doubts(row)]:
        closest = min(trusted, key=lambda row: math.inf if row.get("error") is None else abs(row["error"]))
        yield "No method that can be trusted comes within two combined standard errors."
        yield f"{closest['method']} is closest: {_result(closest)}."
    laplace = laplace_row(reference)
    if laplace["llc_hat"] is not None:
        yield (
            f"The Laplace value, which costs one Hessian, is {number(laplace['llc_hat'])} "
            f"({number(laplace['relative_error'], '+.1%')})."
        )
    if not any(row.get("pid") == pid for row in run.confirmed):
        yield "The best of many trials is also the luckiest: its error on another seed will be larger."


def _confirmed_verdict(run: RunFiles, pid: str, laplace: Row) -> Iterator[str]:
    known = [row for row in run.confirmed if row.get("pid") == pid and row.get("rmse") is not None]
    trusted = [row for row in known if not doubts_of_settings(row)]
    if known:
        best = min(trusted or known, key=lambda row: row["rmse"])
        error = f"{estimate(best['rmse'], best.get('rmse_se'))} ({number(best.get('relative_rmse'), '.1%')})"
        among = " of those that can be trusted" if trusted and len(trusted) < len(known) else ""
        found = "".join(f"; {doubt}" for doubt in all_doubts_of_settings(best, laplace))
        yield (
            f"On fresh seeds {best['method']} is the most accurate{among}: "
            f"root mean square error {error}, by {settings_text(best)}{found}."
        )


def _result(row: Row) -> str:
    value = estimate(row.get("llc_hat"), row.get("se_hat"))
    relative, work = number(row.get("relative_error"), "+.1%"), number(row.get("num_gradient_evaluations"), ",.0f")
    return f"λ̂ = {value} ({relative}) for {work} gradient evaluations, by {settings_text(row)}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _settings_table(best: Mapping[str, Row], links: Links) -> Table:
    rows = [
        TableRow(
            (
                Cell(method),
                Cell(str(row["number"]), kind="number"),
                Cell(row["run_id"] or "", href=links.to_trial(row)),
                Cell(settings_text(row), kind="long"),
            )
        )
        for method, row in best.items()
    ]
    columns = (Column("method", "method"), Column("number", "trial", is_number=True), Column("run", "run"))
    return Table((*columns, Column("settings", "settings")), tuple(rows))


def _reference(reference: Row) -> ReferencePart:
    criteria = reference.get("certificate") or ()
    rows = [
        TableRow(
            (
                Cell(row["name"]),
                Cell(number(row["value"]), kind="number"),
                Cell(f"{'≤' if row['is_upper'] else '≥'} {row['bound']:g}", kind="number"),
                Cell("met", kind="good") if row["is_met"] else Cell("not met", kind="bad"),
            )
        )
        for row in criteria
    ]
    facts = {"by": str(reference.get("method")), **reference_facts(reference)}
    facts |= {"parameters d": number(reference.get("dim"), ",d"), "examples n": number(reference.get("num_data"), ",d")}
    facts |= {"Laplace value": number(reference.get("laplace_llc")), "loss at w0": number(reference.get("loss_at_w0"))}
    columns = (Column("criterion", "criterion"), Column("value", "value", is_number=True))
    return ReferencePart(
        value=estimate(reference.get("llc"), reference.get("se")),
        is_certified=bool(reference.get("is_certified")),
        reasons=() if reference.get("is_certified") else tuple(reference.get("reasons") or ()),
        facts=facts,
        certificate=Table((*columns, Column("bound", "bound", is_number=True), Column("met", "")), tuple(rows)),
        figure=figures.certificate_figure(reference),
    )
