"""The contract of every sampler: `init` makes a State, `step` gives (State, Info)."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["Info", "MinibatchSampler", "Sampler", "State", "TunableSampler", "halton"]

HALTON_PERIOD = 1024

State: TypeAlias = Any  # a pytree of arrays, whose shapes and dtypes never change


class Info(NamedTuple):
    """What one step tells about itself: every field a scalar of the sampler's dtype, or the NumPy trace of many steps.

    Attributes:
        excess_loss: L_n(w) − L_n(w0) of the new position, or an unbiased estimate of it.
        squared_distance: r² = |w − w0|².
        acceptance_rate: Metropolis acceptance probability; 1 for samplers without a correction.
        energy: total energy, for E-BFMI; what each sampler says where there is no such thing.
        is_divergent: 1 where the step failed numerically, else 0.
        weight: weight of this draw in the estimate (the step size of annealed SGLD).
        num_gradient_evaluations: on the full-data scale, a minibatch of B counting B/n; with the first step, also that
            of `init`.
    """

    excess_loss: Array | np.ndarray
    squared_distance: Array | np.ndarray
    acceptance_rate: Array | np.ndarray
    energy: Array | np.ndarray
    is_divergent: Array | np.ndarray
    weight: Array | np.ndarray
    num_gradient_evaluations: Array | np.ndarray


class Sampler(Protocol):
    """One chain's kernel. It is a pytree: numeric hyperparameters are leaves, so a new value never recompiles."""

    def init(self, rng_key: Array, displacement: Float[Array, " d"]) -> State:
        """State of a chain that starts at w0 + displacement."""
        ...

    def step(self, rng_key: Array, state: State) -> tuple[State, Info]:
        """One step of one chain."""
        ...

    def displacement(self, state: State) -> Float[Array, " d"]:
        """w − w0 of a state."""
        ...


@runtime_checkable
class TunableSampler(Sampler, Protocol):
    """A sampler whose step size the runner adapts to `target_accept` during warm-up."""

    step_size: Array
    target_accept: Array

    def with_step_size(self, step_size: Array) -> Any:
        """The same sampler with another step size."""
        ...


@runtime_checkable
class MinibatchSampler(Sampler, Protocol):
    """A sampler whose step may look at a few rows only."""

    @property
    def is_minibatch(self) -> bool:
        """Whether it does: then there is little to keep in cache, and chains go as one batch however large they are."""
        ...

    @property
    def without_steps(self) -> Any:
        """The same for what does not depend on how many rows those are: one program for all sizes."""
        ...


def halton(index: Array, base: int) -> Array:
    """The van der Corput number of `index` (modulo 1024) in `base`, in [0, 1): a low-discrepancy sequence.

    All chains share it, so that under `vmap` every trajectory of a step has the same number of integration steps.
    """
    return jnp.asarray(_van_der_corput(base), jnp.result_type(float))[index % HALTON_PERIOD]


@functools.cache
def _van_der_corput(base: int) -> np.ndarray:
    # A table: digits computed in the program cost XLA seconds of compilation.
    numbers, factor, rest = np.zeros(HALTON_PERIOD), 1.0 / base, np.arange(HALTON_PERIOD)
    while rest.any():
        numbers += (rest % base) * factor
        rest, factor = rest // base, factor / base
    return numbers
