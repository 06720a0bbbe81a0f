"""What a run found, on one screen: each problem's reference, and how close every method or sampler came to it."""

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
from lambda_hat.records.base import Value
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow, OutcomeRow, RunRow, TrialRow, Verdict
from lambda_hat.records.state import State
from lambda_hat.report.analysis import best_trial, doubts, doubts_of_settings, score

__all__ = [
    "FIGURES",
    "all_doubts",
    "all_doubts_of_settings",
    "counts_text",
    "figures_of",
    "is_closer",
    "laplace_figures",
    "preset_text",
    "print_runs",
    "print_summary",
    "reference_facts",
    "settings_text",
    "trials_by_method",
]

MIN_WIDTH = 100  # a terminal that is narrower wraps lines; cutting numbers off would be worse

_COLUMNS = OutcomeRow.columns()
FIGURES = tuple(  # that say how good an estimate is
    _COLUMNS[name] for name in ("llc_hat", "error", "relative_error", "predicted_bias", "z", "rhat", "k_hat")
)

_COUNTED = (State.COMPLETE, State.PRUNED, State.FAIL, State.RUNNING)
_HOW_IT_ENDED = {
    State.COMPLETE: "has no objective",
    State.PRUNED: "was pruned",
    State.FAIL: "failed",
    State.RUNNING: "has not ended",
    State.WAITING: "has not begun",
}

R = TypeVar("R", TrialRow, RunRow)


def print_summary(
    stream: TextIO,
    rows: Sequence[TrialRow],
    references: Mapping[str, ReferenceRecord],
    places: Mapping[str, Path],
    titles: Mapping[str, str],
    confirmed: Sequence[ConfirmedRow] = (),
) -> None:
    """Print what is known of every problem in `titles` (by id: what it is), then where everything lies.

    `references` are by problem, `places` paths by name.
    """

    def print_rows(console: Console, trials: Sequence[TrialRow], reference: ReferenceRecord | None) -> None:
        _print_studies(console, trials, reference)
        _print_confirmed(console, [row for row in confirmed if row.pid == trials[0].pid], reference)

    _print_problems(stream, rows, references, places, titles, print_rows)


def print_runs(
    stream: TextIO,
    rows: Sequence[RunRow],
    references: Mapping[str, ReferenceRecord],
    places: Mapping[str, Path],
    titles: Mapping[str, str],
) -> None:
    """Print how far every run of fixed settings is from its target's reference; the arguments of `print_summary`."""
    _print_problems(stream, rows, references, places, titles, _print_samplers)


def _print_problems(
    stream: TextIO,
    rows: Sequence[R],
    references: Mapping[str, ReferenceRecord],
    places: Mapping[str, Path],
    titles: Mapping[str, str],
    print_rows: Callable[[Console, Sequence[R], ReferenceRecord | None], None],
) -> None:
    console = Console(file=stream, highlight=False)
    console.width = max(MIN_WIDTH, console.width)
    for pid, title in titles.items():
        console.print(Text(f"{pid}  {title}", style="bold"), soft_wrap=True)
        for line in _reference_lines(references.get(pid)):
            console.print(Text("  ").append_text(line), soft_wrap=True)
        if of_problem := [row for row in rows if row.pid == pid]:
            print_rows(console, of_problem, references.get(pid))
        console.print()
    width = max(map(len, places), default=0)
    for name, path in places.items():
        console.print(Text(f"{name:<{width}}  {path}"), soft_wrap=True)


def trials_by_method(rows: Iterable[TrialRow], pid: str) -> dict[str, list[TrialRow]]:
    """The trials of one problem."""
    by_method: dict[str, list[TrialRow]] = {}
    for row in rows:
        if row.pid == pid:
            by_method.setdefault(row.method, []).append(row)
    return by_method


def _print_studies(console: Console, trials: Sequence[TrialRow], reference: ReferenceRecord | None) -> None:
    by_method = trials_by_method(trials, trials[0].pid)
    best = {method: best_trial(of_method) for method, of_method in by_method.items()}
    console.print(_table("best of", best, reference))
    for method, of_method in by_method.items():
        line = f"  {method}: {counts_text(of_method)}{_best_text(best[method])}{preset_text(of_method)}"
        found = best[method]
        _print_doubted(console, line, [] if found is None else all_doubts(found, reference))


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
    return f"; objective {score(best):.3g}, the preset's {score(preset):.3g}"


