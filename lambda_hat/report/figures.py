"""The figures of a report: each takes rows and gives a picture, or None where there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lambda_hat.config.study import Distribution, Objective
from lambda_hat.draws.criteria import Criterion
from lambda_hat.formatting import number
from lambda_hat.records.event import Command
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow, TrialRow
from lambda_hat.records.state import State
from lambda_hat.report.analysis import (
    best_so_far,
    best_trial,
    by_rank,
    completed,
    in_the_running,
    objective_error,
    parameter_importances,
    parameters,
    pareto_front,
    priced,
    score,
)
from lambda_hat.report.drawing import GREY, REFERENCE_COLOUR, Picture, colour_of, decimal, drawn, log_scale, value_ticks
from lambda_hat.report.scale import Scale, scale_of
from lambda_hat.report.timeline import Span, spans_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "certificate_figure",
    "cost_figure",
    "estimates_figure",
    "history_figure",
    "importances_figure",
    "parallel_figure",
    "slices_figure",
    "timeline_figure",
]

Distributions = Mapping[str, Distribution]  # of the search space, by hyperparameter; empty where it is not known

_MAX_SHAPES = 1500  # beyond which points are smaller as a picture
_SHADES = ("#a6cbe8", "#4a98cc", "#08519c")  # of the first, second and last third of the trials
_TASK_COLOURS = {"reference": GREY, "compile": "#dddddd"}  # of lanes that are not a method's
_MAX_LANES_HEIGHT = 9.0  # inches, of an executor with many workers
_SMALLEST = 1e-4  # shown of a criterion's share of its bound


def estimates_figure(
    by_method: Mapping[str, Sequence[TrialRow]],
    reference: ReferenceRecord | None,
    confirmed: Mapping[str, ConfirmedRow],
) -> Picture | None:
    """What every method finds, against the reference and the Laplace value.

    The confirmed settings of each method by the mean and two standard deviations of their runs; its best trial, which
    may be the luckiest, as a small hollow mark, or with two standard errors where nothing is confirmed.
    """
    best = {method: trial for method, trials in by_method.items() if (trial := best_trial(trials)) is not None}
    if not best or reference is None or reference.llc is None:
        return None
    with drawn(5.6, 0.9 + 0.36 * len(best)) as figure:
        axes = figure.subplots()
        llc, se = reference.llc, reference.se or 0.0
        axes.axvline(llc, color=REFERENCE_COLOUR, linestyle="--", linewidth=1.0, label="reference ± 2 s.e.")
        axes.axvspan(llc - 2 * se, llc + 2 * se, color=REFERENCE_COLOUR, alpha=0.15, linewidth=0)
        if reference.laplace_llc is not None:
            axes.axvline(reference.laplace_llc, color="#e69f00", linestyle=":", linewidth=1.4, label="Laplace")
        for place, (method, trial) in enumerate(best.items()):
            colour, spread = colour_of(method), _spread(confirmed.get(method))
            if spread is not None:
                middle, error = llc + spread[0], 2 * spread[1]
                axes.errorbar(middle, place, xerr=error, fmt="o", color=colour, capsize=3, markersize=5)
                axes.plot(trial.llc_hat or math.nan, place + 0.25, "o", color=colour, fillstyle="none", markersize=3.5)
            elif trial.llc_hat is not None:
                error = 2 * (trial.se_hat or 0.0)
                axes.errorbar(trial.llc_hat, place, xerr=error, fmt="o", color=colour, capsize=3, markersize=5)
        axes.set_yticks(range(len(best)), list(best))
        axes.set_ylim(len(best) - 0.4, -0.6)
        is_confirmed = any(_spread(confirmed.get(method)) for method in best)
        fresh, lucky = (
            "λ̂ ± 2 s.d. of confirmed settings; hollow: the best trial",
            "λ̂ ± 2 s.e. of each method's best trial",
        )
        axes.set_xlabel(fresh if is_confirmed else lucky)
        figure.legend(loc="outside upper right", ncols=2)
        words = ", ".join(f"{method} {number(trial.llc_hat)}" for method, trial in best.items())
        means = ", ".join(
            f"{method} {number(llc + spread[0])}" for method in best if (spread := _spread(confirmed.get(method)))
        )
        what = f"Means of the confirmed settings ({means}) and" if means else "Estimates of"
        return Picture(figure, f"{what} the best trials ({words}) against the reference {llc:.4g}")


def _spread(row: ConfirmedRow | None) -> tuple[float, float] | None:
    """Mean error and standard deviation of the runs of confirmed settings."""
    if row is None or row.rmse is None or row.mean_error is None:
        return None
    num = max(2, row.num_seeds - row.num_failed)
    return row.mean_error, math.sqrt(max(0.0, row.rmse**2 - row.mean_error**2) * num / (num - 1))


def certificate_figure(reference: ReferenceRecord) -> Picture | None:
    """Every criterion of a certificate as a share of its bound."""
    criteria = [
        Criterion(record.name, record.value, record.bound, record.is_upper)
        for record in reference.certificate
        if record.value is not None and record.bound is not None
    ]
    if not criteria:
        return None
    shown = [min(max(criterion.share, _SMALLEST), 1 / _SMALLEST) for criterion in criteria]
    with drawn(7.2, 0.8 + 0.22 * len(criteria)) as figure:
        axes = figure.subplots()
        colours = ["#009e73" if criterion.is_met else "#d55e00" for criterion in criteria]
        axes.barh(range(len(criteria)), shown, left=_SMALLEST, color=colours, height=0.6)
        axes.axvline(1.0, color="black", linewidth=1.0)
        log_scale(axes.xaxis, _SMALLEST, max(3.0, 1.3 * max(shown)))
        axes.set_yticks(range(len(criteria)), [criterion.name for criterion in criteria])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share of what is allowed: 1 is the bound")
        met = sum(criterion.is_met for criterion in criteria)
        return Picture(figure, f"{met} of {len(criteria)} criteria of the certificate are met")


def history_figure(
    trials: Sequence[TrialRow], objective: Objective | None, reference: ReferenceRecord | None
) -> Picture | None:
    """Objective of every trial and the best so far, with the reference's own error as a band; None of a single one."""
    known = completed(trials)
    if not known or len(trials) == 1:
        return None
    with drawn(6.4, 2.6) as figure:
        axes = figure.subplots()
        se = objective_error(objective, reference)
        if se:
            axes.axhspan(1e-300, se, color=REFERENCE_COLOUR, alpha=0.15, linewidth=0, label="reference's own s.e.")
        running = in_the_running(known)
        _points(axes, [trial.number for trial in running], [score(trial) for trial in running], "#0072b2", "complete")
        breaking = [trial for trial in known if trial not in running]
        if breaking:
            numbers, heights = [trial.number for trial in breaking], [score(trial) for trial in breaking]
            _points(axes, numbers, heights, "#0072b2", "breaks a gate", is_hollow=True)
        axes.step(*best_so_far(trials), where="post", color="#d55e00", label="best so far")
        low, high = _objective_limits(known, se)
        log_scale(axes.yaxis, low, high)
        for state, marker in ((State.PRUNED, "x"), (State.FAIL, "|")):
            numbers = [trial.number for trial in trials if trial.state is state]
            if numbers:
                heights = [high / 1.15] * len(numbers)
                axes.plot(numbers, heights, marker, color=GREY, markersize=5, label=state.word, clip_on=False)
        axes.set_xlabel("trial")
        axes.set_xlim(-0.5, max(trial.number for trial in trials) + 0.5)
        value_ticks(axes.xaxis, [trial.number for trial in trials], 9)
        axes.set_ylabel(_objective_label(objective))
        figure.legend(loc="outside upper right", ncols=5)
        best = min(map(score, running))
        return Picture(figure, f"Objective of {len(known)} completed trials; the best is {best:.4g}")


