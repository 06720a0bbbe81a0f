"""Some steps of all chains of a run as one program, or the same of several runs at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.step_size import dual_averaging_adaptation
from jaxtyping import Array, Float

from lambda_hat.draws.info import Info
from lambda_hat.samplers.base import Sampler, State, TunableSampler
from lambda_hat.samplers.pace import Pace

__all__ = ["Chunk", "ChunkEnd", "Tuner", "init_chains", "run_chunk", "run_chunks_together"]


class Tuner(eqx.Module):
    """Dual averaging of one step size shared by all chains (Hoffman & Gelman 2014, section 3.2)."""

    state: Any
    target_accept: Array

    @classmethod
    def start(cls, sampler: TunableSampler) -> Tuner:
        """One that begins at the sampler's step size."""
        init, _, _ = dual_averaging_adaptation(sampler.target_accept)  # pyright: ignore[reportArgumentType]
        step_size = jnp.asarray(sampler.step_size)
        state = jax.tree.map(lambda x: jnp.asarray(x, step_size.dtype), init(step_size))
        return cls(state, sampler.target_accept)

    def update(self, acceptance_rate: Array) -> Tuner:
        """After a step of all chains."""
        _, update, _ = dual_averaging_adaptation(self.target_accept)  # pyright: ignore[reportArgumentType]
        state = jax.tree.map(
            lambda new, old: jnp.asarray(new, old.dtype), update(self.state, acceptance_rate), self.state
        )
        return Tuner(state, self.target_accept)

    def step_size(self, is_warmup: Array) -> Array:
        """Step size of the next step: the current one in warm-up, the average after it."""
        return jnp.exp(jnp.where(is_warmup, self.state.log_step_size, self.state.log_step_size_avg))

    def adapted(self, *, is_warmup: bool) -> Array:
        """The adapted step size, computed by NumPy so that it does not wait for the device."""
        log_step_size = np.asarray(self.state.log_step_size if is_warmup else self.state.log_step_size_avg)
        return jax.device_put(np.asarray(np.exp(log_step_size), log_step_size.dtype))


@dataclass(frozen=True, eq=False)
class Chunk:
    """At most `num_steps` steps from step `start` on, of which those before `num_warmup` tune the step size."""

    sampler: Any
    tuner: Tuner | None
    rng_key: Array
    states: State
    start: int
    num_steps: int
    num_warmup: int
    max_steps: int  # a shape of the program, whatever `num_steps` is
    is_sequential: bool  # one chain after the other
    pace: Pace  # that asked for as many

    @cached_property
    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """`start` and `num_warmup` as the program takes them."""
        return np.asarray(self.start, np.int32), np.asarray(self.num_warmup, np.int32)

    @cached_property
    def program(self) -> Hashable:
        """Equal for chunks that can run as one vectorised program: shapes, dtypes, and what chooses a branch."""
        return id(self) if self.is_sequential else self.signature

    @cached_property
    def signature(self) -> Hashable:
        """Equal for chunks that one compiled program serves."""
        leaves, structure = jax.tree.flatten((self.sampler, self.tuner, self.states))
        shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        selectors = [int(leaf) for leaf in jax.tree.leaves(self.sampler) if _is_selector(leaf)]
        return structure, shapes, tuple(selectors), self.max_steps, self.is_sequential


@dataclass(frozen=True, eq=False)
class ChunkEnd:
    """Where a chunk ended: `info` are traces `(num_chains, num_steps)` of the steps that were done."""

    states: State
    tuner: Tuner | None
    info: Info

    @property
    def num_steps(self) -> int:
        """How many were done."""
        return self.info.weight.shape[1]


def init_chains(sampler: Sampler, rng_key: Array, displacements: Float[Array, "chains d"]) -> State:
    """States of chains that start at w0 + displacements."""
    return _init_chains(sampler.on_full_data, rng_key, displacements)


@eqx.filter_jit
def _init_chains(sampler: Sampler, rng_key: Array, displacements: Array) -> State:
    return jax.vmap(sampler.init)(jax.random.split(rng_key, displacements.shape[0]), displacements)


def run_chunk(chunk: Chunk) -> ChunkEnd:
    """Run `chunk.num_steps` steps."""
    states, tuner, traces = _run_chunk(
        chunk.sampler,
        chunk.tuner,
        chunk.rng_key,
        chunk.states,
        *chunk.numbers,
        np.asarray(chunk.num_steps, np.int32),
        chunk.max_steps,
        chunk.is_sequential,
    )
    return ChunkEnd(states, tuner, _info(traces, chunk.num_steps))


