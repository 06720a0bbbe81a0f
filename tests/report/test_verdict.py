"""What a result is worth, in words, on rows whose answer is known."""

from __future__ import annotations

import io

import pytest

from lambda_hat.records.rows import RunRow
from lambda_hat.records.state import State
from lambda_hat.report.summary import print_summary
from lambda_hat.report.verdict import is_closer, judge_problem, judge_settings
from tests.report.conftest import PID, confirmed_row, reference_record, trial_row

REFERENCE = reference_record()  # λ = 8.25 ± 0.07 at γ_loc 56, nβ 21.7; Laplace is off by 0.25
CITATION = "Cite this: λ = 8.250 ± 0.070 at γ_loc = 56, nβ = 21.7, n = 100, reference certified."
GOOD = {"rmse": 0.1, "rmse_se": 0.02, "relative_rmse": 0.0121, "mean_error": 0.05, "rms_z": 1.0, "se_ref": 0.07}
SETTINGS = {"hyperparameters": {"eta0": 0.01}, "num_gradient_evaluations": 1000.0}


def confirmed(method="sgld", **values):
    return confirmed_row(method=method, **GOOD | SETTINGS | values)


def words(reference=REFERENCE, **values):
    return judge_settings(confirmed(**values), reference).words


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "agrees with the reference: rms error 0.100 ± 0.020 (1.2%)"),
        (
            {"rmse": 0.2},
            "agrees with the reference: rms error 0.200 ± 0.020 (1.2%); it and Laplace do not differ within error",
        ),
        ({"rmse": 0.26}, "is no closer than Laplace: rms error 0.260 ± 0.020 (1.2%), Laplace is off by 0.25"),
        ({"worst_k_hat": 0.7003}, "cannot be trusted: its fit does not cover the posterior (k̂ 0.7003)"),
        ({"worst_rhat": 1.2}, "cannot be trusted: its chains disagree (R̂ 1.20)"),
        ({"num_failed": 1}, "cannot be trusted: 1 of its 4 runs failed"),
        (
            {"rms_z": 3.1, "rmse": 0.2, "mean_error": 0.195},
            "is biased (by +0.195): its errors are 3.1 times what its standard errors say",
        ),
        (
            {"rms_z": 3.1, "rmse": 0.2, "mean_error": 0.01},
            "states standard errors that are too small: its errors are 3.1 times what its standard errors say",
        ),
        (
            {"rms_z": 2.04, "rmse": 0.3, "mean_error": None},
            "is biased, or its standard errors are too small: its errors are 2.04 times what its standard errors say; "
            "it is no closer than Laplace",
        ),
        ({"rmse": None, "num_failed": 4}, "has no estimate: 4 of 4 runs failed"),
    ],
)  # fmt: skip
def test_confirmed_settings_in_one_sentence(values, expected):
    assert words(**values) == expected
    assert judge_settings(confirmed(**values), REFERENCE).is_good == expected.startswith("agrees")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"llc_hat": 8.3, "se_hat": 0.1, "error": 0.05, "z": 0.4}, "agrees with the reference: best trial 8.30 ± 0.10"),
        ({"llc_hat": 8.3, "error": 0.2, "z": -2.04}, "is biased, or its standard error is too small: it is 2.04"),
        ({"llc_hat": 8.6, "error": 0.35, "z": 1.0}, "is no closer than Laplace: best trial 8.6"),
        ({"llc_hat": 8.3, "error": 0.05, "rhat": 1.2}, "cannot be trusted: its chains disagree (R̂ 1.20); "),
    ],
)  # fmt: skip
def test_a_best_trial_that_nobody_confirmed(values, expected):
    (method,) = judge_problem(REFERENCE, {"sgld": trial_row(**values)}).methods
    assert method.words.startswith(expected)
    assert method.words.endswith("; not confirmed under fresh seeds")


def test_a_run_of_fixed_settings_needs_no_confirmation():
    run = RunRow(pid=PID, sampler="fine", method="sgld", state=State.COMPLETE, llc_hat=8.3, se_hat=0.1, error=0.05)
    failed = RunRow(pid=PID, sampler="bad", method="sgld", state=State.FAIL, reason="ValueError: a bug")
    verdict = judge_problem(REFERENCE, {"fine": run, "bad": failed})
    assert [method.sentence for method in verdict.methods] == [
        "fine agrees with the reference: estimate 8.30 ± 0.10.",
        "bad has no estimate: failed, ValueError: a bug.",
    ]
    assert (verdict.tone, verdict.recommendation) == ("", ())


