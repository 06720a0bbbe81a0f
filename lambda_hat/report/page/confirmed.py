"""The settings that were confirmed: how far off they are on fresh seeds, and which figures speak against them."""

from __future__ import annotations

from lambda_hat.estimate.criteria import MAX_K_HAT, MAX_RHAT_APPROXIMATE
from lambda_hat.formatting import estimate, number
from lambda_hat.report.analysis import MAX_Z, exceeds
from lambda_hat.report.page.table import Cell, Column, Links, Row, Table, TableRow
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import is_closer, laplace_row, settings_text

__all__ = ["confirmed_table"]

_COLUMNS = (
    Column("pid", "problem"),
    Column("method", "method"),
    Column("number", "trial", is_number=True),
    Column("rmse", "rmse", is_number=True),
    Column("relative_rmse", "relative rmse", is_number=True),
    Column("rms_z", "rms z", is_number=True),
    Column("worst_rhat", "worst R̂", is_number=True),
    Column("worst_k_hat", "worst k̂", is_number=True),
    Column("num_failed", "failed", is_number=True),
    Column("num_gradient_evaluations", "gradients", is_number=True),
    Column("settings", "settings"),
)


def confirmed_table(run: RunFiles, links: Links) -> Table | None:
    """One row per confirmed setting, the best of each study first; None where there is none."""
    if not run.confirmed:
        return None
    shown = slice(1 if len(run.titles) == 1 else 0, None)  # one problem need not be named in every row
    rows = [TableRow(_cells(row, run, links)[shown], is_best=row.get("rank") == 1) for row in run.confirmed]
    return Table(_COLUMNS[shown], tuple(rows))


def _cells(row: Row, run: RunFiles, links: Links) -> tuple[Cell, ...]:
    trial = row.get("number")
    rmse_is_worse = not is_closer(row.get("rmse"), laplace_row(run.references.get(row["pid"]) or {}))
    return (
        Cell(row["pid"]),
        Cell(row["method"]),
        Cell("–" if trial is None else str(trial), kind="number", href=links.to_trial(row)),
        _figure(estimate(row.get("rmse"), row.get("rmse_se")), is_bad=rmse_is_worse),
        _figure(number(row.get("relative_rmse"), ".1%"), is_bad=rmse_is_worse),
        _figure(number(row.get("rms_z"), ".1f"), is_bad=exceeds(row.get("rms_z"), MAX_Z)),
        _figure(number(row.get("worst_rhat"), ".3f"), is_bad=exceeds(row.get("worst_rhat"), MAX_RHAT_APPROXIMATE)),
        _figure(number(row.get("worst_k_hat"), ".2f"), is_bad=exceeds(row.get("worst_k_hat"), MAX_K_HAT)),
        _figure(f"{row.get('num_failed') or 0} of {row.get('num_seeds')}", is_bad=bool(row.get("num_failed"))),
        _figure(number(row.get("num_gradient_evaluations"), ",.0f")),
        Cell(settings_text(row), kind="long"),
    )


def _figure(text: str, *, is_bad: bool = False) -> Cell:
    return Cell(text, kind="number bad" if is_bad else "number")
