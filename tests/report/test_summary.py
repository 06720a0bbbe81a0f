from __future__ import annotations

import io
from pathlib import Path

import pytest

from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import RunRow
from lambda_hat.records.state import State
from lambda_hat.report.analysis import best_trial
from lambda_hat.report.summary import print_runs, print_summary
from tests.report.conftest import confirmed_row, trial_row

REFERENCE = ReferenceRecord(
    method="hmc", llc=15.637, se=0.021, is_certified=True, laplace_llc=15.74, localization=100.0, nbeta=263.1,
    num_gradient_evaluations=123456.0, seconds=43.21,
)  # fmt: skip
SETTINGS = {"eta0": 0.001, "precond_type": "adam"}


def row(number, state=State.COMPLETE, method="sgld", **values):
    known = {"pid": "p_1", "method": method, "run_id": f"r_{number}", "number": number, "state": state}
    return trial_row(**known | {"hyperparameters": SETTINGS} | values)


def run_row(sampler, state=State.COMPLETE, **values):
    return RunRow(pid="p_1", sampler=sampler, method="sgld", state=state, hyperparameters=SETTINGS, **values)


FIGURES = {
    "llc_hat": 15.7, "se_hat": 0.05, "error": 0.063, "relative_error": 0.004, "z": 1.16, "rhat": 1.004,
    "reports": {"predicted_bias": 0.003, "k_hat": None},
}  # fmt: skip
BEST = row(2, objective=0.1, **FIGURES)
ROWS = [
    row(0, objective=0.5, llc_hat=16.1),
    row(1, State.FAIL),
    BEST,
    row(3, State.PRUNED, objective=0.0),
    row(0, State.FAIL, "vi"),
]


def summary(rows, references, **titles):
    stream = io.StringIO()
    print_summary(stream, rows, references, {"run": Path("/runs/x"), "table": Path("/runs/x/t.parquet")}, titles)
    return stream.getvalue()


def test_the_whole_summary():
    text = summary(ROWS, {"p_1": REFERENCE}, p_1="mlp, seed 0")
    assert [line.rstrip() for line in text.splitlines()] == [
        "p_1  mlp, seed 0",
        "  reference λ = 15.637 ± 0.021  certified",
        "  γ_loc 100  nβ 263.1  gradients 123,456  seconds 43.2",
        "  best of               λ̂   error  relative  predicted     z      R̂  k̂",
        "  sgld     15.700 ± 0.050  +0.063     +0.4%      +0.3%  +1.2  1.004  –",
        "  vi                    –       –         –          –     –      –  –",
        "  Laplace           15.74  +0.103     +0.7%          –     –      –  –",
        "  sgld: 2 complete, 1 pruned, 1 failed; best is trial 2 (r_2): eta0=0.001, precond_type=adam",
        "  vi: 1 failed",
        "",
        "run    /runs/x",
        "table  /runs/x/t.parquet",
    ]


@pytest.mark.parametrize(("error", "is_said"), [(0.05, False), (-0.05, False), (0.11, True), (-0.11, True)])
def test_a_method_that_does_not_beat_the_laplace_value_stands_out(error, is_said):
    text = summary([row(2, objective=0.1, llc_hat=15.637 + error, error=error)], {"p_1": REFERENCE}, p_1="x")
    assert ("precond_type=adam; no closer than Laplace\n" in text) == is_said
    nothing = summary([row(2, objective=0.1, llc_hat=15.7, error=error)], {}, p_1="x")
    assert "no closer" not in nothing


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        ({"rhat": 1.06}, "; its chains disagree (R̂ 1.06)\n"),
        ({"rhat": 1.05, "reports": {"k_hat": 0.7}}, "precond_type=adam\n"),
        ({"reports": {"k_hat": 2.21}}, "; its fit does not cover the posterior (k̂ 2.21)\n"),
        ({"rhat": 1.8, "error": 0.2}, "; its chains disagree (R̂ 1.80); no closer than Laplace\n"),
    ],
)
def test_an_estimate_that_cannot_be_trusted_stands_out(found, doubt):
    close = {"llc_hat": 15.64, "error": 0.003, "objective": 0.003} | found
    assert doubt in summary([row(2, **close)], {"p_1": REFERENCE}, p_1="x")


