"""Random numbers of one step by integer hashing; on a CPU JAX's own cost five times as much, up to half a gradient.

A step's key, made by JAX from the seed, the step and the chain, is 64 random bits. Word i of its stream is two rounds
of an integer hash of i, keyed before each: far from cryptographic, but nothing that a sampler could notice. Keys with
the same second word have the same stream, shifted by the difference of their first: chance brings two such within reach
of each other about once in 10¹⁹/(number of keys)²/(length of a stream) runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer, UInt32
from numpy.polynomial import Chebyshev, Polynomial

__all__ = ["few_normals", "indices", "normals"]


# Shifts and factors that Christopher Wellons found by search ("Prospecting for Hash Functions", 2018).
_FIRST = ((16, 0x21F0AAAD), (15, 0xD35A2D97), (15, 1))
_SECOND = ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB), (14, 1))  # keys that differ in one bit need this


def _mix(x: UInt32[Array, " size"], rounds: tuple[tuple[int, int], ...]) -> UInt32[Array, " size"]:
    """A bijection of 32 bits in which every bit of the result depends on every bit of `x`."""
    for shift, factor in rounds:
        x = (x ^ (x >> shift)) * np.uint32(factor)
    return x


def _words(rng_key: Array, counters: UInt32[Array, " size"]) -> UInt32[Array, " size"]:
    """The words at `counters` of the stream of `rng_key`: a permutation of all 32-bit words."""
    data = jax.random.key_data(rng_key)
    return _mix(_mix(counters + data[0], _FIRST) + data[-1], _SECOND)


def _polynomial(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int) -> list[float]:
    """Coefficients, highest power first, of the Chebyshev interpolant of `function`."""
    interpolant = Chebyshev.interpolate(function, degree, (low, high))
    return [float(c) for c in interpolant.convert(domain=(-1, 1), kind=Polynomial).coef[::-1]]


# Both within 3e-8, relative: XLA's functions are slower, of which its cosine is not vectorised.
_LOG = _polynomial(lambda f: (np.log1p(f) - f) / f**2, -1 / 3, 1 / 3, 7)  # no node at 0
_SINE = _polynomial(lambda square: np.sinc(np.sqrt(square)) * np.pi, 0, 0.25, 4)
_TWO_THIRDS = np.float32(2 / 3).view(np.int32)
_EXPONENT = np.int32(-(1 << 23))  # a mask


def _horner(coefficients: list[float], x: Array) -> Array:
    total = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def _log(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log of positive, normal float32."""
    bits = lax.bitcast_convert_type(x, jnp.int32)
    exponent = (bits - _TWO_THIRDS) & _EXPONENT
    f = lax.bitcast_convert_type(bits - exponent, jnp.float32) - 1  # x = 2^exponent (1 + f), |f| ≤ 1/3
    return (exponent >> 23).astype(jnp.float32) * math.log(2) + (f + f * f * _horner(_LOG, f))


def _cosine(turns: UInt32[Array, " size"]) -> Float[Array, " size"]:
    """cos of an angle in units of 2⁻³² turns, as sin π(½ − |y|) with y in half turns."""
    y = 0.5 - jnp.abs(lax.bitcast_convert_type(turns, jnp.int32).astype(jnp.float32)) * 2.0**-31
    return y * _horner(_SINE, y * y)


def _radius(words: UInt32[Array, " size"]) -> Float[Array, " size"]:
    """Distance from the origin of a point whose two coordinates are standard normals."""
    return jnp.sqrt(-2 * _log((words.astype(jnp.float32) + 0.5) * 2.0**-32))


def normals(rng_key: Array, size: int, dtype: jnp.dtype) -> Float[Array, " size"]:
    """Independent standard normals of 32 random bits each, by Box and Muller; float32, then cast to `dtype`.

    None is beyond 6.8. Another `size` gives other numbers: the two halves are cosines and sines of the
    same angles and share their radii.
    """
    i = lax.iota(jnp.uint32, (size + 1) // 2)
    radius = _radius(_words(rng_key, 2 * i))
    turns = _words(rng_key, 2 * i + 1)
    both = (_cosine(turns), _cosine(turns + np.uint32(1 << 30)))
    return jnp.concatenate([radius * wave for wave in both])[:size].astype(dtype)


def few_normals(rng_key: Array, size: int, dtype: jnp.dtype) -> Float[Array, " size"]:
    """Independent standard normals, at twice the price of `normals`; the first ones do not depend on `size`.

    They are unrelated to those of `normals`.
    """
    i = 2 * lax.iota(jnp.uint32, size) + np.uint32(1 << 31)
    return (_radius(_words(rng_key, i)) * _cosine(_words(rng_key, i + 1))).astype(dtype)


def indices(rng_key: Array, size: int, upper: int) -> Integer[Array, " size"]:
    """Independent uniform indices on 0 … upper − 1, unrelated to the normals; relative bias at most upper/2³²."""
    words = _words(rng_key, np.uint32(0xFFFFFFFF) - lax.iota(jnp.uint32, size))  # no stream of normals is as long
    return (words % np.uint32(upper)).astype(jnp.int32)
