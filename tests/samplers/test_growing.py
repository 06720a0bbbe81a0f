"""How chains change on their way."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.posterior import hessian_whitening
from lambda_hat.samplers.growing import MAX_INTEGRATION_STEPS, NUM_READAPTATION, GrowingChains
from lambda_hat.samplers.hmc import HMC
from lambda_hat.samplers.work import Work

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def build_chains(build_quadratic):
    _, posterior = build_quadratic()
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])

    def build(num_steps):
        sampler = HMC.from_settings(posterior, whitening, HMCSettings(num_integration_steps=num_steps))
        return GrowingChains(sampler, jax.random.key(0), jnp.zeros((2, posterior.dim)), Work())

    return build


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_steps", "longer"), [(3, 6), (MAX_INTEGRATION_STEPS - 1, MAX_INTEGRATION_STEPS), (MAX_INTEGRATION_STEPS,) * 2]
)
def test_trajectories_grow_up_to_a_limit(build_chains, num_steps, longer):
    chains = build_chains(num_steps)
    finer = chains.at_half_step_size(jax.random.key(1))
    assert finer.sampler.num_integration_steps == longer
    assert finer.sampler.step_size == chains.sampler.step_size / 2
    before, step_size = chains.displacements, float(chains.sampler.step_size)
    chains.lengthen(jax.random.key(2))
    assert float(chains.sampler.step_size) <= step_size, "it may have been halved for divergences"
    assert chains.sampler.num_integration_steps == longer
    assert (chains.displacements == before).all() == (longer == num_steps), f"{NUM_READAPTATION} steps adapt to them"


@pytest.mark.slow
def test_the_last_draws(build_chains):
    chains = build_chains(3)
    chains.extend(jax.random.key(1), 50)
    chains.extend(jax.random.key(2), 50)
    last = chains.since(60)
    assert last.excess_loss.shape == (2, 40)
    np.testing.assert_array_equal(last.excess_loss, chains.info.excess_loss[:, 60:])
