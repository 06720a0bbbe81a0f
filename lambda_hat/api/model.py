"""A model as its author wrote it, checked and made a flat position, rows of data and a per-example loss of the two."""

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
from lambda_hat.posterior import LocalPosterior, build_posterior

__all__ = ["Model", "PytreeLoss", "read_model"]

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


@dataclass(frozen=True, eq=False)
class Model:
    """Parameters `w0` (d,) in float64, data of n rows and their loss."""

    loss_fn: PytreeLoss
    w0: Float[np.ndarray, " d"]
    data: tuple[np.ndarray, ...]

    @property
    def num_data(self) -> int:
        """Number of examples n."""
        return self.data[0].shape[0]

    def columns(self, dtype: str) -> tuple[np.ndarray, ...]:
        """The data with floating columns in `dtype`, and whole numbers no wider than it.

        Raises:
            InputError: a whole number that 32 bits cannot hold.
        """
        return tuple(_column(array, f"data[{index}]", dtype) for index, array in enumerate(self.data))

    def posterior(self, *, nbeta: float, localization: float, dtype: str) -> LocalPosterior:
        """The local posterior in `dtype`; JAX must be in the mode for it."""
        return build_posterior(
            self.loss_fn, self.w0, self.columns(dtype), nbeta=nbeta, localization=localization, dtype=dtype
        )

    def checked_posterior(self, *, nbeta: float, localization: float, dtype: str) -> LocalPosterior:
        """The same, of a loss that can be sampled in `dtype`.

        Raises:
            InputError: a loss of another shape or type, that is not finite at w0, or that mixes rows.
        """
        _check_loss_type(self.loss_fn, self.w0.size, self.columns(dtype), dtype)
        posterior = self.posterior(nbeta=nbeta, localization=localization, dtype=dtype)
        _check_loss_values(posterior)
        return posterior


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
    return Model(PytreeLoss(loss_fn, structure, leaves), w0, columns)


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


def _column(array: np.ndarray, name: str, dtype: str) -> np.ndarray:
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(dtype, copy=False)
    if dtype == "float64" or array.dtype.itemsize < 8:
        return array
    narrow = np.int32 if array.dtype.kind == "i" else np.uint32
    limits = np.iinfo(narrow)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise InputError(
            f"{name}: found whole numbers beyond 32 bits, which a float32 run cannot hold. Pass dtype='float64'."
        )
    return array.astype(narrow)


@functools.lru_cache(maxsize=64)
def _loss_type(loss_fn: PytreeLoss, dim: int, columns: tuple[tuple[tuple[int, ...], Any], ...], dtype: str) -> Any:
    batch = tuple(jax.ShapeDtypeStruct(*column) for column in columns)
    return jax.eval_shape(loss_fn, jax.ShapeDtypeStruct((dim,), dtype), batch)


def _check_loss_type(loss_fn: PytreeLoss, dim: int, columns: tuple[np.ndarray, ...], dtype: str) -> None:
    losses = _loss_type(loss_fn, dim, tuple((column.shape, column.dtype) for column in columns), dtype)
    num_data = columns[0].shape[0]
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


@eqx.filter_jit
def _losses_in_two_batches(posterior: LocalPosterior) -> tuple[Array, Array]:
    # Away from w0, where an interpolating model's losses would be nothing but rounding.
    signs = jnp.where(jnp.arange(posterior.dim) % 2, -1, 1)
    position = posterior.w0 + signs / jnp.sqrt(posterior.localization)
    rows = tuple(column[0] for column in posterior.rows)
    num_rows = rows[0].shape[0] // 2
    few = tuple(column[:num_rows] for column in rows)
    return posterior.loss_fn(position, rows)[:num_rows], posterior.loss_fn(position, few)


def _check_loss_values(posterior: LocalPosterior) -> None:
    at_w0 = np.asarray(posterior.row_losses_at_w0).reshape(-1)[: posterior.num_data]
    bad = np.flatnonzero(~np.isfinite(at_w0))
    if bad.size:
        raise InputError(
            f"loss_fn: returned {at_w0[bad[0]]} at params for row {bad[0]} ({bad.size} of {at_w0.size} rows are not "
            "finite), expected finite losses."
        )
    losses, again = (np.asarray(values) for values in _losses_in_two_batches(posterior))
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
