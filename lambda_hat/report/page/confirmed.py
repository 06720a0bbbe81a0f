"""The settings that were confirmed: how far off they are on fresh seeds, and which figures speak against them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow
from lambda_hat.report.analysis import exceeds
from lambda_hat.report.page.table import Cell, Links, Table, TableRow, cells_of, column_of
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import CONFIRMED, FIGURES, confirmed_cells
from lambda_hat.report.verdict import Estimate, is_closer

__all__ = ["confirmed_table", "speaks_against"]

_KNOWN = ConfirmedRow.columns()
_COLUMNS = (*(_KNOWN[name] for name in ("pid", "method", "rank", "number")), *CONFIRMED, _KNOWN["hyperparameters"])


def confirmed_table(run: RunFiles, links: Links) -> Table | None:
    """One row per confirmed setting, the best of each study first; None where there is none."""
    if not run.confirmed:
        return None
    shown = slice(1 if len(run.titles) == 1 else 0, None)  # one problem need not be named in every row
    rows = [
        TableRow(
            tuple(_cells(row, run, links))[shown],
            is_best=row.rank == 1 and not speaks_against(row, run.references.get(row.pid)),
        )
        for row in run.confirmed
    ]
    return Table(tuple(map(column_of, _COLUMNS[shown])), tuple(rows))


def speaks_against(row: ConfirmedRow | Estimate, reference: ReferenceRecord | None) -> set[str]:
    """The columns whose values speak against confirmed settings, or against an estimate."""
    is_confirmed = isinstance(row, ConfirmedRow)
    cells, columns = row.to_cells(), CONFIRMED if is_confirmed else FIGURES
    found = {column.name for column in columns if exceeds(cells.get(column.name), column.bound)}
    if not is_closer(row.rmse if is_confirmed else row.error, reference):
        found |= {"rmse", "relative_rmse"} if is_confirmed else {"error", "relative_error"}
    return found | {"num_failed"} if is_confirmed and row.num_failed else found


def _cells(row: ConfirmedRow, run: RunFiles, links: Links) -> Iterator[Cell]:
    against, texts = speaks_against(row, run.references.get(row.pid)), confirmed_cells(row)
    for name, cell in cells_of(row, _COLUMNS, run.names).items():
        yield replace(
            cell,
            text=texts.get(name, cell.text),
            kind="number bad" if name in against else cell.kind,
            href=links.to_trial(row) if name == "number" else "",
        )
