"""Chains of any sampler in chunks of fixed shape, with a step size that warm-up adapts; one run, or several at once."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeAlias, TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from lambda_hat.draws.info import Info
from lambda_hat.posterior.local import LARGE_DIM
from lambda_hat.samplers.base import Sampler, State, TunableSampler
from lambda_hat.samplers.chunk import Chunk, ChunkEnd, Tuner, init_chains, run_chunk, run_chunks_together
from lambda_hat.samplers.pace import OutOfTime, Pace
from lambda_hat.samplers.recorder import RowRecorder
from lambda_hat.samplers.stopwatch import compiling, setting_up

__all__ = ["Chains", "ChunkRequests", "init_chains", "run_chains", "run_together", "sample_chains", "to_completion"]

MAX_NUMBERS_TOGETHER = 1 << 26  # in the states of runs that are vectorised: memory

T = TypeVar("T")
P = ParamSpec("P")
OnChunk = Callable[[Info, int], bool]
# A run in parts: it asks for chunks, is sent how they ended, and returns what it found.
ChunkRequests: TypeAlias = Generator[Chunk, ChunkEnd, T]


@dataclass(frozen=True)
class Chains:
    """What a run left: traces `(num_chains, num_done)` as numpy, final states, and the sampler as adapted."""

    info: Info
    states: State
    sampler: Any
    num_done: int
    is_out_of_time: bool  # the deadline came first
    is_interrupted: bool  # in the middle of a chunk, which the device may still be computing

    def settled_states(self) -> State:
        """The final states, for more to be computed of them.

        Raises:
            OutOfTime: a chunk was interrupted, and whatever is asked of the device would wait for its end.
        """
        if self.is_interrupted:
            raise OutOfTime
        return self.states


def _is_sequential(sampler: Sampler, states: State) -> bool:
    # A large network's activations for one chain fill the cache; for all of them at once they do not fit.
    if jax.default_backend() != "cpu" or sampler.is_minibatch:
        return False
    return eqx.filter_eval_shape(jax.vmap(sampler.displacement), states).shape[1] > LARGE_DIM


def sample_chains(
    sampler: Any,
    rng_key: Array,
    states: State,
    num_steps: int,
    *,
    num_warmup: int = 0,
    chunk_size: int = 250,
    min_chunks: int = 1,
    on_chunk: OnChunk | None = None,
    pace: Pace | None = None,
    recorder: RowRecorder | None = None,
) -> ChunkRequests[Chains]:
    """Run `num_steps` steps of every chain; `on_chunk(info, num_done)` returns False to stop early.

    Step t uses the key `fold_in(rng_key, t)`: chunks change nothing, and a run that is stopped is the first part of the
    whole. The step size of a `TunableSampler` is adapted while t < `num_warmup`. Chunks have at most `chunk_size`
    steps, at most one in `min_chunks` of all, and as few as the deadline of `pace` asks for. A chunk that its guard
    interrupts leaves nothing. They also end where `recorder` wants to look at the states.

    Raises:
        OutOfTime: the deadline came before the end of the first chunk.
    """
    pace = Pace() if pace is None else pace
    tuner = Tuner.start(sampler) if num_warmup > 0 and isinstance(sampler, TunableSampler) else None
    is_sequential = _is_sequential(sampler, states)
    largest = min(chunk_size, -(-num_steps // min_chunks))
    parts: list[Info] = []
    done = 0
    is_out_of_time = is_interrupted = False
    while done < num_steps:
        to_next = num_steps if recorder is None else recorder.steps_to_next()
        size = pace.size(min(largest, num_steps - done, to_next))
        if size == 0:
            is_out_of_time = True
            break
        clock = time.monotonic()
        try:
            end = yield Chunk(
                sampler=sampler,
                tuner=tuner,
                rng_key=rng_key,
                states=states,
                start=done,
                num_steps=size,
                num_warmup=num_warmup,
                max_steps=chunk_size,
                is_sequential=is_sequential,
                pace=pace,
            )
        except OutOfTime:
            is_out_of_time = is_interrupted = True
            break
        states, tuner = end.states, end.tuner
        parts.append(end.info)
        done += end.num_steps
        if recorder is not None:
            recorder.record(sampler, states, end.num_steps)
        is_wanted = on_chunk is None or on_chunk(end.info, done)
        if len(parts) > 1:
            pace.took(end.num_steps, time.monotonic() - clock)
        if not is_wanted:
            break
    if is_out_of_time and not parts:
        raise OutOfTime
    if tuner is not None:
        sampler = sampler.with_numbers(step_size=tuner.adapted(is_warmup=done < num_warmup))
    info = Info(*(np.concatenate(fields, axis=1) for fields in zip(*parts, strict=True)))
    return Chains(info, states, sampler, done, is_out_of_time, is_interrupted)


def run_together(runs: Sequence[ChunkRequests[T]]) -> Iterator[tuple[int, T]]:
    """What each of `runs` finds, with its index, as soon as it has ended.

    Chunks of one program are vectorised, each within the guard of the earliest deadline; where one run is out of time,
    the others ask for theirs again. Where several raise, as for want of memory, half as many go together from then on.
    A run is told what a chunk of its own raises; what it lets out ends all, and closes those that are not through.
    """
    waiting: dict[int, Chunk] = {}
    most: dict[Hashable, int] = {}  # by program, where as many as wanted were too many

    def resume(index: int, step: Callable[..., Chunk], *args: Any) -> Iterator[tuple[int, T]]:
        try:
            waiting[index] = step(*args)
        except StopIteration as end:
            yield index, end.value

    with contextlib.ExitStack() as closing:
        for run in runs:
            closing.callback(run.close)
        for index, run in enumerate(runs):
            yield from resume(index, run.__next__)
        while waiting:
            for indices in _groups(waiting, most):
                chunks = [waiting.pop(index) for index in indices]
                first = min(range(len(chunks)), key=lambda i: chunks[i].pace.deadline)
                try:
                    with chunks[first].pace.guard():
                        _compile(chunks)
                        ends = _run(chunks)
                except OutOfTime as error:
                    waiting.update(zip(indices, chunks, strict=True))
                    del waiting[indices[first]]
                    yield from resume(indices[first], runs[indices[first]].throw, error)
                except Exception as error:
                    if len(indices) == 1:
                        yield from resume(indices[0], runs[indices[0]].throw, error)
                    else:
                        waiting.update(zip(indices, chunks, strict=True))
                        most[chunks[0].program] = len(indices) // 2
                else:
                    for index, end in zip(indices, ends, strict=True):
                        yield from resume(index, runs[index].send, end)


def _run(chunks: Sequence[Chunk]) -> list[ChunkEnd]:
    return [run_chunk(chunks[0])] if len(chunks) == 1 else run_chunks_together(chunks)


_compiled: set[Hashable] = set()  # signatures and widths of programs that this process has run


def _compile(chunks: Sequence[Chunk]) -> None:
    """Have the program of these chunks compiled where they have a deadline, in time that does not count.

    The number of steps is a traced value: the program for none of them is the one for all.
    """
    key = chunks[0].signature, len(chunks)
    if key not in _compiled and math.isfinite(chunks[0].pace.deadline):
        with setting_up.running(), compiling.running():
            _run([replace(one, num_steps=0) for one in chunks])
    _compiled.add(key)


def _groups(waiting: dict[int, Chunk], most: dict[Hashable, int]) -> list[list[int]]:
    """Indices of chunks that run together."""
    if len(waiting) == 1:
        return [list(waiting)]
    by_program: dict[Hashable, list[int]] = defaultdict(list)
    for index, chunk in waiting.items():
        by_program[chunk.program].append(index)
    groups: list[list[int]] = []
    for program, indices in by_program.items():
        num_numbers = sum(map(np.size, jax.tree.leaves(waiting[indices[0]].states)))
        size = min(max(1, MAX_NUMBERS_TOGETHER // num_numbers), most.get(program, len(indices)))
        groups += [indices[i : i + size] for i in range(0, len(indices), size)]
    return groups


def to_completion(sampling: Callable[P, ChunkRequests[T]]) -> Callable[P, T]:
    """`sampling` as an ordinary function, which runs every chunk that is asked for and returns what was found."""

    @functools.wraps(sampling)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        ((_, found),) = run_together([sampling(*args, **kwargs)])
        return found

    return run


run_chains = to_completion(sample_chains)
