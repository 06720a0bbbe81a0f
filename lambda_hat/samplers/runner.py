"""Runs chains of any sampler in chunks of fixed shape, adapting the step size during warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.step_size import dual_averaging_adaptation
from jaxtyping import Array, Float

from lambda_hat.posterior.local import LARGE_DIM
from lambda_hat.samplers.base import Info, MinibatchSampler, Sampler, State, TunableSampler
from lambda_hat.samplers.pace import OutOfTime, Pace

__all__ = ["Chains", "init_chains", "run_chains"]

OnChunk = Callable[[Info, int], bool]


@dataclass(frozen=True)
class Chains:
    """What a run left: traces `(num_chains, num_done)` as numpy, final states, and the sampler as adapted."""

    info: Info
    states: State
    sampler: Any
    num_done: int
    is_complete: bool
    is_out_of_time: bool  # the deadline came first
    is_interrupted: bool  # in the middle of a chunk, which the device may still be computing


class _Tuner(eqx.Module):
    """Dual averaging of one step size shared by all chains (Hoffman & Gelman 2014, section 3.2)."""

    state: Any
    target_accept: Array

    @classmethod
    def start(cls, sampler: TunableSampler) -> _Tuner:
        init, _, _ = dual_averaging_adaptation(sampler.target_accept)  # pyright: ignore[reportArgumentType]
        step_size = jnp.asarray(sampler.step_size)
        state = jax.tree.map(lambda x: jnp.asarray(x, step_size.dtype), init(step_size))
        return cls(state, sampler.target_accept)

    def update(self, acceptance_rate: Array) -> _Tuner:
        _, update, _ = dual_averaging_adaptation(self.target_accept)  # pyright: ignore[reportArgumentType]
        state = jax.tree.map(
            lambda new, old: jnp.asarray(new, old.dtype), update(self.state, acceptance_rate), self.state
        )
        return _Tuner(state, self.target_accept)

    def step_size(self, is_warmup: Array) -> Array:
        return jnp.exp(jnp.where(is_warmup, self.state.log_step_size, self.state.log_step_size_avg))

    def adapted(self, *, is_warmup: bool) -> Array:
        """The same by NumPy, whatever the device is at."""
        log_step_size = np.asarray(self.state.log_step_size if is_warmup else self.state.log_step_size_avg)
        return jax.device_put(np.asarray(np.exp(log_step_size), log_step_size.dtype))


@eqx.filter_jit
def _init_chains(sampler: Sampler, rng_key: Array, displacements: Array) -> State:
    return jax.vmap(sampler.init)(jax.random.split(rng_key, displacements.shape[0]), displacements)


def init_chains(sampler: Sampler, rng_key: Array, displacements: Array) -> State:
    """States of chains that start at w0 + displacements, `(num_chains, d)`."""
    return _init_chains(sampler, rng_key, displacements)


@eqx.filter_jit
def _run_chunk(
    sampler: Sampler,
    tuner: _Tuner | None,
    rng_key: Array,
    states: State,
    start: Array,
    num_steps: Array,
    num_warmup: Array,
    chunk_size: int,
    is_sequential: bool,
) -> tuple[State, _Tuner | None, Float[Array, "steps fields chains"]]:
    num_chains = jax.tree.leaves(states)[0].shape[0]

    def step_all(sampler: Sampler, keys: Array, states: State) -> tuple[State, Info]:
        if is_sequential:
            return jax.lax.map(lambda pair: sampler.step(*pair), (keys, states))
        return jax.vmap(sampler.step)(keys, states)

    # One key per step, not per chunk: the chunk size never changes a result. All at once, as each is little work.
    times = start + jnp.arange(chunk_size, dtype=jnp.int32)
    all_keys = jax.vmap(lambda t: jax.random.split(jax.random.fold_in(rng_key, t), num_chains))(times)

    def advance(tuner: _Tuner | None, states: State, i: Array | int) -> tuple[_Tuner | None, State, Info]:
        keys = all_keys[i]
        if tuner is None:
            states, info = step_all(sampler, keys, states)
            return None, states, info
        is_warmup = start + i < num_warmup
        tuned = sampler.with_step_size(tuner.step_size(is_warmup))  # pyright: ignore[reportAttributeAccessIssue]
        states, info = step_all(tuned, keys, states)
        updated = tuner.update(jnp.mean(info.acceptance_rate))
        return jax.tree.map(lambda new, old: jnp.where(is_warmup, new, old), updated, tuner), states, info

    shape = jax.eval_shape(lambda: advance(tuner, states, 0)[2].excess_loss)
    traces = jnp.zeros((chunk_size, len(Info._fields), *shape.shape), shape.dtype)  # one array: one write per step

    def body(i: Array, carry: Any) -> Any:
        tuner, states, traces = carry
        tuner, states, info = advance(tuner, states, i)
        return tuner, states, traces.at[i].set(jnp.stack(info))

    # A traced bound: the last, shorter chunk runs in the same program.
    tuner, states, traces = jax.lax.fori_loop(0, num_steps, body, (tuner, states, traces))
    return states, tuner, traces


def _is_sequential(sampler: Sampler, states: State) -> bool:
    # A large network's activations for one chain fill the cache; for all of them at once they do not fit.
    if jax.default_backend() != "cpu" or (isinstance(sampler, MinibatchSampler) and sampler.is_minibatch):
        return False
    return eqx.filter_eval_shape(jax.vmap(sampler.displacement), states).shape[1] > LARGE_DIM


def run_chains(
    sampler: Any,
    rng_key: Array,
    states: State,
    num_steps: int,
    *,
    num_warmup: int = 0,
    start: int = 0,
    chunk_size: int = 250,
    min_chunks: int = 1,
    on_chunk: OnChunk | None = None,
    pace: Pace | None = None,
) -> Chains:
    """Run `num_steps` steps of every chain; `on_chunk(info, num_done)` returns False to stop early.

    Steps are numbered from `start`, and step t uses the key `fold_in(rng_key, t)`, so that stopping and resuming
    (without warm-up) equals running through. The sampler's step size is adapted while t < `num_warmup` if it can be.
    Chunks have at most `chunk_size` steps, at most one in `min_chunks` of all, and as few as the deadline of `pace`
    asks for; a chunk that its guard interrupts leaves nothing.

    Raises:
        OutOfTime: the deadline came before the end of the first chunk.
    """
    pace = Pace() if pace is None else pace
    tuner = _Tuner.start(sampler) if num_warmup > start and isinstance(sampler, TunableSampler) else None
    is_sequential = _is_sequential(sampler, states)
    largest = min(chunk_size, -(-num_steps // min_chunks))
    parts: list[Info] = []
    done = 0
    is_out_of_time = is_interrupted = False
    while done < num_steps:
        size = pace.size(min(largest, num_steps - done))
        if size == 0:
            is_out_of_time = True
            break
        clock = time.monotonic()
        try:
            with pace.guard():
                new_states, new_tuner, traces = _run_chunk(
                    sampler,
                    tuner,
                    rng_key,
                    states,
                    np.asarray(start + done, np.int32),  # pyright: ignore[reportArgumentType]
                    np.asarray(size, np.int32),  # pyright: ignore[reportArgumentType]
                    np.asarray(num_warmup, np.int32),  # pyright: ignore[reportArgumentType]
                    chunk_size,
                    is_sequential,
                )
                # Contiguous (fields, chains, steps); what the chunk did not fill is left behind.
                fields = np.ascontiguousarray(np.asarray(traces)[:size].transpose(1, 2, 0))
        except OutOfTime:
            is_out_of_time = is_interrupted = True
            break
        states, tuner = new_states, new_tuner
        part = Info(*fields)
        parts.append(part)
        done += size
        is_wanted = on_chunk is None or on_chunk(part, done)
        if len(parts) > 1:
            pace.took(size, time.monotonic() - clock)
        if not is_wanted:
            break
    if is_out_of_time and not parts:
        raise OutOfTime
    if tuner is not None:
        sampler = sampler.with_step_size(tuner.adapted(is_warmup=done + start < num_warmup))
    info = Info(*(np.concatenate(fields, axis=1) for fields in zip(*parts, strict=True)))
    return Chains(info, states, sampler, done, done == num_steps, is_out_of_time, is_interrupted)
