"""A certificate's every criterion, made to fail on its own."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lambda_hat.draws.criteria import Criterion
from lambda_hat.draws.diagnostics import DiagnosedDraws
from lambda_hat.draws.info import Info
from lambda_hat.reference.certificate import (
    Certificate,
    agreement,
    certify,
    is_diverging,
    is_refuted,
    judge_minimum,
    pooled,
)

NBETA = 20.0
SHAPE = (4, 2000)
ONE_CHAIN = (np.arange(4) == 3)[:, None]


def good_info(seed=0):
    """Independent draws of λ̂ = 2: relative MCSE (1/√2)/√8000 = 0.8 %."""
    rng = np.random.default_rng(seed)
    ones = np.ones(SHAPE)
    return Info.without_identities(
        excess_loss=rng.gamma(2.0, 1.0 / NBETA, SHAPE),
        squared_distance=rng.gamma(3.0, 1.0, SHAPE),
        acceptance_rate=0.8 * ones,
        energy=rng.standard_normal(SHAPE),
        is_divergent=0 * ones,
        is_undefined=0 * ones,
        weight=ones,
        num_gradient_evaluations=ones,
    )


def judge(info, max_relative_mcse=0.01):
    draws = None if info is None else DiagnosedDraws(info, NBETA)
    return certify(draws, target_accept=0.8, max_relative_mcse=max_relative_mcse)


def autocorrelated(noise, correlation):
    trace = noise.copy()
    for t in range(1, trace.shape[1]):
        trace[:, t] = correlation * trace[:, t - 1] + math.sqrt(1 - correlation**2) * noise[:, t]
    return trace


def with_spells(noise):
    """Draws around 2 that reach their tails in one long spell of every quarter alone, all chains alike."""
    is_spell = np.arange(noise.shape[1]) % 500 // 60 == 3
    return 2.0 + 0.1 * np.where(is_spell, 4.0 * np.sign(noise) + 0.1 * noise, noise)


GOOD = good_info()
NOISE = np.random.default_rng(7).standard_normal(SHAPE)


def test_good_chains_are_certified():
    certificate = judge(GOOD)
    assert certificate.is_certified
    assert certificate.reasons == ()
    assert len(certificate.criteria) == 11


# What is done to good chains → the names of the criteria that fail, and no others.
FAILURES = {
    "a shifted chain": (
        {"excess_loss": GOOD.excess_loss + 1.0 / NBETA * ONE_CHAIN},
        0.1,
        {"R̂ of the loss", "bulk ESS of the loss", "largest deviation of a chain's mean loss, in MCSE"},
    ),
    "a chain that is off by little": (
        {"excess_loss": GOOD.excess_loss + 0.25 / NBETA * ONE_CHAIN},
        0.1,
        {"largest deviation of a chain's mean loss, in MCSE"},
    ),
    "a shifted chain in r² alone": (
        {"squared_distance": GOOD.squared_distance + 1.0 * ONE_CHAIN},
        0.01,
        {"R̂ of r²", "bulk ESS of r²"},
    ),
    "tails of the loss that mix slowly": ({"excess_loss": with_spells(NOISE) / NBETA}, 0.1, {"tail ESS of the loss"}),
    "tails of r² that mix slowly": ({"squared_distance": with_spells(NOISE)}, 0.01, {"tail ESS of r²"}),
    "too few draws for the accuracy": ({}, 0.005, {"MCSE over λ̂"}),
    "divergences": ({"is_divergent": 1.0 * (np.arange(2000) % 500 == 0) * np.ones((4, 1))}, 0.01, {
        "fraction of divergent steps"
    }),
    "energies that hardly move": ({"energy": np.where(ONE_CHAIN, autocorrelated(NOISE, 0.95), NOISE)}, 0.01, {
        "E-BFMI"
    }),
    "a chain that is stuck": ({"acceptance_rate": np.where(ONE_CHAIN, 0.39, 0.9) * np.ones(SHAPE)}, 0.01, {
        "smallest acceptance of a chain"
    }),
}  # fmt: skip


def with_identities(info, virial=None, curved=None):
    noise = np.random.default_rng(7).standard_normal((2, *SHAPE))
    return info._replace(
        virial=noise[0] if virial is None else virial, curved_virial=noise[1] if curved is None else curved
    )


def test_identities_add_criteria_of_their_own():
    assert judge(with_identities(GOOD)).is_certified
    assert len(judge(with_identities(GOOD)).criteria) == 14


def test_identities_that_do_not_hold_are_found():
    certificate = judge(with_identities(GOOD, virial=0.1 + np.random.default_rng(8).standard_normal(SHAPE)))
    assert [c.name for c in certificate.criteria if not c.is_met] == ["virial, in MCSE"]


def test_what_the_correction_leaves_must_mix():
    """Chains whose loss is hidden in fast noise of the identity, the same for all, and has a level of its own."""
    noise = 3.0 * np.random.default_rng(9).standard_normal(SHAPE)
    loss = 2.0 + noise + 0.05 * np.arange(4)[:, None] + 0.1 * np.random.default_rng(3).standard_normal(SHAPE)
    certificate = judge(with_identities(GOOD._replace(excess_loss=loss / NBETA), curved=noise), 0.1)
    unmet = {c.name for c in certificate.criteria if not c.is_met}
    assert unmet == {"R̂ of the corrected loss", "bulk ESS of the corrected loss"}


@pytest.mark.parametrize("name", FAILURES)
def test_each_criterion_fails_for_its_own_reason(name):
    changes, max_relative_mcse, expected = FAILURES[name]
    certificate = judge(GOOD._replace(**changes), max_relative_mcse)
    assert not certificate.is_certified
    assert {criterion.name for criterion in certificate.criteria if not criterion.is_met} == expected
    assert len(certificate.reasons) == len(expected)


def test_every_criterion_is_shown_to_fail():
    shown = set().union(*(expected for _, _, expected in FAILURES.values()))
    assert shown == {criterion.name for criterion in judge(GOOD).criteria}


def test_few_effective_draws():
    slow = 2.0 + 0.3 * autocorrelated(NOISE, 0.97)
    names = {c.name for c in judge(GOOD._replace(excess_loss=slow / NBETA), 0.1).criteria if not c.is_met}
    assert "bulk ESS of the loss" in names
    assert "MCSE over λ̂" not in names


def test_reasons_are_whole_sentences():
    divergent = GOOD._replace(is_divergent=1.0 * (np.arange(2000) % 500 == 0) * np.ones((4, 1)))
    assert judge(divergent).reasons == ("fraction of divergent steps is 0.002, at most 0.001 wanted",)
    stuck = GOOD._replace(acceptance_rate=np.full(SHAPE, 0.25))
    assert judge(stuck).reasons == ("smallest acceptance of a chain is 0.25, at least 0.4 wanted",)
    assert judge(None).reasons == ("number of draws is 0, at least 400 wanted",)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_is_not_certified(value):
    excess = GOOD.excess_loss.copy()
    excess[0, 0] = value
    names = {c.name for c in judge(GOOD._replace(excess_loss=excess)).criteria if not c.is_met}
    assert {"R̂ of the loss", "bulk ESS of the loss", "MCSE over λ̂"} <= names


def test_criterion_at_its_bound():
    assert Criterion("x", 1.0, 1.0).is_met
    assert Criterion("x", 1.0, 1.0, is_upper=False).is_met
    assert not Criterion("x", math.nan, 1.0).is_met
    assert not Criterion("x", math.nan, 1.0, is_upper=False).is_met
    assert not Criterion("x", math.inf, 1.0).is_met


def test_certificate_as_json():
    rows = Certificate((Criterion("x", math.inf, 1.0), Criterion("y", 2.0, 1.0, is_upper=False))).to_list()
    assert json.loads(json.dumps(rows, allow_nan=False)) == [
        {"name": "x", "value": None, "bound": 1.0, "is_upper": True, "is_met": False},
        {"name": "y", "value": 2.0, "bound": 1.0, "is_upper": False, "is_met": True},
    ]


def agree(info, finer, max_relative_mcse=0.01):
    ours, theirs = (None if one is None else DiagnosedDraws(one, NBETA) for one in (info, finer))
    return agreement(ours, theirs, "half the step size", max_relative_mcse=max_relative_mcse)


@pytest.mark.parametrize(("info", "finer"), [(None, None), (GOOD, None), (None, GOOD)])
def test_agreement_is_unknown_without_both(info, finer):
    certificate = agree(info, finer)
    assert not certificate.is_certified
    assert certificate.reasons == (
        "R̂ of the loss at half the step size is not known yet",
        "MCSE over λ̂ at half the step size is not known yet",
        "disagreement with half the step size, in MCSE is not known yet",
    )


def test_step_sizes_that_agree():
    assert agree(GOOD, good_info(1)).is_certified


def test_step_sizes_that_disagree():
    """6 % against 1.1 % of combined error."""
    finer = good_info(1)
    certificate = agree(GOOD, finer._replace(excess_loss=1.06 * finer.excess_loss))
    assert [criterion.is_met for criterion in certificate.criteria] == [True, True, False]
    assert "disagreement" in certificate.reasons[0]
    assert is_refuted(certificate)


def test_finer_chains_too_short_to_tell():
    short = Info(*(trace[:, :100] for trace in good_info(1)))
    assert [criterion.is_met for criterion in agree(GOOD, short, 0.015).criteria][1:] == [False, True]


def test_nothing_is_refuted_by_chains_that_cannot_tell():
    finer = good_info(1)
    few = Info(*(trace[:, :100] for trace in finer))
    assert not is_refuted(agree(GOOD, finer))
    assert not is_refuted(agree(GOOD, few._replace(excess_loss=2 * few.excess_loss)))
    assert not is_refuted(agree(GOOD, None))


@pytest.mark.parametrize(
    ("decrease", "llc", "is_met"),
    [(0.0, 2.0, True), (0.019, 2.0, True), (0.021, 2.0, False), (0.021, -2.0, False), (0.0, 0.0, False)],
)
def test_a_minimum_has_nothing_to_lose(decrease, llc, is_met):
    assert judge_minimum(decrease, llc, 0.05, 0.01).is_certified is is_met


def test_an_unknown_decrease_is_no_minimum():
    (reason,) = judge_minimum(float("nan"), 2.0, 0.05, 0.01).reasons
    assert reason == "decrease still available at w0, over λ̂ is not known yet"


@pytest.mark.parametrize(("llc", "is_met"), [(0.5, True), (-0.09, True), (-0.11, False)])
def test_an_llc_below_zero_by_more_than_its_error_is_no_minimum(llc, is_met):
    (criterion, _) = judge_minimum(0.0, llc, 0.05, 0.01).criteria
    assert criterion.is_met is is_met


@pytest.mark.parametrize(
    ("divergent_by_chain", "is_told"),
    [
        ((0, 0, 0, 0), False),
        ((0, 0, 0, 400), False),
        ((0, 0, 5, 4), False),
        ((0, 0, 5, 5), False),
        ((0, 0, 8, 30), True),
    ],
)
def test_divergences_beyond_doubt_are_many_and_not_of_one_chain(divergent_by_chain, is_told):
    """A thousandth of the steps, of those outside the worst chain, is 6."""
    divergent = np.arange(SHAPE[1]) < np.array(divergent_by_chain)[:, None]
    assert is_diverging(GOOD._replace(is_divergent=divergent.astype(float))) == is_told


def test_no_draws_do_not_diverge():
    assert not is_diverging(None)


def test_independent_estimates_count_by_their_precision():
    assert pooled([(10.0, 0.3), (11.0, 0.4)]) == pytest.approx((10.36, 0.24))
    assert pooled([(10.0, 0.3)]) == (10.0, 0.3)
    assert pooled([(10.0, 0.3), (11.0, math.inf)]) == (10.0, 0.3)
    llc, se = pooled([])
    assert math.isnan(llc)
    assert se == math.inf