def test_what_to_cite_and_what_not():
    assert judge_problem(REFERENCE, {}).citation == CITATION
    refused = reference_record(is_certified=False, reasons=["R̂ of r² is 1.15, at most 1.01 wanted"])
    verdict = judge_problem(refused, {"sgld": trial_row(llc_hat=8.3, error=0.05)})
    assert verdict.citation == (
        "Do not cite λ = 8.250 ± 0.070 at γ_loc = 56, nβ = 21.7, n = 100: the reference is not certified, because R̂ of "
        "r² is 1.15, at most 1.01 wanted."
    )
    assert verdict.recommendation[0].startswith("Nothing can be recommended: without a certified reference")
    assert (verdict.tone, verdict.best) == ("bad", "none")
    empty = reference_record(llc=None, is_certified=False, reasons=["number of draws is 0, at least 400 wanted", "R̂"])
    assert judge_problem(empty, {}).citation == (
        "Nothing to cite: the reference has no value, because number of draws is 0, at least 400 wanted (and 1 more)."
    )
    assert judge_problem(None, {}, why_none="out of time").citation == (
        "Nothing to cite: there is no reference (out of time)."
    )
    assert judge_problem(reference_record(se=0.0), {}).citation.startswith("Cite this: λ = 8.25 exactly at")


def test_the_cheapest_of_those_that_do_not_differ_is_recommended():
    rows = [
        confirmed("vi", rmse=0.08, num_gradient_evaluations=5000.0),
        confirmed("sgld", rmse=0.1),
        confirmed("mclmc", rmse=0.2, rmse_se=0.01),
    ]
    verdict = judge_problem(REFERENCE, {}, rows)
    assert verdict.recommendation == (
        "vi and sgld do not differ within error.",
        "Use sgld, the cheapest of these (1,000 gradients), with eta0=0.01.",
    )
    assert (verdict.best, verdict.tone) == ("sgld 0.100 ± 0.020 (1.2%)", "good")
    biased = judge_problem(REFERENCE, {}, [rows[0], confirmed("sgld", rms_z=4.0)])
    assert biased.recommendation == ("Use vi, the only one to trust (5,000 gradients), with eta0=0.01.",)
    assert biased.tone == ""


def test_what_tuning_gained_over_a_method_that_tunes_itself():
    auto = confirmed("auto", rmse=0.1, relative_rmse=0.01, hyperparameters={})
    cheap = confirmed("vi", rmse=0.2, num_gradient_evaluations=100.0)
    use, gain, saved = judge_problem(REFERENCE, {}, [auto, cheap]).recommendation
    assert use == "Use auto, the most accurate (1,000 gradients)."
    assert gain == "No tuned method came closer than auto (1.0%), which needs no search."
    assert saved == "vi takes 100 gradients, auto 1,000."
    *_, gain = judge_problem(REFERENCE, {}, [auto, confirmed("vi", rmse=0.01, rmse_se=0.005)]).recommendation
    assert gain == "vi came closer than auto (1.0%), which needs no search."
    near = confirmed("vi", rmse=0.09, rmse_se=0.02)
    *_, gain = judge_problem(REFERENCE, {}, [auto, near]).recommendation
    assert gain == "Within the errors no tuned method came closer than auto (1.0%), which needs no search."
    (alone,) = judge_problem(REFERENCE, {}, [auto]).recommendation
    assert alone == "Use auto, the only one to trust (1,000 gradients)."


def test_where_no_method_is_closer_than_laplace_that_is_said():
    verdict = judge_problem(REFERENCE, {}, [confirmed("vi", rmse=0.3), confirmed("sgld", rmse=0.28)])
    assert verdict.recommendation == (
        "No method comes closer than the Laplace value 8.5 (+3.0%).",
        "sgld and vi do not differ within error.",
    )
    assert (verdict.best, verdict.tone) == ("none", "bad")
    close = judge_problem(reference_record(laplace_llc=8.26), {}, [confirmed("vi", rmse=0.3)])
    assert close.recommendation[1].startswith("That value is within the reference's own error")


def test_confirmed_settings_count_more_than_a_lucky_trial():
    lucky = trial_row(llc_hat=8.25, se_hat=0.1, error=0.0, z=0.0)
    verdict = judge_problem(REFERENCE, {"sgld": lucky, "vi": "3 failed"}, [confirmed(rms_z=3.0)])
    assert [method.short for method in verdict.methods] == [
        "states standard errors that are too small",
        "has no estimate",
    ]
    assert [method.is_good for method in verdict.methods] == [False, False]
    stream = io.StringIO()
    row = lucky.model_copy(update={"objective": 0.0})
    print_summary(stream, [row], {PID: REFERENCE}, {}, {PID: "mlp"}, [confirmed()])
    text = stream.getvalue()
    assert text.index(CITATION) < text.index("confirmed") < text.index("best trial of")


@pytest.mark.parametrize(("error", "is_said"), [(0.2, True), (-0.2, True), (0.25, False), (None, True)])
def test_closer_than_laplace(error, is_said):
    assert is_closer(error, REFERENCE) == is_said
    assert is_closer(error, None)
