"""Models that somebody hands in: a function of a pytree and a batch, read and checked."""

from __future__ import annotations

import functools
import math
import sysconfig
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from lambda_hat.errors import InputError, told_together
from lambda_hat.targets.convolutions import with_matrix_products
from lambda_hat.targets.model import Model, PerExampleLossFn, losses_of
from lambda_hat.targets.selection import (
    MOST_NAMED,
    Leaf,
    is_array,
    is_floating,
    kind_of_value,
    leaves_of,
    listed,
    select,
)

__all__ = [
    "PytreeLoss",
    "check_loss_type",
    "check_loss_values",
    "check_rows",
    "coarsest_dtype",
    "entry_losses_of",
    "read_columns_like",
    "read_model",
]

_UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)

ROW_TOLERANCE = 1e-3  # of the largest loss: rounding in another batch stays below, a mean over the batch does not


@dataclass(frozen=True)
class _Fixed:
    """A leaf that is part of the program; two are equal by content, or by identity where that has no hash."""

    key: Hashable
    value: Any = field(compare=False)

    @classmethod
    def of(cls, leaf: Any) -> _Fixed:
        if is_array(leaf) and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            array = np.asarray(leaf)
            return cls((array.dtype.str, array.shape, array.tobytes()), leaf)
        return cls((type(leaf), leaf if _is_hashable(leaf) else id(leaf)), leaf)


@dataclass(frozen=True)
class _Floating:
    """A floating leaf: either all of it is sampled, or only `indices` of the flat leaf, and the rest is frozen."""

    shape: tuple[int, ...]
    packed_indices: bytes | None  # bytes, whose hash Python keeps; None: all of them

    @classmethod
    def of(cls, shape: tuple[int, ...], indices: np.ndarray) -> _Floating:
        return cls(shape, indices.astype(np.int64).tobytes())

    @property
    def is_sampled(self) -> bool:
        """Whether all of it is."""
        return self.packed_indices is None

    @property
    def indices(self) -> np.ndarray:
        """Which entries are sampled, where not all are; int32, which every precision of JAX takes."""
        return np.frombuffer(self.packed_indices or b"", np.int64).astype(np.int32)

    @property
    def num_sampled(self) -> int:
        """How many entries of the position are its own."""
        return math.prod(self.shape) if self.packed_indices is None else len(self.packed_indices) // 8


