"""Adjusted MCLMC against closed forms, and broken MCLMC against the same criterion."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.methods import MCLMCSettings
from lambda_hat.errors import InputError
from lambda_hat.posterior import DenseWhitening, hessian_whitening
from lambda_hat.samplers import mclmc
from lambda_hat.samplers.mclmc import MAX_INTEGRATION_STEPS, AdjustedMCLMC, build_mclmc
from lambda_hat.samplers.runner import init_chains, run_chains

pytestmark = pytest.mark.usefixtures("float64")

SETTINGS = MCLMCSettings(step_size=0.1, target_accept=0.9, decoherence_length=1.0)
NUM_STEPS = 2000


@pytest.fixture
def quadratic(build_quadratic):
    target, posterior = build_quadratic()
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    return posterior, whitening, target.exact_llc(float(posterior.nbeta), 10.0)


def test_quadratic_in_closed_form(quadratic, sample_llc, is_within, without_localization):
    posterior, whitening, exact = quadratic
    sampler = build_mclmc(posterior, whitening, SETTINGS)
    sound = sample_llc(sampler, NUM_STEPS)
    assert is_within(sound.llc, sound.se, exact)
    assert sound.rhat < 1.01
    assert sound.se < 0.02 * exact
    broken = sample_llc(without_localization(sampler), NUM_STEPS)
    assert not is_within(broken.llc, broken.se, exact)


def test_long_steps_need_the_metropolis_decision(
    quadratic, sample_llc, is_within, recast, never_rejecting, monkeypatch
):
    posterior, whitening, exact = quadratic

    class Unadjusted(AdjustedMCLMC):
        """MCLMC that never rejects."""

    sound = build_mclmc(posterior, whitening, MCLMCSettings(target_accept=0.5, decoherence_length=1.0))
    estimate = sample_llc(sound, NUM_STEPS)
    assert is_within(estimate.llc, estimate.se, exact)
    monkeypatch.setattr(mclmc, "_kernel", never_rejecting(mclmc._kernel))
    estimate = sample_llc(recast(sound, Unadjusted), NUM_STEPS)
    assert not is_within(estimate.llc, estimate.se, exact)


def test_whitening_changes_no_expectation(quadratic, sample_llc, is_within):
    posterior, _, exact = quadratic
    # In the original coordinates the posterior is a tenth as wide, and so is the unit of length.
    settings = MCLMCSettings(step_size=0.02, decoherence_length=0.15)
    estimate = sample_llc(build_mclmc(posterior, DenseWhitening(jnp.eye(5)), settings), NUM_STEPS)
    assert is_within(estimate.llc, estimate.se, exact)


def test_trajectories_are_as_long_as_asked(quadratic):
    posterior, whitening, _ = quadratic
    for length, start in ((4.0, 0.2), (16.0, 0.2), (4.0, 1e-5)):
        sampler = build_mclmc(posterior, whitening, MCLMCSettings(step_size=start, decoherence_length=length))
        states = init_chains(sampler, jax.random.key(0), jnp.zeros((8, 5)))
        chains = run_chains(sampler, jax.random.key(1), states, 1224, num_warmup=200)
        num_steps = chains.info.num_gradient_evaluations
        np.testing.assert_array_equal(num_steps, np.round(num_steps))
        assert num_steps.min() >= 1
        assert num_steps.max() <= MAX_INTEGRATION_STEPS  # also while the step is still tiny
        mean = length / float(chains.sampler.step_size)
        assert num_steps[:, 200:].mean() == pytest.approx(mean, rel=0.03)


def test_unadjusted_is_refused_rather_than_ignored(quadratic):
    posterior, whitening, _ = quadratic
    with pytest.raises(InputError, match="mclmc: adjusted = false is not available"):
        build_mclmc(posterior, whitening, MCLMCSettings(is_adjusted=False))
