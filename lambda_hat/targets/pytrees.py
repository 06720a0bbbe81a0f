"""Models that somebody hands in: a function of a pytree and a batch, read and checked."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.errors import InputError
from lambda_hat.targets.model import Model, PerExampleLossFn

__all__ = ["PytreeLoss", "check_loss_type", "check_loss_values", "check_rows", "read_model"]

ROW_TOLERANCE = 1e-3  # of the largest loss: rounding in another batch stays below, a mean over the batch does not


@dataclass(frozen=True)
class _Fixed:
    """A leaf that is not sampled; two are equal by content, or by identity where there is no hash of the content."""

    key: Hashable
    value: Any = field(compare=False)

    @classmethod
    def of(cls, leaf: Any) -> _Fixed:
        if _is_array(leaf) and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            array = np.asarray(leaf)
            return cls((array.dtype.str, array.shape, array.tobytes()), leaf)
        return cls((type(leaf), leaf if _is_hashable(leaf) else id(leaf)), leaf)


@dataclass(frozen=True)
class PytreeLoss:
    """l_i(w) = `loss_fn(params, batch)`, where w is the floating leaves of `params`, raveled in their order.

    Equal for the same function, structure, shapes and fixed leaves, so that calls share their compiled kernels.
    """

    loss_fn: Callable[[Any, Any], Any]
    structure: Any
    leaves: tuple[tuple[int, ...] | _Fixed, ...]  # the shape of a sampled leaf, or a fixed one

    def params(self, position: Float[Array, " d"]) -> Any:
        """The pytree at a position, floating leaves in the position's precision."""
        leaves: list[Any] = []
        start = 0
        for leaf in self.leaves:
            if isinstance(leaf, _Fixed):
                leaves.append(leaf.value)
            else:
                stop = start + math.prod(leaf)
                leaves.append(position[start:stop].reshape(leaf))
                start = stop
        return jax.tree.unflatten(self.structure, leaves)

    def __call__(self, position: Float[Array, " d"], batch: tuple[Array, ...]) -> Float[Array, " B"]:
        """Losses of the rows of `batch`."""
        return self.loss_fn(self.params(position), batch)


def read_model(loss_fn: Any, params: Any, data: Any) -> Model:
    """The model that `loss_fn(params, batch)` on rows of `data` defines; floating array leaves are its parameters.

    Raises:
        InputError: which argument is not usable, what was found and what is expected.
    """
    if not callable(loss_fn):
        raise InputError(f"loss_fn: found {_kind(loss_fn)}, expected a function of (params, batch).")
    if not _is_hashable(loss_fn):
        raise InputError(
            "loss_fn: found a callable without a hash, expected one that compiled kernels can be filed under: "
            "a function, or an object of a frozen dataclass."
        )
    columns = _read_data(data)
    leaves, w0 = _read_params(params)
    structure = jax.tree.structure(params)
    if not _is_hashable(structure):
        raise InputError(
            "params: found static fields without a hash, expected hashable ones, so that compiled kernels can be "
            "filed under them."
        )
    return Model(w0, columns, PytreeLoss(loss_fn, structure, leaves))


def _read_params(params: Any) -> tuple[tuple[tuple[int, ...] | _Fixed, ...], np.ndarray]:
    leaves: list[tuple[int, ...] | _Fixed] = []
    sampled: list[np.ndarray] = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = f"params{jax.tree_util.keystr(path)}"
        if isinstance(leaf, float) and not _is_array(leaf):
            raise InputError(
                f"{name}: found {leaf}, a Python float, which could be a parameter or a constant. Make it an array to "
                "sample it; keep it in loss_fn or in a static field to fix it."
            )
        if isinstance(leaf, complex) or (_is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.complexfloating)):
            raise InputError(
                f"{name}: found complex numbers, expected real ones. Store real and imaginary parts as two arrays."
            )
        if not (_is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)):
            leaves.append(_Fixed.of(leaf))
            continue
        values = np.asarray(leaf, np.float64)
        if bad := int(np.sum(~np.isfinite(values))):
            raise InputError(f"{name}: found {bad} of {values.size} entries NaN or infinite, expected finite numbers.")
        leaves.append(values.shape)
        sampled.append(values.reshape(-1))
    w0 = np.concatenate(sampled) if sampled else np.empty(0)
    if not w0.size:
        count = "1 leaf" if len(leaves) == 1 else f"{len(leaves)} leaves"
        raise InputError(
            f"params: found {count}, none of them an array of floating-point numbers; "
            "expected at least one: those are sampled."
        )
    return tuple(leaves), w0


