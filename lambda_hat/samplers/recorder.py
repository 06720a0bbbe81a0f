"""Losses of single rows at draws of a run, recorded while it runs and thinned to a bound of memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.draws.many import MIN_DRAWS
from lambda_hat.draws.rows import RowLosses, RowTraces
from lambda_hat.errors import InputError
from lambda_hat.posterior import LocalPosterior
from lambda_hat.samplers.base import Sampler, State
from lambda_hat.samplers.stopwatch import setting_up

__all__ = ["MAX_BYTES", "MAX_DRAWS", "RowRecorder", "WatchedRows"]

MAX_DRAWS = 1000  # of each chain
MAX_BYTES = 1 << 28  # of all recorded losses
ROWS_AT_ONCE = 512  # whose activations are held


@dataclass(frozen=True, eq=False)
class WatchedRows:
    """Rows whose losses are recorded: by their numbers in the data, and as columns of others (`queries`)."""

    indices: np.ndarray
    queries: tuple[np.ndarray, ...] = ()  # columns like those of the data; empty: none

    @property
    def num_queries(self) -> int:
        """Rows beside the data."""
        return len(self.queries[0]) if self.queries else 0


class RowRecorder:
    """Records the draws of one set of chains at steps that are multiples of `every`, which doubles once memory is full.

    The run stops at those steps, so that its states can be looked at; since chunks change nothing, the draws are those
    of a run without a recorder.
    """

    def __init__(
        self, posterior: LocalPosterior, watched: WatchedRows, num_chains: int, *, first: int = 0, num_steps: int = 0
    ) -> None:
        """Of steps after `first`; thinned from the beginning where `num_steps` are expected.

        Raises:
            InputError: the losses of even a few draws are more than memory is meant to hold.
        """
        self._posterior, self._watched, self._num_chains = posterior, watched, num_chains
        self._batch = _batch(posterior, watched)
        self._num_rows = len(watched.indices) + watched.num_queries
        with setting_up.running():  # compiled before any deadline counts
            zero = jnp.zeros((num_chains, posterior.dim), posterior.w0.dtype)
            self._at_w0, _ = self._losses(zero)
        self._max_draws = min(MAX_DRAWS, MAX_BYTES // (4 * self._at_w0.size))
        if self._max_draws < 2 * MIN_DRAWS:
            most = MAX_BYTES // (8 * MIN_DRAWS)
            raise InputError(
                f"rows: found {self._at_w0.size} losses at each draw, with all chains, tokens and queries; expected "
                f"at most {most}. Choose fewer rows or chains."
            )
        self._first, self._num_steps = first, num_steps
        self._every = max(1, -(-(num_steps - first) // self._max_draws))
        self._num_done = 0
        self._steps: list[int] = []
        self._losses_kept: list[np.ndarray] = []
        self._totals: list[np.ndarray] = []

    def anew(self) -> RowRecorder:
        """One for other chains of the same posterior."""
        numbers = {"first": self._first, "num_steps": self._num_steps}
        return RowRecorder(self._posterior, self._watched, self._num_chains, **numbers)

    def steps_to_next(self) -> int:
        """Steps until the next one that is recorded."""
        return self._every - self._num_done % self._every

    def record(self, sampler: Any, states: State, num_steps: int) -> None:
        """Take note of the states after `num_steps` more steps."""
        self._num_done += num_steps
        if self._num_done % self._every or self._num_done <= self._first:
            return
        losses, totals = self._losses(_displacements(sampler, states))
        self._steps.append(self._num_done)
        self._losses_kept.append(losses - self._at_w0)
        self._totals.append(totals)
        if len(self._steps) > self._max_draws:
            self._every *= 2
            kept = [index for index, step in enumerate(self._steps) if step % self._every == 0]
            self._steps = [self._steps[index] for index in kept]
            self._losses_kept = [self._losses_kept[index] for index in kept]
            self._totals = [self._totals[index] for index in kept]

    def result(self, num_burn_in: int) -> RowLosses:
        """What was recorded after the first `num_burn_in` steps."""
        first = next((i for i, step in enumerate(self._steps) if step > num_burn_in), len(self._steps))
        losses = np.asarray(self._losses_kept[first:], np.float32).reshape(-1, *self._at_w0.shape).swapaxes(0, 1)
        totals = np.asarray(self._totals[first:], np.float32).reshape(-1, self._num_chains).T
        rows, queries = np.split(losses, [len(self._watched.indices)], axis=2)
        posterior = self._posterior
        return RowLosses(
            RowTraces(np.asarray(self._steps[first:], int) - num_burn_in, totals, rows, queries),
            self._watched.indices,
            float(posterior.nbeta) / posterior.num_data,
            (),
        )

    def _losses(self, displacements: Float[Array, "chains d"]) -> tuple[np.ndarray, np.ndarray]:
        """Losses of the rows, and L_n(w) − L_n(w0), of each chain."""
        losses, totals = _losses(self._posterior, self._batch, displacements)
        losses = np.asarray(losses)
        flat = losses.reshape(losses.shape[0], -1, *losses.shape[3:])  # chunks of rows in a row
        return flat[:, : self._num_rows], np.asarray(totals)


def _batch(posterior: LocalPosterior, watched: WatchedRows) -> tuple[Array, ...]:
    """Chunks `(chunks, rows, ...)` of the rows, the last one padded."""
    columns, _ = posterior.take(jnp.asarray(watched.indices, jnp.int32))
    if watched.queries:
        pairs = zip(columns, watched.queries, strict=True)
        columns = tuple(jnp.concatenate([own, jnp.asarray(query, own.dtype)]) for own, query in pairs)
    num_rows = columns[0].shape[0]
    num_chunks = max(1, math.ceil(num_rows / ROWS_AT_ONCE))
    size = math.ceil(num_rows / num_chunks)
    places = np.arange(num_chunks * size) % num_rows
    return tuple(column[places].reshape(num_chunks, size, *column.shape[1:]) for column in columns)


@eqx.filter_jit
def _displacements(sampler: Sampler, states: State) -> Float[Array, "chains d"]:
    return jax.vmap(sampler.displacement)(states)


@eqx.filter_jit
def _losses(
    posterior: LocalPosterior, batch: tuple[Array, ...], displacements: Float[Array, "chains d"]
) -> tuple[Array, Array]:
    def of_chain(displacement: Array) -> tuple[Array, Array]:
        position = posterior.w0 + displacement
        losses = jax.lax.map(lambda chunk: posterior.entry_losses(position, chunk), batch)
        return losses, posterior.excess_loss(position)

    return jax.lax.map(of_chain, displacements)
