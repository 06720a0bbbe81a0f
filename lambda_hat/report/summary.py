"""What a run found, on one screen: each problem's reference, and how close every method or sampler came to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lambda_hat.formatting import estimate, number
from lambda_hat.report.analysis import doubts, doubts_of_settings
from lambda_hat.report.tables import laplace_relative_error

__all__ = [
    "FIGURES",
    "all_doubts",
    "all_doubts_of_settings",
    "best_row",
    "counts_text",
    "figures_of",
    "is_closer",
    "laplace_row",
    "preset_text",
    "print_runs",
    "print_summary",
    "reference_facts",
    "settings_text",
    "trials_by_method",
]

MIN_WIDTH = 100  # a terminal that is narrower wraps lines; cutting numbers off would be worse
FIGURES = ("λ̂", "error", "relative", "predicted", "z", "R̂", "k̂")  # of an estimate, as `figures_of` gives them
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "unfinished"}

_ENDS = {"COMPLETE": "has no objective", "PRUNED": "was pruned", "FAIL": "failed", "RUNNING": "has not ended"}

Row = Mapping[str, Any]


def print_summary(
    stream: TextIO,
    rows: Sequence[Row],
    references: Mapping[str, Row],
    places: Mapping[str, Path],
    titles: Mapping[str, str],
    confirmed: Sequence[Row] = (),
) -> None:
    """Print what is known of every problem in `titles` (by id: what it is), then where everything lies.

    `rows` are those of the table of trials, `references` the contents of `ref.json` by problem, `places` paths by name,
    `confirmed` the rows of the table of confirmed settings.
    """

    def print_rows(console: Console, of_problem: Sequence[Row], laplace: Row) -> None:
        _print_studies(console, of_problem, laplace)
        _print_confirmed(console, [row for row in confirmed if row["pid"] == of_problem[0]["pid"]], laplace)

    _print_problems(stream, rows, references, places, titles, print_rows)


def print_runs(
    stream: TextIO,
    rows: Sequence[Row],
    references: Mapping[str, Row],
    places: Mapping[str, Path],
    titles: Mapping[str, str],
) -> None:
    """The same of the table of runs of fixed settings: how far every sampler is from every target's reference."""
    _print_problems(stream, rows, references, places, titles, _print_samplers)


def best_row(rows: Iterable[Row]) -> Row | None:
    """The completed trial with the smallest objective; None where none was completed."""
    complete = [row for row in rows if row["state"] == "COMPLETE" and row.get("objective") is not None]
    return min(complete, key=lambda row: row["objective"], default=None)


def _print_problems(
    stream: TextIO,
    rows: Sequence[Row],
    references: Mapping[str, Row],
    places: Mapping[str, Path],
    titles: Mapping[str, str],
    print_rows: Callable[[Console, Sequence[Row], Row], None],
) -> None:
    console = Console(file=stream, highlight=False)
    console.width = max(MIN_WIDTH, console.width)
    for pid, title in titles.items():
        console.print(Text(f"{pid}  {title}", style="bold"), soft_wrap=True)
        for line in _reference_lines(references.get(pid)):
            console.print(Text("  ").append_text(line), soft_wrap=True)
        if of_problem := [row for row in rows if row["pid"] == pid]:
            print_rows(console, of_problem, laplace_row(references.get(pid) or {}))
        console.print()
    width = max(map(len, places), default=0)
    for name, path in places.items():
        console.print(Text(f"{name:<{width}}  {path}"), soft_wrap=True)


def trials_by_method(rows: Iterable[Row], pid: str) -> dict[str, list[Row]]:
    """The rows of one problem."""
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        if row["pid"] == pid:
            by_method.setdefault(row["method"], []).append(row)
    return by_method


def _print_studies(console: Console, rows: Sequence[Row], laplace: Row) -> None:
    by_method = trials_by_method(rows, rows[0]["pid"])
    best_rows = {method: best_row(trials) for method, trials in by_method.items()}
    console.print(_table("best of", {method: best or {} for method, best in best_rows.items()}, laplace))
    for method, trials in by_method.items():
        best = best_rows[method]
        line = f"  {method}: {counts_text(trials)}{_best_text(best)}{preset_text(trials)}"
        _print_doubted(console, line, [] if best is None else all_doubts(best, laplace))


def preset_text(trials: Iterable[Row]) -> str:
    """What the search gained: both objectives, not their ratio, which a lucky trial makes as large as it likes."""
    trials = list(trials)
    best, presets = best_row(trials), [row for row in trials if row.get("origin") == "preset"]
    if best is None or not presets:
        return ""
    preset = presets[0]
    if preset["state"] != "COMPLETE" or preset.get("objective") is None:
        return f"; the preset {_ENDS[preset['state']]}"
    if best["run_id"] == preset["run_id"]:
        return "; the search found nothing better than the preset"
    return f"; objective {best['objective']:.3g}, the preset's {preset['objective']:.3g}"


