"""What a report says: a run's files as sentences, tables and figures, ready for the template."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from markupsafe import Markup

from lambda_hat.artifacts.paths import FAILURE_JSON, METRICS_JSON, PROGRESS_JSONL, Paths
from lambda_hat.numbers import clock, estimate, number
from lambda_hat.report import figures
from lambda_hat.report.analysis import indistinguishable
from lambda_hat.report.drawing import Picture
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import (
    FIGURES,
    best_row,
    counts_text,
    figures_of,
    is_no_closer,
    laplace_row,
    reference_facts,
    settings_text,
    trials_by_method,
)
from lambda_hat.report.timeline import spans_of, use_of

__all__ = ["Cell", "Column", "Page", "Table", "TableRow", "build_page"]

Row = Mapping[str, Any]

MAX_TABLE_ROWS = 2000  # of trials: a page that a phone can still open
MAX_FAILURES = 100
MAX_COMMANDS = 3  # whose timelines are drawn, the last ones


@dataclass(frozen=True)
class Column:
    """One column; `name` is what the page's address sorts by."""

    name: str
    title: str
    is_number: bool = False


@dataclass(frozen=True)
class Cell:
    """What is read, what is sorted by, and where it leads."""

    text: str
    value: str = ""
    kind: str = ""  # "number" | "long" | "good" | "bad" | ""
    href: str = ""


@dataclass(frozen=True)
class TableRow:
    """One row, which may stand out."""

    cells: tuple[Cell, ...]
    is_best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under columns."""

    columns: tuple[Column, ...] = ()
    rows: tuple[TableRow, ...] = ()


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


@dataclass(frozen=True, kw_only=True)
class StudyPart:
    """The search of one method on one problem."""

    title: str
    counts: str
    history: Picture | None
    importances: Picture | None
    parallel: Picture | None
    slices: Picture | None


@dataclass(frozen=True)
class TimelinePart:
    """What one command's executors did."""

    title: str
    caption: str
    figure: Picture | None


@dataclass(frozen=True)
class PlotPart:
    """An interactive figure."""

    title: str
    html: Markup


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole report."""

    title: str
    subtitle: str
    notes: tuple[str, ...]
    problems: tuple[ProblemPart, ...]
    confirmed: Table | None
    across: Table | None
    llc_runs: Table | None
    provenance: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
    config: str
    studies: tuple[StudyPart, ...]
    failures: Table
    failures_text: str
    timelines: tuple[TimelinePart, ...]
    trials: Table
    trials_text: str
    plots: tuple[PlotPart, ...] = field(default=())

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Ids and names of the sections that there are."""
        parts = (
            ("verdict", "Verdict", True),
            ("confirmed", "Confirmed", self.confirmed),
            ("across", "Across problems", self.across),
            ("runs", "Runs", self.llc_runs),
            ("interactive", "To look closer", self.plots),
            ("provenance", "Where this comes from", True),
            ("references", "References", True),
            ("studies", "Searches", self.studies),
            ("cost", "Accuracy against cost", self.studies),
            ("failures", "Failures", self.failures.rows),
            ("executors", "Executors", self.timelines),
            ("trials", "Trials", self.trials.rows),
        )
        return [(name, title) for name, title, is_there in parts if is_there]


