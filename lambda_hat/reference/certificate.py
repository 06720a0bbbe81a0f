"""When a reference may be believed: every criterion, its value and its bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from lambda_hat.drawing import BLUE, GREY, new_axes
from lambda_hat.draws.criteria import (
    DIVERGENCES,
    MAX_CHAIN_DEVIATION,
    MAX_DISAGREEMENT,
    MAX_DIVERGENT_FRACTION,
    MAX_K_HAT_OF_CERTIFICATE,
    MAX_RHAT,
    MAX_RHAT_APPROXIMATE,
    MAX_SHARE_MISSED,
    MAX_VIRIAL,
    MIN_ACCEPTANCE_RATIO,
    MIN_BFMI,
    MIN_DIVERGENT,
    MIN_ESS,
    Criterion,
    minimum_criterion,
    sign_criterion,
)
from lambda_hat.draws.diagnostics import DiagnosedDraws, bfmi, mcse
from lambda_hat.draws.info import Info
from lambda_hat.formatting import html_table, number
from lambda_hat.reference.importance import ImportanceEstimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Certificate",
    "agreement",
    "certify",
    "certify_importance",
    "is_diverging",
    "is_refuted",
    "judge_minimum",
    "pooled",
]


_PLOTTED = (1e-3, 1e3)  # shares of a bound that a figure shows


@dataclass(frozen=True)
class Certificate:
    """All criteria; certified means all of them."""

    criteria: tuple[Criterion, ...]

    @property
    def is_certified(self) -> bool:
        """Whether every criterion is met."""
        return all(criterion.is_met for criterion in self.criteria)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The criteria that are not met, in words."""
        return tuple(str(criterion) for criterion in self.criteria if not criterion.is_met)

    def _repr_html_(self) -> str:
        rows = [
            {
                "criterion": criterion.name,
                "value": number(criterion.value, ".4g", criterion.bound),
                "wanted": f"{'≤' if criterion.is_upper else '≥'} {criterion.bound:g}",
                "met": "yes" if criterion.is_met else "no",
            }
            for criterion in self.criteria
        ]
        return html_table(rows)

    def plot(self, axes: Axes | None = None) -> Axes:
        """How far each criterion is from its bound: at most 1 where it is met, hollow where it is not.

        It is value over bound, of R̂ by what these are above 1, or bound over value of what has to be large, on a
        logarithmic axis; a value of the other sign is at the edge.
        """
        axes = new_axes(height=0.6 + 0.28 * len(self.criteria)) if axes is None else axes
        for place, criterion in enumerate(reversed(self.criteria)):
            face = BLUE if criterion.is_met else "white"
            axes.plot(min(max(criterion.share, _PLOTTED[0]), _PLOTTED[1]), place, "o", color=BLUE, mfc=face)
        axes.axvline(1.0, color=GREY, linewidth=1.0)
        axes.set_xscale("log")
        axes.set_xlim(_PLOTTED[0] / 1.5, _PLOTTED[1] * 1.5)
        axes.set_yticks(range(len(self.criteria)), [criterion.name for criterion in reversed(self.criteria)])
        axes.set_xlabel("share of what is allowed")
        return axes

    def to_list(self) -> list[dict[str, object]]:
        """One plain dict per criterion, infinities as null."""
        rows = [{**asdict(criterion), "is_met": criterion.is_met} for criterion in self.criteria]
        return [
            {
                key: None if isinstance(x, float) and not math.isfinite(x) else x
                for key, x in row.items()
                if key != "is_percentage"  # a matter of words
            }
            for row in rows
        ]


def _largest_chain_deviation(trace: np.ndarray) -> float:
    """Largest |mean of a chain − mean of the others| in units of the combined MCSE."""
    means = trace.mean(axis=1)
    errors = np.array([mcse(chain[None]) for chain in trace])
    if not np.isfinite(errors).all():
        return math.inf
    num_others = len(means) - 1
    rest = (means.sum() - means) / num_others
    rest_errors = np.sqrt(np.sum(errors**2) - errors**2) / num_others
    return float(np.max(np.abs(means - rest) / np.hypot(errors, rest_errors)))


