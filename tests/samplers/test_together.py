"""Runs side by side: the same numbers as alone, few programs, and none that suffers for another."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.config.methods.sghmc import SGHMCSettings
from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.config.methods.vi import VISettings
from lambda_hat.draws.info import Info
from lambda_hat.estimate.method import run_method, sample_method
from lambda_hat.posterior import Coordinates, hessian_whitening
from lambda_hat.samplers import pace as pace_module
from lambda_hat.samplers import runner as runner_module
from lambda_hat.samplers.base import Sampler
from lambda_hat.samplers.chunk import run_chunk, run_chunks_together
from lambda_hat.samplers.pace import OutOfTime, Pace
from lambda_hat.samplers.runner import init_chains, run_chains, run_together, sample_chains

pytestmark = pytest.mark.usefixtures("float64")

SGLD = SGLDSettings(eta0=1e-3, batch=64, steps=300, dtype="float64")
VI = VISettings(M=2, r=1, max_components=3, max_rank=2, steps=100, num_draws=200, batch_size=32, dtype="float64")
SGHMC = SGHMCSettings(eta=1e-2, batch=64, steps=300, dtype="float64")
MCLMC = MCLMCSettings(step_size=0.3, steps=80)
HMC = HMCSettings(step_size=0.3, steps=80)


def changed(settings, **fields):
    return settings.model_copy(update=fields)


CASES = {
    **{
        f"sgld {preconditioner}": [
            changed(SGLD, preconditioner=preconditioner),
            changed(SGLD, preconditioner=preconditioner, initial_step_size=2e-3, num_steps=450, annealing_exponent=0.3),
            changed(SGLD, preconditioner=preconditioner, gradient_decay=0.8, square_decay=0.9, damping=0.1),
        ]
        for preconditioner in ("none", "rmsprop", "adam", "whitened")
    },
    **{
        f"sghmc {preconditioner}": [
            changed(SGHMC, preconditioner=preconditioner, step_size=1e-4),
            changed(SGHMC, preconditioner=preconditioner, step_size=2e-4, friction=0.3, noise_share=0.1, num_steps=450),
        ]
        for preconditioner in ("none", "whitened")
    },
    "vi": [
        changed(VI, whitening_mode="rmsprop"),
        changed(VI, whitening_mode="adam", num_components=3, rank=2, num_steps=140),
        changed(VI, whitening_mode="none", num_components=1, rank=0, learning_rate=2e-2),
    ],
    "vi hessian": [changed(VI, whitening_mode="hessian"), changed(VI, whitening_mode="hessian", learning_rate=2e-2)],
    "mclmc": [MCLMC, changed(MCLMC, step_size=0.5, decoherence_length=0.5, num_steps=120, target_accept=0.8)],
    "mclmc unadjusted": [
        changed(MCLMC, is_adjusted=False),
        changed(MCLMC, is_adjusted=False, step_size=0.5, decoherence_length=2.0, num_steps=120),
    ],
    "hmc": [
        changed(HMC, burn_in_fraction=0.0),
        changed(HMC, burn_in_fraction=0.0, step_size=0.5, num_steps=120),
    ],
}
ADAPTED = {"hmc": [HMC, changed(HMC, step_size=0.5, target_accept=0.7, num_steps=120)], "mclmc": CASES["mclmc"]}


@pytest.fixture
def groups(monkeypatch):
    """How many runs each vectorised chunk had, of programs that are new to this process."""
    sizes = []
    monkeypatch.setattr(runner_module, "_compiled", set())

    def run(chunks):
        sizes.append(len(chunks))
        return run_chunks_together(chunks)

    monkeypatch.setattr(runner_module, "run_chunks_together", run)
    return sizes


@pytest.fixture
def runs_of(build_quadratic):
    """The posterior and coordinates that all runs share, as arguments of a run of these settings."""
    _, posterior = build_quadratic()
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])

    def runs_of(cases):
        shared = {"coordinates": Coordinates(whitening, whitening)}
        return [((posterior, settings), {**shared, "seed": seed}) for seed, settings in enumerate(cases)]

    return runs_of


def assert_same_traces(found, expected, rtol):
    """To rounding, by the largest value of each field: a loss near zero is a difference of larger numbers."""
    for name, one, other in zip(Info._fields, found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=rtol * np.max(np.abs(other)), err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case if case == "sgld none" else pytest.param(case, marks=pytest.mark.nightly) for case in CASES]
)
def test_runs_side_by_side_find_what_they_find_alone(runs_of, groups, case):
    """The random numbers are the same, but a wider program may add in another order: 5e-13 was the most of it."""
    runs = runs_of(CASES[case])
    alone = [run_method(*args, **more) for args, more in runs]
    assert groups == []
    together = dict(run_together([sample_method(*args, **more) for args, more in runs]))
    assert max(groups) == len(runs)
    for index, expected in enumerate(alone):
        found = together[index]
        for name in ("state", "reason", "num_steps_done", "is_truncated", "num_gradient_evaluations"):
            assert getattr(found, name) == getattr(expected, name)
        assert found.estimate.num_draws == expected.estimate.num_draws
        assert found.estimate.llc == pytest.approx(expected.estimate.llc, rel=1e-9)
        assert found.extras == pytest.approx(expected.extras, rel=1e-9)
        assert_same_traces(found.info, expected.info, 1e-10)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "method", [pytest.param("hmc", marks=pytest.mark.slow), pytest.param("mclmc", marks=pytest.mark.nightly)]
)
def test_every_chunk_of_runs_that_adapt_is_what_it_is_alone(runs_of, monkeypatch, method):
    """Each from the states that it starts at: over a whole run, adaptation makes 1e-16 as large as the draws (HMC)."""
    num_compared = 0

    def run(chunks):
        nonlocal num_compared
        ends = run_chunks_together(chunks)
        for chunk, end in zip(chunks, ends, strict=True):
            alone = run_chunk(dataclasses.replace(chunk, num_steps=end.num_steps))
            assert_same_traces(end.info, alone.info, 1e-9)
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), end.states, alone.states)
            for is_warmup in (True, False) if chunk.tuner is not None else ():
                found, expected = end.tuner.adapted(is_warmup=is_warmup), alone.tuner.adapted(is_warmup=is_warmup)
                np.testing.assert_allclose(found, expected, rtol=1e-9)
            num_compared += 1
        return ends

    monkeypatch.setattr(runner_module, "run_chunks_together", run)
    together = dict(run_together([sample_method(*args, **more) for args, more in runs_of(ADAPTED[method])]))
    assert num_compared >= 10
    assert len({run.extras["adapted_step_size"] for run in together.values()}) == 2


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(changed(SGLD, dtype="float32"), marks=pytest.mark.nightly),
        pytest.param(changed(VI, dtype="float32"), marks=pytest.mark.nightly),
    ],
    ids=["sgld", "vi"],
)
def test_in_single_precision_runs_agree_to_its_rounding(build_quadratic, settings):
    with jax.enable_x64(False):
        _, posterior = build_quadratic(dtype="float32")
        whitening, _ = hessian_whitening(posterior, posterior.w0[None])
        more = {"coordinates": Coordinates(whitening, whitening)}
        alone = [run_method(posterior, settings, seed=seed, **more) for seed in range(2)]
        together = dict(run_together([sample_method(posterior, settings, seed=seed, **more) for seed in range(2)]))
    for index, expected in enumerate(alone):
        assert together[index].info.excess_loss.dtype == np.float32
        assert together[index].estimate.llc == pytest.approx(expected.estimate.llc, rel=1e-5)
        assert_same_traces(together[index].info, expected.info, 1e-5)


class WalkState(NamedTuple):
    position: jax.Array


class Walk(Sampler):
    """A random walk that reports its position; `kind`, a selector, turns it round."""

    step_size: jax.Array
    kind: jax.Array

    def init(self, rng_key, displacement):
        return WalkState(displacement)

    def displacement(self, state):
        return state.position

    def step(self, rng_key, state):
        noise = self.step_size * jax.random.normal(rng_key, state.position.shape)
        position = state.position + jax.lax.switch(self.kind, [lambda x: x, lambda x: -x], noise)
        one = jnp.ones(())
        return WalkState(position), Info(
            position[0], position[0] ** 2, one, one, 0 * one, 0 * one, one, one, one, one, one
        )


def walk(index, num_steps=40, *, kind=0, dim=1, **options):
    """One run, and a function that makes it once more: arguments of `sample_chains` and of `run_chains`."""
    sampler = Walk(jnp.asarray(1.0 + index), jnp.asarray(kind, jnp.int32))
    states = init_chains(sampler, jax.random.key(0), jnp.zeros((2, dim)))
    args = (sampler, jax.random.key(index), states, num_steps)
    return sample_chains(*args, **{"chunk_size": 10} | options), lambda: run_chains(*args, chunk_size=10)


def run_walks(*walks):
    return dict(run_together([sampling for sampling, _ in walks]))


def assert_is_start_of(chains, whole):
    np.testing.assert_array_equal(chains.info.excess_loss, whole.info.excess_loss[:, : chains.num_done])


@pytest.mark.nightly
def test_each_run_ends_as_soon_as_it_is_through():
    walks = [walk(index, num_steps) for index, num_steps in enumerate((50, 10, 30))]
    ends = [(index, chains.num_done) for index, chains in run_together([sampling for sampling, _ in walks])]
    assert ends == [(1, 10), (2, 30), (0, 50)]


@pytest.mark.nightly
@pytest.mark.parametrize("num_runs", [2, 5, 8])
def test_runs_that_end_one_after_the_other_take_few_programs(compiled, num_runs):
    walks = [walk(index, 10 * (index + 1)) for index in range(num_runs)]
    jax.clear_caches()
    compiled.clear()
    found = run_walks(*walks)
    programs = [name for name in compiled if "_run_chunk" in name]
    assert len(programs) <= 1 + (num_runs - 1).bit_length()
    assert sum("_run_chunks" in name for name in programs) == (num_runs - 1).bit_length()
    for index, (_, alone) in enumerate(walks):
        assert found[index].num_done == 10 * (index + 1)
        assert_is_start_of(found[index], alone())


@pytest.mark.slow
def test_other_shapes_and_other_branches_are_other_programs(groups):
    walks = [walk(0), walk(1), walk(2, kind=1), walk(3, kind=1), walk(4, kind=1), walk(5, dim=2)]
    found = run_walks(*walks)
    assert groups == [2, 3] * 4
    for index, (_, alone) in enumerate(walks):
        assert_is_start_of(found[index], alone())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SGLD, changed(SGLD, batch_size=32)),
        (SGLD, changed(SGLD, preconditioner="whitened")),
        (SGLD, changed(SGLD, num_chains=2)),
        (SGHMC, changed(SGHMC, preconditioner="none")),
        (VI, changed(VI, max_components=4)),
        (MCLMC, changed(MCLMC, is_adjusted=False)),
        (HMC, changed(HMC, num_integration_steps=5)),
        (MCLMC, HMC),
    ],
    ids=["minibatches", "preconditioner", "chains", "coordinates", "slots", "correction", "trajectories", "method"],
)
def test_settings_say_which_runs_are_put_together(runs_of, one, other):
    """`MethodSettings.program` packs trials before there is a chunk: both have to agree on what goes together."""
    runs = runs_of([one, one, other])
    chunks = [next(sample_method(*args, **more)).program for args, more in runs]
    assert chunks[0] == chunks[1] != chunks[2]
    assert one.program != other.program


@pytest.mark.parametrize("case", [*CASES, *(f"adapted {method}" for method in ADAPTED)])
def test_settings_of_one_program_are_put_together(runs_of, case):
    cases = ADAPTED[case.split()[1]] if case.startswith("adapted") else CASES[case]
    assert len({settings.program for settings in cases}) == 1
    assert len({next(sample_method(*args, **more)).program for args, more in runs_of(cases)}) == 1


@pytest.mark.slow
def test_no_more_go_together_than_memory_is_meant_for(monkeypatch, groups):
    monkeypatch.setattr(runner_module, "MAX_NUMBERS_TOGETHER", 15)  # the states of a walk are 2 · 3 numbers
    walks = [walk(index, dim=3) for index in range(5)]
    found = run_walks(*walks)
    assert groups == [2, 2] * 4
    for index, (_, alone) in enumerate(walks):
        assert_is_start_of(found[index], alone())


def test_half_as_many_go_together_where_memory_does_not_suffice(monkeypatch):
    tried = []

    def run(chunks):
        tried.append(len(chunks))
        if len(chunks) > 3:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return run_chunks_together(chunks)

    monkeypatch.setattr(runner_module, "run_chunks_together", run)
    walks = [walk(index) for index in range(7)]
    found = run_walks(*walks)
    assert tried == [7, *[3, 3] * 4]
    for index, (_, alone) in enumerate(walks):
        assert found[index].num_done == 40
        assert_is_start_of(found[index], alone())


def caught(sampling):
    """A run that keeps what it is told, as a trial does."""
    try:
        return (yield from sampling)
    except (Exception, OutOfTime) as error:
        return error


def test_a_chunk_that_cannot_be_run_fails_its_own_run_alone(monkeypatch):
    def run(chunks):
        if any(float(chunk.sampler.step_size) == 2.0 for chunk in chunks):
            raise FloatingPointError("the second walk")
        return run_chunks_together(chunks)

    monkeypatch.setattr(runner_module, "run_chunks_together", run)
    monkeypatch.setattr(runner_module, "run_chunk", lambda chunk: run([chunk])[0])
    walks = [walk(index) for index in range(4)]
    found = dict(run_together([caught(sampling) for sampling, _ in walks]))
    assert isinstance(found.pop(1), FloatingPointError)
    monkeypatch.undo()
    for index, chains in found.items():
        assert chains.num_done == 40
        assert_is_start_of(chains, walks[index][1]())


def stop_after(num_steps):
    return lambda info, num_done: num_done < num_steps


def raise_after(num_steps, error):
    def on_chunk(info, num_done):
        if num_done >= num_steps:
            raise error
        return True

    return on_chunk


def test_a_run_that_is_stopped_leaves_the_others_alone():
    walks = [walk(0), walk(1, on_chunk=stop_after(20)), walk(2)]
    found = run_walks(*walks)
    assert [found[index].num_done for index in range(3)] == [40, 20, 40]
    for index, (_, alone) in enumerate(walks):
        assert_is_start_of(found[index], alone())


def test_a_run_that_keeps_its_error_to_itself_leaves_the_others_alone():
    walks = [walk(0), walk(1, on_chunk=raise_after(20, ValueError("bad"))), walk(2)]
    found = dict(run_together([caught(sampling) for sampling, _ in walks]))
    assert isinstance(found[1], ValueError)
    for index in (0, 2):
        assert found[index].num_done == 40
        assert_is_start_of(found[index], walks[index][1]())


def test_what_a_run_lets_out_ends_all_and_closes_them():
    walks = [walk(0), walk(1, on_chunk=raise_after(20, ValueError("bad"))), walk(2)]
    with pytest.raises(ValueError, match="bad"):
        run_walks(*walks)
    assert {inspect.getgeneratorstate(sampling) for sampling, _ in walks} == {inspect.GEN_CLOSED}


def test_a_caller_that_has_enough_closes_all():
    walks = [walk(0), walk(1, 10), walk(2)]
    ends = run_together([sampling for sampling, _ in walks])
    assert next(ends)[0] == 1
    ends.close()
    assert {inspect.getgeneratorstate(sampling) for sampling, _ in walks} == {inspect.GEN_CLOSED}


def interrupting(chunk):
    """A guard that raises in the chunk of this number, from 1."""
    numbers = itertools.count(1)

    @contextlib.contextmanager
    def guard():
        yield
        if next(numbers) == chunk:
            raise OutOfTime

    return guard


class Deadline(Pace):
    """Chunks as large as allowed, whatever the deadline."""

    def size(self, largest):
        return largest


def test_an_interrupted_chunk_costs_only_the_run_whose_deadline_has_come(groups):
    walks = [
        walk(0, pace=Deadline(200.0)),
        walk(1, pace=Deadline(100.0, guard=interrupting(3))),
        walk(2, pace=Deadline(300.0)),
    ]
    found = run_walks(*walks)
    assert [found[index].num_done for index in range(3)] == [40, 20, 40]
    assert [found[index].is_interrupted for index in range(3)] == [False, True, False]
    assert groups == [3, 3, 3, 3, 2, 2, 2], "each width is compiled first, and the others ask for theirs again"
    for index, (_, alone) in enumerate(walks):
        assert_is_start_of(found[index], alone())


def test_an_interruption_in_the_first_chunk_is_an_exception_to_one_run_only():
    walks = [walk(0), walk(1, pace=Deadline(100.0, guard=interrupting(1))), walk(2)]
    found = dict(run_together([caught(sampling) for sampling, _ in walks]))
    assert isinstance(found[1], OutOfTime)
    assert (found[0].num_done, found[2].num_done) == (40, 40)


@pytest.fixture
def slow_steps(monkeypatch):
    """A clock on which every step of a chunk, however many runs are in it, takes a second."""
    clock = SimpleNamespace(now=0.0)

    def timed(run):
        def run_timed(chunks):
            ends = run(chunks)
            clock.now += (ends if isinstance(ends, list) else [ends])[0].num_steps
            return ends

        return run_timed

    for module in (pace_module, runner_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(runner_module, "run_chunk", timed(run_chunk))
    monkeypatch.setattr(runner_module, "run_chunks_together", timed(run_chunks_together))
    return clock


def test_a_deadline_is_that_of_one_run(slow_steps):
    walks = [walk(0), walk(1, pace=Pace(25.0)), walk(2)]
    found = run_walks(*walks)
    assert [found[index].is_out_of_time for index in range(3)] == [False, True, False]
    assert 20 <= found[1].num_done <= 25
    assert slow_steps.now == 40, "a chunk of all takes no longer than one of its own"
    for index, (_, alone) in enumerate(walks):
        assert_is_start_of(found[index], alone())


def test_time_that_other_programs_take_counts_against_a_deadline(slow_steps):
    walks = [walk(0, 1000, pace=Pace(100.0)), walk(1, 1000, kind=1, pace=Pace(100.0))]
    found = run_walks(*walks)
    assert [found[index].is_out_of_time for index in range(2)] == [True, True]
    assert slow_steps.now <= 100
    assert found[0].num_done + found[1].num_done == slow_steps.now