def _print_confirmed(console: Console, rows: Iterable[ConfirmedRow], reference: ReferenceRecord | None) -> None:
    for row in rows:
        if row.rank == 1:
            value = f"{number(row.rmse, '.3g')} ± {number(row.rmse_se, '.2g')}"
            line = (
                f"  {row.method} confirmed: rmse {value} ({number(row.relative_rmse, '.1%')}), "
                f"{row.num_seeds} seeds; trial {row.number} ({row.run_id}): {settings_text(row.hyperparameters)}"
            )
            _print_doubted(console, line, all_doubts_of_settings(row, reference))


def _print_doubted(console: Console, line: str, found: Iterable[str]) -> None:
    text = Text(line)
    for doubt in found:
        text.append(f"; {doubt}", style="red")
    console.print(text, soft_wrap=True)


def _print_samplers(console: Console, rows: Sequence[RunRow], reference: ReferenceRecord | None) -> None:
    console.print(_table("sampler", {row.sampler: row for row in rows}, reference))
    for row in rows:
        if row.state is not State.COMPLETE:
            reason = f": {row.reason}" if row.reason else ""
            console.print(Text(f"  {row.sampler}: {row.state.word}{reason}", style="red"), soft_wrap=True)
        elif found := all_doubts(row, reference):
            console.print(Text(f"  {row.sampler}: {'; '.join(found)}", style="red"), soft_wrap=True)


def _reference_lines(reference: ReferenceRecord | None) -> list[Text]:
    if reference is None:
        return [Text("reference: none", style="red")]
    is_certified = reference.is_certified
    verdict = Text("certified", style="green") if is_certified else Text("not certified", style="red")
    value = estimate(reference.llc, reference.se)
    lines = [Text(f"reference λ = {value}  ").append_text(verdict)]
    lines += [Text(f"  because {reason}", style="red") for reason in (() if is_certified else reference.reasons)]
    facts = reference_facts(reference)
    return [*lines, Text("  ".join(f"{name} {value}" for name, value in facts.items()))]


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


def all_doubts(row: OutcomeRow, reference: ReferenceRecord | None) -> list[str]:
    """`doubts`, and whether an estimate is no closer to the reference than the Laplace value."""
    return [*doubts(row), *([] if is_closer(row.error, reference) else ["no closer than Laplace"])]


def all_doubts_of_settings(row: Verdict, reference: ReferenceRecord | None) -> list[str]:
    """`doubts_of_settings`, and whether confirmed settings come no closer to the reference than the Laplace value."""
    return [*doubts_of_settings(row), *([] if is_closer(row.rmse, reference) else ["no closer than Laplace"])]


def is_closer(error: float | None, reference: ReferenceRecord | None) -> bool:
    """Whether an error is smaller than that of the reference's Laplace value, as far as both are known."""
    baseline = None if reference is None else reference.laplace_error
    return error is None or baseline is None or abs(error) < abs(baseline)


def figures_of(row: OutcomeRow | None) -> tuple[str, ...]:
    """The `FIGURES` of one estimate as text; dashes where there is none."""
    if row is None:
        return _texts({})
    return _texts(row.to_cells(), llc_hat=estimate(row.llc_hat, row.se_hat))


def laplace_figures(reference: ReferenceRecord | None) -> tuple[str, ...]:
    """The `FIGURES` of the Laplace value: the baseline, which costs one Hessian and has no standard error to show."""
    if reference is None:
        return _texts({})
    error, relative_error = reference.laplace_error, reference.laplace_relative_error
    return _texts({"llc_hat": reference.laplace_llc, "error": error, "relative_error": relative_error})


def _texts(cells: Mapping[str, float | None], **known: str) -> tuple[str, ...]:
    return tuple(known.get(column.name) or number(cells.get(column.name), column.spec) for column in FIGURES)


def _table(header: str, rows: Mapping[str, OutcomeRow | None], reference: ReferenceRecord | None) -> Table:
    table = Table(f"  {header}", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in FIGURES:
        table.add_column(column.title, justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(Text(f"  {name}"), *figures_of(row))
    table.add_row(Text("  Laplace"), *laplace_figures(reference))
    return table


def counts_text(trials: Iterable[TrialRow]) -> str:
    """`22 complete, 2 pruned`."""
    counts = Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {state.word}" for state in _COUNTED if counts[state])


def settings_text(hyperparameters: Mapping[str, Value]) -> str:
    """Hyperparameters by name: `batch=32, eta0=0.0223502`."""
    return ", ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in sorted(hyperparameters.items())
    )


def _best_text(best: TrialRow | None) -> str:
    if best is None:
        return ""
    return f"; best is trial {best.number} ({best.run_id}): {settings_text(best.hyperparameters)}"
