"""What a run found, on one screen: each problem's reference, and the best that every method came up with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lambda_hat.numbers import estimate, number
from lambda_hat.report.tables import laplace_relative_error

__all__ = [
    "FIGURES",
    "best_row",
    "counts_text",
    "figures_of",
    "is_no_closer",
    "laplace_row",
    "print_summary",
    "reference_facts",
    "settings_text",
    "trials_by_method",
]

MIN_WIDTH = 100  # a terminal that is narrower wraps lines; cutting numbers off would be worse
FIGURES = ("λ̂", "error", "relative", "predicted", "z", "R̂", "k̂")  # of an estimate, as `figures_of` gives them
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "unfinished"}


def print_summary(
    stream: TextIO,
    rows: Sequence[Mapping[str, Any]],
    references: Mapping[str, Mapping[str, Any]],
    places: Mapping[str, Path],
    titles: Mapping[str, str],
) -> None:
    """Print what is known of every problem in `titles` (by id: what it is), then where everything lies.

    `rows` are those of the table of trials, `references` the contents of `ref.json` by problem, `places` paths by name.
    """
    console = Console(file=stream, highlight=False)
    console.width = max(MIN_WIDTH, console.width)
    for pid, title in titles.items():
        console.print(Text(f"{pid}  {title}", style="bold"), soft_wrap=True)
        for line in _reference_lines(references.get(pid)):
            console.print(Text("  ").append_text(line), soft_wrap=True)
        by_method = trials_by_method(rows, pid)
        laplace = laplace_row(references.get(pid) or {})
        if by_method:
            console.print(_table(by_method, laplace))
        for method, trials in by_method.items():
            best = best_row(trials)
            line = Text(f"  {method}: {counts_text(trials)}{_best_text(best)}")
            if best is not None and is_no_closer(best, laplace):
                line.append("; no closer than Laplace", style="red")
            console.print(line, soft_wrap=True)
        console.print()
    width = max(map(len, places), default=0)
    for name, path in places.items():
        console.print(Text(f"{name:<{width}}  {path}"), soft_wrap=True)


def trials_by_method(rows: Iterable[Mapping[str, Any]], pid: str) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of one problem."""
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["pid"] == pid:
            by_method.setdefault(row["method"], []).append(row)
    return by_method


def best_row(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The completed trial with the smallest objective; None where none was completed."""
    complete = [row for row in rows if row["state"] == "COMPLETE" and row.get("objective") is not None]
    return min(complete, key=lambda row: row["objective"], default=None)


def _reference_lines(reference: Mapping[str, Any] | None) -> list[Text]:
    if reference is None:
        return [Text("reference: none", style="red")]
    is_certified = bool(reference.get("is_certified"))
    verdict = Text("certified", style="green") if is_certified else Text("not certified", style="red")
    value = estimate(reference.get("llc"), reference.get("se"))
    lines = [Text(f"reference λ = {value}  ").append_text(verdict)]
    lines += [Text(f"  because {reason}", style="red") for reason in ([] if is_certified else reference["reasons"])]
    facts = reference_facts(reference)
    return [*lines, Text("  ".join(f"{name} {value}" for name, value in facts.items()))]


def reference_facts(reference: Mapping[str, Any]) -> dict[str, str]:
    """The posterior of a reference and what it cost."""
    facts = {
        "γ_loc": number(reference.get("localization")),
        "ρ": number(reference.get("radius")) if reference.get("radius") is not None else None,
        "nβ": number(reference.get("nbeta")),
        "gradients": number(reference.get("num_gradient_evaluations"), ",.0f"),
        "seconds": number(reference.get("seconds"), ",.1f"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def laplace_row(reference: Mapping[str, Any]) -> dict[str, float | None]:
    """The Laplace value as a row of the table: the baseline, which costs one Hessian."""
    relative_error = laplace_relative_error(reference)
    return {
        "llc_hat": reference.get("laplace_llc"),
        "error": None if relative_error is None else relative_error * abs(reference["llc"]),
        "relative_error": relative_error,
    }


def is_no_closer(best: Mapping[str, Any], laplace: Mapping[str, float | None]) -> bool:
    """Whether an estimate is no closer to the reference than the Laplace value."""
    error, baseline = best.get("error"), laplace["error"]
    return error is not None and baseline is not None and abs(error) >= abs(baseline)


def figures_of(row: Mapping[str, Any], *, is_baseline: bool = False) -> tuple[str, ...]:
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


def _table(by_method: Mapping[str, Sequence[Mapping[str, Any]]], laplace: Mapping[str, float | None]) -> Table:
    table = Table("  best of", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in FIGURES:
        table.add_column(header, justify="right", no_wrap=True)
    for method, trials in by_method.items():
        table.add_row(Text(f"  {method}"), *figures_of(best_row(trials) or {}))
    table.add_row(Text("  Laplace"), *figures_of(laplace, is_baseline=True))
    return table


def counts_text(trials: Iterable[Mapping[str, Any]]) -> str:
    """`22 complete, 2 pruned`."""
    counts = Counter(row["state"] for row in trials)
    return ", ".join(f"{counts[state]} {word}" for state, word in _STATES.items() if counts[state])


def settings_text(row: Mapping[str, Any]) -> str:
    """The hyperparameters of a trial: `batch=32, eta0=0.0223502`."""
    params = json.loads(row["hyperparameters"])
    return ", ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
    )


def _best_text(best: Mapping[str, Any] | None) -> str:
    return "" if best is None else f"; best is trial {best['number']} ({best['run_id']}): {settings_text(best)}"
