"""Convolutions as products of matrices, on CPUs.

Samplers run inside loops, and there XLA's CPU backend computes convolutions, and still more their gradients, many times
slower than outside. A product of the windows of the input with the kernel does the same at the speed of any matrix
product. Other devices keep convolutions.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array

__all__ = ["with_matrix_products"]

_CONVOLUTION = core.primitives.conv_general_dilated_p
_JIT = core.primitives.jit_p
_function_of: Any = core.jaxpr_as_fun  # which JAX curries, and its types do not say so

P = ParamSpec("P")
T = TypeVar("T")


def with_matrix_products(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, whose convolutions are products of matrices where they run on a CPU.

    The result is the same but for rounding. Convolutions within loops, branches and custom derivatives of `function`
    stay as they are.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if jax.default_backend() != "cpu":
            return function(*args, **kwargs)
        program, returned = jax.make_jaxpr(function, return_shape=True)(*args, **kwargs)
        if not _has_convolution(program.jaxpr):
            return function(*args, **kwargs)
        values = _evaluate(program, jax.tree.leaves((args, kwargs)))
        return jax.tree.unflatten(jax.tree.structure(returned), values)

    return run


def _has_convolution(program: core.Jaxpr) -> bool:
    """Whether a program has one, or what it calls."""
    return any(
        equation.primitive is _CONVOLUTION
        or (equation.primitive is _JIT and _has_convolution(equation.params["jaxpr"].jaxpr))
        for equation in program.eqns
    )


def _evaluate(program: core.ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
    """What a program gives, equation by equation."""
    known: dict[Any, Any] = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    known |= zip(program.jaxpr.invars, args, strict=True)

    def value_of(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else known[variable]

    for equation in program.jaxpr.eqns:
        values = [value_of(variable) for variable in equation.invars]
        known |= zip(equation.outvars, _apply(equation, values, program.jaxpr), strict=True)
    return [value_of(variable) for variable in program.jaxpr.outvars]


def _apply(equation: core.JaxprEqn, values: list[Any], program: core.Jaxpr) -> Sequence[Any]:
    params = equation.params
    if equation.primitive is _CONVOLUTION:
        shape: tuple[int, ...] = getattr(equation.outvars[0].aval, "shape", ())
        if params["batch_group_count"] == 1 and 0 not in shape:
            signal, kernel = values
            return [_product_of_windows(signal, kernel, params)]
    if equation.primitive is _JIT and _has_convolution(params["jaxpr"].jaxpr):
        return _evaluate(params["jaxpr"], values)
    is_given = [not isinstance(variable, core.Literal) for variable in equation.invars]
    alone = program.replace(
        constvars=[],
        invars=list(itertools.compress(equation.invars, is_given)),
        outvars=equation.outvars,
        eqns=[equation],
        effects=equation.effects,
    )
    return _function_of(core.ClosedJaxpr(alone, []))(*itertools.compress(values, is_given))


def _product_of_windows(signal: Array, kernel: Array, params: dict[str, Any]) -> Array:
    """What `jax.lax.conv_general_dilated` gives: Σ over offsets in the window and over input features."""
    places = params["dimension_numbers"]  # of batch, features and space; of a kernel: output and input features, space
    batch, features, *space = places.lhs_spec
    signal = jnp.transpose(signal, (batch, *space, features))
    out, into, *space = places.rhs_spec
    kernel = jnp.transpose(kernel, (*space, into, out))
    margins = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(params["padding"], params["lhs_dilation"], strict=True)
    ]
    signal = jax.lax.pad(signal, jnp.zeros((), signal.dtype), [(0, 0, 0), *margins, (0, 0, 0)])

    *window, num_into, num_out = kernel.shape
    strides, dilations = params["window_strides"], params["rhs_dilation"]
    lengths = [
        (length - dilation * (width - 1) - 1) // stride + 1
        for length, width, stride, dilation in zip(signal.shape[1:-1], window, strides, dilations, strict=True)
    ]
    seen = []
    for offsets in itertools.product(*map(range, window)):
        first = [offset * dilation for offset, dilation in zip(offsets, dilations, strict=True)]
        last = [start + stride * (n - 1) + 1 for start, stride, n in zip(first, strides, lengths, strict=True)]
        ends = (signal.shape[0], *last, signal.shape[-1])
        seen.append(jax.lax.slice(signal, (0, *first, 0), ends, (1, *strides, 1)))

    groups = params["feature_group_count"]
    windows = jnp.stack(seen, axis=-2).reshape(signal.shape[0], *lengths, math.prod(window), groups, num_into)
    kernel = kernel.reshape(math.prod(window), num_into, groups, num_out // groups)
    found = jnp.einsum(
        "b...wgi,wigo->b...go",
        windows,
        kernel,
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )
    found = found.reshape(*found.shape[:-2], num_out)
    batch, features, *space = places.out_spec
    return jnp.transpose(found, _inverse((batch, *space, features)))


def _inverse(permutation: Sequence[int]) -> list[int]:
    return [permutation.index(axis) for axis in range(len(permutation))]
