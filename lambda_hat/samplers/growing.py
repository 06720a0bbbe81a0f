"""Chains that grow round by round, and that can be put down and taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.draws.diagnostics import DiagnosedDraws
from lambda_hat.draws.info import Info, drop_burn_in
from lambda_hat.draws.rows import RowLosses
from lambda_hat.samplers.base import State
from lambda_hat.samplers.recorder import RowRecorder
from lambda_hat.samplers.runner import Chains, init_chains, run_chains
from lambda_hat.samplers.work import Work

__all__ = ["GrowingChains"]

CHUNK_STEPS = 50  # of the longest chunk
MAX_INTEGRATION_STEPS = 256
NUM_READAPTATION = 100


class _Now(NamedTuple):
    """Where chains are and how they came there: replaced as a whole, so that no interruption leaves half of it."""

    sampler: Any
    states: State
    displacements: Float[Array, "chains d"]  # of the states: another computation may come too late to ask for them
    info: Info | None

    @classmethod
    def of(cls, sampler: Any, states: State, info: Info | None) -> _Now:
        return cls(sampler, states, jax.vmap(sampler.displacement)(states), info)


class GrowingChains:
    """Chains of one sampler; the first quarter of what there is never counts: starts must be forgotten first."""

    def __init__(
        self,
        sampler: Any,
        rng_key: Array,
        displacements: Float[Array, "chains d"],
        work: Work,
        info: Info | None = None,
        recorder: RowRecorder | None = None,
    ) -> None:
        self._now = _Now.of(sampler, init_chains(sampler, rng_key, displacements), info)
        self._work = work
        self._recorder = recorder  # of the draws that are kept
        self._pace = work.pace()
        self._retained: tuple[Info, DiagnosedDraws] | None = None  # of the draws that they were made of

    @property
    def sampler(self) -> Any:
        """As it is adapted now."""
        return self._now.sampler

    @property
    def info(self) -> Info | None:
        """All draws that were kept."""
        return self._now.info

    @property
    def num_done(self) -> int:
        """Draws of each chain, those that do not count included."""
        return 0 if self.info is None else self.info.excess_loss.shape[1]

    @property
    def retained(self) -> DiagnosedDraws | None:
        """The last three quarters of the draws."""
        if self.info is None:
            return None
        if self._retained is None or self._retained[0] is not self.info:
            kept = drop_burn_in(self.info, self.num_done // 4)
            self._retained = self.info, DiagnosedDraws(kept, float(self.sampler.posterior.nbeta))
        return self._retained[1]

    @property
    def row_losses(self) -> RowLosses | None:
        """What was recorded of the last three quarters of the draws."""
        return None if self._recorder is None else self._recorder.result(self.num_done // 4)

    def since(self, num_done: int) -> Info:
        """The draws after the first `num_done` of each chain."""
        assert self.info is not None
        return drop_burn_in(self.info, num_done)

    @property
    def states(self) -> State:
        """Of every chain now."""
        return self._now.states

    @property
    def displacements(self) -> Float[Array, "chains d"]:
        """w − w0 of every chain now."""
        return self._now.displacements

    def advance(self, rng_key: Array, num_steps: int, *, num_warmup: int = 0) -> None:
        """Go on without keeping the draws; a warm-up adapts the step size."""
        self._advance(self.sampler, rng_key, num_steps, num_warmup)

    def extend(self, rng_key: Array, num_steps: int) -> None:
        """Go on and keep the draws, those of the chunks that ended in time."""
        chains = self._run(self.sampler, rng_key, num_steps, recorder=self._recorder)
        parts = [chains.info] if self.info is None else [self.info, chains.info]
        info = Info(*(np.concatenate(traces, axis=1) for traces in zip(*parts, strict=True)))
        self._now = _Now.of(chains.sampler, chains.states, info)

    def _advance(self, sampler: Any, rng_key: Array, num_steps: int, num_warmup: int) -> None:
        chains = self._run(sampler, rng_key, num_steps, num_warmup)
        self._now = _Now.of(chains.sampler, chains.states, self.info)

    def _run(
        self, sampler: Any, rng_key: Array, num_steps: int, num_warmup: int = 0, recorder: RowRecorder | None = None
    ) -> Chains:
        def on_chunk(info: Info, num_done: int) -> bool:
            del num_done
            self._work.num_gradient_evaluations += float(np.sum(info.num_gradient_evaluations))
            return True

        return run_chains(
            sampler,
            rng_key,
            self._now.states,
            num_steps,
            num_warmup=num_warmup,
            chunk_size=CHUNK_STEPS,
            on_chunk=on_chunk,
            pace=self._pace,
            recorder=recorder,
        )

    def snapshots(self, keys: Any, num_snapshots: int, steps_between: int) -> Float[Array, "draws d"]:
        """Positions of all chains, `num_snapshots` times with steps between."""
        positions = []
        for _ in range(num_snapshots):
            self.advance(next(keys), steps_between)
            positions.append(self.displacements)
        return jnp.concatenate(positions)

    def lengthen(self, rng_key: Array) -> None:
        """Twice as many leapfrog steps from here on, up to a limit, and a step size adapted to them, but no larger.

        A step that is stable on short trajectories need not be so on long ones, and one that was halved for divergences
        stays so.
        """
        if (num_steps := self._twice_the_steps()) > int(self.sampler.num_integration_steps):
            self._pace = self._work.pace()
            sampler = self.sampler.with_numbers(num_integration_steps=num_steps)
            chains = self._run(sampler, rng_key, NUM_READAPTATION, NUM_READAPTATION)
            step_size = jnp.minimum(chains.sampler.step_size, sampler.step_size)
            self._now = _Now.of(chains.sampler.with_numbers(step_size=step_size), chains.states, self.info)

    def _twice_the_steps(self) -> int:
        return min(2 * int(self.sampler.num_integration_steps), MAX_INTEGRATION_STEPS)

    def at_half_step_size(self, rng_key: Array) -> GrowingChains:
        """New chains from where these are, at half the step size and with twice the leapfrog steps, up to the limit."""
        sampler = self.sampler.with_numbers(
            step_size=self.sampler.step_size / 2, num_integration_steps=self._twice_the_steps()
        )
        recorder = None if self._recorder is None else self._recorder.anew()
        return GrowingChains(sampler, rng_key, self.displacements, self._work, recorder=recorder)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Traces, positions and adapted numbers: what `restore` goes on from."""
        arrays = {"displacements": np.asarray(self.displacements)}
        arrays |= {name: np.asarray(number) for name, number in self.sampler.tuned_numbers.items()}
        if self.info is not None:
            arrays |= {name: np.asarray(trace, np.float32) for name, trace in self.info._asdict().items()}
        return arrays

    @classmethod
    def restore(cls, sampler: Any, rng_key: Array, arrays: Mapping[str, np.ndarray], work: Work) -> GrowingChains:
        """The chains that `to_arrays` put down, of a sampler built as before."""
        dtype = sampler.step_size.dtype
        sampler = sampler.with_numbers(**{name: arrays[name] for name in sampler.tuned_numbers})
        info = None
        if "excess_loss" in arrays:
            info = Info(**{name: np.asarray(arrays[name], np.float64) for name in Info._fields})
        return cls(sampler, rng_key, jnp.asarray(arrays["displacements"], dtype), work, info)
