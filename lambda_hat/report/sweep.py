"""λ̂ along a sweep: a figure for every entry of experiments that is a series of networks, such as checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lambda_hat.config.experiments import Experiments
from lambda_hat.records.rows import RunRow
from lambda_hat.report.drawing import GREY, REFERENCE_COLOUR, Picture, colour_of, drawn
from lambda_hat.report.run_files import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["sweep_figures"]

_SHARE_BELOW_ZERO = 0.2  # of the largest value, that the figure shows
_MOST_ABOVE = 2.0  # as much as the largest λ̂, that the figure shows
_MOST_CHARACTERS = 14  # of a value under the axis


def sweep_figures(run: RunFiles) -> Iterator[Picture]:
    """A figure for every entry with a sweep over one argument, of which at least two points have a run."""
    if not isinstance(run.config, Experiments):
        return
    pids = iter(run.begun.pids)
    for entry in run.config.targets:
        points = [pid for _, pid in zip(entry.expanded(), pids, strict=False)]
        if len(entry.sweep) != 1 or len(points) < 2:
            continue
        ((name, values),) = entry.sweep.items()
        rows = {row.pid: [other for other in run.llc_runs if other.pid == row.pid] for row in run.llc_runs}
        series = [rows.get(pid, []) for pid in points]
        if sum(map(bool, series)) >= 2:
            yield _figure(name, values, series)


def _figure(name: str, values: Sequence[object], series: Sequence[Sequence[RunRow]]) -> Picture:
    """λ̂ ± one standard error of every sampler, hollow where w0 is no minimum; the reference and the Laplace value.

    A triangle at an edge is a value far beyond it.
    """
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    is_numeric = len(numbers) == len(values)
    places = numbers if is_numeric else [float(index) for index in range(len(values))]
    known = [value for rows in series for row in rows for value in (row.llc_hat, row.llc_ref) if value is not None]
    highest = max([1.0, *known])
    limits = -_SHARE_BELOW_ZERO * highest, _MOST_ABOVE * highest  # what is no minimum can have any λ̂ and any Laplace
    with drawn(6.4, 3.4) as figure:
        axes = figure.subplots()
        samplers = dict.fromkeys(row.sampler for rows in series for row in rows)
        for sampler in samplers:
            found = [(x, row) for x, rows in zip(places, series, strict=True) for row in rows if row.sampler == sampler]
            colour, label = colour_of(found[0][1].method), sampler
            _mark_beyond(axes, [x for x, _ in found], [_or_nan(row.llc_hat) for _, row in found], limits, colour)
            for is_minimum in (True, False):
                points = [(x, row) for x, row in found if (row.is_minimum is not False) == is_minimum]
                if points:
                    axes.errorbar(
                        [x for x, _ in points],
                        [_or_nan(row.llc_hat) for _, row in points],
                        [_or_nan(row.se_hat) for _, row in points],
                        fmt="o",
                        color=colour,
                        markerfacecolor=colour if is_minimum else "white",
                        capsize=2,
                        label=label if is_minimum else f"{label}, no minimum",
                    )
        first = [rows[0] if rows else None for rows in series]
        for what, colour, line in (("llc_ref", REFERENCE_COLOUR, "-"), ("laplace_llc", GREY, "--")):
            heights = [_or_nan(None if row is None else getattr(row, what)) for row in first]
            if not all(map(math.isnan, heights)):
                label = "reference" if what == "llc_ref" else "Laplace"
                axes.plot(places, heights, color=colour, linestyle=line, linewidth=1.0, zorder=0, label=label)
                _mark_beyond(axes, places, heights, limits, colour)
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, limits[0]), min(top, limits[1]))
        if not is_numeric:
            axes.set_xticks(places, [_short(value) for value in values])
        axes.set_xlabel(name)
        axes.set_ylabel("λ̂")
        figure.legend(loc="outside upper right", ncols=3)
        return Picture(figure, f"λ̂ of every sampler along {name}")


def _mark_beyond(
    axes: Axes, places: Sequence[float], heights: Sequence[float], limits: tuple[float, float], colour: str
) -> None:
    """A triangle at the edge for every value that lies beyond it."""
    low, high = limits
    for mark, edge, is_beyond in (("v", low, lambda y: y < low), ("^", high, lambda y: y > high)):
        beyond = [x for x, y in zip(places, heights, strict=True) if is_beyond(y)]
        if beyond:
            axes.plot(beyond, [edge] * len(beyond), mark, color=colour, markerfacecolor="white", clip_on=False)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else f"…{text[-_MOST_CHARACTERS:]}"