@dataclass(frozen=True)
class PytreeLoss:
    """l_i(w) = `loss_fn(params, batch)`, where w is the sampled entries of `params`, raveled in their order.

    Losses (B, T), of T tokens of each row, count with their mean over T. Equal for the same function, structures,
    shapes, selection and leaves that are no floating arrays, so that calls share their compiled kernels: floating
    leaves that are not sampled come with each call, as `frozen`.
    """

    loss_fn: Callable[[Any, Any], Any]
    structure: Any
    leaves: tuple[_Floating | _Fixed, ...]
    data_structure: Any

    @property
    def sampled_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of what is sampled, in the order of the flat vector; of a leaf that is sampled in part, (entries,)."""
        floating = [leaf for leaf in self.leaves if isinstance(leaf, _Floating)]
        shapes = [leaf.shape if leaf.is_sampled else (leaf.num_sampled,) for leaf in floating if leaf.num_sampled]
        return tuple(shapes)

    @property
    def frozen_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the arrays that a call takes beside position and batch."""
        return tuple(leaf.shape for leaf in self.leaves if isinstance(leaf, _Floating) and not leaf.is_sampled)

    def difference(self, other: PytreeLoss) -> str:
        """In what the programs of two losses differ, in words; empty where they are one program."""
        if self == other:
            return ""
        own, wanted = self._by_place(), other._by_place()
        differences = [
            f"{what} {listed(sorted(places))}"
            for what, places in (("missing", wanted.keys() - own.keys()), ("added", own.keys() - wanted.keys()))
            if places
        ]
        for place in sorted(own.keys() & wanted.keys()):
            leaf, like = own[place], wanted[place]
            if isinstance(leaf, _Floating) and isinstance(like, _Floating) and leaf.shape != like.shape:
                differences.append(f"{place} has the shape {leaf.shape}, not {like.shape}")
            elif isinstance(leaf, _Floating) and isinstance(like, _Floating) and leaf != like:
                differences.append(f"other entries of {place} are sampled")
            elif leaf != like:
                differences.append(f"{place}, which is not sampled, is another one")
        if differences:
            return "; ".join(differences[:MOST_NAMED])
        if self.structure != other.structure:
            return "params are of other types, or have other static fields"
        return "another loss_fn, or data of another structure"

    def _by_place(self) -> dict[str, _Floating | _Fixed]:
        """The leaves by their places in params."""
        numbered = jax.tree.unflatten(self.structure, range(len(self.leaves)))
        return {leaf.place: self.leaves[leaf.value] for leaf in leaves_of(numbered)}

    def params(self, position: Float[Array, " d"], *frozen: Array) -> Any:
        """The pytree at a position, floating leaves in the position's precision."""
        leaves: list[Any] = []
        start, rest = 0, iter(frozen)
        for leaf in self.leaves:
            if isinstance(leaf, _Fixed):
                leaves.append(leaf.value)
                continue
            own = position[start : start + leaf.num_sampled]
            start += leaf.num_sampled
            if leaf.is_sampled:
                leaves.append(own.reshape(leaf.shape))
                continue
            whole = jnp.asarray(next(rest), position.dtype)
            if leaf.num_sampled:
                whole = whole.reshape(-1).at[leaf.indices].set(own).reshape(leaf.shape)
            leaves.append(whole)
        return jax.tree.unflatten(self.structure, leaves)

    def returned(self, position: Float[Array, " d"], batch: tuple[Array, ...], *frozen: Array) -> Any:
        """What `loss_fn` itself returns; convolutions are computed as fast as a loop of samples lets them."""

        def run(position: Float[Array, " d"], batch: tuple[Array, ...], *frozen: Array) -> Any:
            return self.loss_fn(self.params(position, *frozen), jax.tree.unflatten(self.data_structure, batch))

        return with_matrix_products(run)(position, batch, *frozen)

    def __call__(self, position: Float[Array, " d"], batch: tuple[Array, ...], *frozen: Array) -> Float[Array, " B"]:
        """Losses of the rows of `batch`, in the precision of `position`."""
        losses = self.returned(position, batch, *frozen).astype(position.dtype)
        return jnp.mean(losses, axis=1) if losses.ndim == 2 else losses


def entry_losses_of(
    loss_fn: PerExampleLossFn, position: Float[Array, " d"], batch: tuple[Array, ...], frozen: tuple[Array, ...]
) -> Float[Array, " B *T"]:
    """Losses of a batch as they come: (B,), or (B, T) where a loss tells those of T tokens of each row."""
    if isinstance(loss_fn, PytreeLoss):
        return loss_fn.returned(position, batch, *frozen).astype(position.dtype)
    return losses_of(loss_fn, position, batch, frozen)


def read_columns_like(model: Model, data: Any, name: str) -> tuple[np.ndarray, ...]:
    """The columns of other rows of the kind that `model` has.

    Raises:
        InputError: they are no data, or of another structure, shape or dtype than the model's.
    """
    columns, names, structure = _read_data(data, name, min_rows=1)
    assert isinstance(model.loss_fn, PytreeLoss)
    if structure != (wanted := model.loss_fn.data_structure):
        raise InputError(f"{name}: found the structure {structure}, expected that of data, {wanted}.")
    for place, column, own in zip(names, columns, model.data, strict=True):
        is_same_kind = np.issubdtype(column.dtype, np.floating) == np.issubdtype(own.dtype, np.floating)
        if column.shape[1:] != own.shape[1:] or not is_same_kind:
            raise InputError(
                f"{place}: found rows of shape {column.shape[1:]} and dtype {column.dtype}, expected those of data, "
                f"{own.shape[1:]} and {own.dtype}."
            )
    return columns


