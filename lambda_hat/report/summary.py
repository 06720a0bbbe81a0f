"""What a run found, on one screen: what to cite of each problem, and what every method or sampler is worth on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lambda_hat.formatting import estimate, number
from lambda_hat.records.columns import NamedColumn
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow, OutcomeRow, RunRow, TrialRow
from lambda_hat.records.state import State
from lambda_hat.report.analysis import best_trial, score
from lambda_hat.report.verdict import Estimate, ProblemVerdict, citation, judge_problem, settings_text

__all__ = [
    "CONFIRMED",
    "FIGURES",
    "LAPLACE",
    "UNBOUNDED",
    "best_estimate",
    "best_estimates",
    "best_text",
    "confirmed_cells",
    "confirmed_lines",
    "counts_text",
    "estimate_lines",
    "figures_of",
    "preset_text",
    "print_runs",
    "print_summary",
    "reference_facts",
    "trials_by_method",
]

_WIDE = 100  # columns that tables take; in a narrower terminal their headings break, and cells stand closer
UNBOUNDED = 10_000  # columns of what is no terminal: nothing is cut there
_LEAST = 72  # columns, below which the terminal itself breaks lines: cutting numbers off would be worse

_COLUMNS = OutcomeRow.columns()
FIGURES = tuple(  # that say how good an estimate is
    _COLUMNS[name] for name in ("llc_hat", "error", "relative_error", "predicted_bias", "z", "rhat", "k_hat")
)
_OF_CONFIRMED = ConfirmedRow.columns()
CONFIRMED = tuple(  # that say how good confirmed settings are
    _OF_CONFIRMED[name]
    for name in (
        "rmse", "relative_rmse", "rms_z", "worst_rhat", "worst_k_hat", "num_failed", "num_gradient_evaluations",
    )
)  # fmt: skip
LAPLACE = "Laplace"

_COUNTED = (State.COMPLETE, State.PRUNED, State.FAIL, State.RUNNING)
_HOW_IT_ENDED = {
    State.COMPLETE: "has no objective",
    State.PRUNED: "was pruned",
    State.FAIL: "failed",
    State.RUNNING: "has not ended",
    State.WAITING: "has not begun",
}

Cells = tuple[str, ...]
R = TypeVar("R", TrialRow, RunRow)


def print_summary(
    stream: TextIO,
    rows: Sequence[TrialRow],
    references: Mapping[str, ReferenceRecord],
    places: Mapping[str, Path],
    titles: Mapping[str, str],
    confirmed: Sequence[ConfirmedRow] = (),
    why_none: Mapping[str, str] | None = None,
) -> None:
    """Print what is known of every problem in `titles` (by id: what it is), then where everything lies.

    `references` are by problem, `places` paths by name. `why_none` says, by problem, why there is no reference.
    """

    def print_rows(console: Console, trials: Sequence[TrialRow], reference: ReferenceRecord | None) -> None:
        _print_studies(console, trials, reference, [row for row in confirmed if row.pid == trials[0].pid])

    _print_problems(stream, rows, references, places, titles, print_rows, why_none)


def print_runs(
    stream: TextIO,
    rows: Sequence[RunRow],
    references: Mapping[str, ReferenceRecord],
    places: Mapping[str, Path],
    titles: Mapping[str, str],
    why_none: Mapping[str, str] | None = None,
) -> None:
    """Print how far every run of fixed settings is from its target's reference; the arguments of `print_summary`."""
    _print_problems(stream, rows, references, places, titles, _print_samplers, why_none)


def _print_problems(
    stream: TextIO,
    rows: Sequence[R],
    references: Mapping[str, ReferenceRecord],
    places: Mapping[str, Path],
    titles: Mapping[str, str],
    print_rows: Callable[[Console, Sequence[R], ReferenceRecord | None], None],
    why_none: Mapping[str, str] | None,
) -> None:
    console = Console(file=stream, highlight=False)
    console.width = max(_LEAST, console.width) if console.is_terminal else UNBOUNDED
    for pid, title in titles.items():
        _print_text(console, Text(title, style="bold").append(f"  {pid}", style="not bold dim"), indent=0)
        for line in _reference_lines(references.get(pid), (why_none or {}).get(pid)):
            _print_text(console, line)
        if of_problem := [row for row in rows if row.pid == pid]:
            print_rows(console, of_problem, references.get(pid))
        console.print()
    width = max(map(len, places), default=0)
    for name, path in places.items():
        console.print(Text(f"{name:<{width}}  {path}"), soft_wrap=True)


