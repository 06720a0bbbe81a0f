"""What a problem's result is worth, in words: those of summary, report, `artifacts ls` and `artifacts show`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lambda_hat.config.methods import METHODS
from lambda_hat.draws.criteria import MAX_Z
from lambda_hat.formatting import count, estimate, listed, number, sentence
from lambda_hat.records.base import Value
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow, RunRow, TrialRow
from lambda_hat.records.state import State
from lambda_hat.report.analysis import doubts, doubts_of_settings, exceeds

__all__ = [
    "Estimate",
    "MethodVerdict",
    "ProblemVerdict",
    "citation",
    "is_closer",
    "judge_problem",
    "judge_settings",
    "settings_text",
]

_ROUNDING = 1e-9  # of λ: below it two values are the same
_JOIN = "; it "  # between what is said of one method

Estimate = TrialRow | RunRow
"""A trial of a search, or a run of fixed settings."""


@dataclass(frozen=True)
class MethodVerdict:
    """What one method, or one sampler with fixed settings, is worth on a problem."""

    name: str
    words: str
    """What follows the name in a sentence: `is biased: …`."""
    is_good: bool | None
    """Whether nothing speaks against it; None where there is nothing to compare it with either."""
    settings: str = ""
    """The settings that were confirmed."""

    @property
    def short(self) -> str:
        """The words without numbers."""
        return self.words.partition(":")[0].partition(" (")[0].removeprefix("is ")

    @property
    def sentence(self) -> str:
        """All of it."""
        return sentence(f"{self.name} {self.words}")


@dataclass(frozen=True)
class ProblemVerdict:
    """What a problem's result is worth."""

    citation: str
    """What to cite, or why there is nothing."""
    is_citable: bool
    recommendation: tuple[str, ...]
    """Which method to use, in sentences."""
    best: str
    """That method with its error under fresh seeds; `none` where none can be recommended."""
    methods: tuple[MethodVerdict, ...]

    @property
    def tone(self) -> str:
        """`good` where nothing is in doubt; `bad` where all is, or nothing can be recommended; else empty."""
        if not self.is_citable or (self.methods and not any(method.is_good for method in self.methods)):
            return "bad"
        return "good" if all(method.is_good for method in self.methods) else ""


def judge_problem(
    reference: ReferenceRecord | None,
    estimates: Mapping[str, Estimate | str],
    confirmed: Sequence[ConfirmedRow] = (),
    *,
    why_none: str | None = None,
) -> ProblemVerdict:
    """The verdict on one problem.

    `estimates` has each method's best trial, or each sampler's run; where there is none, words that say why. Settings
    that were `confirmed` count more than a best trial, which may be the luckiest of many. `why_none` says why there is
    no reference.
    """
    if reference is not None and not reference.is_asked_for:
        reference, why_none = None, "none was asked for"
    best = {row.method: row for row in confirmed if row.rank == 1}
    names = dict.fromkeys([*estimates, *best])
    methods = tuple(
        judge_settings(best[name], reference) if name in best else _of_estimate(name, estimates[name], reference)
        for name in names
    )
    good = sorted(
        (best[method.name] for method in methods if method.is_good and method.name in best),
        key=lambda row: row.rank_key,
    )
    is_citable = reference is not None and reference.llc is not None and reference.is_certified
    return ProblemVerdict(
        citation=citation(reference, why_none),
        is_citable=is_citable,
        recommendation=tuple(_recommendation(reference, estimates, best, good)),
        best=_short(_chosen(good)) if good and is_citable else "none",
        methods=methods,
    )


def _short(row: ConfirmedRow) -> str:
    return f"{row.method} {estimate(row.rmse, row.rmse_se)}{_relative(row.relative_rmse, '.1%')}"


def _relative(value: float | None, spec: str) -> str:
    return "" if value is None else f" ({number(value, spec)})"


def is_closer(error: float | None, reference: ReferenceRecord | None) -> bool:
    """Whether an error is smaller than that of the reference's Laplace value, as far as both are known."""
    baseline = None if reference is None else reference.laplace_error
    return error is None or baseline is None or abs(error) < abs(baseline)


def settings_text(hyperparameters: Mapping[str, Value]) -> str:
    """Hyperparameters by name: `batch=32, eta0=0.0223502`."""
    return ", ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in sorted(hyperparameters.items())
    )


