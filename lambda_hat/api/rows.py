"""Which rows of the data, and which others, somebody wants to watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int

from lambda_hat.config.methods import MethodSettings
from lambda_hat.errors import InputError
from lambda_hat.samplers.recorder import WatchedRows
from lambda_hat.targets import Model
from lambda_hat.targets.pytrees import read_columns_like
from lambda_hat.targets.selection import kind_of_value

__all__ = ["check_method", "watched_rows"]


def watched_rows(model: Model, rows: Any, queries: Any, dtype: str) -> WatchedRows | None:
    """The rows of `model` that are to be watched; None where nobody asked.

    Raises:
        InputError: rows that are no rows of the data, or queries of another kind than them.
    """
    if rows is None:
        if queries is not None:
            raise InputError("queries: found without `rows`, expected both: queries are what rows have influence on.")
        return None
    indices = _indices(rows, model.num_data)
    if queries is None:
        return WatchedRows(indices)
    columns = read_columns_like(model, queries, "queries")
    names = tuple(f"queries[{index}]" for index in range(len(columns)))
    return WatchedRows(indices, replace(model, data=columns, data_names=names).columns(dtype))


def check_method(method: MethodSettings) -> None:
    """Refuse to watch rows in a run whose states are no draws of equal weight.

    Raises:
        InputError: the sampler, or its setting.
    """
    if method.is_fit:
        raise InputError(f"rows: found with {method.method}, expected a sampler with chains, such as hmc or auto.")
    if not method.has_equal_weights:
        raise InputError("rows: found with an annealed step size, expected a constant one. Set gamma=0.")


def _indices(rows: Any, num_data: int) -> Int[np.ndarray, " rows"]:
    """Numbers of the rows, in the order in which they were given."""
    if isinstance(rows, slice):
        found = np.arange(num_data)[rows]
    elif not isinstance(rows, str) and (isinstance(rows, Sequence) or hasattr(rows, "__array__")):
        found = np.asarray(rows)
    else:
        raise InputError(
            f"rows: found {kind_of_value(rows)}, expected numbers of rows, such as range(50) or slice(None)."
        )
    if found.dtype == np.bool_:
        if found.shape != (num_data,):
            raise InputError(f"rows: found booleans of shape {found.shape}, expected ({num_data},), one for each row.")
        found = np.flatnonzero(found)
    if found.ndim != 1 or not found.size or not np.issubdtype(found.dtype, np.integer):
        what = f"{found.dtype} of shape {found.shape}" if found.size else "none"
        raise InputError(f"rows: found {what}, expected a list of at least one whole number.")
    if (outside := found[(found < 0) | (found >= num_data)]).size:
        raise InputError(f"rows: found {outside[0]}, expected numbers from 0 to {num_data - 1}.")
    if np.unique(found).size < found.size:
        raise InputError("rows: found a row twice, expected each of them once.")
    return found.astype(int)
