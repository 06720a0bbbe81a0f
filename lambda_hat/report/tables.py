"""The tables of a run: a row per trial or run, whatever its state, in columns whose types never depend on the rows."""

from __future__ import annotations

import io
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lambda_hat.artifacts.files import make_dir, write_bytes_atomic
from lambda_hat.config.describe import fields_of, scalar_types
from lambda_hat.config.methods import METHODS
from lambda_hat.errors import InputError

if TYPE_CHECKING:  # a second of import time, for which only the end of a run has a use
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "ACROSS_COLUMNS",
    "COLUMNS",
    "CONFIRMED_COLUMNS",
    "RUN_COLUMNS",
    "laplace_relative_error",
    "read_rows",
    "read_trials_table",
    "rows_of_other_studies",
    "rows_of_others",
    "with_reference",
    "write_table",
    "write_trials_table",
]

PARAM_PREFIX = "param_"

COLUMNS: dict[str, type] = {
    "pid": str,
    "method": str,
    "run_id": str,
    "number": int,
    "state": str,
    "origin": str,
    "hyperparameters": str,  # JSON
    "llc_hat": float,
    "se_hat": float,
    "llc_ref": float,
    "se_ref": float,
    "objective": float,
    "error": float,  # llc_hat − llc_ref
    "relative_error": float,  # error / |llc_ref|
    "z": float,  # error / √(se_hat² + se_ref²)
    "rhat": float,
    "ess_bulk": float,
    "ess_tail": float,
    "num_gradient_evaluations": float,  # on the full-data scale, so not always whole
    "num_steps_done": int,
    "k_hat": float,  # Pareto k of importance sampling
    "llc_psis": float,
    "predicted_bias": float,  # of SGLD, relative: (λ̂ − λ)/λ to first order in the step size
    "elbo": float,  # nats, over the last quarter of a fit
    "elbo_slope": float,  # nats per 1000 steps
    "elbo_slope_se": float,
    "acceptance_rate": float,
    "adapted_step_size": float,
    "divergence_rate": float,
    "energy_error_variance": float,  # per step and dimension, of unadjusted MCLMC
    "load_sec": float,
    "compile_sec": float,
    "sample_sec": float,
    "total_sec": float,
    "num_together": int,  # runs that its worker had at once, and that share these seconds
    "dtype": str,
    "x64": bool,
    "executor": str,
    "device": str,
    "host": str,
    "pid_worker": int,
    "seed": int,
    "is_truncated": bool,
    "reason": str,
    "localization": float,
    "nbeta": float,
    "is_reference_certified": bool,
    "laplace_llc": float,  # λ̂ if the posterior were Gaussian: the baseline
    "laplace_relative_error": float,  # (laplace_llc − llc_ref) / |llc_ref|
    "versions": str,  # JSON
    "git_commit": str,
    "started": datetime,
    "finished": datetime,
}

RUN_COLUMNS: dict[str, type] = {  # of runs of fixed settings: no search, so neither its numbers nor its objective
    "pid": str,
    "sampler": str,
    **{name: kind for name, kind in COLUMNS.items() if name not in ("pid", "number", "objective")},
}

_VERDICT_COLUMNS: dict[str, type] = {
    "rmse": float,  # root mean squared error over the seeds
    "rmse_se": float,  # its standard error, by the delta method
    "mean_error": float,
    "relative_rmse": float,  # rmse / |llc_ref|
    "rms_z": float,  # root mean square of z over the seeds: about 1 unless the settings are biased
    "worst_rhat": float,
    "worst_k_hat": float,
    "num_gradient_evaluations": float,  # mean over the seeds
    "seconds": float,  # likewise
    "num_seeds": int,
    "num_failed": int,  # of the seeds; diverged runs included
    "hyperparameters": str,  # JSON
}

CONFIRMED_COLUMNS: dict[str, type] = {
    "pid": str,
    "method": str,
    "rank": int,  # 1 is the best: by failures, then by rmse
    "run_id": str,  # of the trial that found the settings
    "number": int,
    "search_objective": float,  # what they had there
    "search_error": float,
    "llc_ref": float,
    "se_ref": float,
    **_VERDICT_COLUMNS,
}

