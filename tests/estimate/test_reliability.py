"""Every criterion that an estimate can fail, in the sentence that says so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lambda_hat.config.methods import parse_settings
from lambda_hat.draws.info import Info
from lambda_hat.draws.llc import LLCEstimate
from lambda_hat.draws.selfcheck import SelfCheck
from lambda_hat.estimate.method import MethodResult
from lambda_hat.estimate.reliability import reasons_against
from lambda_hat.records.state import State

GOOD = {
    "llc": 10.0, "se": 0.1, "raw_llc": 10.1, "raw_se": 0.2, "rhat": 1.005, "ess_bulk": 900.0, "ess_tail": 800.0,
    "rhat_loss": 1.005, "rhat_distance": 1.003, "num_draws": 4000,
}  # fmt: skip
EXTRAS = {"vi": {"k_hat": 0.5, "llc_psis": 10.2}}
CHECKED = {
    "left_open": 0.0,
    "virial_excess": 0.01,
    "virial": 1.0,
    "stationarity": 2.0,
    "degree": 2.1,
    "relative_bias": 0.02,
}
SHAPE = (4, 100)
ALL = ("hmc", "mclmc", "sgld", "sghmc", "vi")


def reasons(
    method: str,
    *,
    decrease: float = 1e-3,
    traces=None,
    estimate=None,
    extras=None,
    check=None,
    settings=None,
    is_diverged=False,
):
    acceptance = {"hmc": 0.8, "mclmc": 0.9}.get(method, 1.0)
    known = {name: np.ones(SHAPE) for name in Info._fields}
    known |= {"acceptance_rate": np.full(SHAPE, acceptance), "is_divergent": np.zeros(SHAPE)}
    known |= {"is_undefined": np.zeros(SHAPE)}
    known |= {"energy": np.random.default_rng(0).standard_normal(SHAPE)}
    run = MethodResult(
        state=State.PRUNED if is_diverged else State.COMPLETE,
        is_diverged=is_diverged,
        reason="r² is too large" if is_diverged else "",
        estimate=LLCEstimate(**GOOD | (estimate or {})),
        info=Info(**known | (traces or {})),
        num_steps_done=100,
        is_truncated=False,
        num_gradient_evaluations=1.0,
        extras=EXTRAS.get(method, {}) if extras is None else extras,
        chains=None,
        self_check=None if method == "vi" else SelfCheck(**CHECKED | (check or {})),
    )
    return reasons_against(run, parse_settings(method, settings or {}), decrease)


@pytest.mark.parametrize("method", ALL)
def test_a_good_run_is_relied_on(method):
    assert reasons(method) == ()


MINIMUM = "Train further, with the full batch at the end: λ̂ is defined around a minimum."
STUCK = np.array([[0.9], [0.9], [0.9], [0.3]]) * np.ones(SHAPE)
DRIFT = np.cumsum(np.full(SHAPE, 1.0) + 0.1 * np.random.default_rng(0).standard_normal(SHAPE), axis=1)
CASES = [
    (ALL, {"estimate": {"rhat_loss": 1.06}}, "R̂ of the loss is 1.06, at most {rhat} wanted. Raise `steps`."),
    (ALL, {"estimate": {"rhat_distance": 1.06}}, "R̂ of r² is 1.06, at most {rhat} wanted. Raise `steps`."),
    (ALL, {"estimate": {"ess_bulk": 99.0}}, "bulk ESS is 99, at least {ess} wanted. Raise `{more}`."),
    (ALL, {"estimate": {"ess_tail": 99.0}}, "tail ESS is 99, at least {ess} wanted. Raise `{more}`."),
    (ALL, {"estimate": {"se": 0.6}}, "MCSE over λ̂ is 0.06, at most 0.05 wanted. Raise `{more}`."),
    (ALL, {"decrease": 0.2},
     "decrease still available at w0, over λ̂ is 0.02, at most 0.01 wanted. " + MINIMUM),
    (ALL, {"estimate": {"llc": -10.0}},
     "λ̂ = -10 ± 0.1 is negative by more than two standard errors. " + MINIMUM),
    (ALL, {"is_diverged": True}, "The run diverged: r² is too large. {step}."),
    (ALL, {"traces": {"is_divergent": np.full(SHAPE, 0.01)}},
     "fraction of divergent steps is 0.01, at most 0.001 wanted. {step}."),
    (("hmc",), {"traces": {"acceptance_rate": np.full(SHAPE, 0.6)}},
     "mean acceptance is 0.6, at least 0.7 wanted. Raise `steps`, a quarter of which the step size is adapted in."),
    (("hmc",), {"traces": {"acceptance_rate": STUCK}},
     "smallest acceptance of a chain is 0.3, at least 0.4 wanted. Raise `steps`, a quarter of which the step size is "
     "adapted in."),
    (("hmc",), {"traces": {"energy": DRIFT}},
     "E-BFMI is 0.001183, at least 0.3 wanted. Make `localization` larger."),
    (("vi",), {"extras": {"k_hat": 0.8, "llc_psis": 13.0}},
     "k̂ of importance sampling is 0.8, at most 0.7 wanted. Raise `M` and `r`, or use hmc."),
    (("vi",), {"extras": {}}, "k̂ of importance sampling is inf, at most 0.7 wanted. Raise `M` and `r`, or use hmc."),
    (("vi",), {"extras": {"k_hat": 0.6, "llc_psis": 12.5}},
     "distance from importance sampling, over λ̂ is 0.2, at most 0.05 wanted. Raise `M` and `r`, or use hmc."),
    (("sgld", "sghmc"), {"check": {"relative_bias": 0.3}},
     "bias that the identities find in the draws is 30.0%, at most 5% wanted. {step}."),
    (("mclmc",), {"check": {"relative_bias": 0.3}, "settings": {"adjusted": False}},
     "bias that the identities find in the draws is 30.0%, at most 5% wanted. Lower `step_size`."),
    (("sgld", "sghmc"), {"check": {"stationarity": 5.0}},
     "distance from stationarity, in MCSE is 5, at most 4 wanted. Raise `steps`."),
    (("hmc", "mclmc"), {"check": {"virial": 5.0}},
     "virial, in MCSE is 5, at most 4 wanted. See whether the loss is continuous and its gradient its own: a "
     "`stop_gradient` or rounding makes it another."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "fault", "sentence"),
    [(method, fault, sentence) for methods, fault, sentence in CASES for method in methods],
    ids=lambda part: part[:30] if isinstance(part, str) else "",
)
def test_each_fault_has_its_sentence(method, fault, sentence):
    expected = sentence.format(
        rhat=1.01 if method in ("hmc", "mclmc") else 1.05,
        ess=100 if method in ("sgld", "sghmc") else 400,
        more="num_draws" if method == "vi" else "steps",
        step={"sgld": "Lower `eta0`", "sghmc": "Lower `eta`", "vi": "Lower `lr`"}.get(method, "Raise `target_accept`"),
    )
    assert expected in reasons(method, **fault)
    if "acceptance_rate" not in fault.get("traces", {}) and method != "vi":
        assert reasons(method, **fault) == (expected,)


def test_a_run_that_diverged_off_no_minimum_says_so_first():
    at_w0, diverged = reasons("hmc", is_diverged=True, decrease=0.2)
    assert at_w0.startswith("decrease still available at w0, over λ̂ is 0.02")
    assert diverged.startswith("The run diverged")


def test_a_trace_that_never_moved_fails_everything():
    stuck = {"se": math.inf, "rhat_loss": math.inf, "rhat_distance": math.inf, "ess_bulk": 0.0, "ess_tail": 0.0}
    assert len(reasons("hmc", estimate=stuck)) == 5