def _print_text(console: Console, text: Text, indent: int = 2) -> None:
    """A line; in a terminal it is broken at words, and goes on further to the right. A file gets it whole."""
    begin, goes_on = " " * indent, " " * (indent + 4)
    if not console.is_terminal:
        console.print(Text(begin).append_text(text), soft_wrap=True)
        return
    for number_of_line, line in enumerate(text.wrap(console, console.width - len(goes_on))):
        console.print(Text(goes_on if number_of_line else begin).append_text(line), soft_wrap=True)


def trials_by_method(rows: Iterable[TrialRow], pid: str) -> dict[str, list[TrialRow]]:
    """The trials of one problem."""
    by_method: dict[str, list[TrialRow]] = {}
    for row in rows:
        if row.pid == pid:
            by_method.setdefault(row.method, []).append(row)
    return by_method


def _print_studies(
    console: Console, trials: Sequence[TrialRow], reference: ReferenceRecord | None, confirmed: Sequence[ConfirmedRow]
) -> None:
    by_method = trials_by_method(trials, trials[0].pid)
    winners = [row for row in confirmed if row.rank == 1]
    verdict = judge_problem(reference, best_estimates(by_method), confirmed)
    if winners:
        console.print(_table(console, "confirmed", CONFIRMED, confirmed_lines(winners, reference)))
    _print_verdict(console, verdict)
    console.print(_table(console, "best trial of", FIGURES, estimate_lines(by_method, reference)))
    for method, of_method in by_method.items():
        line = f"{method}: {counts_text(of_method)}{best_text(best_trial(of_method))}{preset_text(of_method)}"
        _print_text(console, Text(line))


def _print_verdict(console: Console, verdict: ProblemVerdict) -> None:
    for words in verdict.recommendation:
        _print_text(console, Text(words))
    for method in verdict.methods:
        of_winner = f" Settings: {method.settings}." if method.settings else ""
        _print_text(console, Text(f"{method.sentence}{of_winner}", style="red" if method.is_good is False else ""))


def best_estimates(by_method: Mapping[str, Sequence[TrialRow]]) -> dict[str, Estimate | str]:
    """The best trial of every method; how its trials ended where none was completed."""
    return {method: best_trial(trials) or counts_text(trials) for method, trials in by_method.items()}


def preset_text(trials: Iterable[TrialRow]) -> str:
    """What the search gained: both objectives, not their ratio, which a lucky trial makes as large as it likes."""
    trials = list(trials)
    presets = [trial for trial in trials if trial.origin == "preset"]  # more than one where it was short of time
    best, preset = best_trial(trials), max(presets, key=lambda trial: trial.number, default=None)
    if best is None or preset is None:
        return ""
    if score(preset) == math.inf:
        return f"; the preset {_HOW_IT_ENDED[preset.state]}"
    if best.run_id == preset.run_id:
        return "; the search found nothing better than the preset"
    gates = ", which breaks a gate" if preset.violation and not best.violation else ""
    return f"; objective {score(best):.3g}, the preset's {score(preset):.3g}{gates}"


def _print_samplers(console: Console, rows: Sequence[RunRow], reference: ReferenceRecord | None) -> None:
    runs = {row.sampler: row for row in rows}
    lines = estimate_lines({name: [row] for name, row in runs.items()}, reference)
    console.print(_table(console, "sampler", FIGURES, lines))
    _print_verdict(console, judge_problem(reference, runs))


def _reference_lines(reference: ReferenceRecord | None, why_none: str | None) -> list[Text]:
    if reference is None:
        return [Text("reference: none", style="red"), Text(citation(None, why_none), style="red")]
    if not reference.is_asked_for:
        return _lines_without_reference(reference)
    is_certified = reference.is_certified
    verdict = Text("certified", style="green") if is_certified else Text("not certified", style="red")
    value = estimate(reference.llc, reference.se)
    lines = [Text(f"reference λ = {value}  ").append_text(verdict)]
    lines += [Text(f"  because {reason}", style="red") for reason in (() if is_certified else reference.reasons)]
    facts = reference_facts(reference)
    lines.append(Text("  ".join(f"{name} {value}" for name, value in facts.items())))
    return [*lines, Text(citation(reference), style="" if is_certified else "red")]


