"""MCLMC against closed forms, and broken MCLMC against the same criterion."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.posterior import DenseWhitening, hessian_whitening
from lambda_hat.samplers import mclmc
from lambda_hat.samplers.base import TunableSampler
from lambda_hat.samplers.mclmc import (
    MAX_INTEGRATION_STEPS,
    AdjustedMCLMC,
    BoundedMCLMC,
    UnadjustedMCLMC,
    energy_variance_at,
)
from lambda_hat.samplers.runner import init_chains, run_chains

pytestmark = pytest.mark.usefixtures("float64")

SETTINGS = MCLMCSettings(step_size=0.1, target_accept=0.9, decoherence_length=1.0)
NUM_STEPS = 2000


@pytest.fixture
def quadratic(build_quadratic):
    target, posterior = build_quadratic()
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    return posterior, whitening, target.exact_llc(float(posterior.nbeta), 10.0)


@pytest.mark.slow
def test_quadratic_in_closed_form(quadratic, sample_llc, is_within, without_localization):
    posterior, whitening, exact = quadratic
    sampler = AdjustedMCLMC.from_settings(posterior, whitening, SETTINGS)
    sound = sample_llc(sampler, NUM_STEPS)
    assert is_within(sound.llc, sound.se, exact)
    assert sound.rhat < 1.01
    assert sound.se < 0.02 * exact
    broken = sample_llc(without_localization(sampler), NUM_STEPS)
    assert not is_within(broken.llc, broken.se, exact)


@pytest.mark.slow
def test_long_steps_need_the_metropolis_decision(
    quadratic, sample_llc, is_within, recast, never_rejecting, monkeypatch
):
    posterior, whitening, exact = quadratic

    class NeverRejecting(AdjustedMCLMC):
        """MCLMC that never rejects."""

    sound = AdjustedMCLMC.from_settings(posterior, whitening, MCLMCSettings(target_accept=0.5, decoherence_length=1.0))
    estimate = sample_llc(sound, NUM_STEPS)
    assert is_within(estimate.llc, estimate.se, exact)
    monkeypatch.setattr(mclmc, "_adjusted_kernel", never_rejecting(mclmc._adjusted_kernel))
    estimate = sample_llc(recast(sound, NeverRejecting), NUM_STEPS)
    assert not is_within(estimate.llc, estimate.se, exact)


@pytest.mark.slow
def test_whitening_changes_no_expectation(quadratic, sample_llc, is_within):
    posterior, _, exact = quadratic
    # In the original coordinates the posterior is a tenth as wide, and so is the unit of length.
    settings = MCLMCSettings(step_size=0.02, decoherence_length=0.15)
    estimate = sample_llc(AdjustedMCLMC.from_settings(posterior, DenseWhitening(jnp.eye(5)), settings), NUM_STEPS)
    assert is_within(estimate.llc, estimate.se, exact)


@pytest.mark.slow
def test_trajectories_are_as_long_as_asked(quadratic):
    posterior, whitening, _ = quadratic
    for length, start in ((4.0, 0.2), (16.0, 0.2), (4.0, 1e-5)):
        sampler = AdjustedMCLMC.from_settings(
            posterior, whitening, MCLMCSettings(step_size=start, decoherence_length=length)
        )
        states = init_chains(sampler, jax.random.key(0), jnp.zeros((8, 5)))
        chains = run_chains(sampler, jax.random.key(1), states, 1224, num_warmup=200)
        num_steps = chains.info.num_gradient_evaluations
        np.testing.assert_array_equal(num_steps, np.round(num_steps))
        assert num_steps.min() >= 1
        assert num_steps.max() <= MAX_INTEGRATION_STEPS  # also while the step is still tiny
        mean = length / float(chains.sampler.step_size)
        assert num_steps[:, 200:].mean() == pytest.approx(mean, rel=0.03)


MAX_ERROR = 0.02  # relative, of what counts as an answer
UNADJUSTED = MCLMCSettings(is_adjusted=False, step_size=0.2, decoherence_length=1.0)


def unadjusted_error(quadratic, sample_llc, step_size, sampler=None):
    """Relative error and its standard error."""
    posterior, whitening, exact = quadratic
    if sampler is None:
        sampler = UnadjustedMCLMC.from_settings(
            posterior, whitening, UNADJUSTED.model_copy(update={"step_size": step_size})
        )
    estimate = sample_llc(sampler, 10_000)
    return (estimate.llc - exact) / exact, estimate.se / exact


@pytest.mark.nightly
def test_unadjusted_is_right_at_small_steps_only(quadratic, sample_llc, is_within, without_localization):
    posterior, whitening, _ = quadratic
    error, se = unadjusted_error(quadratic, sample_llc, 0.2)
    assert is_within(error, se, 0.0)
    assert se < MAX_ERROR
    errors = [unadjusted_error(quadratic, sample_llc, step_size) for step_size in (0.5, 1.0)]
    assert not any(is_within(error, se, 0.0) for error, se in errors)
    assert errors[1][0] > 2 * errors[0][0] > 0
    sound = UnadjustedMCLMC.from_settings(posterior, whitening, UNADJUSTED)
    assert not is_within(*unadjusted_error(quadratic, sample_llc, 0.2, without_localization(sound)), 0.0)


class NeverRefreshed(UnadjustedMCLMC):
    """MCLMC whose direction is never forgotten."""

    def step(self, rng_key, state):
        forever = jnp.full_like(self.decoherence_length, jnp.inf)
        return UnadjustedMCLMC(self.posterior, self.whitening, self.identities, self.step_size, forever).step(
            rng_key, state
        )


class Uphill(UnadjustedMCLMC):
    """MCLMC that climbs the wrong way."""

    def logdensity(self, z):
        return -super().logdensity(z)


@pytest.mark.parametrize("broken", [NeverRefreshed, pytest.param(Uphill, marks=pytest.mark.nightly)])
@pytest.mark.slow
def test_broken_unadjusted_kernels(broken, quadratic, sample_llc, is_within, recast):
    posterior, whitening, _ = quadratic
    sampler = recast(UnadjustedMCLMC.from_settings(posterior, whitening, UNADJUSTED), broken)
    error, se = unadjusted_error(quadratic, sample_llc, 0.2, sampler)
    assert not (is_within(error, se, 0.0) and se < MAX_ERROR)


@pytest.mark.slow
def test_unadjusted_steps_are_the_size_they_are_told(quadratic):
    posterior, whitening, _ = quadratic
    sampler = UnadjustedMCLMC.from_settings(posterior, whitening, UNADJUSTED)
    assert not isinstance(sampler, TunableSampler)
    states = init_chains(sampler, jax.random.key(0), jnp.zeros((8, 5)))
    chains = run_chains(sampler, jax.random.key(1), states, 1, num_warmup=1)
    moved = jnp.linalg.norm(chains.states.chain.position - states.chain.position, axis=1)
    np.testing.assert_allclose(moved, 0.2 * np.sqrt(5), rtol=1e-9)
    later = run_chains(sampler, jax.random.key(2), chains.states, 30, num_warmup=30)
    assert float(later.sampler.step_size) == 0.2
    np.testing.assert_array_equal(chains.info.num_gradient_evaluations, 2)  # and the one of init
    np.testing.assert_array_equal(later.info.num_gradient_evaluations, 1)
    # The energy error is that of the isokinetic Hamiltonian, of third order in the step size.
    half = UnadjustedMCLMC.from_settings(posterior, whitening, UNADJUSTED.model_copy(update={"step_size": 0.1}))
    spreads = [run_chains(s, jax.random.key(3), chains.states, 400).info.energy.std() for s in (sampler, half)]
    assert 6 < spreads[0] / spreads[1] < 10


@pytest.mark.nightly
def test_a_bound_on_the_bias_finds_its_step_size(quadratic, is_within):
    posterior, whitening, exact = quadratic
    assert energy_variance_at(0.01) == pytest.approx(3.92e-6, rel=0.001)
    steps = {}
    for bias in (0.02, 0.1):
        sampler = BoundedMCLMC.from_settings(posterior, whitening, UNADJUSTED.model_copy(update={"max_bias": bias}))
        states = init_chains(sampler, jax.random.key(0), jnp.zeros((8, 5)))
        chains = run_chains(sampler, jax.random.key(1), states, 9000, num_warmup=1000)
        variance = chains.info.energy[:, 1000:].var() / 5
        assert 0.3 < variance / energy_variance_at(bias) < 1.5  # a step size that varies errs on the safe side
        loss = float(posterior.nbeta) * chains.info.excess_loss[:, 1000:].mean(axis=1)
        error, se = loss.mean() / exact - 1, loss.std(ddof=1) / np.sqrt(8) / exact
        assert abs(error) < bias + 4 * se
        steps[bias] = float(chains.sampler.step_size)
    # The variance is of sixth order in the step size.
    wanted = (energy_variance_at(0.1) / energy_variance_at(0.02)) ** (1 / 6)
    assert steps[0.1] / steps[0.02] == pytest.approx(wanted, rel=0.15)
