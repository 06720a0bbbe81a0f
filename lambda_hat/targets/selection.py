"""Which entries of a pytree of parameters are sampled: by patterns, by a function, by a pytree of booleans."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from lambda_hat.config.suggest import did_you_mean
from lambda_hat.errors import InputError

__all__ = ["MOST_NAMED", "Leaf", "is_array", "is_floating", "kind_of_value", "leaves_of", "listed", "select"]

_COLLECTION_OF_PARAMETERS = "params"  # of Flax linen's variables; `batch_stats` and the like lie beside it
_COLLECTION_OF_STATISTICS = "batch_stats"
MOST_NAMED = 12  # of many, in a message


@dataclass(frozen=True, eq=False)
class Leaf:
    """A leaf of a pytree with its place in it."""

    path: tuple[Any, ...]
    value: Any
    is_state: bool = False  # what a framework says is no parameter, such as the running mean of a batch norm

    @property
    def name(self) -> str:
        """Its place as patterns have it: `layers/0/weight`."""
        return jax.tree_util.keystr(self.path, simple=True, separator="/")

    @property
    def place(self) -> str:
        """Its place as Python has it: `params['layers'][0].weight`."""
        return f"params{jax.tree_util.keystr(self.path)}"


def leaves_of(params: Any) -> list[Leaf]:
    """The leaves in the order of `jax.tree.leaves`, those marked that a framework knows as state.

    That is whatever lies beside the collection `params` of Flax linen or in a `batch_stats` anywhere, and variables of
    Flax nnx that are no `Param`.
    """
    found = jax.tree_util.tree_flatten_with_path(params)[0]
    states = _states_of_nnx(params)
    is_linen = _is_linen(params)
    return [
        Leaf(
            path,
            value,
            is_state=index in states
            or (is_linen and path[0].key != _COLLECTION_OF_PARAMETERS)
            or any(getattr(part, "key", None) == _COLLECTION_OF_STATISTICS for part in path),
        )
        for index, (path, value) in enumerate(found)
    ]


def _is_linen(params: Any) -> bool:
    """Whether these are the variables of a Flax linen module: collections by name, one of them `params`."""
    return (
        isinstance(params, dict)
        and len(params) > 1
        and isinstance(params.get(_COLLECTION_OF_PARAMETERS), dict)
        and all(isinstance(collection, dict) for collection in params.values())
    )


def _states_of_nnx(params: Any) -> set[int]:
    """Indices of the leaves that lie in variables of Flax nnx other than `Param`."""

    def is_variable(value: Any) -> bool:
        return any(cls.__module__.startswith("flax.nnx") and cls.__name__ == "Variable" for cls in type(value).__mro__)

    states, index = set[int](), 0
    for part in jax.tree.leaves(params, is_leaf=is_variable):
        num_leaves = len(jax.tree.leaves(part)) if is_variable(part) else 1
        if is_variable(part) and not any(cls.__name__ == "Param" for cls in type(part).__mro__):
            states |= set(range(index, index + num_leaves))
        index += num_leaves
    return states


def select(leaves: Sequence[Leaf], params: Any, sampled: Any) -> list[Bool[np.ndarray, ...] | bool]:
    """For each leaf whether it is sampled, or which of its entries are.

    `sampled` is None (every floating leaf that is no state), a pattern or several (`"encoder/*"`, matched against
    `Leaf.name` and the places above it), a function `(path, leaf) -> bool | boolean array`, or a pytree of booleans or
    boolean arrays with the structure of `params` or a prefix of it.

    Raises:
        InputError: a pattern that matches no floating leaf, a choice of another type or shape, or nothing chosen.
    """
    if sampled is None:
        return [is_floating(leaf.value) and not leaf.is_state for leaf in leaves]
    chosen = list(_choices(leaves, params, sampled))
    for leaf, choice in zip(leaves, chosen, strict=True):
        if np.any(choice) and not is_floating(leaf.value):
            raise InputError(
                f"sampled: chooses {leaf.place}, {kind_of_value(leaf.value)}; expected arrays of floating-point "
                "numbers: only those can be sampled."
            )
    if not any(np.any(choice) for choice in chosen):
        raise InputError(f"sampled: chooses nothing of {_names_of(leaves)}; expected at least one entry.")
    return chosen


def _choices(leaves: Sequence[Leaf], params: Any, sampled: Any) -> Sequence[Bool[np.ndarray, ...] | bool]:
    if isinstance(sampled, str):
        return _by_patterns(leaves, [sampled])
    if isinstance(sampled, list | tuple) and all(isinstance(item, str) for item in sampled):
        return _by_patterns(leaves, sampled)
    if callable(sampled) and not _is_tree_of_booleans(sampled):
        function: Callable[[str, Any], Any] = sampled
        return [is_floating(leaf.value) and _checked(leaf, function(leaf.name, leaf.value)) for leaf in leaves]
    return _by_tree(leaves, params, sampled)


def _by_patterns(leaves: Sequence[Leaf], patterns: Sequence[str]) -> list[bool]:
    floating = [leaf for leaf in leaves if is_floating(leaf.value)]
    for pattern in patterns:
        if not any(_matches(leaf.name, pattern) for leaf in floating):
            names = [leaf.name for leaf in floating]
            hint = did_you_mean(pattern, names)
            raise InputError(
                f"sampled: {pattern!r} matches nothing of {_names_of(floating)}." + (f"\n    {hint}" if hint else "")
            )
    return [is_floating(leaf.value) and any(_matches(leaf.name, pattern) for pattern in patterns) for leaf in leaves]


def _matches(name: str, pattern: str) -> bool:
    """Whether the pattern names the leaf, or a part of the tree that it lies in."""
    parts = name.split("/")
    return any(fnmatch.fnmatchcase("/".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def _by_tree(leaves: Sequence[Leaf], params: Any, sampled: Any) -> list[Bool[np.ndarray, ...] | bool]:
    try:
        choices = jax.tree.leaves(jax.tree.broadcast(sampled, params))
    except ValueError as error:
        given = leaves_of(sampled)
        missing = [leaf for leaf in leaves if not any(leaf.path[: len(one.path)] == one.path for one in given)]
        extra = [one for one in given if not any(leaf.path[: len(one.path)] == one.path for leaf in leaves)]
        found = [f"no choice for {_names_of(missing)}"] if missing else []
        if extra:
            found.append(f"a choice for {_names_of(extra)}, which params do not have")
        raise InputError(
            f"sampled: found {' and '.join(found) or 'a pytree of other types than params'}; expected a pytree of "
            "booleans like params, patterns such as 'layers/0/*', or a function (path, leaf) -> bool."
        ) from error
    return [_checked(leaf, choice) for leaf, choice in zip(leaves, choices, strict=True)]


def _checked(leaf: Leaf, choice: Any) -> Bool[np.ndarray, ...] | bool:
    if isinstance(choice, bool | np.bool_):
        return bool(choice)
    if is_array(choice) and choice.dtype == np.bool_:
        mask = np.asarray(choice)
        if mask.shape == ():
            return bool(mask)
        if is_array(leaf.value) and mask.shape == leaf.value.shape:
            return bool(mask.flat[0]) if mask.all() or not mask.any() else mask
        shape = leaf.value.shape if is_array(leaf.value) else ()
        raise InputError(f"sampled: found booleans of shape {mask.shape} for {leaf.place}, expected {shape}.")
    raise InputError(f"sampled: found {kind_of_value(choice)} for {leaf.place}, expected True, False or booleans.")


def _is_tree_of_booleans(value: Any) -> bool:
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(
        isinstance(leaf, bool | np.bool_) or (is_array(leaf) and leaf.dtype == np.bool_) for leaf in leaves
    )


def listed(names: Sequence[str]) -> str:
    """The names one after the other; of many, the first ones."""
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])


def _names_of(leaves: Sequence[Leaf]) -> str:
    return listed([f"`{leaf.name}`" for leaf in leaves])


def is_array(value: Any) -> TypeGuard[np.ndarray | np.generic | jax.Array]:
    """Whether it is an array of NumPy or JAX."""
    return isinstance(value, np.ndarray | np.generic | jax.Array)


def is_floating(value: Any) -> bool:
    """Whether it is an array of real floating-point numbers."""
    return is_array(value) and bool(jnp.issubdtype(value.dtype, jnp.floating))


def kind_of_value(value: Any) -> str:
    """The value in words: "an array of shape (3,)", "a list"."""
    name = type(value).__name__
    if is_array(value):
        return f"an array of shape {value.shape}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
