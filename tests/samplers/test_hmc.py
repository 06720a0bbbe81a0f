"""HMC against closed forms and quadrature, and broken HMC against the same criterion."""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import k0, k1

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.posterior import DenseWhitening, build_posterior, hessian_whitening, identity_whitening
from lambda_hat.samplers import hmc
from lambda_hat.samplers.hmc import HMC
from lambda_hat.samplers.runner import init_chains, run_chains

pytestmark = pytest.mark.usefixtures("float64")

SETTINGS = HMCSettings(step_size=0.3, num_integration_steps=4)
NUM_STEPS = 2000


def a0(posterior):
    return hessian_whitening(posterior, posterior.w0[None])[0]


@pytest.fixture
def quadratic(build_quadratic):
    target, posterior = build_quadratic()
    return posterior, target.exact_llc(float(posterior.nbeta), 10.0)


@pytest.mark.slow
def test_quadratic_in_closed_form(quadratic, sample_llc, is_within, without_localization):
    posterior, exact = quadratic
    sampler = HMC.from_settings(posterior, a0(posterior), SETTINGS)
    sound = sample_llc(sampler, NUM_STEPS)
    assert is_within(sound.llc, sound.se, exact)
    assert sound.rhat < 1.01
    assert sound.se < 0.02 * exact  # tight enough to tell the following apart
    for broken in (
        without_localization(sampler),
        eqx.tree_at(lambda s: s.posterior.localization, sampler, 2 * posterior.localization),
    ):
        estimate = sample_llc(broken, NUM_STEPS)
        assert not is_within(estimate.llc, estimate.se, exact)


@pytest.mark.slow
def test_long_steps_need_the_metropolis_decision(
    quadratic, sample_llc, is_within, recast, never_rejecting, monkeypatch
):
    posterior, exact = quadratic

    class Unadjusted(HMC):
        """HMC that never rejects."""

    # In whitened coordinates leapfrog's own stationary variance is 1/(1 − ε²/4), ε about 1.3 at this acceptance.
    sound = HMC.from_settings(posterior, a0(posterior), HMCSettings(target_accept=0.5))
    estimate = sample_llc(sound, NUM_STEPS)
    assert is_within(estimate.llc, estimate.se, exact)
    monkeypatch.setattr(hmc, "_kernel", never_rejecting(hmc._kernel))
    estimate = sample_llc(recast(sound, Unadjusted), NUM_STEPS)
    assert not is_within(estimate.llc, estimate.se, exact)


class Distorted(HMC):
    """HMC that climbs the wrong way, or with the localization on z in place of w."""

    sign: jax.Array
    share_in_z: jax.Array

    def logdensity(self, z):
        displacement = self.whitening.displacement(z)
        shift = 0.5 * self.posterior.localization * (jnp.sum(displacement**2) - jnp.sum(z**2))
        return self.sign * (self.posterior.logdensity(self.posterior.w0 + displacement) + self.share_in_z * shift)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sign", "share_in_z", "is_sound"),
    [(1, 0, True), (-1, 0, False), (1, 1, False)],
    ids=["sound", "uphill", "localization on z"],
)
def test_distorted_densities(sign, share_in_z, is_sound, quadratic, sample_llc, is_within, recast):
    posterior, exact = quadratic
    sampler = recast(HMC.from_settings(posterior, a0(posterior), SETTINGS), Distorted, sign=sign, share_in_z=share_in_z)
    estimate = sample_llc(sampler, NUM_STEPS)
    assert is_within(estimate.llc, estimate.se, exact) == is_sound


def test_whitening_changes_no_expectation(quadratic, sample_llc, is_within):
    posterior, exact = quadratic
    plain = sample_llc(HMC.from_settings(posterior, DenseWhitening(jnp.eye(5)), SETTINGS), NUM_STEPS)
    assert is_within(plain.llc, plain.se, exact)


def test_reported_loss_and_distance_are_those_of_the_state(quadratic):
    posterior, _ = quadratic
    sampler = HMC.from_settings(posterior, a0(posterior), SETTINGS)
    states = init_chains(sampler, jax.random.key(0), jnp.zeros((8, 5)))
    chains = run_chains(sampler, jax.random.key(1), states, 20, num_warmup=20)
    displacements = jax.jit(jax.vmap(sampler.displacement))(chains.states)
    excess = jax.jit(jax.vmap(posterior.excess_loss))(posterior.w0 + displacements)
    np.testing.assert_allclose(chains.info.excess_loss[:, -1], excess, rtol=1e-9)
    np.testing.assert_allclose(chains.info.squared_distance[:, -1], np.sum(displacements**2, axis=1), rtol=1e-9)


@dataclass(frozen=True)
class Potential:
    """w₁²ᵏ w₂²ˡ; the one row of data is (k, l), so that all of them share a program."""

    def __call__(self, position, batch):
        return jnp.prod((position**2) ** batch[0], axis=-1)


# (k, l), γ_loc, λ̂ by quadrature at nβ = 1000
SINGULAR = [
    ((1, 1), 1.0, 0.390273),
    ((1, 1), 10.0, 0.290274),
    ((1, 1), 100.0, 0.060988),
    ((1, 2), 1.0, 0.224851),
    ((2, 2), 1.0, 0.165238),
    ((1, 3), 1.0, 0.150909),
]


def singular_posterior(exponents, localization):
    data = (np.array([exponents], np.float64),)
    return build_posterior(Potential(), np.zeros(2), data, nbeta=1000.0, localization=localization, dtype="float64")


def singular_llc(exponents, localization, sample_llc):
    posterior = singular_posterior(exponents, localization)
    # Long trajectories and steps jittered widely: short or fixed ones never enter the stiff wings.
    settings = HMCSettings(step_size=0.1, num_integration_steps=16)
    sampler = HMC.from_settings(posterior, identity_whitening(posterior), settings, log_step_size_jitter=1.0)
    return sample_llc(sampler, 10_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exponents", "localization", "truth"),
    [case if case[0] == (1, 2) else pytest.param(*case, marks=pytest.mark.nightly) for case in SINGULAR],
)
def test_singular_potentials_by_quadrature(exponents, localization, truth, sample_llc, is_within):
    estimate = singular_llc(exponents, localization, sample_llc)
    assert is_within(estimate.llc, estimate.se, truth)
    assert estimate.se < 0.03 * truth


@pytest.mark.nightly
def test_half_again_the_localization_is_another_truth(sample_llc, is_within):
    for exponents, localization, truth in SINGULAR[1:3]:
        other = singular_llc(exponents, 1.5 * localization, sample_llc)
        assert not is_within(other.llc, other.se, truth)


def test_quadrature_agrees_with_the_closed_form():
    for exponents, localization, truth in SINGULAR[:3]:
        assert exponents == (1, 1)
        a = localization**2 / 8000
        assert 0.5 + a * (1 - k1(a) / k0(a)) == pytest.approx(truth, abs=1e-6)