def _read_data(data: Any) -> tuple[np.ndarray, ...]:
    if not isinstance(data, tuple):
        hint = " Write (data,)." if _is_array(data) else ""
        raise InputError(f"data: found {_kind(data)}, expected a tuple of arrays with one row per example.{hint}")
    if not data:
        raise InputError("data: found an empty tuple, expected arrays with one row per example.")
    arrays: list[np.ndarray] = []
    for index, column in enumerate(data):
        name = f"data[{index}]"
        if not isinstance(column, np.ndarray | jax.Array):
            raise InputError(f"{name}: found {_kind(column)}, expected a NumPy or JAX array.")
        is_floating = jnp.issubdtype(column.dtype, jnp.floating)
        if not (is_floating or jnp.issubdtype(column.dtype, jnp.integer) or column.dtype == np.bool_):
            raise InputError(f"{name}: found dtype {column.dtype}, expected floating-point or whole numbers.")
        if column.ndim == 0:
            raise InputError(f"{name}: found a single number, expected an array with one row per example.")
        array = np.asarray(column)
        if is_floating and not np.issubdtype(array.dtype, np.floating):
            array = array.astype(np.float32)  # bfloat16 and its like, which NumPy itself does not know
        if is_floating and (bad := int(np.sum(~np.isfinite(array)))):
            raise InputError(f"{name}: found {bad} of {array.size} entries NaN or infinite, expected finite numbers.")
        if array.shape[0] != (num_data := (arrays or [array])[0].shape[0]):
            raise InputError(f"{name}: found {array.shape[0]} rows, expected {num_data} as in data[0].")
        arrays.append(array)
    if arrays[0].shape[0] < 2:
        raise InputError(f"data: found {arrays[0].shape[0]} rows, expected at least 2.")
    return tuple(arrays)


@functools.lru_cache(maxsize=64)
def _loss_type(
    loss_fn: PerExampleLossFn, dim: int, columns: tuple[tuple[tuple[int, ...], Any], ...], dtype: str
) -> Any:
    batch = tuple(jax.ShapeDtypeStruct(*column) for column in columns)
    return jax.eval_shape(loss_fn, jax.ShapeDtypeStruct((dim,), dtype), batch)


def check_loss_type(model: Model, dtype: str) -> None:
    """Refuse a loss that does not give one number in `dtype` for each row of data in `dtype`.

    Raises:
        InputError: what it gives, what is expected and what to change.
    """
    columns = tuple((column.shape, column.dtype) for column in model.columns(dtype))
    losses = _loss_type(model.loss_fn, model.dim, columns, dtype)
    num_data = model.num_data
    wanted = f"expected shape ({num_data},), one loss for each of {num_data} rows"
    if not isinstance(losses, jax.ShapeDtypeStruct):
        raise InputError(f"loss_fn: returned {_kind(losses)}, {wanted}.")
    if losses.shape != (num_data,):
        hint = ""
        if losses.shape == ():
            hint = " Leave out the mean over the batch."
        elif losses.shape == (num_data, 1):
            hint = " Drop the last axis: `losses[:, 0]`."
        raise InputError(f"loss_fn: returned shape {losses.shape}, {wanted}.{hint}")
    if not jnp.issubdtype(losses.dtype, jnp.floating):
        raise InputError(f"loss_fn: returned {losses.dtype}, expected {dtype}.")
    if losses.dtype != dtype:
        raise InputError(
            f"loss_fn: returned {losses.dtype} for parameters and data in {dtype}; expected no cast inside. "
            f"Remove the cast or the constants that cause it, or pass dtype='{losses.dtype}'."
        )


def check_loss_values(losses: Float[np.ndarray, " n"]) -> None:
    """Refuse losses at w0 that are not finite.

    Raises:
        InputError: which row has such a loss.
    """
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise InputError(
            f"loss_fn: returned {losses[bad[0]]} at params for row {bad[0]} ({bad.size} of {losses.size} rows are not "
            "finite), expected finite losses."
        )


@eqx.filter_jit
def _losses_in_two_batches(
    loss_fn: PerExampleLossFn, position: Float[Array, " d"], rows: tuple[Array, ...]
) -> tuple[Array, Array]:
    num_rows = rows[0].shape[0] // 2
    few = tuple(column[:num_rows] for column in rows)
    return loss_fn(position, rows)[:num_rows], loss_fn(position, few)


def check_rows(loss_fn: PerExampleLossFn, position: Float[Array, " d"], rows: tuple[Array, ...]) -> None:
    """Refuse a loss of a row that depends on the other rows of its batch.

    `position` should lie away from w0, where the losses of a model that interpolates are nothing but rounding.

    Raises:
        InputError: a row with its losses in two batches.
    """
    losses, again = (np.asarray(values) for values in _losses_in_two_batches(loss_fn, position, rows))
    if not (np.isfinite(losses).all() and np.isfinite(again).all()):
        return  # a loss may well overflow out there
    worst = int(np.argmax(np.abs(again - losses)))
    if abs(again[worst] - losses[worst]) > ROW_TOLERANCE * np.max(np.abs(losses)):
        raise InputError(
            f"loss_fn: row {worst} has loss {losses[worst]:.6g} in one batch and {again[worst]:.6g} in a smaller one; "
            "expected the loss of a row not to depend on the other rows."
        )


def _is_array(value: Any) -> TypeGuard[np.ndarray | np.generic | jax.Array]:
    return isinstance(value, np.ndarray | np.generic | jax.Array)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _kind(value: Any) -> str:
    name = type(value).__name__
    if _is_array(value):
        return f"an array of shape {value.shape}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
