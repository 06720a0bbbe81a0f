"""Why an estimate should not be relied on: sentences that say what was found, what is wanted, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lambda_hat.config.methods import HMCSettings, MCLMCSettings, MethodSettings, SGLDSettings, VISettings
from lambda_hat.estimate.criteria import (
    MAX_ACCEPTANCE_GAP,
    MAX_DECREASE,
    MAX_DIVERGENT_FRACTION,
    MAX_K_HAT,
    MAX_RELATIVE_BIAS,
    MAX_RELATIVE_MCSE,
    MAX_RHAT,
    MAX_RHAT_APPROXIMATE,
    MIN_ACCEPTANCE_RATIO,
    MIN_BFMI,
    MIN_ESS,
    MIN_ESS_OF_NOISY_READINGS,
    Criterion,
    minimum_criterion,
)
from lambda_hat.estimate.diagnostics import bfmi
from lambda_hat.estimate.method import MethodResult
from lambda_hat.records.state import State

__all__ = ["NOT_A_MINIMUM", "reasons_against"]

NOT_A_MINIMUM = "Train further, with the full batch at the end: λ̂ is defined around a minimum"
_LONGER = "Raise `steps`"
_SMALLER_STEP = {"sgld": "Lower `eta0`", "vi": "Lower `lr`"}
_SMALLER_ADAPTED_STEP = "Raise `target_accept`"


def reasons_against(run: MethodResult, settings: MethodSettings, decrease_available: float) -> tuple[str, ...]:
    """Every criterion that a run does not meet, with what to do about it; none means that it can be relied on.

    R̂ of the loss and of r² ≤ 1.01 for HMC and MCLMC, 1.05 for SGLD and VI; ESS ≥ 400, for SGLD 100; MCSE ≤ 5 % of λ̂;
    divergent steps ≤ 0.1 %; acceptance at most 0.1 below its target on average and at least half of it in each chain;
    E-BFMI ≥ 0.3; k̂ ≤ 0.7 and importance sampling within 5 %; a prediction of SGLD's bias, and one ≤ 5 %; λ̂ not below
    −2 standard errors; what the local potential can still lose near w0 ≤ 1 % of λ̂.
    """
    if run.state is not State.COMPLETE:
        return (f"The run diverged: {run.reason}. {_SMALLER_STEP.get(settings.method, _SMALLER_ADAPTED_STEP)}.",)
    estimate = run.estimate
    reasons = [
        f"{criterion}. {advice}."
        for criterion, advice in _criteria(run, settings, decrease_available)
        if not criterion.is_met
    ]
    if estimate.llc < -2 * estimate.se:
        negative = f"λ̂ = {estimate.llc:.4g} ± {estimate.se:.2g} is negative by more than two standard errors"
        reasons.insert(0, f"{negative}. {NOT_A_MINIMUM}.")
    if isinstance(settings, SGLDSettings) and "predicted_bias" not in run.extras:
        unknown = f"The bias of sgld with `precond_type: {settings.preconditioner}` is not known"
        reasons.append(f"{unknown}. See whether a smaller `eta0` gives the same, or use hmc.")
    if isinstance(settings, MCLMCSettings) and not settings.is_adjusted:
        unknown = "The bias of mclmc with `adjusted: false` is not known"
        reasons.append(f"{unknown}. See whether a smaller `step_size` gives the same, or leave `adjusted` out.")
    return tuple(reasons)


def _criteria(
    run: MethodResult, settings: MethodSettings, decrease_available: float
) -> Iterator[tuple[Criterion, str]]:
    estimate, info, extras = run.estimate, run.info, run.extras
    is_exact = isinstance(settings, HMCSettings | MCLMCSettings)
    max_rhat = MAX_RHAT if is_exact else MAX_RHAT_APPROXIMATE
    min_ess = MIN_ESS_OF_NOISY_READINGS if isinstance(settings, SGLDSettings) else MIN_ESS
    longer = "Raise `num_draws`" if isinstance(settings, VISettings) else _LONGER
    relative_mcse = estimate.se / abs(estimate.llc) if estimate.llc else np.inf
    yield minimum_criterion(decrease_available, estimate.llc, MAX_DECREASE), NOT_A_MINIMUM
    yield Criterion("R̂ of the loss", estimate.rhat_loss, max_rhat), _LONGER
    yield Criterion("R̂ of r²", estimate.rhat_distance, max_rhat), _LONGER
    yield Criterion("bulk ESS", estimate.ess_bulk, min_ess, is_upper=False), longer
    yield Criterion("tail ESS", estimate.ess_tail, min_ess, is_upper=False), longer
    yield Criterion("MCSE over λ̂", relative_mcse, MAX_RELATIVE_MCSE), longer
    divergent = float(np.mean(info.is_divergent))
    yield (
        Criterion("fraction of divergent steps", divergent, MAX_DIVERGENT_FRACTION),
        _SMALLER_STEP.get(settings.method, _SMALLER_ADAPTED_STEP),
    )
    if isinstance(settings, HMCSettings | MCLMCSettings):
        acceptance, target = np.mean(info.acceptance_rate, axis=1), settings.target_accept
        mean, least = float(np.mean(acceptance)), float(np.min(acceptance))
        advice = "Raise `steps`, a quarter of which the step size is adapted in"
        yield Criterion("mean acceptance", mean, target - MAX_ACCEPTANCE_GAP, is_upper=False), advice
        yield Criterion("smallest acceptance of a chain", least, MIN_ACCEPTANCE_RATIO * target, is_upper=False), advice
    if isinstance(settings, HMCSettings):
        yield Criterion("E-BFMI", bfmi(info.energy), MIN_BFMI, is_upper=False), "Make `localization` larger"
    if isinstance(settings, VISettings):
        k_hat, corrected = extras.get("k_hat", np.inf), extras.get("llc_psis", np.nan)
        better = "Raise `M` and `r`, or use hmc"
        yield Criterion("k̂ of importance sampling", k_hat, MAX_K_HAT), better
        if k_hat <= MAX_K_HAT:
            bias = abs(estimate.llc - corrected) / abs(corrected) if corrected else np.inf
            yield Criterion("distance from importance sampling, over λ̂", bias, MAX_RELATIVE_BIAS), better
    if "predicted_bias" in extras:
        yield Criterion("predicted bias over λ̂", abs(extras["predicted_bias"]), MAX_RELATIVE_BIAS), "Lower `eta0`"
