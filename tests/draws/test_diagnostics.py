"""Diagnostics of traces whose convergence is known, and of traces that have none."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from lambda_hat.draws.diagnostics import bfmi, block_means, diagnose_trace

NOISE = np.random.default_rng(0).standard_normal((4, 1000))


def test_independent_draws():
    diagnostics = diagnose_trace(3.0 + 2.0 * NOISE)
    assert diagnostics.mean == pytest.approx(3.0, abs=0.15)
    assert diagnostics.mcse == pytest.approx(2.0 / math.sqrt(4000), rel=0.1)
    assert diagnostics.rhat < 1.01
    assert diagnostics.ess_bulk == pytest.approx(4000, rel=0.2)
    assert diagnostics.ess_tail == pytest.approx(4000, rel=0.2)


def test_autocorrelated_draws_count_for_less():
    correlation = 0.9
    trace = np.zeros_like(NOISE)
    for t in range(1, trace.shape[1]):
        trace[:, t] = correlation * trace[:, t - 1] + math.sqrt(1 - correlation**2) * NOISE[:, t]
    diagnostics = diagnose_trace(trace)
    expected = 4000 * (1 - correlation) / (1 + correlation)
    assert diagnostics.ess_bulk == pytest.approx(expected, rel=0.4)
    assert diagnostics.mcse == pytest.approx(1 / math.sqrt(expected), rel=0.3)


@pytest.mark.parametrize(
    "trace",
    [
        np.full((4, 100), 1.5),
        np.where(np.arange(1000) == 7, np.nan, NOISE),
        np.where(np.arange(1000) == 7, np.inf, NOISE),
        NOISE[:, :7],
        NOISE[:, :0],
    ],
    ids=["constant", "NaN", "infinite", "too short", "empty"],
)
def test_a_trace_that_tells_nothing_has_the_worst_diagnostics(trace):
    diagnostics = diagnose_trace(trace)
    assert (diagnostics.mcse, diagnostics.rhat) == (math.inf, math.inf)
    assert (diagnostics.ess_bulk, diagnostics.ess_tail) == (0.0, 0.0)
    assert not math.isfinite(diagnostics.mean) or diagnostics.mean == trace.mean()


def test_shortest_trace_that_is_judged():
    assert math.isfinite(diagnose_trace(NOISE[:, :8]).rhat)


def test_chains_that_disagree():
    shifted = NOISE + np.array([[0.0], [0.0], [0.0], [3.0]])
    assert diagnose_trace(shifted).rhat > 1.3
    assert diagnose_trace(shifted).ess_bulk < 20


def test_one_chain_is_compared_with_itself():
    assert diagnose_trace(NOISE[:1]).rhat < 1.01
    drifting = NOISE[:1] + np.linspace(0, 4, 1000)
    assert diagnose_trace(drifting).rhat > 1.3
    assert diagnose_trace(NOISE[:1, :999]).rhat < 1.01  # an odd number of draws


def test_bfmi_is_that_of_the_worst_chain():
    assert bfmi(NOISE) == pytest.approx(2.0, abs=0.2)  # independent energies: E[(ΔE)²]/Var E = 2
    random_walk = np.cumsum(NOISE[:1], axis=1)
    assert bfmi(np.concatenate([NOISE, random_walk])) == bfmi(random_walk) < 0.05
    with np.errstate(invalid="ignore"):
        assert bfmi(np.zeros((4, 100))) == 0.0


def test_block_means():
    trace = np.arange(22.0).reshape(2, 11)
    # Five blocks of two: the first draw is one too many.
    np.testing.assert_array_equal(block_means(trace, 5), [[1.5, 3.5, 5.5, 7.5, 9.5], [12.5, 14.5, 16.5, 18.5, 20.5]])
    np.testing.assert_array_equal(block_means(trace, 1), [[5.0], [16.0]])
    assert block_means(trace, 6) is trace  # fewer than two draws a block
    assert block_means(trace, 11) is trace


@pytest.mark.slow
def test_no_worker_pays_for_labelled_arrays():
    code = """
import sys
import lambda_hat.tasks.trial
print(sorted({'xarray', 'pandas', 'arviz_stats'} & set(sys.modules)))
import arviz, arviz_stats.base, xarray
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n", "and all can still be had"