def read_model(loss_fn: Any, params: Any, data: Any, *, sampled: Any = None) -> Model:
    """The model that `loss_fn(params, batch)` on rows of `data` defines.

    Its parameters are what `sampled` chooses (see `lambda_hat.targets.selection.select`), or else every floating array
    leaf that is not known as a state.

    Raises:
        InputError: which argument is not usable, what was found and what is expected.
    """
    if not callable(loss_fn):
        raise InputError(f"loss_fn: found {kind_of_value(loss_fn)}, expected a function of (params, batch).")
    if not _is_hashable(loss_fn):
        raise InputError(
            "loss_fn: found a callable without a hash, expected one that compiled kernels can be filed under: "
            "a function, or an object of a frozen dataclass."
        )
    leaves = leaves_of(params)
    (columns, names, data_structure), (specs, w0, frozen) = told_together(
        lambda: _read_data(data), lambda: _read_leaves(leaves, _selected(leaves, params, sampled))
    )
    structure = jax.tree.structure(params)
    if not _is_hashable(structure):
        raise InputError(
            "params: found static fields without a hash, expected hashable ones, so that compiled kernels can be "
            "filed under them."
        )
    sizes = {
        leaf.place: spec.num_sampled
        for leaf, spec in zip(leaves, specs, strict=True)
        if isinstance(spec, _Floating) and spec.num_sampled
    }
    return Model(
        w0,
        columns,
        PytreeLoss(loss_fn, structure, specs, data_structure),
        frozen=frozen,
        sampled=tuple(sizes.items()),
        num_frozen=sum(math.prod(spec.shape) for spec in specs if isinstance(spec, _Floating)) - w0.size,
        data_names=names,
    )


def _selected(leaves: Sequence[Leaf], params: Any, sampled: Any) -> list[Bool[np.ndarray, ...] | bool]:
    """What is sampled of each leaf, once no leaf leaves in doubt what it is."""
    faults: list[tuple[str, str]] = []
    for leaf in leaves:
        value = leaf.value
        is_attribute = bool(leaf.path) and isinstance(leaf.path[-1], jax.tree_util.GetAttrKey)
        if isinstance(value, float) and not is_array(value) and not is_attribute and sampled is None:
            fault = (
                f"found {value}, a Python float, which could be a parameter or a constant. Make it an array to sample "
                "it; keep it in loss_fn or in a static field to fix it."
            )
            faults.append((leaf.place, fault))
        if isinstance(value, complex) or (is_array(value) and jnp.issubdtype(value.dtype, jnp.complexfloating)):
            fault = "found complex numbers, expected real ones. Store real and imaginary parts as two arrays."
            faults.append((leaf.place, fault))
        if is_array(value) and value.dtype == object:
            faults.append((leaf.place, "found an array of Python objects, expected numbers."))
    _refuse(faults)
    if not any(is_floating(leaf.value) for leaf in leaves):
        count = "1 leaf" if len(leaves) == 1 else f"{len(leaves)} leaves"
        raise InputError(
            f"params: found {count}, none of them an array of floating-point numbers; "
            "expected at least one: those are sampled."
        )
    return select(leaves, params, sampled)


def _read_leaves(
    leaves: Sequence[Leaf], chosen: Sequence[Bool[np.ndarray, ...] | bool]
) -> tuple[tuple[_Floating | _Fixed, ...], Float[np.ndarray, " d"], tuple[np.ndarray, ...]]:
    """What each leaf is, the sampled entries, and the floating leaves that are not sampled as a whole."""
    specs: list[_Floating | _Fixed] = []
    position: list[np.ndarray] = [np.empty(0)]
    frozen: list[np.ndarray] = []
    faults: list[tuple[str, str]] = []
    for leaf, choice in zip(leaves, chosen, strict=True):
        if not is_floating(leaf.value):
            specs.append(_Fixed.of(leaf.value))
            continue
        values = np.asarray(leaf.value, np.float64)
        if bad := int(np.sum(~np.isfinite(values))):
            fault = f"found {bad} of {values.size} entries NaN or infinite, expected finite numbers."
            faults.append((leaf.place, fault))
        if choice is True:
            specs.append(_Floating(values.shape, None))
            position.append(values.reshape(-1))
            continue
        indices = np.flatnonzero(choice)
        specs.append(_Floating.of(values.shape, indices))
        position.append(values.reshape(-1)[indices])
        frozen.append(values)
    _refuse(faults)
    return tuple(specs), np.concatenate(position), tuple(frozen)