def citation(reference: ReferenceRecord | None, why_none: str | None = None) -> str:
    """What to cite of a problem, or why there is nothing; `why_none` says why there is no reference."""
    if reference is None:
        return f"Nothing to cite: there is no reference{f' ({why_none})' if why_none else ' yet'}."
    value = f"λ = {estimate(reference.llc, reference.se)}"
    where = f"at γ_loc = {number(reference.localization)}, nβ = {number(reference.nbeta)}"
    if reference.num_data is not None:
        where += f", n = {reference.num_data:,}"
    if reference.is_certified:
        return f"Cite this: {value} {where}, reference certified."
    first, others = next(iter(reference.reasons), ""), len(reference.reasons) - 1
    why = f", because {first}{f' (and {others} more)' if others > 0 else ''}" if first else ""
    if reference.llc is None:
        return f"Nothing to cite: the reference has no value{why}."
    return f"Do not cite {value} {where}: the reference is not certified{why}."


def judge_settings(row: ConfirmedRow, reference: ReferenceRecord | None) -> MethodVerdict:
    """The verdict on a method by its confirmed settings."""
    if row.rmse is None:
        words, is_good = f"has no estimate: {row.num_failed} of {count(row.num_seeds, 'run')} failed", False
    else:
        error = f"rms error {estimate(row.rmse, row.rmse_se)}{_relative(row.relative_rmse, '.1%')}"
        if reference is not None and reference.se is not None and row.rmse < reference.se:
            error += f", below the reference's own of {number(reference.se, '.2g')}"
        words, is_good = _words(_against_settings(row), is_closer(row.rmse, reference), error, reference)
        if is_good and _agree(row.rmse, row.rmse_se, _laplace_error(reference), reference and reference.se):
            words += "; it and Laplace do not differ within error"
    return MethodVerdict(row.method, words, is_good, settings_text(row.hyperparameters))


def _against_settings(row: ConfirmedRow) -> list[str]:
    found = [f"cannot be trusted: {listed(doubts)}"] if (doubts := doubts_of_settings(row)) else []
    if exceeds(row.rms_z, MAX_Z):
        times = number(row.rms_z, ".1f", MAX_Z)
        found.append(f"{_kind_of_error(row)}: its errors are {times} times what its standard errors say")
    return found


def _kind_of_error(row: ConfirmedRow) -> str:
    """Whether errors that are too large lean to one side, or the standard errors are at fault."""
    if row.mean_error is None or row.rmse is None:
        return "is biased, or its standard errors are too small"
    variance = max(0.0, row.rmse**2 - row.mean_error**2) / max(1, row.num_seeds - row.num_failed - 1)
    is_biased = abs(row.mean_error) > MAX_Z * math.hypot(math.sqrt(variance), row.se_ref or 0.0)
    return f"is biased (by {row.mean_error:+.3g})" if is_biased else "states standard errors that are too small"


def _of_estimate(name: str, row: Estimate | str, reference: ReferenceRecord | None) -> MethodVerdict:
    """The verdict on a method by its best trial, or on a run of fixed settings."""
    if isinstance(row, str):
        return MethodVerdict(name, f"has no estimate: {row}", False)
    if row.state is not State.COMPLETE:
        return MethodVerdict(name, f"has no estimate: {row.state.word}{f', {row.reason}' if row.reason else ''}", False)
    against = [f"cannot be trusted: {listed(found)}"] if (found := doubts(row)) else []
    if row.z is not None and abs(row.z) > MAX_Z:
        against.append(
            f"is biased, or its standard error is too small: it is {number(abs(row.z), '.1f', MAX_Z)} combined "
            "standard errors away"
        )
    what = "best trial" if isinstance(row, TrialRow) else "estimate"
    error = f"{what} {estimate(row.llc_hat, row.se_hat)}{_relative(row.relative_error, '+.1%')}"
    words, is_good = _words(against, is_closer(row.error, reference), error, reference)
    if isinstance(row, TrialRow):
        words += "; not confirmed under fresh seeds"
    return MethodVerdict(name, words, is_good)


def _words(
    against: list[str], is_closer: bool, error: str, reference: ReferenceRecord | None
) -> tuple[str, bool | None]:
    if reference is None and not against:
        return f"has nothing to be compared with: {error}", None
    if reference is None:
        return _JOIN.join(against), False
    if not is_closer:
        baseline = number(reference.laplace_error and abs(reference.laplace_error), ".3g")
        if against:
            return _JOIN.join([*against, "is no closer than Laplace"]), False
        if _is_laplace_within_error(reference):
            return f"is no closer than Laplace, which is right to the reference's own error: {error}", False
        return f"is no closer than Laplace: {error}, Laplace is off by {baseline}", False
    return (_JOIN.join(against), False) if against else (f"agrees with the reference: {error}", True)


def _laplace_error(reference: ReferenceRecord | None) -> float | None:
    return None if reference is None or reference.laplace_error is None else abs(reference.laplace_error)


