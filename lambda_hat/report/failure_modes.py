"""What goes wrong in the trials of a method, by the signs that their traces left, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lambda_hat.config.methods import METHODS, MethodSettings
from lambda_hat.draws.criteria import (
    MAX_K_HAT,
    MAX_RELATIVE_BIAS,
    MAX_RELATIVE_MCSE,
    MAX_RHAT_APPROXIMATE,
    MAX_VIRIAL,
    MAX_Z,
)
from lambda_hat.records.rows import TrialRow
from lambda_hat.records.state import State
from lambda_hat.report.analysis import exceeds

__all__ = ["FailureMode", "failure_modes", "is_trusted", "modes_of"]


@dataclass(frozen=True)
class FailureMode:
    """One way to fail, how many trials it met, and its cure."""

    name: str
    sign: str
    """What shows it."""
    cure: str
    num_trials: int


@dataclass(frozen=True)
class _Mode:
    name: str
    sign: str
    cure: Callable[[MethodSettings], str]
    is_met: Callable[[TrialRow], bool]


def _smaller_steps(settings: MethodSettings) -> str:
    return settings.smaller_steps + (", or enlarge the minibatches" if settings.has_minibatches else "")


def _is_noisy(row: TrialRow) -> bool:
    return row.se_hat is not None and bool(row.llc_hat) and row.se_hat > MAX_RELATIVE_MCSE * abs(row.llc_hat or 0.0)


def _is_below_w0(row: TrialRow) -> bool:
    return row.llc_hat is not None and row.llc_hat < -MAX_Z * (row.se_hat or 0.0)


def _is_off(row: TrialRow) -> bool:
    """Whether the estimate is wrong by more than 5 % and by more than its error."""
    return exceeds(row.relative_error, MAX_RELATIVE_BIAS) and exceeds(row.z, MAX_Z)


_SIGNS = (
    _Mode(
        "diverges",
        "chains leave the neighbourhood of w0, or the loss is no number",
        lambda settings: settings.smaller_steps,
        lambda row: row.is_diverged is True,
    ),
    _Mode(
        "falls below w0",
        "λ̂ is negative by more than two standard errors",
        lambda _: "Train further, or make `localization` larger",
        _is_below_w0,
    ),
    _Mode(
        "chains disagree",
        f"R̂ above {MAX_RHAT_APPROXIMATE:g}: they have not mixed, or not left their starts",
        lambda _: "Raise `steps`; larger steps where nothing else speaks against them",
        lambda row: exceeds(row.rhat, MAX_RHAT_APPROXIMATE),
    ),
    _Mode(
        "is noisy",
        f"its standard error is above {MAX_RELATIVE_MCSE:.0%} of λ̂",
        lambda settings: settings.more_draws,
        _is_noisy,
    ),
    _Mode(
        "is not stationary",
        f"the balance of forces is off by more than {MAX_VIRIAL:g} standard errors",
        lambda _: "Raise `steps` or `burn_in_fraction`",
        lambda row: exceeds(row.stationarity, MAX_VIRIAL),
    ),
    _Mode(
        "steps bias it",
        f"the identities find a bias above {MAX_RELATIVE_BIAS:.0%} of λ̂",
        _smaller_steps,
        lambda row: exceeds(row.self_check_bias, MAX_RELATIVE_BIAS),
    ),
    _Mode(
        "misses part of the posterior",
        f"k̂ above {MAX_K_HAT:g}: the fit does not cover it",
        lambda _: "Let the fit have more components and a higher rank, or use hmc",
        lambda row: exceeds(row.reports.get("k_hat"), MAX_K_HAT),
    ),
)
_SILENT = "is wrong without a sign"


def failure_modes(trials: Sequence[TrialRow]) -> tuple[FailureMode, ...]:
    """How the trials of one method failed, the commonest first. A trial may fail in several ways."""
    if not trials:
        return ()
    settings = METHODS[trials[0].method].model_validate({})
    found = [FailureMode(m.name, m.sign, m.cure(settings), sum(map(m.is_met, trials))) for m in _SIGNS]
    num_silent = sum(_is_off(row) and not any(True for _ in modes_of(row)) for row in trials)
    sign = f"off by more than {MAX_RELATIVE_BIAS:.0%} and two standard errors, and only the reference shows it"
    found.append(FailureMode(_SILENT, sign, f"{_smaller_steps(settings)}, and compare", num_silent))
    return tuple(sorted((mode for mode in found if mode.num_trials), key=lambda mode: -mode.num_trials))


def modes_of(row: TrialRow) -> Iterator[str]:
    """The failures that a trial's own traces show."""
    yield from (mode.name for mode in _SIGNS if mode.is_met(row))


def is_trusted(row: TrialRow) -> bool:
    """Whether a trial is complete, no trace speaks against it, and it is as close to the reference as it says.

    Where the reference is not certified nobody knows, and none is trusted.
    """
    if row.state is not State.COMPLETE or row.llc_hat is None or row.is_reference_certified is False:
        return False
    return not _is_off(row) and not any(modes_of(row))