def _read_data(
    data: Any, argument: str = "data", min_rows: int = 2
) -> tuple[tuple[np.ndarray, ...], tuple[str, ...], Any]:
    """Columns, what they are called, and the structure of a batch."""
    found, structure = jax.tree_util.tree_flatten_with_path(data)
    if not found:
        raise InputError(
            f"{argument}: found {kind_of_value(data)} without arrays, expected arrays with one row per example."
        )
    names = tuple(f"{argument}{jax.tree_util.keystr(path)}" for path, _ in found)
    columns = [column for _, column in found]
    _refuse([(name, fault) for name, column in zip(names, columns, strict=True) for fault in _faults_of(column)])
    arrays = [_with_known_dtype(np.asarray(column)) for column in columns]
    num_data = arrays[0].shape[0]
    _refuse(
        [
            (name, f"found {array.shape[0]} rows, expected {num_data} as in {names[0]}.")
            for name, array in zip(names, arrays, strict=True)
            if array.shape[0] != num_data
        ]
    )
    if num_data < min_rows:
        raise InputError(f"{argument}: found {num_data} rows, expected at least {min_rows}.")
    return tuple(arrays), names, structure


def _faults_of(column: Any) -> Iterator[str]:
    """What is wrong with a column of data alone."""
    if not isinstance(column, np.ndarray | jax.Array):
        yield f"found {kind_of_value(column)}, expected a NumPy or JAX array."
    elif not (is_floating(column) or jnp.issubdtype(column.dtype, jnp.integer) or column.dtype == np.bool_):
        yield f"found dtype {column.dtype}, expected floating-point or whole numbers."
    elif column.ndim == 0:
        yield "found a single number, expected an array with one row per example."
    elif is_floating(column) and (bad := int(np.sum(~np.isfinite(_with_known_dtype(np.asarray(column)))))):
        yield f"found {bad} of {column.size} entries NaN or infinite, expected finite numbers."


def _with_known_dtype(column: np.ndarray) -> np.ndarray:
    """The column; bfloat16 and its like, which NumPy itself does not know, as float32."""
    is_foreign = is_floating(column) and not np.issubdtype(column.dtype, np.floating)
    return column.astype(np.float32) if is_foreign else column


def _refuse(faults: Sequence[tuple[str, str]]) -> None:
    """Tell faults by their places, each fault once.

    Raises:
        InputError: there are some.
    """
    places: dict[str, list[str]] = {}
    for place, fault in faults:
        places.setdefault(fault, []).append(place)
    lines = [f"{listed(found)}: {fault}" for fault, found in places.items()]
    if lines:
        more = [f"… and {len(lines) - MOST_NAMED} more."] if len(lines) > MOST_NAMED else []
        raise InputError("\n".join(lines[:MOST_NAMED] + more))


class _Traced(NamedTuple):
    """What a loss returns, and the floating dtypes that it computes in."""

    returned: Any
    dtypes: frozenset[str]


@functools.lru_cache(maxsize=64)
def _traced(
    loss_fn: PerExampleLossFn, dim: int, columns: tuple[tuple[tuple[int, ...], Any], ...], dtype: str
) -> _Traced:
    batch = tuple(jax.ShapeDtypeStruct(*column) for column in columns)
    frozen, function = (), loss_fn
    if isinstance(loss_fn, PytreeLoss):
        function = loss_fn.returned
        frozen = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in loss_fn.frozen_shapes)
    position = jax.ShapeDtypeStruct((dim,), dtype)
    try:
        program, returned = jax.make_jaxpr(function, return_shape=True)(position, batch, *frozen)
    except _UNTRACEABLE as error:
        raise InputError(
            f"loss_fn: found {_what_is_untraceable(error)}{_place_in_loss(error)}, where values are not known yet; "
            "expected what JAX can trace: functions of jax.numpy in place of NumPy's, jnp.where in place of `if` on "
            "values, and no float(), int() or .item()."
        ) from error
    return _Traced(returned, frozenset(_floating_dtypes(program.jaxpr)))


def _floating_dtypes(program: Any) -> Iterator[str]:
    """Floating dtypes of whatever a jaxpr and those within it compute."""
    for equation in program.eqns:
        for variable in equation.outvars:
            dtype = getattr(variable.aval, "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, jnp.floating):
                yield str(dtype)
        for parameter in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda value: hasattr(value, "eqns")):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from _floating_dtypes(inner)


def _what_is_untraceable(error: Exception) -> str:
    if isinstance(error, jax.errors.TracerBoolConversionError):
        return "a decision of Python (`if`, `while`, `and`)"
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "a function of NumPy"
    if isinstance(error, jax.errors.NonConcreteBooleanIndexError):
        return "an index by booleans"
    return "float(), int() or the like"


