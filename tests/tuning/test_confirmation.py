"""Candidates, their new seeds, and what several runs of each say."""

from __future__ import annotations

import math

import pytest

from lambda_hat.artifacts.ids import derive_seed
from lambda_hat.artifacts.paths import Paths
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.provenance import Timings
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.state import State
from lambda_hat.tuning.confirmation import best_candidates, confirming_runs, fresh_seeds, judge
from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.tuning.study import StudyTrial

PLAN = StudyPlan(
    pid="p_1", method="sgld", label="a", settings={"num_chains": 2, "steps": 7},
    reference=ReferenceRecord(method="hmc", llc=2.0, se=0.01, is_certified=True), seed=3, trial_sec=60.0,
    num_trials=5, function=Metrics.failed,
)  # fmt: skip


def trial(number, value, state=State.COMPLETE, **params):
    return StudyTrial(number, state, params, value, run_id=f"r_{number}", llc_hat=2.0 + (value or 0.0))


def metrics(llc_hat, state=State.COMPLETE, **others):
    return Metrics(state=state, llc_hat=llc_hat, timings=Timings(total=2.0), **others)


def test_candidates_are_the_best_completed_trials_with_different_settings():
    trials = [
        trial(0, 0.3, eta0=1e-3),
        trial(1, 0.1, eta0=2e-3, steps=100),
        trial(2, 0.0, State.PRUNED, eta0=9.0),
        trial(3, 0.2, steps=100.0, eta0=2e-3),
        trial(4, None, State.FAIL, eta0=8.0),
        trial(5, 0.4, eta0=4e-3),
    ]
    candidates = best_candidates("p_1", trials, 2)
    assert [(item.number, item.objective, item.pid) for item in candidates] == [(1, 0.1, "p_1"), (0, 0.3, "p_1")]
    assert best_candidates("p_1", trials[2:3], 2) == []


def test_new_seeds_are_none_of_the_searchs():
    seeds = fresh_seeds(PLAN, 4, taken=())
    assert len(set(seeds)) == 4
    assert fresh_seeds(PLAN, 2, taken=()) == seeds[:2], "more seeds keep the first"
    assert not set(seeds) & {derive_seed(3, "p_1", "sgld", number) for number in range(1000)}
    others = fresh_seeds(PLAN, 4, taken={seeds[0], seeds[2]})
    assert others[:2] == [seeds[1], seeds[3]]
    assert not {seeds[0], seeds[2]} & set(others)


def test_runs_are_trials_of_the_study_in_a_folder_of_their_own(tmp_path):
    (candidate,) = best_candidates("p_2", [trial(0, 0.3, steps=9)], 1)
    first, second = confirming_runs(Paths(tmp_path), PLAN, candidate, [11, 12])
    assert first.manifest == Manifest.of(
        "p_1", "sgld", hyperparams={"steps": 9}, settings={"num_chains": 2, "steps": 9}, seed=11, trial_sec=60.0
    )
    assert first.folder.parent == second.folder.parent == tmp_path / "trials" / "p_1" / "confirm-sgld"
    assert first.run_id != second.run_id


def test_the_verdict_is_the_root_mean_squared_error_with_its_uncertainty():
    runs = [metrics(2.3, rhat=1.01, num_gradient_evaluations=10), metrics(1.9, rhat=1.2, num_gradient_evaluations=30)]
    verdict = judge(runs, 2.0, 0.0)
    assert verdict.rmse == pytest.approx(math.sqrt((0.09 + 0.01) / 2))
    spread = (0.09 - 0.01) / math.sqrt(2)  # the standard deviation of two squared errors
    assert verdict.rmse_se == pytest.approx(spread / math.sqrt(2) / (2 * math.sqrt(0.05)))
    assert verdict.mean_error == pytest.approx(0.1)
    assert verdict.relative_rmse == pytest.approx(math.sqrt(0.05) / 2)
    assert (verdict.worst_rhat, verdict.num_gradient_evaluations, verdict.seconds) == (1.2, 20.0, 2.0)
    assert (verdict.num_seeds, verdict.num_failed) == (2, 0)


def test_settings_that_fail_rank_below_those_that_do_not():
    good, shaky = (
        judge([metrics(2.5), metrics(2.5)], 2.0, 0.1),
        judge([metrics(2.01), metrics(None, State.PRUNED)], 2.0, 0.1),
    )
    hopeless = judge([metrics(None, State.FAIL), None], 2.0, 0.1)
    assert sorted([hopeless, shaky, good], key=lambda verdict: verdict.rank_key) == [good, shaky, hopeless]
    assert (shaky.num_failed, shaky.rmse_se) == (1, None)
    assert (hopeless.num_failed, hopeless.rmse, hopeless.mean_error) == (2, None, None)


def test_exact_estimates_and_a_reference_of_zero_have_no_quotients():
    verdict = judge([metrics(0.0), metrics(0.0)], 0.0, 0.0)
    assert (verdict.rmse, verdict.rmse_se, verdict.relative_rmse, verdict.rms_z) == (0.0, None, None, None)


def test_errors_are_compared_with_what_the_runs_say_of_themselves():
    runs = [
        metrics(2.1, se_hat=0.04, reports={"k_hat": 0.5}),
        metrics(1.8, se_hat=0.04, reports={"k_hat": 0.9}),
        metrics(2.5, se_hat=None),
    ]
    verdict = judge(runs, 2.0, 0.03)
    assert verdict.rms_z == pytest.approx(math.sqrt((2**2 + 4**2) / 2)), "of runs that have a standard error"
    assert verdict.worst_k_hat == 0.9