def importances_figure(trials: Sequence[TrialRow]) -> Picture | None:
    """How much of the objective's variance each hyperparameter explains alone."""
    shares = parameter_importances(trials)
    if not shares:
        return None
    with drawn(4.2, 0.75 + 0.26 * len(shares)) as figure:
        axes = figure.subplots()
        axes.barh(list(shares), list(shares.values()), color="#0072b2", height=0.6)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share of the variance of the objective's ranks (ε²)")
        words = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        return Picture(figure, f"Importance of the hyperparameters: {words}")


def slices_figure(trials: Sequence[TrialRow], space: Distributions, objective: Objective | None) -> Picture | None:
    """Objective against every hyperparameter; each third of the trials is stronger than the one before."""
    known = completed(trials)
    names = parameters(known)
    if not names:
        return None
    columns = 2 if len(names) == 4 else min(3, len(names))
    lines = math.ceil(len(names) / columns)
    with drawn(2.6 * columns + 0.3, 2.1 * lines) as figure:
        grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
        best = best_trial(known)
        low, high = _objective_limits(known, None)
        for axes, name in zip(grid.flat, names, strict=False):
            scale = scale_of([trial.hyperparameters.get(name) for trial in known], space.get(name))
            places = scale.places
            for third, colour in enumerate(_SHADES):
                ours = [index for index in range(len(known)) if index * len(_SHADES) // len(known) == third]
                objectives = [score(known[index]) for index in ours]
                _points(axes, [places[index] for index in ours], objectives, colour, "")
            if best is not None:
                place = places[known.index(best)]
                axes.plot(place, score(best), "*", color="#d55e00", markersize=9)
            if scale.categories:
                axes.set_xticks(range(len(scale.categories)), scale.categories)
                axes.set_xlim(-0.5, len(scale.categories) - 0.5)
            else:
                if scale.is_logarithmic:
                    log_scale(axes.xaxis, 0.8 * min(places), 1.25 * max(places))
                value_ticks(axes.xaxis, places, 4)  # of numbers that are long, more would run into each other
            log_scale(axes.yaxis, low, high)
            axes.set_xlabel(name)
        for axes in grid.flat[len(names) :]:
            axes.remove()
        for axes in grid[:, 0]:
            axes.set_ylabel(_objective_label(objective))
        return Picture(figure, f"Objective against {', '.join(names)}; the star is the best trial")


def parallel_figure(trials: Sequence[TrialRow], space: Distributions) -> Picture | None:
    """Every completed trial as a line across its hyperparameters; the better, the stronger."""
    known = by_rank(completed(trials))[::-1]
    names = parameters(known)
    if len(names) < 2:
        return None
    with drawn(max(4.5, 1.25 * len(names)), 2.9) as figure:
        axes = figure.subplots()
        scales = {
            name: scale_of([trial.hyperparameters.get(name) for trial in known], space.get(name)) for name in names
        }
        lines = list(zip(*(scale.shares for scale in scales.values()), strict=True))
        for rank, line in enumerate(lines):
            share = rank / max(1, len(lines) - 1)
            is_best = rank == len(lines) - 1
            axes.plot(
                range(len(names)),
                line,
                color="#d55e00" if is_best else "#0072b2",
                alpha=1.0 if is_best else 0.06 + 0.6 * share**3,
                linewidth=2.0 if is_best else 0.9,
                rasterized=len(lines) > _MAX_SHAPES // 4,
            )
        for place, scale in enumerate(scales.values()):
            for share, label in _labels(scale):
                _label(axes, place, share, label)
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(axis="x", length=0, pad=12)
        axes.set_yticks([])
        axes.set_ylim(-0.06, 1.06)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.grid(color="#bbbbbb", axis="x")
        return Picture(figure, f"Trials across {', '.join(names)}: better ones stronger, the best one orange")


def _labels(scale: Scale) -> list[tuple[float, str]]:
    """Where a scale is labelled, and by what: at every category, and else at both ends."""
    names = scale.categories or None
    at = dict(zip(scale.shares, scale.places, strict=True))
    marked = sorted(at) if names else [min(at), max(at)]
    return [(share, names[int(at[share])] if names else decimal(at[share])) for share in marked]


def _label(axes: Axes, place: int, share: float, label: str) -> None:
    """A label below the lowest place, above the highest, and beside those between them."""
    if 0 < share < 1:
        offset, ha, va = (3, 0), "left", "center"
    else:
        offset, ha, va = (0, 4 if share else -4), "center", "bottom" if share else "top"
    axes.annotate(label, (place, share), offset, textcoords="offset points", ha=ha, va=va, fontsize=7.5)


def cost_figure(by_method: Mapping[str, Sequence[TrialRow]], reference: ReferenceRecord | None) -> Picture | None:
    """|error| of every trial against its gradient evaluations, and the trials that no other one beats in both.

    Trials that break a gate are hollow, and beat none that keeps all.
    """
    known = {method: found for method, trials in by_method.items() if (found := priced(trials))}
    everything = [one for found in known.values() for one in found]
    if not everything:
        return None
    with drawn(6.4, 3.2) as figure:
        axes = figure.subplots()
        work, errors = [one.work for one in everything], [one.error for one in everything]
        low = max(min(errors), 1e-5 * max(errors), 1e-12) / 2
        if reference is not None and reference.se:
            axes.axhspan(
                1e-300, reference.se, color=REFERENCE_COLOUR, alpha=0.15, linewidth=0, label="reference's own s.e."
            )
        if reference is not None and reference.laplace_error:
            error = abs(reference.laplace_error)
            axes.axhline(error, color="#e69f00", linestyle=":", linewidth=1.4, label="Laplace")
        for method, found in known.items():
            label = method  # of the first kind that there is
            for is_sound in (True, False):
                shown = [one for one in found if (not one.trial.violation) == is_sound]
                if shown:
                    work_of, heights = [one.work for one in shown], [max(one.error, low) for one in shown]
                    _points(axes, work_of, heights, colour_of(method), label, is_hollow=not is_sound)
                    label = ""
        sound = [one for one in everything if not one.trial.violation]
        front = pareto_front(sound or everything)
        axes.step(
            [one.work for one in front],
            [max(one.error, low) for one in front],
            where="post",
            color="black",
            linewidth=0.9,
            label="best for its cost",
        )
        log_scale(axes.xaxis, 0.8 * min(work), 1.25 * max(work))
        log_scale(axes.yaxis, low / 1.5, 1.5 * max(max(errors), 1e-12))
        axes.set_xlabel("gradient evaluations (full-data scale)")
        axes.set_ylabel("|λ̂ − reference|")
        figure.legend(loc="outside upper right", ncols=6)
        hollow = ", hollow where they break a gate" if len(sound) < len(everything) else ""
        return Picture(figure, f"Error against cost of {len(errors)} trials of {', '.join(known)}{hollow}")


def timeline_figure(command: Command) -> Picture | None:
    """What every executor did when, of one command: a bar per task, a lane per task in flight."""
    spans, last = spans_of(command.tasks), command.last_moment
    if not spans:
        return None
    lanes = _lanes(spans, last)
    with drawn(7.4, 0.9 + min(0.2 * len(lanes), _MAX_LANES_HEIGHT)) as figure:
        axes = figure.subplots()
        labelled: dict[str, Any] = {}
        for place, (_, members) in enumerate(lanes):
            for span in members:
                method = span.lane.rpartition(":")[2]
                is_lost = span.how in ("error", "retried")
                colour = "#000000" if is_lost else _TASK_COLOURS.get(method) or colour_of(method)
                seconds = _end(span, last) - span.start
                handle = axes.barh(
                    place,
                    max(seconds, last / 2000),
                    left=span.start,
                    height=0.8,
                    color=colour,
                    edgecolor="white",
                    linewidth=0.3,
                    rasterized=len(spans) > _MAX_SHAPES,
                )
                labelled.setdefault("lost or failed" if is_lost else method, handle)
        axes.set_yticks(range(len(lanes)), [label for label, _ in lanes])
        axes.invert_yaxis()
        axes.set_xlim(0, last)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("seconds since the command began")
        figure.legend(labelled.values(), labelled.keys(), loc="outside upper right", ncols=6)
        return Picture(figure, f"{len(spans)} tasks on {len(lanes)} lanes over {last:.0f} seconds")


def _points(
    axes: Axes, x: Sequence[float], y: Sequence[float], colour: str, label: str, *, is_hollow: bool = False
) -> None:
    style: dict[str, Any] = {"fillstyle": "none"} if is_hollow else {"markeredgewidth": 0}
    axes.plot(
        x, y, "o", color=colour, markersize=3.5, alpha=0.75, label=label, rasterized=len(x) > _MAX_SHAPES, **style
    )


def _objective_label(objective: Objective | None) -> str:
    if objective is None:
        return "objective"
    what = {"abs": "|error|", "huber": "Huber loss of the error", "relative": "|error| / |λ|"}
    return f"{what[objective.type]} + R̂ penalty" if objective.rhat_penalty else what[objective.type]


def _objective_limits(known: Sequence[TrialRow], se: float | None) -> tuple[float, float]:
    """From the smallest objective that is not 0 to the largest one, with room around."""
    values = [score(trial) for trial in known if score(trial) > 0] + ([se] if se else [])
    return (min(values) / 2, 3 * max(values)) if values else (1e-6, 1.0)


def _lanes(spans: Sequence[Span], last: float) -> list[tuple[str, list[Span]]]:
    """The spans of every executor on as few lanes as they need; the first one of each has its label."""
    lanes: list[tuple[str, list[Span]]] = []
    for label in dict.fromkeys(span.label for span in spans):
        ours: list[list[Span]] = []
        for span in (span for span in spans if span.label == label):
            free = next((lane for lane in ours if _end(lane[-1], last) <= span.start), None)
            if free is None:
                ours.append([span])
            else:
                free.append(span)
        lanes += [(label if index == 0 else "", lane) for index, lane in enumerate(ours)]
    return lanes


def _end(span: Span, last: float) -> float:
    return last if span.end is None else span.end