def _lines_without_reference(reference: ReferenceRecord) -> list[Text]:
    """What is known of a point where nobody asked for a reference, and whether it is a minimum at all."""
    facts = {
        "loss at w0": number(reference.loss_at_w0),
        "Laplace": number(reference.laplace_llc),
        "decrease still available": number(reference.decrease_available, ".2g"),
        **reference_facts(reference),
    }
    lines = [Text("no reference was asked for"), Text("  ".join(f"{name} {value}" for name, value in facts.items()))]
    if RunRow.of_reference(reference, reference.laplace_llc)["is_minimum"] is False:
        lines.append(Text("w0 is no minimum: no number here is a local learning coefficient", style="red"))
    return lines


def reference_facts(reference: ReferenceRecord) -> dict[str, str]:
    """The posterior of a reference and what it cost."""
    facts = {"γ_loc": number(reference.localization)}
    if reference.radius is not None:
        facts["ρ"] = number(reference.radius)
    return facts | {
        "nβ": number(reference.nbeta),
        "gradients": number(reference.num_gradient_evaluations, ",.0f"),
        "seconds": number(reference.seconds, ",.1f"),
    }


def figures_of(row: OutcomeRow | None) -> tuple[str, ...]:
    """The `FIGURES` of one estimate as text; dashes where there is none."""
    if row is None:
        return _texts({})
    return _texts(row.to_cells(), llc_hat=estimate(row.llc_hat, row.se_hat))


def estimate_lines(rows: Mapping[str, Sequence[Estimate]], reference: ReferenceRecord | None) -> dict[str, Cells]:
    """The `FIGURES` of the best of every method's trials, or of a sampler's run, by name; those of Laplace last.

    The Laplace value is the baseline, which costs one Hessian and has no standard error to show.
    """
    lines = {name: figures_of(best_estimate(of_name)) for name, of_name in rows.items()}
    if reference is None:
        return lines | {LAPLACE: _texts({})}
    error, relative_error = reference.laplace_error, reference.laplace_relative_error
    laplace = {"llc_hat": reference.laplace_llc, "error": error, "relative_error": relative_error}
    return lines | {LAPLACE: _texts(laplace)}


def confirmed_lines(winners: Iterable[ConfirmedRow], reference: ReferenceRecord | None) -> dict[str, Cells]:
    """The columns `CONFIRMED` of the best settings of every method, by name; those of Laplace last."""
    lines = {row.method: tuple(confirmed_cells(row)[column.name] for column in CONFIRMED) for row in winners}
    known = (
        {}
        if reference is None
        else {"rmse": reference.laplace_error, "relative_rmse": reference.laplace_relative_error}
    )
    laplace = tuple(column.text(value and abs(value)) for column in CONFIRMED for value in [known.get(column.name)])
    return lines | {LAPLACE: laplace}


def confirmed_cells(row: ConfirmedRow) -> dict[str, str]:
    """The numbers of confirmed settings as people read them, by column."""
    cells = row.to_cells()
    texts = {column.name: column.text(cells[column.name]) for column in CONFIRMED}
    return texts | {"rmse": estimate(row.rmse, row.rmse_se), "num_failed": f"{row.num_failed} of {row.num_seeds}"}


def best_estimate(rows: Iterable[Estimate]) -> Estimate | None:
    """The best of a method's trials, or the run of a sampler."""
    rows = list(rows)
    trials = [row for row in rows if isinstance(row, TrialRow)]
    return best_trial(trials) if trials else next(iter(rows), None)


def _texts(cells: Mapping[str, float | None], **known: str) -> Cells:
    return tuple(known.get(column.name) or column.text(cells.get(column.name)) for column in FIGURES)


def _table(console: Console, header: str, columns: Sequence[NamedColumn], rows: Mapping[str, Cells]) -> Table:
    is_narrow = console.width < _WIDE
    table = Table(f"  {header}", box=None, pad_edge=False, padding=(0, 1 if is_narrow else 2, 0, 0))
    for column in columns:
        title = column.title.replace(" ", "\n") if is_narrow else column.title
        table.add_column(title, justify="right", no_wrap=True)
    for name, cells in rows.items():
        table.add_row(Text(f"  {name}"), *cells)
    return table


def counts_text(trials: Iterable[Estimate]) -> str:
    """`22 complete, 2 pruned`."""
    counts = Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {state.word}" for state in _COUNTED if counts[state])


def best_text(best: TrialRow | None) -> str:
    """Which trial is the best, and its settings."""
    if best is None:
        return ""
    settings = f": {settings_text(best.hyperparameters)}" if best.hyperparameters else ""
    return f"; best is trial {best.number} ({best.run_id}){settings}"