def test_an_uncertified_reference_says_why():
    why = {"is_certified": False, "reasons": ("R̂ of r² is 1.15, at most 1.01 wanted",), "radius": 0.1}
    reference = REFERENCE.model_copy(update=why)
    text = summary([], {"p_1": reference}, p_1="x")
    assert "not certified\n    because R̂ of r² is 1.15, at most 1.01 wanted\n" in text
    assert "ρ 0.1" in text


def test_a_problem_without_a_reference_says_so():
    assert "  reference: none\n" in summary([], {}, p_1="x")


@pytest.mark.parametrize("columns", ["20", "80", "300"])
def test_nothing_is_cut_off_however_narrow_the_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    text = summary(ROWS, {"p_1": REFERENCE}, p_1="a long title " * 20)
    assert "…" not in text
    assert "15.700 ± 0.050  +0.063     +0.4%      +0.3%  +1.2  1.004  –" in text


def test_the_best_is_a_completed_one():
    assert best_trial(ROWS) is BEST
    assert best_trial([row(1, State.FAIL), row(2, State.PRUNED, objective=0.0)]) is None


def test_runs_of_fixed_settings_are_told_by_sampler():
    stream = io.StringIO()
    runs = [
        run_row("fine", **FIGURES),
        run_row("coarse", llc_hat=15.9, se_hat=0.1, error=0.263),
        run_row("broken", State.FAIL, reason="ValueError: a bug"),
        run_row("late", State.RUNNING),
    ]
    print_runs(stream, runs, {"p_1": REFERENCE}, {"run": Path("/runs/x")}, {"p_1": "mlp", "p_2": "other"})
    assert [line.rstrip() for line in stream.getvalue().splitlines()] == [
        "p_1  mlp",
        "  reference λ = 15.637 ± 0.021  certified",
        "  γ_loc 100  nβ 263.1  gradients 123,456  seconds 43.2",
        "  sampler               λ̂   error  relative  predicted     z      R̂  k̂",
        "  fine     15.700 ± 0.050  +0.063     +0.4%      +0.3%  +1.2  1.004  –",
        "  coarse     15.90 ± 0.10  +0.263         –          –     –      –  –",
        "  broken                –       –         –          –     –      –  –",
        "  late                  –       –         –          –     –      –  –",
        "  Laplace           15.74  +0.103     +0.7%          –     –      –  –",
        "  coarse: no closer than Laplace",
        "  broken: failed: ValueError: a bug",
        "  late: unfinished",
        "",
        "p_2  other",
        "  reference: none",
        "",
        "run  /runs/x",
    ]


def test_what_is_confirmed_is_told_beside_what_the_search_found():
    known = {"pid": "p_1", "method": "sgld", "number": 2, "run_id": "r_2", "hyperparameters": {"eta0": 0.001}}
    known |= {"rmse": 0.0712, "rmse_se": 0.0123, "relative_rmse": 0.00455}
    confirmed = [
        confirmed_row(**known),
        confirmed_row(**known | {"rank": 2, "rmse": 9.0}),
        confirmed_row(**known | {"num_failed": 1, "method": "vi", "rmse_se": None, "worst_k_hat": 0.6, "rms_z": 2.04}),
        confirmed_row(**known | {"method": "hmc", "rmse": 0.2, "worst_rhat": 1.2, "worst_k_hat": 0.8}),
        confirmed_row(**known | {"pid": "p_2"}),
    ]
    stream = io.StringIO()
    print_summary(stream, ROWS, {"p_1": REFERENCE}, {}, {"p_1": "mlp"}, confirmed)
    assert [line for line in stream.getvalue().splitlines() if "confirmed" in line] == [
        "  sgld confirmed: rmse 0.0712 ± 0.012 (0.5%), 4 seeds; trial 2 (r_2): eta0=0.001",
        "  vi confirmed: rmse 0.0712 ± – (0.5%), 4 seeds; trial 2 (r_2): eta0=0.001; 1 of its runs failed; "
        "its errors are 2.0 times what its standard errors say",
        "  hmc confirmed: rmse 0.2 ± 0.012 (0.5%), 4 seeds; trial 2 (r_2): eta0=0.001; its chains disagree (R̂ 1.20); "
        "its fit does not cover the posterior (k̂ 0.80); no closer than Laplace",
    ]
