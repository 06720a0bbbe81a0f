"""A run's results in the form that other programs and papers take: CSV, JSON, LaTeX, and figures as SVG and PDF."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from lambda_hat.artifacts.files import make_dir, write_bytes_atomic
from lambda_hat.errors import UsageError
from lambda_hat.formatting import MISSING, estimate, number
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow
from lambda_hat.report import figures
from lambda_hat.report.analysis import best_trial
from lambda_hat.report.drawing import Picture
from lambda_hat.report.overview import problem_verdict
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.settings_map import settings_maps
from lambda_hat.report.summary import LAPLACE, trials_by_method
from lambda_hat.report.sweep import sweep_figures
from lambda_hat.report.verdict import Estimate, settings_text

__all__ = ["TABLES", "SummaryRow", "summary", "to_csv", "to_json", "to_latex", "write_figures"]


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """What one method, or one sampler, is worth on one problem. Errors are λ̂ − λ; missing values are None."""

    problem: str
    pid: str
    llc_ref: float | None
    se_ref: float | None
    is_certified: bool | None
    localization: float | None
    nbeta: float | None
    num_data: int | None
    dim: int | None
    laplace_llc: float | None
    method: str
    source: str
    """`confirmed`: settings run again under new seeds. `best trial`: it may be the luckiest. `run`: fixed settings."""
    llc_hat: float | None
    """The mean over the runs where confirmed. None of a method without an estimate."""
    se_hat: float | None
    """Of that mean, by how the runs scatter, where confirmed."""
    error: float | None
    """Root mean squared error where confirmed; else that of the one estimate."""
    se_error: float | None
    relative_error: float | None
    rhat: float | None
    """The worst of the runs where confirmed."""
    k_hat: float | None
    num_gradient_evaluations: float | None
    is_good: bool | None
    """Whether nothing speaks against it; None where there is nothing to compare it with either."""
    verdict: str
    settings: str


TABLES: Mapping[str, Callable[[RunFiles], Sequence[Mapping[str, Any]]]] = {
    "summary": lambda run: [asdict(row) for row in summary(run)],
    "trials": lambda run: [row.to_cells() for row in run.rows],
    "confirmed": lambda run: [row.to_cells() for row in run.confirmed],
    "across": lambda run: [row.to_cells() for row in run.across],
    "runs": lambda run: [row.to_cells() for row in run.llc_runs],
}
"""What can be exported of a run, by name."""


def summary(run: RunFiles) -> list[SummaryRow]:
    """A row for every problem and method: confirmed settings where there are any, then best trials, then runs."""
    return [row for pid in run.titles for row in _of_problem(run, pid)]


def _of_problem(run: RunFiles, pid: str) -> Iterator[SummaryRow]:
    reference = run.references.get(pid)
    winners = {row.method: row for row in run.confirmed if row.pid == pid and row.rank == 1}
    best = {method: best_trial(trials) for method, trials in trials_by_method(run.rows, pid).items()}
    runs: dict[str, Estimate] = {row.sampler: row for row in run.llc_runs if row.pid == pid}
    for method in problem_verdict(run, pid).methods:
        common: dict[str, Any] = {
            **_of_reference(run.titles[pid], pid, reference),
            "method": method.name,
            "is_good": method.is_good,
            "verdict": method.words,
        }
        if (confirmed := winners.get(method.name)) is not None:
            yield SummaryRow(**common, **_of_confirmed(confirmed))
        else:
            found = best.get(method.name) or runs.get(method.name)
            source = "best trial" if method.name in best else "run"
            yield SummaryRow(**common, **_of_estimate(found), source=source)


def _of_reference(title: str, pid: str, reference: ReferenceRecord | None) -> dict[str, Any]:
    known = reference or ReferenceRecord(method="", llc=None, se=None, is_certified=False)
    return {
        "problem": title,
        "pid": pid,
        "llc_ref": known.llc,
        "se_ref": known.se,
        "is_certified": known.is_certified if reference else None,
        "localization": known.localization,
        "nbeta": known.nbeta,
        "num_data": known.num_data,
        "dim": known.dim,
        "laplace_llc": known.laplace_llc,
    }


def _of_confirmed(row: ConfirmedRow) -> dict[str, Any]:
    llc_hat, se_hat = _mean_llc(row)
    return {
        "source": "confirmed",
        "llc_hat": llc_hat,
        "se_hat": se_hat,
        "error": row.rmse,
        "se_error": row.rmse_se,
        "relative_error": row.relative_rmse,
        "rhat": row.worst_rhat,
        "k_hat": row.worst_k_hat,
        "num_gradient_evaluations": row.num_gradient_evaluations,
        "settings": settings_text(row.hyperparameters),
    }


def _mean_llc(row: ConfirmedRow) -> tuple[float | None, float | None]:
    """The mean of λ̂ over the runs, and √((rmse² − mean error²) / (n − 1)), its standard error by their scatter."""
    if row.llc_ref is None or row.mean_error is None or row.rmse is None:
        return None, None
    mean, num_runs = row.llc_ref + row.mean_error, row.num_seeds - row.num_failed
    variance = max(0.0, row.rmse**2 - row.mean_error**2)
    return mean, math.sqrt(variance / (num_runs - 1)) if num_runs > 1 else None


def _of_estimate(row: Estimate | None) -> dict[str, Any]:
    return {
        "llc_hat": row and row.llc_hat,
        "se_hat": row and row.se_hat,
        "error": row and row.error,
        "se_error": row and row.se_hat,
        "relative_error": row and row.relative_error,
        "rhat": row and row.rhat,
        "k_hat": row and row.reports.get("k_hat"),
        "num_gradient_evaluations": row and row.num_gradient_evaluations,
        "settings": settings_text(row.hyperparameters) if row else "",
    }


def to_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """A list of objects; times in ISO 8601."""
    return json.dumps(rows, indent=2, ensure_ascii=False, default=_plain) + "\n"


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line of names and one for each row; what is missing is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or [field.name for field in fields(SummaryRow)]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def to_latex(run: RunFiles) -> str:
    r"""The summary as a LaTeX `tabular` by booktabs: a block for every problem, its reference above its methods.

    † marks what something speaks against; the comments below the table say what.
    """
    rows, lines = summary(run), []
    for pid, title in run.titles.items():
        ours = [row for row in rows if row.pid == pid]
        lines += [r"\midrule", rf"\multicolumn{{7}}{{l}}{{{_heading(title, run.references.get(pid))}}} \\"]
        lines += map(_latex_row, ours)
        if (reference := run.references.get(pid)) is not None and reference.laplace_error is not None:
            error, relative = abs(reference.laplace_error), abs(reference.laplace_relative_error or 0.0)
            value = f"${number(reference.laplace_llc)}$"
            lines.append(
                _cells(rf"\quad {LAPLACE}", value, f"${number(error, '.3g')}$", _percent(relative), "", "", "")
            )
    against = [f"% {_latex(row.method)}: {row.verdict}" for row in rows if row.is_good is False]
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}. Where settings are confirmed, estimates are means over runs under new",
            r"% seeds, and errors root mean squares; elsewhere both are of one run.",
            r"\begin{tabular}{lrrrrrr}",
            r"\toprule",
            _cells("method", r"$\hat\lambda$", "error", "relative", r"$\hat R$", r"$\hat k$", "gradients"),
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *against,
            "",
        ]
    )


def _heading(title: str, reference: ReferenceRecord | None) -> str:
    if reference is None or reference.llc is None:
        return f"{_latex(title)}: no reference"
    certified = "certified" if reference.is_certified else "not certified"
    num_data = "" if reference.num_data is None else f", $n = {reference.num_data}$"
    return (
        rf"{_latex(title)}: $\lambda = {_plus_minus(reference.llc, reference.se)}$, {certified} "
        rf"($\gamma = {number(reference.localization)}$, $n\beta = {number(reference.nbeta)}${num_data})"
    )


def _latex_row(row: SummaryRow) -> str:
    mark = "" if row.is_good is not False else r"\textsuperscript{\dag}"
    error = None if row.error is None else abs(row.error)
    relative = None if row.relative_error is None else abs(row.relative_error)
    return _cells(
        rf"\quad {_latex(row.method)}{mark}",
        MISSING if row.llc_hat is None else f"${_plus_minus(row.llc_hat, row.se_hat)}$",
        MISSING if error is None else f"${_plus_minus(error, row.se_error)}$",
        _percent(relative),
        number(row.rhat, ".3f"),
        number(row.k_hat, ".2f"),
        number(row.num_gradient_evaluations, ",.0f"),
    )


def _cells(*texts: str) -> str:
    return " & ".join(text.replace(MISSING, "--") for text in texts) + r" \\"


def _plus_minus(value: float, se: float | None) -> str:
    return estimate(value, se).replace("±", r"\pm").replace(r"\pm ?", "").replace(" exactly", "").strip()


def _percent(value: float | None) -> str:
    return number(value, ".1%").replace("%", r"\%")


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\~^&%$#_{}]", lambda found: special.get(found[0], f"\\{found[0]}"), text)


def write_figures(run: RunFiles, folder: Path, formats: Sequence[str] = ("svg", "pdf")) -> list[Path]:
    """Write the figures of the report into `folder`, each in every format, and say where they lie.

    Raises:
        UsageError: there is nothing to draw yet.
    """
    make_dir(folder)
    written: list[Path] = []
    for name, picture in _pictures(run):
        for kind in formats:
            written.append(folder / f"{name}.{kind}")
            write_bytes_atomic(written[-1], picture.file(kind))
            picture.figure.set_layout_engine("none")  # it is laid out by now, and that takes a third of the time
    if not written:
        raise UsageError(f"There are no figures yet: nothing has ended in {run.paths.root}.")
    return written


def _pictures(run: RunFiles) -> Iterator[tuple[str, Picture]]:
    """Names that are good for files, and figures."""
    for pid in run.titles:
        by_method, where = trials_by_method(run.rows, pid), f"-{pid}" if len(run.titles) > 1 else ""
        reference = run.references.get(pid)
        winners = {row.method: row for row in run.confirmed if row.pid == pid and row.rank == 1}
        yield from _there(f"estimates{where}", figures.estimates_figure(by_method, reference, winners))
        yield from _there(f"cost{where}", figures.cost_figure(by_method, reference))
        if reference is not None:
            yield from _there(f"certificate{where}", figures.certificate_figure(reference))
    for (pid, method), trials in run.studies.items():
        where = f"{method}-{pid}" if len(run.titles) > 1 else method
        space, reference = run.search_space(method), run.references.get(pid)
        yield from _there(f"history-{where}", figures.history_figure(trials, run.objective, reference))
        yield from _there(f"importances-{where}", figures.importances_figure(trials))
        yield from _there(f"parallel-{where}", figures.parallel_figure(trials, space))
        yield from _there(f"slices-{where}", figures.slices_figure(trials, space, run.objective))
    for index, item in enumerate(settings_maps(run)):
        yield f"map-{index}-{item.title.partition(' ')[0]}", item.figure
    for index, picture in enumerate(sweep_figures(run)):
        yield f"sweep-{index}", picture


def _there(name: str, picture: Picture | None) -> Iterator[tuple[str, Picture]]:
    if picture is not None:
        yield name, picture