def _agree(one: float | None, se: float | None, other: float | None, other_se: float | None) -> bool:
    """Whether two errors differ by less than two combined standard errors; not, where one is not known."""
    if one is None or other is None or se is None:
        return False
    return abs(one - other) <= MAX_Z * math.hypot(se, other_se or 0.0)


def _recommendation(
    reference: ReferenceRecord | None,
    estimates: Mapping[str, Estimate | str],
    confirmed: Mapping[str, ConfirmedRow],
    good: Sequence[ConfirmedRow],
) -> Iterator[str]:
    if not (estimates or confirmed) or reference is None:
        return
    if not reference.is_certified:
        yield "Nothing can be recommended: without a certified reference nobody knows how far off a method is."
    elif good:
        yield from _best_of(good)
        yield from _gain_of_tuning(confirmed, good)
    elif confirmed:
        known = sorted((row for row in confirmed.values() if row.rmse is not None), key=lambda row: row.rank_key)
        if known and not any(is_closer(row.rmse, reference) for row in known):
            relative = number(reference.laplace_relative_error, "+.1%")
            yield f"No method comes closer than the Laplace value {number(reference.laplace_llc)} ({relative})."
            if _is_laplace_within_error(reference):
                yield "That value is within the reference's own error, below which no difference can be told."
        else:
            yield "No method can be recommended: something speaks against each."
        if peers := _peers(known):
            yield f"{listed([row.method for row in peers])} do not differ within error."
    elif any(isinstance(row, TrialRow) for row in estimates.values()):
        yield "Nothing is confirmed: the best of many trials is also the luckiest. Another seed will err more."


def _is_laplace_within_error(reference: ReferenceRecord) -> bool:
    error, se = reference.laplace_error, reference.se
    if error is None or se is None or reference.llc is None:
        return False
    return abs(error) <= max(se, _ROUNDING * abs(reference.llc))


def _best_of(good: Sequence[ConfirmedRow]) -> Iterator[str]:
    best, peers = _chosen(good), _peers(good)
    if peers:
        yield f"{listed([row.method for row in peers])} do not differ within error."
    why = "the cheapest of these" if peers else "the most accurate" if len(good) > 1 else "the only one to trust"
    work = number(best.num_gradient_evaluations, ",.0f")
    settings = f", with {settings_text(best.hyperparameters)}" if best.hyperparameters else ""
    yield f"Use {best.method}, {why} ({work} gradients){settings}."


def _gain_of_tuning(confirmed: Mapping[str, ConfirmedRow], good: Sequence[ConfirmedRow]) -> Iterator[str]:
    """What a search found that a method without one, beside it in the same study, did not."""
    tuned = [row for row in good if not METHODS[row.method].is_composite]
    for row in confirmed.values():
        if METHODS[row.method].is_composite and row.rmse is not None and len(confirmed) > 1:
            closer = [other.method for other in tuned if _is_closer_than(other, row)]
            is_near = any(other.rmse is not None and other.rmse < row.rmse for other in tuned)
            none = "Within the errors no tuned method" if is_near else "No tuned method"
            auto = f"{row.method}{_relative(row.relative_rmse, '.1%')}"
            yield f"{listed(closer) if closer else none} came closer than {auto}, which needs no search."
            yield from _saved_by_tuning(tuned, row)


def _is_closer_than(one: ConfirmedRow, other: ConfirmedRow) -> bool:
    """Whether the smaller of two errors is that of `one`, beyond their standard errors."""
    if one.rmse is None or other.rmse is None:
        return False
    return one.rmse < other.rmse and not _agree(one.rmse, one.rmse_se, other.rmse, other.rmse_se)


def _saved_by_tuning(tuned: Sequence[ConfirmedRow], auto: ConfirmedRow) -> Iterator[str]:
    """The gradients of the cheapest of them beside those of the method that needs no search, where they are fewer."""
    cheapest = min(tuned, key=lambda row: row.num_gradient_evaluations or math.inf, default=auto)
    few, many = cheapest.num_gradient_evaluations, auto.num_gradient_evaluations
    if few and many and few < many:
        yield f"{cheapest.method} takes {number(few, ',.0f')} gradients, {auto.method} {number(many, ',.0f')}."


def _chosen(good: Sequence[ConfirmedRow]) -> ConfirmedRow:
    """The most accurate settings, or the cheapest of those that do not differ from them within error."""
    return min(_peers(good) or good[:1], key=lambda row: row.num_gradient_evaluations or math.inf)


def _peers(ranked: Sequence[ConfirmedRow]) -> list[ConfirmedRow]:
    """The first and those that do not differ from it within error; none where it is alone."""
    first, *others = ranked or [None]
    if first is None:
        return []
    peers = [row for row in others if row and _agree(row.rmse, row.rmse_se, first.rmse, first.rmse_se)]
    return [first, *peers] if peers else []
