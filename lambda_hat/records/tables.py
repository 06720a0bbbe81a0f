"""Tables of rows as Parquet files, whose columns and types never depend on the rows."""

from __future__ import annotations

import io
import math
from collections.abc import Container, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lambda_hat.artifacts.files import make_dir, write_bytes_atomic
from lambda_hat.config.describe import fields_of, scalar_types
from lambda_hat.config.methods import METHODS
from lambda_hat.errors import InputError
from lambda_hat.records.columns import PARAM_PREFIX, Row

if TYPE_CHECKING:  # a second of import time, for which only the end of a run has a use
    import pandas as pd
    import pyarrow as pa

__all__ = ["read_frame", "read_table", "rows_of_others", "write_table"]

R = TypeVar("R", bound=Row)


def write_table(path: Path, rows: Sequence[R], kind: type[R]) -> None:
    """Replace the Parquet file at `path` by one with these rows of one `kind`, in this order.

    Its columns are those of the kind, and `param_<name>` for every hyperparameter that a row has, typed by the methods
    that take it.

    Raises:
        InputError: no method takes such a hyperparameter or report, or a value is not of the column's type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [row.to_cells() for row in rows]
    kinds = {name: column.kind for name, column in kind.columns().items()}
    kinds |= _param_kinds(name for row in cells for name in row)
    if strangers := sorted({name for row in cells for name in row} - kinds.keys()):
        raise InputError(f"The table {path.name} has no column called {', '.join(strangers)}.")
    arrays = []
    for name, of_column in kinds.items():
        try:
            arrays.append(pa.array([_cell(row.get(name)) for row in cells], type=_arrow_type(of_column)))
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise InputError(f"The column {name} of the table {path.name} cannot hold a value: {error}") from error
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays, names=list(kinds)), buffer)
    make_dir(path.parent)
    write_bytes_atomic(path, buffer.getvalue())


def read_table(path: Path, kind: type[R]) -> list[R]:
    """The rows of a table; none where there is no file, or a torn one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        cells = pq.read_table(io.BytesIO(path.read_bytes())).to_pylist()
    except (FileNotFoundError, pa.ArrowInvalid):
        return []
    return [kind.from_cells(row) for row in cells]


def rows_of_others(path: Path, kind: type[R], known: Container[tuple[Any, ...]]) -> list[R]:
    """The rows of the table at `path`, if there is one, but those whose `key` is in `known`."""
    return [row for row in read_table(path, kind) if row.key not in known]


def read_frame(path: Path) -> pd.DataFrame:
    """A table in pandas' nullable types: whole numbers stay whole where some are missing."""
    import pandas as pd

    return pd.read_parquet(path, dtype_backend="numpy_nullable")


def _param_kinds(names: Iterable[str]) -> dict[str, type]:
    params = sorted({name for name in names if name.startswith(PARAM_PREFIX)})
    kinds = {name: _param_kind(name.removeprefix(PARAM_PREFIX)) for name in params}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _param_kind(name: str) -> type | None:
    """The widest type that any method takes under this name; None where no method knows it."""
    fields = [field for settings in METHODS.values() if (field := fields_of(settings).get(name)) is not None]
    types = {kind for field in fields for kind in scalar_types(field)}
    return next((kind for kind in (str, float, int, bool) if kind in types), None)


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _arrow_type(kind: type) -> pa.DataType:
    import pyarrow as pa

    types: dict[type, pa.DataType] = {
        str: pa.string(),
        float: pa.float64(),
        int: pa.int64(),
        bool: pa.bool_(),
        datetime: pa.timestamp("us", tz="UTC"),
    }
    return types[kind]
