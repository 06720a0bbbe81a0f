"""λ̂ and its standard error from traces whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lambda_hat.draws.diagnostics import diagnose_trace
from lambda_hat.draws.info import Info, drop_burn_in
from lambda_hat.draws.llc import estimate_llc_from_traces, pool_fits, weighted_mean_error

NBETA = 50.0
SHAPE = (4, 2000)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def build_info(excess_loss, squared_distance, weight=None):
    ones = np.ones_like(excess_loss)
    return Info.without_identities(
        excess_loss=excess_loss,
        squared_distance=squared_distance,
        acceptance_rate=ones,
        energy=0 * ones,
        is_divergent=0 * ones,
        is_undefined=0 * ones,
        weight=ones if weight is None else weight,
        num_gradient_evaluations=ones,
    )


def test_weighted_mean_by_hand():
    values, weights = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [1.0, 2.0]])
    assert weighted_mean_error(values, weights)[0] == 3.0
    assert weighted_mean_error(np.full(SHAPE, 2.5), np.linspace(1, 2, 2000) * np.ones(SHAPE)) == (2.5, math.inf)


def test_equal_weights_give_the_plain_mean_and_its_error(rng):
    values = rng.normal(3.0, 2.0, SHAPE)
    for weight in (1.0, 1e-6):
        mean, error = weighted_mean_error(values, np.full(SHAPE, weight))
        assert mean == pytest.approx(values.mean())
        assert error == pytest.approx(diagnose_trace(values).mcse)
        assert error == pytest.approx(2.0 / math.sqrt(values.size), rel=0.1)


def test_error_of_a_weighted_mean_of_independent_draws(rng):
    """Var = σ² Σw²/(Σw)²: here 4/3 of that of equal weights."""
    weights = np.linspace(2.0, 0.0, 2000) * np.ones(SHAPE)
    expected = 2.0 * math.sqrt(np.sum(weights**2)) / np.sum(weights)
    mean, error = weighted_mean_error(rng.normal(3.0, 2.0, SHAPE), weights)
    assert error == pytest.approx(expected, rel=0.1)
    assert abs(mean - 3.0) < 4 * expected
    means = [np.average(rng.normal(3.0, 2.0, SHAPE), weights=weights) for _ in range(200)]
    assert np.std(means) == pytest.approx(expected, rel=0.2)


def test_chains_that_disagree_widen_the_error(rng):
    values = rng.normal(3.0, 2.0, SHAPE)
    alone = weighted_mean_error(values, np.ones(SHAPE))[1]
    shifted = values + np.array([[0.0], [0.0], [0.0], [10.0]])
    assert weighted_mean_error(shifted, np.ones(SHAPE))[1] > 10 * alone


def test_llc_is_nbeta_times_the_weighted_mean(rng):
    excess, distance = rng.gamma(2.0, 0.05, SHAPE), rng.gamma(3.0, 1.0, SHAPE)
    weights = rng.uniform(0.5, 1.5, SHAPE)
    estimate = estimate_llc_from_traces(build_info(excess, distance, weights), NBETA, has_minibatch_noise=False)
    assert estimate.llc == pytest.approx(NBETA * np.sum(weights * excess) / np.sum(weights))
    assert estimate.se == pytest.approx(NBETA * 0.05 * math.sqrt(2 * (1 + 1 / 12)) / math.sqrt(excess.size), rel=0.15)
    assert estimate.num_draws == excess.size
    assert estimate.rhat == max(estimate.rhat_loss, estimate.rhat_distance) < 1.01


def test_diagnostics_are_the_worse_of_loss_and_distance(rng):
    good, bad = rng.normal(1.0, 0.1, SHAPE), rng.normal(1.0, 0.1, SHAPE) + np.array([[0], [0], [0], [0.5]])
    for excess, distance in ((good, bad), (bad, good)):
        estimate = estimate_llc_from_traces(build_info(excess, distance), NBETA, has_minibatch_noise=False)
        worse = diagnose_trace(bad)
        assert estimate.rhat == pytest.approx(worse.rhat) == max(estimate.rhat_loss, estimate.rhat_distance)
        assert estimate.rhat > 1.3
        assert estimate.ess_bulk == pytest.approx(worse.ess_bulk)
        assert estimate.ess_tail <= worse.ess_tail * (1 + 1e-9)


def test_blocks_show_the_disagreement_that_minibatch_noise_hides(rng):
    excess = rng.normal(0.0, 5.0, SHAPE) + np.array([[0.0], [0.0], [0.0], [1.5]])
    info = build_info(excess, rng.gamma(3.0, 1.0, SHAPE))
    plain = estimate_llc_from_traces(info, NBETA, has_minibatch_noise=False)
    blocks = estimate_llc_from_traces(info, NBETA, has_minibatch_noise=True)
    assert plain.rhat_loss < 1.03
    assert blocks.rhat_loss > 1.1
    assert (blocks.llc, blocks.se) == (plain.llc, plain.se)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_reading_that_is_no_number_leaves_no_estimate(rng, value):
    excess = rng.normal(1.0, 0.1, SHAPE)
    excess[2, 1999] = value
    estimate = estimate_llc_from_traces(build_info(excess, np.ones(SHAPE)), NBETA, has_minibatch_noise=False)
    assert math.isnan(estimate.llc)
    assert (estimate.se, estimate.rhat, estimate.ess_bulk) == (math.inf, math.inf, 0.0)


def test_burn_in_is_dropped_from_every_trace(rng):
    info = build_info(rng.normal(size=(2, 10)), rng.normal(size=(2, 10)))
    for before, after in zip(info, drop_burn_in(info, 3), strict=True):
        np.testing.assert_array_equal(after, before[:, 3:])
    everything = estimate_llc_from_traces(drop_burn_in(info, 10), NBETA, has_minibatch_noise=False)
    assert math.isnan(everything.llc)


def test_pooled_fits_that_agree(rng):
    readings, distances = rng.normal(3.0, 2.0, SHAPE), rng.gamma(3.0, 1.0, SHAPE)
    estimate = pool_fits(readings, distances)
    assert estimate.llc == pytest.approx(readings.mean())
    assert 0.9 * 2.0 / math.sqrt(readings.size) < estimate.se < 3 * 2.0 / math.sqrt(readings.size)
    assert estimate.rhat < 1.01
    assert pool_fits(readings[:1], distances[:1]).se == pytest.approx(2.0 / math.sqrt(2000), rel=0.1)


def test_spread_between_fits_counts(rng):
    offsets = np.array([[0.0], [1.0], [2.0], [3.0]])
    estimate = pool_fits(rng.normal(3.0, 0.1, SHAPE) + offsets, rng.gamma(3.0, 1.0, SHAPE))
    assert estimate.llc == pytest.approx(4.5, abs=0.02)
    assert estimate.se == pytest.approx(offsets.std(ddof=1) / 2, rel=0.02)
    assert estimate.rhat > 1.3
