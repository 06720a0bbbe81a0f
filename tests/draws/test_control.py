"""Corrections by identities, and what these say of a run, on draws whose law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lambda_hat.draws.control import (
    MAX_GAIN,
    corrected_by_regression,
    corrected_by_virial,
    has_identities,
    readings_of,
)
from lambda_hat.draws.diagnostics import DiagnosedDraws
from lambda_hat.draws.info import Info
from lambda_hat.draws.llc import estimate_llc_from_traces
from lambda_hat.draws.selfcheck import check_draws

NBETA, GAMMA, DIM = 10.0, 0.5, 3
CURVATURES = np.array([0.5, 5.0, 50.0])  # of nβ L
TRUTH = 0.5 * np.sum(CURVATURES / (CURVATURES + GAMMA))


def gaussian_info(*, scale=1.0, skew=0.0, shape=(4, 2000), seed=0, undefined=0.0):
    """Draws of N(0, scale (H + γ)⁻¹) with the identities as a sampler reads them; `skew` adds to the loss a term that
    is odd in the first coordinate and whose gradient the force has."""
    rng = np.random.default_rng(seed)
    stiffness = CURVATURES + GAMMA
    r = rng.standard_normal((*shape, DIM)) * np.sqrt(scale / stiffness)
    force = r * stiffness
    shares = CURVATURES / stiffness
    ones = np.ones(shape)
    work = np.sum(r * force, axis=-1)
    return Info(
        excess_loss=(0.5 * np.sum(CURVATURES * r**2, axis=-1) + skew * r[..., 0] ** 3) / NBETA,
        squared_distance=np.sum(r**2, axis=-1),
        acceptance_rate=ones,
        energy=rng.standard_normal(shape),
        is_divergent=0 * ones,
        is_undefined=undefined * ones,
        weight=ones,
        num_gradient_evaluations=ones,
        virial=0.5 * (work - DIM),
        curved_virial=0.5 * (np.sum(shares * r * force, axis=-1) - shares.sum()),
        stationarity=0.5 * (work - scale * DIM),
    )


@pytest.mark.parametrize("num_chains", [1, 4])
def test_regression_leaves_a_gaussian_no_error_and_the_error_to_go_by_keeps_a_quarter(num_chains):
    info = gaussian_info(shape=(num_chains, 2000))
    np.testing.assert_allclose(corrected_by_regression(info, NBETA), TRUTH, rtol=1e-8)
    draws = DiagnosedDraws(info, NBETA)
    assert draws.corrected.mcse == draws.loss.mcse / MAX_GAIN
    estimate = estimate_llc_from_traces(info, NBETA, has_minibatch_noise=False, correction="regression")
    assert estimate.se == pytest.approx(estimate.raw_se / MAX_GAIN)
    assert draws.corrected.rhat == 1.0
    assert draws.virial < 4


@pytest.mark.slow
def test_regression_is_unbiased_and_sharper_where_the_loss_is_not_quadratic():
    """200 runs of 4 x 50 draws, a third odd moment beside the Gaussian: mean error and spread of the deviations."""
    errors = []
    for seed in range(200):
        draws = DiagnosedDraws(gaussian_info(skew=0.1, shape=(4, 50), seed=seed), NBETA)
        errors.append([draws.loss.mean - TRUTH, draws.corrected.mean - TRUTH])
    raw, corrected = np.array(errors).T
    assert abs(corrected.mean()) < 4 * corrected.std() / math.sqrt(200)
    assert corrected.std() < 0.5 * raw.std()


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_coefficient_one_is_exact_for_a_quadratic_loss_whatever_the_law(scale):
    info = gaussian_info(scale=scale)
    np.testing.assert_allclose(corrected_by_virial(info, NBETA), TRUTH, rtol=1e-9)
    estimate = estimate_llc_from_traces(info, NBETA, has_minibatch_noise=False, correction="virial")
    assert (estimate.llc, estimate.raw_llc) == pytest.approx((TRUTH, scale * TRUTH), rel=0.05)
    check = check_draws(info, estimate.llc, nbeta=NBETA, dim=DIM, localization=GAMMA)
    assert check.virial_excess == pytest.approx(scale - 1, abs=0.05)
    assert scale - 1.05 < check.relative_bias < (scale - 0.95) * max(check.degree / 2, 1)
    assert check.degree == pytest.approx(2.0 * scale, rel=0.05)
    assert check.stationarity < 4


def test_two_corrections_that_differ_leave_something_open():
    """A quadratic whose directions are biased alike leaves nothing open."""
    info = gaussian_info(scale=1.3)
    llc = float(np.mean(corrected_by_virial(info, NBETA)))
    assert check_draws(info, llc, nbeta=NBETA, dim=DIM, localization=GAMMA).left_open < 0.02 * llc
    other = info._replace(curved_virial=np.asarray(info.curved_virial) - 0.2)
    check = check_draws(other, llc + 0.2, nbeta=NBETA, dim=DIM, localization=GAMMA)
    assert check.left_open == pytest.approx(0.2, abs=0.03)
    assert check.relative_bias >= check.left_open / (llc + 0.2)


def test_a_chain_that_is_not_stationary_is_seen():
    info = gaussian_info()
    drifting = info._replace(stationarity=np.asarray(info.stationarity) + 0.2)
    assert check_draws(drifting, TRUTH, nbeta=NBETA, dim=DIM, localization=GAMMA).stationarity > 4


@pytest.mark.parametrize("correction", ["none", "regression", "virial"])
def test_nothing_is_corrected_where_identities_do_not_hold(correction):
    """Where π ends at an edge, or a method does not read them."""
    plain = gaussian_info()
    unread = plain._replace(virial=np.nan * plain.virial)
    for info in (gaussian_info(undefined=1.0), unread):
        assert not has_identities(info)
        np.testing.assert_array_equal(readings_of(info, NBETA, correction), NBETA * info.excess_loss)
        assert DiagnosedDraws(info, NBETA).corrected == DiagnosedDraws(info, NBETA).loss


def test_a_gradient_that_is_not_the_losss_own_is_seen():
    """As with a `stop_gradient`: the force misses a part, which the chains do not."""
    info = gaussian_info()
    assert DiagnosedDraws(info._replace(virial=info.virial - 0.3), NBETA).virial > 4


def test_identities_that_are_0_but_for_rounding_speak_against_nothing():
    """Next to the localization's Gaussian M = 0, and c₁ is what rounding leaves of it, always of one sign."""
    info = gaussian_info(shape=(4, 500))
    info = info._replace(curved_virial=1e-17 * (1.0 + 1e-3 * np.random.default_rng(0).standard_normal((4, 500))))
    assert DiagnosedDraws(info, NBETA).virial < 4
    assert check_draws(info, TRUTH, nbeta=1.0, dim=DIM, localization=1.0).virial < 4


@pytest.mark.parametrize("correction", ["none", "virial", "regression"])
@pytest.mark.parametrize("has_minibatch_noise", [False, True])
def test_chains_that_run_away_have_no_error_and_warn_of_nothing(correction, has_minibatch_noise):
    info = gaussian_info(shape=(4, 500))
    info = info._replace(**{name: 1e170 * getattr(info, name) for name in ("excess_loss", "virial")})
    estimate = estimate_llc_from_traces(info, NBETA, has_minibatch_noise=has_minibatch_noise, correction=correction)
    assert estimate.se == np.inf
    check_draws(info, estimate.llc, nbeta=1.0, dim=DIM, localization=1.0)
