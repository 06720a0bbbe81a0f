"""What every sampler must do, whatever it samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.methods import METHODS, parse_settings
from lambda_hat.posterior import Coordinates, DenseWhitening, build_posterior
from lambda_hat.samplers.base import TunableSampler
from lambda_hat.samplers.method import build as build_method
from lambda_hat.samplers.runner import init_chains, run_chains

pytestmark = pytest.mark.usefixtures("float64")

DIM, NUM_DATA, NUM_CHAINS, CHUNK_SIZE = 5, 40, 3, 10
SGLD = {"initial_step_size": 1e-2, "batch_size": 16}
VI = {"num_components": 2, "rank": 1, "max_components": 3, "max_rank": 2, "batch_size": 16}
SGHMC = {"step_size": 1e-2, "batch_size": 16}
VARIANTS = {
    "hmc": {},
    "mclmc": {},
    "mclmc unadjusted": {"is_adjusted": False},
    "sgld": SGLD,
    "sgld whitened": SGLD | {"preconditioner": "whitened"},
    "sghmc": SGHMC,
    "sghmc none": SGHMC | {"preconditioner": "none"},
    "vi": VI,
    "vi hessian": VI | {"whitening_mode": "hessian"},
}


@dataclass(frozen=True)
class CountingLoss:
    """A convex, not quite quadratic loss that counts how often it is traced."""

    num_traces: ClassVar[int] = 0

    def __call__(self, position, batch):
        type(self).num_traces += 1
        inputs, outputs = batch
        return jnp.log(jnp.cosh(inputs @ position - outputs))


def build(method: str, dtype: str = "float64", **settings: Any):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((NUM_DATA, DIM))
    data = (inputs, inputs @ np.ones(DIM) + rng.standard_normal(NUM_DATA))
    posterior = build_posterior(CountingLoss(), np.ones(DIM), data, nbeta=10.0, localization=2.0, dtype=dtype)
    whitening = DenseWhitening(jnp.asarray(0.3 * np.eye(DIM) + 0.01 * rng.standard_normal((DIM, DIM)), dtype))
    settings = parse_settings(method.split()[0], VARIANTS[method] | settings)
    return build_method(posterior, Coordinates(whitening, whitening), settings, jax.random.key(9)).sampler


def start(sampler, rng_key):
    return init_chains(sampler, rng_key, jnp.full((NUM_CHAINS, DIM), 0.1, sampler.posterior.w0.dtype))


def run(sampler, num_steps: int, **options: Any):
    states = start(sampler, jax.random.key(0))
    return run_chains(sampler, jax.random.key(1), states, num_steps, chunk_size=CHUNK_SIZE, **options)


def trace_a_step(sampler, dtype: str = "float64"):
    """Shapes and dtypes of the states before and after a step, of its info and its displacement. Compiles nothing."""
    key = jax.random.key(0)
    state = eqx.filter_eval_shape(sampler.init, key, jnp.zeros(DIM, dtype))
    after, info = eqx.filter_eval_shape(sampler.step, key, state)
    return state, after, info, eqx.filter_eval_shape(sampler.displacement, state)


def quick_for_one(methods):
    """Parameters; all but one are slow, as each compiles its own programs, and second variants are for the night."""
    marks = {"sgld": [], "mclmc unadjusted": pytest.mark.nightly, "vi hessian": pytest.mark.nightly}
    return [pytest.param(method, marks=marks.get(method, pytest.mark.slow)) for method in methods]


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_every_method_is_here():
    kernels = {method for method, settings in METHODS.items() if not settings.is_composite}
    assert {name.split()[0] for name in VARIANTS} == kernels


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", VARIANTS)
def test_state_keeps_its_shapes_and_dtypes(method, dtype):
    sampler = build(method, dtype)
    state, after, info, displacement = trace_a_step(sampler, dtype)
    assert shapes(after) == shapes(state)
    assert {(leaf.shape, leaf.dtype) for leaf in info} == {((), np.dtype(dtype))}
    assert (displacement.shape, displacement.dtype) == ((DIM,), np.dtype(dtype))
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floats} == {np.dtype(dtype)}
    if isinstance(sampler, TunableSampler):
        assert shapes(sampler.with_numbers(step_size=sampler.step_size * 2)) == shapes(sampler)


@pytest.mark.slow
@pytest.mark.parametrize("method", quick_for_one(method for method in VARIANTS if method != "vi hessian"))
def test_chains_equal_a_loop_over_them(method):
    sampler = build(method)
    together = run(sampler, 4).info
    init, step = eqx.filter_jit(sampler.init), eqx.filter_jit(lambda t, *args: sampler.at_step(t).step(*args))
    keys = jax.random.split(jax.random.key(0), NUM_CHAINS)
    states = [init(key, jnp.full(DIM, 0.1)) for key in keys]
    for t in range(4):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), t), NUM_CHAINS)
        pairs = [step(jnp.asarray(t), key, state) for key, state in zip(keys, states, strict=True)]
        states = [state for state, _ in pairs]
        for chain, (_, info) in enumerate(pairs):
            np.testing.assert_allclose([field[chain, t] for field in together], info, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("method", quick_for_one(VARIANTS))
def test_chunks_change_nothing_and_stopping_leaves_the_first_part(method):
    sampler = build(method)
    whole, parts = run(sampler, 25), run(sampler, 25, min_chunks=7)
    stopped = run(sampler, 25, on_chunk=lambda _, num_done: num_done < 20)
    assert stopped.num_done == 20
    for expected, in_parts, first in zip(whole.info, parts.info, stopped.info, strict=True):
        np.testing.assert_array_equal(expected, in_parts)
        np.testing.assert_array_equal(expected[:, :20], first)
    jax.tree.map(np.testing.assert_array_equal, whole.states, parts.states)


# Another value for every number that the sampler reads; none may cost a compilation.
OTHER_VALUES = {
    "hmc": [{"step_size": 0.1}, {"num_integration_steps": 9}, {"target_accept": 0.6}],
    "mclmc": [{"step_size": 0.3}, {"decoherence_length": 2.0}, {"target_accept": 0.6}],
    "sgld": [
        {"initial_step_size": 3e-3},
        {"annealing_exponent": 0.5},
        {"annealing_offset": 5.0},
        {"preconditioner": "rmsprop"},
        {"preconditioner": "adam"},
        {"preconditioner": "whitened"},
        {"gradient_decay": 0.5},
        {"square_decay": 0.9},
        {"damping": 0.3},
    ],
    "sghmc": [{"step_size": 3e-3}, {"friction": 0.5}, {"noise_share": 0.2}, {"preconditioner": "none"}],
    "mclmc unadjusted": [{"step_size": 0.3}, {"decoherence_length": 2.0}],
    "vi": [
        {"learning_rate": 1e-3},
        {"num_components": 3},
        {"rank": 2},
        {"whitening_mode": "rmsprop"},
        {"whitening_mode": "adam"},
    ],
}


@pytest.mark.parametrize("method", quick_for_one(OTHER_VALUES))
def test_numbers_are_traced(method):
    run(build(method), 12)  # whatever there is to compile
    before = CountingLoss.num_traces
    for change in OTHER_VALUES[method]:
        run(build(method, **change), 25)
    assert CountingLoss.num_traces == before
    trace_a_step(build(method))
    assert CountingLoss.num_traces > before  # what is traced is counted
