"""Means and covariances of many traces at once, each with its Monte Carlo standard error and R̂."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = ["MIN_DRAWS", "Measured", "correlations", "covariances", "means"]

NUM_BLOCKS = 20  # of each chain; even, for R̂ compares halves of chains
MIN_DRAWS = 2 * NUM_BLOCKS  # of each chain, before an error can be known
_MAX_NUMBERS = 1 << 22  # in the traces of pairs that are held at once


class Measured(NamedTuple):
    """Estimates with their Monte Carlo standard errors and R̂, in arrays of one shape."""

    value: np.ndarray
    se: np.ndarray
    rhat: np.ndarray


def means(traces: Float[np.ndarray, "chains draws entries"]) -> Measured:
    """Means over all draws.

    The standard error is that of the means of `NUM_BLOCKS` blocks of each chain, which is right once a block is much
    longer than the autocorrelation; R̂ compares the halves of all chains and is not rank-normalised.
    """
    return _slab(np.asarray(traces, np.float64), None, lambda left, _: left)


def covariances(
    left: Float[np.ndarray, "chains draws rows"], right: Float[np.ndarray, "chains draws columns"]
) -> Measured:
    """Cov(a_i, b_j) of every a_i in `left` with every b_j in `right`, judged as the mean of (a_i − ā_i)(b_j − b̄_j)."""
    one, other = _centred(left), _centred(right)
    return _in_slabs(one, other, _products)


def correlations(traces: Float[np.ndarray, "chains draws entries"]) -> Measured:
    """Correlations of all pairs of traces; a trace that never changes has none (NaN)."""
    centred = _centred(traces)
    with np.errstate(divide="ignore", invalid="ignore"):
        standard = centred / np.sqrt(np.mean(centred**2, axis=(0, 1)))
    return _in_slabs(standard, standard, _linearised_correlations)


_Blocks = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return left[..., :, None] * right[..., None, :]


def _linearised_correlations(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """r + ab − r (a² + b²)/2, of standardised a and b: its mean is their correlation r, its error that of r."""
    products = _products(left, right)
    r = products.mean(axis=(0, 1))
    return r + products - 0.5 * r * (left[..., :, None] ** 2 + right[..., None, :] ** 2)


def _in_slabs(left: np.ndarray, right: np.ndarray, terms: _Blocks) -> Measured:
    """All pairs, a few of `left` at a time, for the memory that their traces take."""
    size = max(1, _MAX_NUMBERS // max(1, right.size))
    parts = [_slab(left[..., i : i + size], right, terms) for i in range(0, left.shape[-1], size)]
    if not parts:
        return Measured(*(np.empty((0, right.shape[-1])) for _ in Measured._fields))
    return Measured(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _slab(left: np.ndarray, right: np.ndarray | None, terms: _Blocks) -> Measured:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # chains that diverged
        return _measured(terms(left, left if right is None else right))


def _measured(traces: Float[np.ndarray, "chains draws *shape"]) -> Measured:
    num_chains, num_draws = traces.shape[:2]
    shape = traces.shape[2:]
    value = traces.mean(axis=(0, 1)) if traces.size else np.full(shape, math.nan)
    if num_draws < MIN_DRAWS:
        return Measured(value, np.full(shape, math.inf), np.full(shape, math.inf))
    traces = traces[:, num_draws % NUM_BLOCKS :]  # blocks of one length
    blocks = traces.reshape(num_chains * NUM_BLOCKS, -1, *shape).mean(axis=1)
    halves = traces.reshape(num_chains * 2, -1, *shape)
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    ratio = np.where(between == 0, 0.0, between / within)  # what never changes is the same in all chains
    se = blocks.std(axis=0, ddof=1) / math.sqrt(len(blocks))
    return Measured(value, se, np.sqrt(1 - 1 / halves.shape[1] + ratio))


def _centred(traces: np.ndarray) -> np.ndarray:
    traces = np.asarray(traces, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return traces - traces.mean(axis=(0, 1)) if traces.size else traces
