from __future__ import annotations

import io
import re
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
CITATION = "Cite this: λ = 15.637 ± 0.021 at γ_loc = 100, nβ = 263.1, reference certified."
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
        "mlp, seed 0  p_1",
        "  reference λ = 15.637 ± 0.021  certified",
        "  γ_loc 100  nβ 263.1  gradients 123,456  seconds 43.2",
        f"  {CITATION}",
        "  Nothing is confirmed: the best of many trials is also the luckiest. Another seed will err more.",
        "  sgld agrees with the reference: best trial 15.700 ± 0.050 (+0.4%); not confirmed under fresh seeds.",
        "  vi has no estimate: 1 failed.",
        "  best trial of               λ̂   error  relative  predicted     z      R̂  k̂",
        "  sgld           15.700 ± 0.050  +0.063     +0.4%      +0.3%  +1.2  1.004  –",
        "  vi                          –       –         –          –     –      –  –",
        "  Laplace                 15.74  +0.103     +0.7%          –     –      –  –",
        "  sgld: 2 complete, 1 pruned, 1 failed; best is trial 2 (r_2): eta0=0.001, precond_type=adam",
        "  vi: 1 failed",
        "",
        "run    /runs/x",
        "table  /runs/x/t.parquet",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_narrow_terminal_gets_whole_words_and_whole_numbers(monkeypatch):
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    confirmed = [confirmed_row(pid="p_1", rmse=0.132, rmse_se=0.034, relative_rmse=0.009, worst_rhat=1.04998)]
    stream = Terminal()
    print_summary(stream, ROWS, {"p_1": REFERENCE}, {}, {"p_1": "mlp, seed 0"}, confirmed)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in stream.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    whole = summary(ROWS, {"p_1": REFERENCE}, p_1="mlp, seed 0")
    words = set(whole.split()) | set(" ".join(lines).split())
    assert set(CITATION.split()) <= set(" ".join(lines).split()) <= words
    assert "  sgld      0.132 ± 0.034     0.9%   – 1.04998     – 0 of 4         –" in lines
    assert lines.index("      certified.") == 4


def test_an_uncertified_reference_says_why():
    why = {"is_certified": False, "reasons": ("R̂ of r² is 1.15, at most 1.01 wanted",), "radius": 0.1}
    reference = REFERENCE.model_copy(update=why)
    text = summary([], {"p_1": reference}, p_1="x")
    assert "not certified\n    because R̂ of r² is 1.15, at most 1.01 wanted\n" in text
    assert "ρ 0.1" in text


def test_a_problem_without_a_reference_says_so():
    text = summary([], {}, p_1="x")
    assert "  reference: none\n  Nothing to cite: there is no reference yet.\n" in text


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
        "mlp  p_1",
        "  reference λ = 15.637 ± 0.021  certified",
        "  γ_loc 100  nβ 263.1  gradients 123,456  seconds 43.2",
        f"  {CITATION}",
        "  sampler               λ̂   error  relative  predicted     z      R̂  k̂",
        "  fine     15.700 ± 0.050  +0.063     +0.4%      +0.3%  +1.2  1.004  –",
        "  coarse     15.90 ± 0.10  +0.263         –          –     –      –  –",
        "  broken                –       –         –          –     –      –  –",
        "  late                  –       –         –          –     –      –  –",
        "  Laplace           15.74  +0.103     +0.7%          –     –      –  –",
        "  fine agrees with the reference: estimate 15.700 ± 0.050 (+0.4%).",
        "  coarse is no closer than Laplace: estimate 15.90 ± 0.10, Laplace is off by 0.103.",
        "  broken has no estimate: failed, ValueError: a bug.",
        "  late has no estimate: unfinished.",
        "",
        "other  p_2",
        "  reference: none",
        "  Nothing to cite: there is no reference yet.",
        "",
        "run  /runs/x",
    ]


def test_what_is_confirmed_is_told_beside_what_the_search_found():
    known = {"hyperparameters": {"eta0": 0.001}, "pid": "p_1", "relative_rmse": 0.00455, "rmse": 0.0712}
    known |= {"rmse_se": 0.0123, "num_gradient_evaluations": 5000.0}
    confirmed = [
        confirmed_row(**known),
        confirmed_row(**known | {"rank": 2, "rmse": 9.0}),
        confirmed_row(**known | {"num_failed": 1, "method": "vi", "rmse_se": None, "worst_k_hat": 0.6, "rms_z": 2.04}),
        confirmed_row(**known | {"method": "hmc", "rmse": 0.2, "worst_rhat": 1.2, "worst_k_hat": 0.7003}),
        confirmed_row(**known | {"pid": "p_2"}),
    ]
    stream = io.StringIO()
    print_summary(stream, ROWS, {"p_1": REFERENCE}, {}, {"p_1": "mlp"}, confirmed)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    start = next(place for place, line in enumerate(lines) if line.startswith("  confirmed"))
    assert lines[start : start + 9] == [
        "  confirmed           rmse  relative rmse  rms z  worst R̂  worst k̂  failed  gradients",
        "  sgld       0.071 ± 0.012           0.5%      –        –        –  0 of 4      5,000",
        "  vi            0.0712 ± ?           0.5%   2.04        –     0.60  1 of 4      5,000",
        "  hmc        0.200 ± 0.012           0.5%      –    1.200   0.7003  0 of 4      5,000",
        "  Laplace            0.103           0.7%      –        –        –       –          –",
        "  Use sgld, the only one to trust (5,000 gradients), with eta0=0.001.",
        "  sgld agrees with the reference: rms error 0.071 ± 0.012 (0.5%); it and Laplace do not differ within error. "
        "Settings: eta0=0.001.",
        "  vi cannot be trusted: 1 of its 4 runs failed; it is biased, or its standard errors are too small: its "
        "errors are 2.04 times what its standard errors say. Settings: eta0=0.001.",
        "  hmc cannot be trusted: its chains disagree (R̂ 1.20) and its fit does not cover the posterior (k̂ 0.7003); it "
        "is no closer than Laplace. Settings: eta0=0.001.",
    ]