def _print_confirmed(console: Console, rows: Iterable[Row], laplace: Row) -> None:
    for row in rows:
        if row["rank"] == 1:
            value = f"{number(row['rmse'], '.3g')} ± {number(row['rmse_se'], '.2g')}"
            line = (
                f"  {row['method']} confirmed: rmse {value} ({number(row['relative_rmse'], '.1%')}), "
                f"{row['num_seeds']} seeds; trial {row['number']} ({row['run_id']}): {settings_text(row)}"
            )
            _print_doubted(console, line, all_doubts_of_settings(row, laplace))


def _print_doubted(console: Console, line: str, found: Iterable[str]) -> None:
    text = Text(line)
    for doubt in found:
        text.append(f"; {doubt}", style="red")
    console.print(text, soft_wrap=True)


def _print_samplers(console: Console, rows: Sequence[Row], laplace: Row) -> None:
    console.print(_table("sampler", {row["sampler"]: row for row in rows}, laplace))
    for row in rows:
        if row["state"] != "COMPLETE":
            reason = f": {row['reason']}" if row.get("reason") else ""
            console.print(Text(f"  {row['sampler']}: {_STATES[row['state']]}{reason}", style="red"), soft_wrap=True)
        elif found := all_doubts(row, laplace):
            console.print(Text(f"  {row['sampler']}: {'; '.join(found)}", style="red"), soft_wrap=True)


def _reference_lines(reference: Row | None) -> list[Text]:
    if reference is None:
        return [Text("reference: none", style="red")]
    is_certified = bool(reference.get("is_certified"))
    verdict = Text("certified", style="green") if is_certified else Text("not certified", style="red")
    value = estimate(reference.get("llc"), reference.get("se"))
    lines = [Text(f"reference λ = {value}  ").append_text(verdict)]
    lines += [Text(f"  because {reason}", style="red") for reason in ([] if is_certified else reference["reasons"])]
    facts = reference_facts(reference)
    return [*lines, Text("  ".join(f"{name} {value}" for name, value in facts.items()))]


def reference_facts(reference: Row) -> dict[str, str]:
    """The posterior of a reference and what it cost."""
    facts = {
        "γ_loc": number(reference.get("localization")),
        "ρ": number(reference.get("radius")) if reference.get("radius") is not None else None,
        "nβ": number(reference.get("nbeta")),
        "gradients": number(reference.get("num_gradient_evaluations"), ",.0f"),
        "seconds": number(reference.get("seconds"), ",.1f"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def laplace_row(reference: Row) -> dict[str, float | None]:
    """The Laplace value as a row of the table: the baseline, which costs one Hessian."""
    relative_error = laplace_relative_error(reference)
    return {
        "llc_hat": reference.get("laplace_llc"),
        "error": None if relative_error is None else relative_error * abs(reference["llc"]),
        "relative_error": relative_error,
    }


def all_doubts(row: Row, laplace: Row) -> list[str]:
    """`doubts`, and whether an estimate is no closer to the reference than the Laplace value."""
    return [*doubts(row), *([] if is_closer(row.get("error"), laplace) else ["no closer than Laplace"])]


def all_doubts_of_settings(row: Row, laplace: Row) -> list[str]:
    """The same of settings that were confirmed."""
    return [*doubts_of_settings(row), *([] if is_closer(row.get("rmse"), laplace) else ["no closer than Laplace"])]


def is_closer(error: float | None, laplace: Row) -> bool:
    """Whether an error is smaller than that of the Laplace value, as far as both are known."""
    baseline = laplace["error"]
    return error is None or baseline is None or abs(error) < abs(baseline)


def figures_of(row: Row, *, is_baseline: bool = False) -> tuple[str, ...]:
    """The `FIGURES` of one estimate; a baseline has no standard error to show."""
    value = number(row.get("llc_hat")) if is_baseline else estimate(row.get("llc_hat"), row.get("se_hat"))
    return (
        value,
        number(row.get("error"), "+.3g"),
        number(row.get("relative_error"), "+.1%"),
        number(row.get("predicted_bias"), "+.1%"),
        number(row.get("z"), "+.1f"),
        number(row.get("rhat"), ".3f"),
        number(row.get("k_hat"), ".2f"),
    )


def _table(header: str, rows: Mapping[str, Row], laplace: Row) -> Table:
    table = Table(f"  {header}", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows.items():
        table.add_row(Text(f"  {name}"), *figures_of(row))
    table.add_row(Text("  Laplace"), *figures_of(laplace, is_baseline=True))
    return table


def counts_text(trials: Iterable[Row]) -> str:
    """`22 complete, 2 pruned`."""
    counts = Counter(row["state"] for row in trials)
    return ", ".join(f"{counts[state]} {word}" for state, word in _STATES.items() if counts[state])


def settings_text(row: Row) -> str:
    """The hyperparameters of a trial: `batch=32, eta0=0.0223502`."""
    params = json.loads(row["hyperparameters"])
    return ", ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def _best_text(best: Row | None) -> str:
    return "" if best is None else f"; best is trial {best['number']} ({best['run_id']}): {settings_text(best)}"
