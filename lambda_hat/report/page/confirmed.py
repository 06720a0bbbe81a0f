"""The settings that were confirmed: how far off they are on fresh seeds, and which figures speak against them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lambda_hat.draws.criteria import MAX_K_HAT, MAX_RHAT_APPROXIMATE
from lambda_hat.formatting import estimate
from lambda_hat.records.rows import ConfirmedRow
from lambda_hat.report.analysis import MAX_Z, exceeds
from lambda_hat.report.page.table import Cell, Links, Table, TableRow, cells_of, column_of
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import is_closer

__all__ = ["confirmed_table"]

_SHOWN = (
    "pid",
    "method",
    "number",
    "rmse",
    "relative_rmse",
    "rms_z",
    "worst_rhat",
    "worst_k_hat",
    "num_failed",
    "num_gradient_evaluations",
    "hyperparameters",
)
_COLUMNS = tuple(ConfirmedRow.columns()[name] for name in _SHOWN)


def confirmed_table(run: RunFiles, links: Links) -> Table | None:
    """One row per confirmed setting, the best of each study first; None where there is none."""
    if not run.confirmed:
        return None
    shown = slice(1 if len(run.titles) == 1 else 0, None)  # one problem need not be named in every row
    rows = [TableRow(tuple(_cells(row, run, links))[shown], is_best=row.rank == 1) for row in run.confirmed]
    return Table(tuple(map(column_of, _COLUMNS[shown])), tuple(rows))


def _cells(row: ConfirmedRow, run: RunFiles, links: Links) -> Iterator[Cell]:
    is_worse = not is_closer(row.rmse, run.references.get(row.pid))
    speaks_against = {
        "rmse": is_worse,
        "relative_rmse": is_worse,
        "rms_z": exceeds(row.rms_z, MAX_Z),
        "worst_rhat": exceeds(row.worst_rhat, MAX_RHAT_APPROXIMATE),
        "worst_k_hat": exceeds(row.worst_k_hat, MAX_K_HAT),
        "num_failed": row.num_failed > 0,
    }
    texts = {"rmse": estimate(row.rmse, row.rmse_se), "num_failed": f"{row.num_failed} of {row.num_seeds}"}
    for name, cell in cells_of(row, _COLUMNS).items():
        yield replace(
            cell,
            text=texts.get(name, cell.text),
            kind="number bad" if speaks_against.get(name) else cell.kind,
            href=links.to_trial(row) if name == "number" else "",
        )