class _Links:
    """Addresses of a run's files from where the page lies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def to(self, path: Path) -> str:
        """A relative address, empty where there is no such file."""
        try:
            relative = os.path.relpath(path, self._folder)
        except ValueError:  # on another drive
            return ""
        return quote(Path(relative).as_posix()) if path.exists() else ""


def build_page(run: RunFiles, place: Path) -> Page:
    """All that is known of `run`, for a page in the file `place`."""
    links = _Links(place.parent)
    objective = (run.config.get("optuna") or {}).get("objective") or {}
    last = run.commands[-1][0].get("time", "") if run.commands else ""
    return Page(
        title=f"λ̂ of {run.paths.root.parent.name}",
        subtitle=f"{_size_text(run)}{f', last command of {_moment(last)}' if last else ''}",
        notes=tuple(run.missing()),
        problems=tuple(_problem(run, pid, title, links) for pid, title in run.titles.items()),
        confirmed=_plain_table(run.confirmed) if run.confirmed else None,
        across=_plain_table(run.across) if run.across else None,
        llc_runs=_plain_table(run.llc_runs) if run.llc_runs else None,
        provenance=tuple(_provenance(run)),
        files=tuple(_files(run.paths, links)),
        config=yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True, width=100) if run.config else "",
        studies=tuple(_study(run, pid, method, trials, objective) for (pid, method), trials in run.studies.items()),
        failures=_failures(run, links),
        failures_text=_failures_text(run),
        timelines=tuple(_timelines(run)),
        trials=_trials_table(run, links),
        trials_text=(
            f"The {MAX_TABLE_ROWS} best of {len(run.rows)}; tables/{run.paths.trials_table.name} has all."
            if len(run.rows) > MAX_TABLE_ROWS
            else ""
        ),
    )


def _size_text(run: RunFiles) -> str:
    num_methods = len({row["method"] for row in run.rows})
    parts = [_count(len(run.titles), "problem")]
    if run.rows:
        parts += [_count(num_methods, "method"), _count(len(run.rows), "trial")]
    if run.llc_runs:
        parts.append(_count(len(run.llc_runs), "run"))
    return ", ".join(parts)


def _count(num: int, what: str) -> str:
    return f"{num} {what}{'' if num == 1 else 's'}"


def _problem(run: RunFiles, pid: str, title: str, links: _Links) -> ProblemPart:
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
                Cell("no closer than Laplace", kind="bad")
                if method in best and is_no_closer(best[method], laplace)
                else Cell(""),
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
        settings=_settings_table(best, run.paths, links) if best else None,
        estimates=figures.estimates_figure(by_method, reference or {}),
        reference=None if reference is None else _reference(reference),
        no_reference=f"There is no reference: {failure}." if failure else "There is no reference yet.",
        cost=figures.cost_figure(by_method, reference or {}),
    )


def _verdict(run: RunFiles, pid: str, reference: Row | None, best: Mapping[str, Row]) -> Iterator[str]:
    if reference is None:
        yield "There is no reference, so nothing can be said of the methods."
        return
    standing = "certified" if reference.get("is_certified") else "NOT certified, so that all of this is in doubt"
    yield f"The reference is λ = {estimate(reference.get('llc'), reference.get('se'))}, {standing}."
    yield from _confirmed_verdict(run, pid)
    if not best:
        if run.rows:
            yield "No trial was completed."
        return
    close = indistinguishable(best.values())
    if len(close) > 1:
        names = _listed([row["method"] for row in best.values() if row in close])
        yield f"{names} are within two combined standard errors of it at the best settings found."
        yield f"Of these, {close[0]['method']} needs the fewest gradient evaluations: {_result(close[0])}."
    elif close:
        yield f"{close[0]['method']} is within two combined standard errors of it: {_result(close[0])}."
    else:
        closest = min(best.values(), key=lambda row: math.inf if row.get("error") is None else abs(row["error"]))
        yield "No method comes within two combined standard errors."
        yield f"{closest['method']} is closest: {_result(closest)}."
    laplace = laplace_row(reference)
    if laplace["llc_hat"] is not None:
        yield (
            f"The Laplace value, which costs one Hessian, is {number(laplace['llc_hat'])} "
            f"({number(laplace['relative_error'], '+.1%')})."
        )
    if not any(row.get("pid") == pid for row in run.confirmed):
        yield "The best of many trials is also the luckiest: its error on another seed will be larger."


def _confirmed_verdict(run: RunFiles, pid: str) -> Iterator[str]:
    known = [row for row in run.confirmed if row.get("pid") == pid and row.get("rmse") is not None]
    if known:
        best = min(known, key=lambda row: row["rmse"])
        relative = number(best.get("relative_rmse"), ".1%")
        yield (
            f"On fresh seeds {best['method']} is the most accurate: root mean square error "
            f"{estimate(best['rmse'], best.get('rmse_se'))} ({relative}), by {settings_text(best)}."
        )


def _result(row: Row) -> str:
    value = estimate(row.get("llc_hat"), row.get("se_hat"))
    relative, work = number(row.get("relative_error"), "+.1%"), number(row.get("num_gradient_evaluations"), ",.0f")
    return f"λ̂ = {value} ({relative}) for {work} gradient evaluations, by {settings_text(row)}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _settings_table(best: Mapping[str, Row], paths: Paths, links: _Links) -> Table:
    rows = [
        TableRow(
            (
                Cell(method),
                Cell(str(row["number"]), kind="number"),
                Cell(row["run_id"] or "", href=_trial_link(row, paths, links)),
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


def _study(run: RunFiles, pid: str, method: str, trials: Sequence[Row], objective: Row) -> StudyPart:
    space = (run.config.get("search_space") or {}).get(method) or {}
    return StudyPart(
        title=f"{method} on {run.titles.get(pid, pid)}",
        counts=counts_text(trials),
        history=figures.history_figure(trials, objective, run.references.get(pid, {})),
        importances=figures.importances_figure(trials),
        parallel=figures.parallel_figure(trials, space),
        slices=figures.slices_figure(trials, space, objective),
    )


def _provenance(run: RunFiles) -> Iterator[tuple[str, str]]:
    yield "run", "/".join(run.paths.root.parts[-3:])
    sources = [*run.references.values(), *run.rows]
    versions = [_versions(source) for source in sources]
    taken = {
        name: sorted({str(known[name]) for known in versions if known.get(name)})
        for name in dict.fromkeys(name for known in versions for name in known)
    }
    yield "git commit", ", ".join(taken.pop("git_commit", [])) or "none"
    if taken:
        yield "versions", ", ".join(f"{name} {' and '.join(found)}" for name, found in taken.items() if found)
    for name, title in (("host", "machines"), ("device", "devices"), ("dtype", "precisions")):
        if found := sorted({str(source[name]) for source in sources if source.get(name)}):
            yield title, ", ".join(found)
    for index, events in enumerate(run.commands, 1):
        end = next((event for event in events if event["kind"] == "end"), None)
        length = f"{clock(end['at'])} long" if end else "not ended"
        yield f"command {index}", f"{_moment(events[0].get('time', ''))} on {events[0].get('host')}, {length}"
    seconds = [row["total_sec"] for row in run.rows if row.get("total_sec") is not None]
    if seconds:
        yield "time in trials", f"{clock(sum(seconds))} (h:mm:ss), {number(sum(seconds) / len(seconds), '.1f')} s each"


def _versions(source: Row) -> dict[str, Any]:
    versions = source.get("versions")
    if isinstance(versions, str):
        versions = json.loads(versions)
    return versions if isinstance(versions, dict) else {}


def _moment(time: str) -> str:
    try:
        return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return time


def _files(paths: Paths, links: _Links) -> Iterator[tuple[str, str]]:
    places = {
        "table of trials": paths.trials_table,
        "confirmed settings": paths.confirmed_table,
        "table of runs": paths.runs_table,
        "resolved configuration": paths.resolved_config,
        "log": paths.log_file,
        "events": paths.events,
        "Optuna's journal": paths.journal,
    }
    for name, path in places.items():
        if href := links.to(path):
            yield name, href


def _failures_text(run: RunFiles) -> str:
    num = sum(row["state"] == "FAIL" for row in run.rows)
    if num == 0:
        return ""
    reasons = Counter(str(row.get("reason") or "no reason") for row in run.rows if row["state"] == "FAIL")
    common = ", ".join(f"{count}× {reason}" for reason, count in reasons.most_common(3))
    return f"{num} of {_count(len(run.rows), 'trial')} failed: {common}."


def _failures(run: RunFiles, links: _Links) -> Table:
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
        folder = _trial_dir(row, run.paths)
        result = "" if folder is None else links.to(folder / METRICS_JSON)
        progress = "" if folder is None else links.to(folder / PROGRESS_JSONL)
        cells = (
            Cell(f"{row['pid']}:{row['method']} trial {row['number']}"),
            Cell(str(row.get("reason") or "no reason"), kind="long"),
            Cell(METRICS_JSON if result else "", href=result),
            Cell(PROGRESS_JSONL if progress else "", href=progress),
        )
        rows.append(TableRow(cells))
    columns = (Column("what", "what"), Column("reason", "why"), Column("result", "result"), Column("log", "log"))
    return Table(columns, tuple(rows))


def _timelines(run: RunFiles) -> Iterator[TimelinePart]:
    worked = [events for events in run.commands if any(event["kind"] == "started" for event in events)]
    for events in worked[-MAX_COMMANDS:]:
        spans = spans_of(events)
        caps = events[0].get("caps") or {}
        uses = [use_of(spans, label, cap) for label, cap in caps.items()]
        caption = "; ".join(
            f"{use.label}: {use.busy_fraction:.0%} of {_count(use.cap, 'worker')} busy over {use.seconds:.0f} s"
            for use in uses
            if use.seconds
        )
        title = f"Command of {_moment(events[0].get('time', ''))}"
        yield TimelinePart(title, caption, figures.timeline_figure(events))


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


def _trials_table(run: RunFiles, links: _Links) -> Table:
    best = [best_row(trials) for trials in run.studies.values()]
    rows = sorted(run.rows, key=_by_objective)[:MAX_TABLE_ROWS]
    return Table(
        _TRIAL_COLUMNS,
        tuple(TableRow(_trial_cells(row, run.paths, links), is_best=any(row is one for one in best)) for row in rows),
    )


def _by_objective(row: Row) -> float:
    is_complete = row["state"] == "COMPLETE" and row.get("objective") is not None
    return row["objective"] if is_complete else math.inf


def _trial_cells(row: Row, paths: Paths, links: _Links) -> tuple[Cell, ...]:
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
        words(row.get("run_id") or "", _trial_link(row, paths, links)),
    )


def _trial_dir(row: Row, paths: Paths) -> Path | None:
    rid = row.get("run_id")
    return paths.trial_dir(row["pid"], row["method"], rid) if rid else None


def _trial_link(row: Row, paths: Paths, links: _Links) -> str:
    folder = _trial_dir(row, paths)
    return "" if folder is None else links.to(folder / METRICS_JSON)


_HIDDEN = frozenset({"versions", "git_commit", "pid_worker", "x64", "hyperparameters"})


def _plain_table(rows: Sequence[Row]) -> Table:
    """A table of whatever columns a file has, without those that are empty."""
    names = [
        name for name in rows[0] if name not in _HIDDEN and any(row.get(name) not in (None, "", []) for row in rows)
    ]
    columns = tuple(Column(name, name.replace("_", " "), _is_numeric(row.get(name) for row in rows)) for name in names)
    return Table(columns, tuple(TableRow(tuple(_plain_cell(row.get(name)) for name in names)) for row in rows))


def _is_numeric(values: Iterable[Any]) -> bool:
    known = [value for value in values if value is not None]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)


def _plain_cell(value: Any) -> Cell:
    match value:
        case None:
            return Cell("–")
        case bool():
            return Cell("yes" if value else "no")
        case int():
            return Cell(f"{value:,}", kind="number")
        case float():
            return Cell(number(value), kind="number")
        case datetime():
            return Cell(value.strftime("%Y-%m-%d %H:%M"))
        case _:
            text = str(value)
            return Cell(text, kind="long" if len(text) > 40 else "")
