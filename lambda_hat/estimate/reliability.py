"""Why an estimate should not be relied on: sentences that say what was found, what is wanted, and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lambda_hat.config.methods import MethodSettings
from lambda_hat.config.methods.base import Advised
from lambda_hat.draws.control import has_identities
from lambda_hat.draws.criteria import (
    MAX_ACCEPTANCE_GAP,
    MAX_DECREASE,
    MAX_DIVERGENT_FRACTION,
    MAX_RELATIVE_BIAS,
    MAX_RELATIVE_MCSE,
    MAX_RHAT,
    MAX_RHAT_APPROXIMATE,
    MAX_VIRIAL,
    MIN_ACCEPTANCE_RATIO,
    MIN_BFMI,
    Criterion,
    minimum_criterion,
)
from lambda_hat.draws.diagnostics import bfmi
from lambda_hat.estimate.method import MethodResult
from lambda_hat.records.state import State

__all__ = ["NOT_A_MINIMUM", "reasons_against"]

NOT_A_MINIMUM = "Train further, with the full batch at the end: λ̂ is defined around a minimum"
_LONGER = "Raise `steps`"
_GRADIENT = (
    "See whether the loss is continuous and its gradient its own: a `stop_gradient` or rounding makes it another"
)


def reasons_against(run: MethodResult, settings: MethodSettings, decrease_available: float) -> tuple[str, ...]:
    """Every criterion that a run does not meet, with what to do about it; none means that it can be relied on.

    R̂ of the loss and of r² ≤ 1.01, or 1.05 for methods without a Metropolis decision; ESS ≥ what the method asks for;
    MCSE ≤ 5 % of λ̂; divergent steps ≤ 0.1 %; acceptance at most 0.1 below its target on average and at least half of
    it in each chain; E-BFMI ≥ 0.3; identities that vanish within 4 standard errors for samplers without bias, and for
    the others a bias by the identities ≤ 5 % of λ̂ and a stationary law that is reached; the method's own criteria; λ̂
    not below −2 standard errors; what the local potential can still lose near w0 ≤ 1 % of λ̂.
    """
    estimate = run.estimate
    if run.state is not State.COMPLETE:
        diverged = f"The run diverged: {run.reason}. {settings.smaller_steps}."
        minimum = minimum_criterion(decrease_available, estimate.llc, MAX_DECREASE)
        at_w0 = () if minimum.is_met or math.isnan(minimum.value) else (f"{minimum}. {NOT_A_MINIMUM}.",)
        return (*at_w0, diverged)
    reasons = [*run.reasons]
    reasons += [
        f"{criterion}. {advice}."
        for criterion, advice in _criteria(run, settings, decrease_available)
        if not criterion.is_met
    ]
    if estimate.llc < -2 * estimate.se:
        negative = f"λ̂ = {estimate.llc:.4g} ± {estimate.se:.2g} is negative by more than two standard errors"
        reasons.insert(0, f"{negative}. {NOT_A_MINIMUM}.")
    return tuple(reasons)


def _criteria(run: MethodResult, settings: MethodSettings, decrease_available: float) -> Iterator[Advised]:
    estimate, info = run.estimate, run.info
    max_rhat = MAX_RHAT if settings.is_exact else MAX_RHAT_APPROXIMATE
    relative_mcse = estimate.se / abs(estimate.llc) if estimate.llc else np.inf
    yield minimum_criterion(decrease_available, estimate.llc, MAX_DECREASE), NOT_A_MINIMUM
    if settings.is_composite:
        return  # it judges its parts by itself
    yield Criterion("R̂ of the loss", estimate.rhat_loss, max_rhat), _LONGER
    yield Criterion("R̂ of r²", estimate.rhat_distance, max_rhat), _LONGER
    yield Criterion("bulk ESS", estimate.ess_bulk, settings.min_ess, is_upper=False), settings.more_draws
    yield Criterion("tail ESS", estimate.ess_tail, settings.min_ess, is_upper=False), settings.more_draws
    yield Criterion("MCSE over λ̂", relative_mcse, MAX_RELATIVE_MCSE), settings.more_draws
    divergent = float(np.mean(info.is_divergent))
    yield Criterion("fraction of divergent steps", divergent, MAX_DIVERGENT_FRACTION), settings.smaller_steps
    if (target := settings.wanted_acceptance) is not None:
        acceptance = np.mean(info.acceptance_rate, axis=1)
        mean, least = float(np.mean(acceptance)), float(np.min(acceptance))
        advice = "Raise `steps`, a quarter of which the step size is adapted in"
        yield Criterion("mean acceptance", mean, target - MAX_ACCEPTANCE_GAP, is_upper=False), advice
        yield Criterion("smallest acceptance of a chain", least, MIN_ACCEPTANCE_RATIO * target, is_upper=False), advice
    if settings.has_fresh_momentum:
        yield Criterion("E-BFMI", bfmi(info.energy), MIN_BFMI, is_upper=False), "Make `localization` larger"
    yield from _self_check(run, settings)
    yield from settings.criteria(estimate.llc, run.extras)


def _self_check(run: MethodResult, settings: MethodSettings) -> Iterator[Advised]:
    check = run.self_check
    if check is None:
        return
    if settings.correction == "regression" and has_identities(run.info):
        yield Criterion("virial, in MCSE", check.virial, MAX_VIRIAL), _GRADIENT
    if settings.correction == "virial":
        name = "bias that the identities find in the draws"
        bias = Criterion(name, check.relative_bias, MAX_RELATIVE_BIAS, is_percentage=True)
        yield bias, settings.advice_on_bias
        if not math.isnan(check.stationarity):
            yield Criterion("distance from stationarity, in MCSE", check.stationarity, MAX_VIRIAL), _LONGER