def _place_in_loss(error: Exception) -> str:
    """The last line of code that is neither an installed package's nor ours."""
    frames = traceback.extract_tb(error.__traceback__)
    installed = tuple(map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
    own = str(Path(__file__).parents[1])
    theirs = [frame for frame in frames if not frame.filename.startswith((*installed, own))]
    return f" in {theirs[-1].filename}, line {theirs[-1].lineno}, `{theirs[-1].name}`" if theirs else ""


def _columns_of(model: Model, dtype: str) -> tuple[tuple[tuple[int, ...], Any], ...]:
    return tuple((column.shape, column.dtype) for column in model.columns(dtype))


def coarsest_dtype(model: Model, dtype: str) -> str:
    """The least precise dtype that the loss computes in where its arguments are in `dtype`, which JAX has to be in."""
    dtypes = {dtype, *_traced(model.loss_fn, model.dim, _columns_of(model, dtype), dtype).dtypes}
    return max(dtypes, key=lambda name: float(jnp.finfo(name).eps))


def check_loss_type(model: Model, dtype: str) -> None:
    """Refuse a loss that does not give one number, or one per token, for each row of data in `dtype`.

    Raises:
        InputError: what it gives, what is expected and what to change.
    """
    num_data = model.num_data
    columns = _columns_of(model, dtype)
    losses = _traced(model.loss_fn, model.dim, columns, dtype).returned
    wanted = f"expected shape ({num_data},), one loss for each of {num_data} rows"
    if not isinstance(losses, jax.ShapeDtypeStruct):
        raise InputError(f"loss_fn: returned {kind_of_value(losses)}, {wanted}.")
    is_per_token = len(losses.shape) == 2 and losses.shape[0] == num_data and losses.shape[1] > 0
    if losses.shape != (num_data,) and not is_per_token:
        hint = " Leave out the mean over the batch." if losses.shape == () else ""
        raise InputError(f"loss_fn: returned shape {losses.shape}, {wanted}.{hint}")
    if is_per_token and losses.shape[1] == num_data:
        fewer = tuple(((num_data - 1, *shape[1:]), kind) for shape, kind in columns)
        if _traced(model.loss_fn, model.dim, fewer, dtype).returned.shape[1] != num_data:
            raise InputError(
                f"loss_fn: returned shape {losses.shape}, {wanted}. Predictions and labels are broadcast against each "
                "other: give both the same shape."
            )
    if not jnp.issubdtype(losses.dtype, jnp.floating):
        raise InputError(f"loss_fn: returned {losses.dtype}, expected {dtype}.")


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
    loss_fn: PerExampleLossFn, position: Float[Array, " d"], rows: tuple[Array, ...], frozen: tuple[Array, ...]
) -> tuple[Array, Array]:
    num_rows = rows[0].shape[0] // 2
    few = tuple(column[:num_rows] for column in rows)
    return losses_of(loss_fn, position, rows, frozen)[:num_rows], losses_of(loss_fn, position, few, frozen)


def check_rows(
    loss_fn: PerExampleLossFn, position: Float[Array, " d"], rows: tuple[Array, ...], frozen: tuple[Array, ...] = ()
) -> None:
    """Refuse a loss of a row that is random, or depends on the other rows of its batch.

    `position` should lie away from w0, where the losses of a model that interpolates are nothing but rounding.

    Raises:
        InputError: a row with its two losses.
    """
    losses, again = (np.asarray(values) for values in _losses_in_two_batches(loss_fn, position, rows, frozen))
    if not (np.isfinite(losses).all() and np.isfinite(again).all()):
        return  # a loss may well overflow out there
    worst = int(np.argmax(np.abs(again - losses)))
    tolerance = ROW_TOLERANCE * np.max(np.abs(losses))
    if abs(again[worst] - losses[worst]) <= tolerance:
        return
    one, other = (np.asarray(losses_of(loss_fn, position, rows, frozen)) for _ in range(2))
    if np.max(np.abs(one - other)) > tolerance:
        worst = int(np.argmax(np.abs(one - other)))
        raise InputError(
            f"loss_fn: row {worst} has loss {one[worst]:.6g} and then {other[worst]:.6g} in the same batch at the same "
            "params; expected a loss that is not random. Switch dropout off, and make neither random numbers nor "
            "random keys inside."
        )
    raise InputError(
        f"loss_fn: row {worst} has loss {losses[worst]:.6g} in one batch and {again[worst]:.6g} in a smaller one; "
        "expected the loss of a row not to depend on the other rows."
    )


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