ACROSS_COLUMNS: dict[str, type] = {
    "method": str,
    "found_on": str,  # the problem that the settings are the best for
    "pid": str,  # the problem that they were run on
    "run_id": str,
    "loss": float,  # relative_rmse less that of this problem's own best
    "mean_relative_rmse": float,  # of the settings over all problems
    "worst_relative_rmse": float,
    "is_best_mean": bool,
    "is_best_worst": bool,
    **_VERDICT_COLUMNS,
}


def with_reference(row: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """The row with what `ref.json` says: z, the posterior, whether it is certified, and the Laplace value's error."""
    error = row.get("error")
    spread = math.hypot(*(math.nan if se is None else se for se in (row.get("se_hat"), reference.get("se"))))
    facts = {
        "z": error / spread if error is not None and spread > 0 else None,
        "localization": reference.get("localization"),
        "nbeta": reference.get("nbeta"),
        "is_reference_certified": reference.get("is_certified"),
        "laplace_llc": reference.get("laplace_llc"),
        "laplace_relative_error": laplace_relative_error(reference),
    }
    return {**row, **facts}


def laplace_relative_error(reference: Mapping[str, Any]) -> float | None:
    """(Laplace value − λ̂) / |λ̂| of a reference: an estimate that is no closer has done nothing for its price."""
    laplace, llc = reference.get("laplace_llc"), reference.get("llc")
    return (laplace - llc) / abs(llc) if laplace is not None and llc else None


def write_trials_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """`write_table` with the columns of a search's trials."""
    write_table(path, rows, COLUMNS)


def rows_of_other_studies(path: Path, studies: Container[tuple[str, str]]) -> list[dict[str, Any]]:
    """The rows of the table of trials at `path` of all (pid, method) pairs but `studies`."""
    return rows_of_others(path, COLUMNS, ("pid", "method"), studies)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, type]) -> None:
    """Replace the Parquet file at `path` by one with these rows, in this order; what a row lacks is null.

    Beside `columns` there is `param_<name>` for every hyperparameter that a row has, typed by the methods that take it.
    Times are ISO 8601 text or datetimes with a zone; NaN is null.

    Raises:
        InputError: a row has a column that does not exist, or a value that is not of the column's type.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {**columns, **_param_columns(rows)}
    if strangers := sorted({name for row in rows for name in row} - columns.keys()):
        raise InputError(f"The table {path.name} has no column called {', '.join(strangers)}.")
    arrays = []
    for name, kind in columns.items():
        try:
            arrays.append(pa.array([_cell(row.get(name), kind) for row in rows], type=_arrow_type(kind)))
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise InputError(f"The column {name} of the table {path.name} cannot hold a value: {error}") from error
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays, names=list(columns)), buffer)
    make_dir(path.parent)
    write_bytes_atomic(path, buffer.getvalue())


def rows_of_others(
    path: Path, columns: Mapping[str, type], key: Sequence[str], known: Container[tuple[Any, ...]]
) -> list[dict[str, Any]]:
    """The rows of the table at `path`, if there is one, but those whose values of the columns `key` are in `known`."""
    rows = read_rows(path)
    names = {name for row in rows for name in row if name in columns or name.startswith(PARAM_PREFIX)}
    kept = [{name: value for name, value in row.items() if name in names} for row in rows]
    return [row for row in kept if tuple(row[name] for name in key) not in known]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file, what is null as None; none where there is no file, or a torn one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(io.BytesIO(path.read_bytes())).to_pylist()
    except (FileNotFoundError, pa.ArrowInvalid):
        return []


def read_trials_table(path: Path) -> pd.DataFrame:
    """The rows of `write_table`, in pandas' nullable types: whole numbers stay whole where some are missing."""
    import pandas as pd

    return pd.read_parquet(path, dtype_backend="numpy_nullable")


def _param_columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, type]:
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(PARAM_PREFIX))
    kinds = {name: _param_type(name.removeprefix(PARAM_PREFIX)) for name in sorted(names)}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _param_type(name: str) -> type | None:
    """The widest type that any method takes under this name; None where no method knows it."""
    fields = [field for settings in METHODS.values() if (field := fields_of(settings).get(name)) is not None]
    types = {kind for field in fields for kind in scalar_types(field)}
    return next((kind for kind in (str, float, int, bool) if kind in types), None)


def _cell(value: Any, kind: type) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if kind is datetime and value is not None:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        if time.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return time
    return value


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
