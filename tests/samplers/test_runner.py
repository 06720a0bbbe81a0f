"""The chunked runner, with a sampler small enough to be followed by hand."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.draws.info import Info
from lambda_hat.samplers import pace as pace_module
from lambda_hat.samplers import runner as runner_module
from lambda_hat.samplers.base import Sampler, TunableSampler, halton
from lambda_hat.samplers.pace import LONGEST_CHUNK_SEC, OutOfTime, Pace
from lambda_hat.samplers.runner import init_chains, run_chains

pytestmark = pytest.mark.usefixtures("float64")


class WalkState(NamedTuple):
    position: jax.Array


class Walk(TunableSampler):
    """A random walk that reports its position and the step size it was given; acceptance falls with the step size."""

    def init(self, rng_key, displacement):
        return WalkState(displacement[0])

    def displacement(self, state):
        return state.position[None]

    def step(self, rng_key, state):
        position = state.position + self.step_size * jax.random.normal(rng_key)
        one = jnp.ones(())
        return WalkState(position), Info(
            position, position**2, jnp.exp(-self.step_size), one, 0 * one, 0 * one, self.step_size, one, one, one, one
        )


class Untunable(Sampler):
    """A walk without a step size to adapt."""

    walk: Walk

    def init(self, rng_key, displacement):
        return self.walk.init(rng_key, displacement)

    def displacement(self, state):
        return self.walk.displacement(state)

    def step(self, rng_key, state):
        return self.walk.step(rng_key, state)


def walk(step_size: float = 1.0, target_accept: float = 0.8) -> Walk:
    return Walk(jnp.asarray(step_size), jnp.asarray(target_accept))


def run(sampler, num_steps, **options):
    states = init_chains(sampler, jax.random.key(0), jnp.arange(3.0)[:, None])
    return run_chains(sampler, jax.random.key(1), states, num_steps, **options)


@pytest.mark.slow
@pytest.mark.parametrize("num_warmup", [0, 17])
def test_chunk_size_changes_nothing(num_warmup):
    whole = run(walk(), 40, num_warmup=num_warmup, chunk_size=40)
    for chunk_size in (7, 100):
        chains = run(walk(), 40, num_warmup=num_warmup, chunk_size=chunk_size)
        for expected, found in zip(whole.info, chains.info, strict=True):
            assert found.shape == (3, 40)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        np.testing.assert_allclose(chains.sampler.step_size, whole.sampler.step_size, rtol=1e-12)


def test_every_step_has_its_own_key_and_every_chain_its_own_noise():
    positions = run(walk(), 60, chunk_size=7).info.excess_loss
    steps = np.diff(positions, axis=1)
    assert np.unique(steps).size == steps.size


def test_traces_start_where_the_chains_start():
    positions = run(walk(1e-9), 5, chunk_size=2).info.excess_loss
    np.testing.assert_allclose(positions, np.repeat(np.arange(3.0)[:, None], 5, axis=1), atol=1e-6)


def test_stops_when_told():
    seen = []

    def on_chunk(info, num_done):
        seen.append((info.excess_loss.shape, num_done))
        return num_done < 20

    chains = run(walk(), 45, chunk_size=10, on_chunk=on_chunk)
    assert seen == [((3, 10), 10), ((3, 10), 20)]
    assert (chains.num_done, chains.info.excess_loss.shape) == (20, (3, 20))
    whole = run(walk(), 45, chunk_size=10)
    assert whole.num_done == 45
    np.testing.assert_array_equal(chains.info.excess_loss, whole.info.excess_loss[:, :20])


class SlowSteps:
    """A clock on which every step takes `seconds`, and the first chunk `compilation` as well."""

    def __init__(self, monkeypatch, seconds, compilation=0.0):
        self.now, self.seconds, self.compilation = 0.0, seconds, compilation
        self.sizes = []
        for module in (pace_module, runner_module):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def __call__(self, info, num_done):
        if not self.sizes:
            self.now += self.compilation
        self.sizes.append(info.excess_loss.shape[1])
        self.now += self.seconds * self.sizes[-1]
        return True


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.03, 0.7])
def test_a_run_out_of_time_is_the_first_part_of_the_whole(monkeypatch, seconds):
    clock = SlowSteps(monkeypatch, seconds)
    chains = run(walk(), 10_000, num_warmup=5000, on_chunk=clock, pace=Pace(10.0))
    assert chains.is_out_of_time
    assert chains.num_done == sum(clock.sizes) < 10_000
    assert 10.0 - seconds <= clock.now <= 10.0 + 1e-9
    whole = run(walk(), 400, num_warmup=5000)
    assert (whole.num_done, whole.is_out_of_time) == (400, False)
    for expected, found in zip(whole.info, chains.info, strict=True):
        np.testing.assert_array_equal(found, expected[:, : chains.num_done])


@pytest.mark.slow
def test_chunks_double_while_the_pace_is_learnt_and_none_learns_from_the_compilation(monkeypatch):
    clock = SlowSteps(monkeypatch, 1e-3, compilation=30.0)
    chains = run(walk(), 1000, chunk_size=250, on_chunk=clock, pace=Pace(100.0))
    assert clock.sizes == [1, 1, 2, 4, 8, 16, 32, 64, 128, 250, 250, 244]
    assert not chains.is_out_of_time


@pytest.mark.parametrize("budget", [20.0, 4000.0])
def test_the_stop_flag_does_not_wait_long(monkeypatch, budget):
    clock = SlowSteps(monkeypatch, 0.1)
    run(walk(), 400, on_chunk=clock, pace=Pace(budget))
    assert max(clock.sizes) * 0.1 == pytest.approx(min(budget / 20, LONGEST_CHUNK_SEC))


def test_short_runs_are_cut_into_chunks_too():
    sizes = []
    run(walk(), 45, min_chunks=10, on_chunk=lambda info, _: sizes.append(info.weight.shape[1]) or True)
    assert sizes == [5] * 9


def test_a_pace_once_learnt_serves_the_next_call(monkeypatch):
    clock, pace = SlowSteps(monkeypatch, 1e-3), Pace(100.0)
    run(walk(), 127, on_chunk=clock, pace=pace)
    clock.sizes.clear()
    run(walk(), 50, on_chunk=clock, pace=pace)
    assert clock.sizes == [50]


def guard_that_interrupts(chunk):
    """Raises in the chunk of this number, from 1, when its work is done."""
    count = 0

    @contextlib.contextmanager
    def guard():
        nonlocal count
        count += 1
        yield
        if count == chunk:
            raise OutOfTime

    return guard


def test_an_interrupted_chunk_leaves_nothing():
    chains = run(walk(), 40, chunk_size=10, pace=Pace(guard=guard_that_interrupts(3)))
    assert (chains.num_done, chains.is_out_of_time) == (20, True)
    first = run(walk(), 20, chunk_size=10)
    np.testing.assert_array_equal(chains.info.excess_loss, first.info.excess_loss)
    np.testing.assert_array_equal(chains.states.position, first.states.position)


@pytest.mark.parametrize("pace", [Pace(0.0), Pace(guard=guard_that_interrupts(1))], ids=["late", "interrupted"])
def test_out_of_time_before_the_first_chunk_is_told_by_an_exception(pace):
    with pytest.raises(OutOfTime):
        run(walk(), 40, pace=pace)


def test_warm_up_adapts_to_the_target_acceptance_and_then_freezes():
    chains = run(walk(5.0, 0.8), 600, num_warmup=500)
    assert float(chains.sampler.step_size) == pytest.approx(-np.log(0.8), rel=0.1)
    used = chains.info.weight
    assert np.unique(used[:, :500]).size > 400
    np.testing.assert_allclose(used[:, 500:], float(chains.sampler.step_size), rtol=1e-12)


def test_nothing_is_adapted_without_warm_up_or_without_a_step_size():
    assert np.all(run(walk(), 20).info.weight == 1.0)
    assert not isinstance(Untunable(walk()), TunableSampler)
    assert np.all(run(Untunable(walk()), 20, num_warmup=20).info.weight == 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("base", [2, 3])
def test_halton_numbers_fill_the_interval_evenly(base):
    numbers = np.sort(np.asarray(halton(jnp.arange(base**5), base)))
    np.testing.assert_allclose(numbers, np.arange(base**5) / base**5, atol=1e-12)