def run_chunks_together(chunks: Sequence[Chunk]) -> list[ChunkEnd]:
    """Run as many steps of each as the shortest of these chunks of one program asks for.

    The program is as wide as the next power of two, so that runs that end leave it few widths to be compiled for.
    """
    num_steps = min(chunk.num_steps for chunk in chunks)
    width = 1 << (len(chunks) - 1).bit_length()
    filled = [*chunks, *[chunks[-1]] * (width - len(chunks))]
    samplers = [chunk.sampler for chunk in filled]
    is_own = jax.tree.map(_differs, *samplers)
    own = [eqx.filter(sampler, is_own) for sampler in samplers]
    runs = [
        (one, chunk.tuner, chunk.rng_key, chunk.states, *chunk.numbers) for one, chunk in zip(own, filled, strict=True)
    ]
    shared = eqx.filter(samplers[0], is_own, inverse=True)
    ends = _run_chunks(shared, runs, np.asarray(num_steps, np.int32), chunks[0].max_steps)  # pyright: ignore[reportArgumentType]
    return [ChunkEnd(states, tuner, _info(traces, num_steps)) for states, tuner, traces in ends[: len(chunks)]]


def _is_selector(leaf: Any) -> bool:
    """Whether it chooses a branch: under `vmap` all branches would run if it were not shared."""
    return jnp.ndim(leaf) == 0 and jnp.issubdtype(jnp.result_type(leaf), jnp.integer)


def _differs(first: Any, *others: Any) -> bool:
    return not _is_selector(first) and any(other is not first for other in others)


def _info(traces: Array, num_steps: int) -> Info:
    # Contiguous (fields, chains, steps); what the chunk did not fill is left behind.
    return Info(*np.ascontiguousarray(np.asarray(traces)[:num_steps].transpose(1, 2, 0)))


@eqx.filter_jit
def _run_chunk(*args: Any) -> tuple[State, Tuner | None, Float[Array, "steps fields chains"]]:
    return _steps(*args)


@eqx.filter_jit
def _run_chunks(shared: Any, runs: list[Any], num_steps: Array, max_steps: int) -> list[Any]:
    def steps(run: Any) -> Any:
        own, tuner, rng_key, states, start, num_warmup = run
        sampler = eqx.combine(own, shared)
        return _steps(sampler, tuner, rng_key, states, start, num_warmup, num_steps, max_steps, False)

    # Stacked and taken apart in the program: outside it each leaf would be a call of its own.
    ends = jax.vmap(steps)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], ends) for i in range(len(runs))]


def _steps(
    sampler: Sampler,
    tuner: Tuner | None,
    rng_key: Array,
    states: State,
    start: Array,
    num_warmup: Array,
    num_steps: Array,
    max_steps: int,
    is_sequential: bool,
) -> tuple[State, Tuner | None, Float[Array, "steps fields chains"]]:
    num_chains = jax.tree.leaves(states)[0].shape[0]

    def step_all(sampler: Sampler, keys: Array, states: State) -> tuple[State, Info]:
        if is_sequential:
            return jax.lax.map(lambda pair: sampler.step(*pair), (keys, states))
        return jax.vmap(sampler.step)(keys, states)

    # One key per step, not per chunk: the chunk size never changes a result. All at once, as each is little work.
    times = start + jnp.arange(max_steps, dtype=jnp.int32)
    all_keys = jax.vmap(lambda t: jax.random.split(jax.random.fold_in(rng_key, t), num_chains))(times)

    def advance(tuner: Tuner | None, states: State, i: Array | int) -> tuple[Tuner | None, State, Info]:
        keys = all_keys[i]
        if tuner is None:
            states, info = step_all(sampler.at_step(start + i), keys, states)
            return None, states, info
        is_warmup = start + i < num_warmup
        tuned = sampler.with_numbers(step_size=tuner.step_size(is_warmup))  # pyright: ignore[reportAttributeAccessIssue]
        states, info = step_all(tuned.at_step(start + i), keys, states)
        updated = tuner.update(jnp.mean(info.acceptance_rate))
        return jax.tree.map(lambda new, old: jnp.where(is_warmup, new, old), updated, tuner), states, info

    shape = jax.eval_shape(lambda: advance(tuner, states, 0)[2].excess_loss)
    traces = jnp.zeros((max_steps, len(Info._fields), *shape.shape), shape.dtype)  # one array: one write per step

    def body(i: Array, carry: Any) -> Any:
        tuner, states, traces = carry
        tuner, states, info = advance(tuner, states, i)
        return tuner, states, traces.at[i].set(jnp.stack(info))

    # A traced bound: the last, shorter chunk runs in the same program.
    tuner, states, traces = jax.lax.fori_loop(0, num_steps, body, (tuner, states, traces))
    return states, tuner, traces
