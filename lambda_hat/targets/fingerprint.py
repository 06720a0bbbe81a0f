"""The content of a model as a hash: parameters, data, and what its loss closes over."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lambda_hat.targets.model import Model
from lambda_hat.targets.pytrees import PytreeLoss
from lambda_hat.targets.selection import is_array

__all__ = ["is_same_but_for_rounding", "model_content", "model_sketch"]

_DEPTH = 4  # of functions within functions
SKETCH_TOLERANCE = 1e-4  # of an array's norm


def model_content(model: Model) -> str:
    """SHA-256 of the arrays of a model, of what is sampled, and of the arrays and plain values that its loss holds.

    The source of the loss is no part of it.
    """
    digest = hashlib.sha256()
    for array in (model.w0, *model.frozen, *model.data):
        digest.update(_bytes_of(array))
    for place, size in model.sampled:
        digest.update(f"{place}:{size};".encode())
    loss_fn = model.loss_fn
    parts = [loss_fn.loss_fn, *loss_fn.leaves] if isinstance(loss_fn, PytreeLoss) else [loss_fn]
    for part in parts:
        for text in _told_of(part, _DEPTH):
            digest.update(text)
    return digest.hexdigest()


def model_sketch(model: Model) -> tuple[float, ...]:
    """Of each array of a model, its norm and its product with a vector of standard normal numbers.

    Two machines may round differently what a function computes; this tells rounding from another model.
    """
    return tuple(value for array in (model.w0, *model.frozen, *model.data) for value in _sketch(array))


def is_same_but_for_rounding(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two sketches are those of the same arrays, but for rounding."""
    norms = [value for norm in one[::2] for value in (norm, norm)]
    return len(one) == len(other) and all(
        abs(value - wanted) <= SKETCH_TOLERANCE * norm for value, wanted, norm in zip(one, other, norms, strict=True)
    )


def _sketch(array: np.ndarray) -> tuple[float, float]:
    flat = np.asarray(array, np.float64).reshape(-1)
    direction = np.random.default_rng(flat.size).standard_normal(flat.size)
    return float(np.linalg.norm(flat)), float(flat @ direction)


def _bytes_of(array: Any) -> bytes:
    values = np.asarray(array)
    return f"{values.dtype.str}{values.shape}".encode() + np.ascontiguousarray(values).tobytes()


def _told_of(value: Any, depth: int) -> Iterator[bytes]:
    """What of a loss is content beside its source: arrays and plain values that it closes over or holds."""
    if depth == 0:
        return
    if is_array(value) and not jnp.issubdtype(value.dtype, jax.dtypes.extended):
        yield _bytes_of(value)
    elif isinstance(value, bool | int | float | str | bytes) or value is None:
        yield repr(value).encode()
    elif isinstance(value, functools.partial):
        for part in (value.func, value.args, value.keywords):
            yield from _told_of(part, depth)
    elif isinstance(value, FunctionType):
        yield value.__qualname__.encode()
        for part in (*inspect.getclosurevars(value).nonlocals.values(), value.__defaults__, value.__kwdefaults__):
            yield from _told_of(part, depth - 1)
    elif (inner := getattr(value, "__wrapped__", None)) is not None:  # as by `jax.jit`
        yield from _told_of(inner, depth)
    else:
        leaves = jax.tree.leaves(value)
        yield type(value).__qualname__.encode()
        if not (len(leaves) == 1 and leaves[0] is value):
            for leaf in leaves:
                yield from _told_of(leaf, depth - 1)
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                yield from _told_of(getattr(value, field.name), depth - 1)