def certify(draws: DiagnosedDraws | None, *, target_accept: float, max_relative_mcse: float) -> Certificate:
    """Every criterion that one set of chains can be judged by; without draws none is met."""
    if draws is None:
        return Certificate((Criterion("number of draws", 0, MIN_ESS, is_upper=False),))
    info, loss, distance = draws.info, draws.loss, draws.distance
    acceptance = float(np.mean(info.acceptance_rate, axis=1).min())
    corrected = draws.corrected
    relative_mcse = corrected.mcse / abs(corrected.mean) if corrected.mean else math.inf
    divergent, deviation = float(np.mean(info.is_divergent)), _largest_chain_deviation(draws.loss_trace)
    return Certificate(
        (
            Criterion("R̂ of the loss", loss.rhat, MAX_RHAT),
            Criterion("R̂ of r²", distance.rhat, MAX_RHAT),
            Criterion("bulk ESS of the loss", loss.ess_bulk, MIN_ESS, is_upper=False),
            Criterion("tail ESS of the loss", loss.ess_tail, MIN_ESS, is_upper=False),
            Criterion("bulk ESS of r²", distance.ess_bulk, MIN_ESS, is_upper=False),
            Criterion("tail ESS of r²", distance.ess_tail, MIN_ESS, is_upper=False),
            Criterion("MCSE over λ̂", relative_mcse, max_relative_mcse),
            Criterion(DIVERGENCES, divergent, MAX_DIVERGENT_FRACTION),
            Criterion("E-BFMI", bfmi(info.energy), MIN_BFMI, is_upper=False),
            Criterion("largest deviation of a chain's mean loss, in MCSE", deviation, MAX_CHAIN_DEVIATION),
            Criterion(
                "smallest acceptance of a chain", acceptance, MIN_ACCEPTANCE_RATIO * target_accept, is_upper=False
            ),
            *(_judge_correction(draws) if draws.has_identities else ()),
        )
    )


def _judge_correction(draws: DiagnosedDraws) -> tuple[Criterion, ...]:
    """The identities must hold, and what they leave of the loss must mix as well."""
    return (
        Criterion("virial, in MCSE", draws.virial, MAX_VIRIAL),
        Criterion("R̂ of the corrected loss", draws.corrected.rhat, MAX_RHAT),
        Criterion("bulk ESS of the corrected loss", draws.corrected.ess_bulk, MIN_ESS, is_upper=False),
    )


def is_diverging(info: Info | None) -> bool:
    """Whether there are too many divergent steps beyond doubt: enough of them, and not only in one chain."""
    if info is None:
        return False
    divergent = np.asarray(info.is_divergent)
    per_chain = np.sort(divergent.mean(axis=1))
    return bool(divergent.sum() >= MIN_DIVERGENT and per_chain[:-1].mean() > MAX_DIVERGENT_FRACTION)


def agreement(
    draws: DiagnosedDraws | None, others: DiagnosedDraws | None, name: str, *, max_relative_mcse: float
) -> Certificate:
    """Agreement of λ̂ with other chains, by `name`, which must be long enough to tell. The last criterion is theirs."""
    rhat = relative_mcse = deviation = math.nan
    if draws is not None and others is not None:
        ours, theirs = draws.corrected, others.corrected
        error = math.hypot(ours.mcse, theirs.mcse)
        rhat = max(others.loss.rhat, theirs.rhat)
        relative_mcse = theirs.mcse / abs(theirs.mean) if theirs.mean else math.inf
        deviation = abs(ours.mean - theirs.mean) / error if math.isfinite(error) and error > 0 else math.inf
    return Certificate(
        (
            Criterion(f"R̂ of the loss at {name}", rhat, MAX_RHAT_APPROXIMATE),
            Criterion(f"MCSE over λ̂ at {name}", relative_mcse, max_relative_mcse),
            Criterion(f"disagreement with {name}, in MCSE", deviation, MAX_DISAGREEMENT),
        )
    )


def pooled(estimates: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Independent estimates and standard errors of one λ̂ as one, weighted by inverse variance; NaN and ∞ of none."""
    if len(estimates) < 2:
        return next(iter(estimates), (math.nan, math.inf))
    values, errors = np.array(estimates).T
    if not (np.isfinite(errors) & (errors > 0)).all():
        return estimates[0]
    precisions = errors**-2
    return float(values @ precisions / precisions.sum()), float(precisions.sum() ** -0.5)


def is_refuted(judgement: Certificate) -> bool:
    """Whether the other chains of an `agreement` are long enough to tell, and tell something else."""
    *others, disagreement = judgement.criteria
    return all(criterion.is_met for criterion in others) and not disagreement.is_met


def judge_minimum(decrease_available: float, llc: float, se: float, max_share: float) -> Certificate:
    """Whether w0 is a minimum, by what the potential can still lose and by the sign of λ̂."""
    return Certificate((sign_criterion(llc, se), minimum_criterion(decrease_available, llc, max_share)))


def certify_importance(
    estimate: ImportanceEstimate | None, share_missed: float, *, max_relative_mcse: float
) -> Certificate:
    """Every criterion that importance sampling is judged by; without an estimate none is met.

    `share_missed` is the share of draws, of chains or from afar, that lie where the mixture has next to no density.
    """
    if estimate is None:
        return Certificate((Criterion("number of draws by importance sampling", 0, MIN_ESS, is_upper=False),))
    relative_error = estimate.se / abs(estimate.llc) if estimate.llc else math.inf
    return Certificate(
        (
            Criterion("k̂ of the importance weights", estimate.k_hat, MAX_K_HAT_OF_CERTIFICATE),
            Criterion("effective number of importance draws", estimate.effective_size, MIN_ESS, is_upper=False),
            Criterion("MCSE over λ̂", relative_error, max_relative_mcse),
            Criterion(
                "share of draws, of chains or from afar, that the mixture misses", share_missed, MAX_SHARE_MISSED
            ),
        )
    )
