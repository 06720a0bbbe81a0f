"""The control at nβ = 0: right settings pass, and each kind of wrong ones is told by its cure."""

from __future__ import annotations

import numpy as np
import pytest

from lambda_hat import SamplerCheck, check_sampler
from lambda_hat.errors import InputError

DIM, LOCALIZATION = 3, 50.0
STEPS, BURN_IN = 20_000, 0.25


def never(params, batch):
    raise AssertionError("the control evaluates no loss")


def control(sampler: str = "sgld", **settings) -> SamplerCheck:
    params = {"w": np.ones(DIM), "scale": np.ones(2)}
    data = (np.zeros((200, 2)), np.zeros(200))
    return check_sampler(
        never, params, data, sampler=sampler, sampled="w", localization=LOCALIZATION, **settings
    )  # fmt: skip


def sgld_ratio(eta: float, steps: int) -> float:
    """γ_loc E|w − w0|²/d over the steps after the burn-in of chains r ← (1 − ηγ/2) r + √η ξ that begin at 0.

    Info has |w − w0|² before the step: 0 at the first.
    """
    shrink = 1 - eta * LOCALIZATION / 2
    done = np.arange(int(BURN_IN * steps), steps)
    return float(np.mean(1 - shrink ** (2 * done)) / (1 - eta * LOCALIZATION / 4))


@pytest.mark.parametrize(
    ("eta", "steps", "reason"),
    [
        (2e-3, STEPS, ""),
        (2e-2, STEPS, "distance of γ_loc E|w − w0|²/d from 1 is 0.3"),
        (1e-5, 1000, "distance of γ_loc E|w − w0|²/d from 1 is 0."),
        (0.1, 1000, "The run diverged: |w − w0|² reached"),
    ],
)
def test_sgld_has_the_variance_of_its_own_recursion(eta, steps, reason, is_within):
    check = control(eta0=eta, steps=steps)
    assert abs(check.llc) < 1e-4 or "diverged" in reason
    assert check.is_passed == (not reason)
    assert any(text.startswith(reason) for text in check.reasons) or not reason
    if "diverged" not in reason:
        assert is_within(check.ratio, check.se, sgld_ratio(eta, steps))
        assert check.ratio_trace.shape == (4, steps * 3 // 4)


def test_the_cure_is_the_right_way_round():
    (*_, short), (*_, coarse) = control(eta0=1e-5, steps=1000).reasons, control(eta0=2e-2, steps=STEPS).reasons
    assert short.endswith("Raise `steps`, or the step size.")
    assert coarse.endswith("Lower `eta0`.")


@pytest.mark.slow(seconds=5)
def test_hmc_is_exact(is_within):
    check = control("hmc", steps=1500)
    assert check.is_passed, check.reasons
    assert is_within(check.ratio, check.se, 1.0)
    assert abs(check.llc) < 1e-9


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        ("mclmc", {"steps": 3000}),
        ("mclmc", {"steps": 20_000, "adjusted": False}),
        ("sghmc", {"steps": STEPS, "eta": 0.01}),
        ("sghmc", {"steps": STEPS, "eta": 2e-4, "precond_type": "none"}),
        ("sgld", {"steps": STEPS, "eta0": 0.1, "precond_type": "whitened"}),
        ("sgld", {"steps": STEPS, "eta0": 2e-5, "precond_type": "rmsprop"}),
        ("sgld", {"steps": STEPS, "eta0": 2e-5, "precond_type": "adam"}),
        ("vi", {"steps": 2000, "M": 1, "r": 0}),
    ],
)
def test_every_other_sampler_passes_too(sampler, settings):
    check = control(sampler, **settings)
    assert check.is_passed, check.reasons
    assert abs(check.ratio - 1) < 4 * check.se + 0.05


def test_it_shows_itself():
    check = control(eta0=2e-2, steps=STEPS)
    assert f"{check}".startswith("γ_loc E|w − w0|²/d = 1.3")
    assert "sgld, fails the control at nβ = 0" in f"{check}"
    assert "wanted 0.06" in f"{check}"
    assert "<th>wanted</th>" in check._repr_html_()
    axes = check.plot()
    np.testing.assert_allclose([line.get_ydata()[-1] for line in axes.lines[:-1]], check.ratio_trace.mean(axis=1))


def test_auto_and_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="sampler: found 'auto', expected"):
        control("auto")
    with pytest.raises(InputError, match=r"epsilon: found here; expected another name\.\s+Did you mean `eta0`"):
        control(epsilon=1e-4)
    with pytest.raises(InputError, match="inverse_temperature: unknown setting of sgld"):
        control(inverse_temperature=1.0)
