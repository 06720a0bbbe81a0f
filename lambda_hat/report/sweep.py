"""λ̂ along a sweep: a figure for every entry of experiments that is a series of networks, such as checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lambda_hat.config.experiments import Experiments
from lambda_hat.records.rows import RunRow
from lambda_hat.report.drawing import GREY, REFERENCE_COLOUR, Picture, colour_of, drawn
from lambda_hat.report.run_files import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

__all__ = ["sweep_figures"]

_SHARE_BELOW_ZERO = 0.2  # of the largest value, that the figure shows
_MOST_ABOVE = 2.0  # as much as the largest λ̂ and reference, that the figure shows
_MARGIN = 0.05  # of the height, above and below what is drawn
_MARKS = "osDPX"  # of samplers with one method, and so one colour
_APART = 5.0  # points between the marks of two samplers at one value
_MOST_CHARACTERS = 14  # of a value under the axis
_MOST_IN_A_LINE = 70  # characters of all values, which stand aslant where there are more
_MOST_VALUES = 30  # under the axis; of more, every second or third


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

    What is far below zero, as λ̂ can be at no minimum, is a triangle at the lower edge; a Laplace value far above the
    rest is one at the upper edge.
    """
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    is_numeric = len(numbers) == len(values)
    places = numbers if is_numeric else [float(index) for index in range(len(values))]
    found = [(x, row, row.llc_hat) for x, rows in zip(places, series, strict=True) for row in rows]
    known = [(x, row, llc) for x, row, llc in found if llc is not None and math.isfinite(llc)]
    floor = -_SHARE_BELOW_ZERO * max([1.0, *(llc for _, _, llc in known)])
    heights = [0.0]
    with drawn(6.4, 3.4) as figure:
        axes = figure.subplots()
        samplers = {row.sampler: row.method for _, row, _ in found}
        for index, (sampler, method) in enumerate(samplers.items()):
            colour = colour_of(method)
            mark = _MARKS[list(samplers.values())[:index].count(method) % len(_MARKS)]
            beside = _moved(figure, axes, _APART * (index - (len(samplers) - 1) / 2))
            own = [(x, row, llc) for x, row, llc in known if row.sampler == sampler]
            for is_minimum in (True, False):
                points = [(x, row, llc) for x, row, llc in own if (row.is_minimum is not False) == is_minimum]
                label = sampler if is_minimum else f"{sampler}, no minimum"
                shown = [(x, llc, row.se_hat or 0.0) for x, row, llc in points if llc >= floor]
                low = [x for x, _, llc in points if llc < floor]
                style: dict[str, Any] = {
                    "color": colour,
                    "markerfacecolor": colour if is_minimum else "white",
                    "transform": beside,
                }
                if shown:
                    axes.errorbar(*zip(*shown, strict=True), fmt=mark, capsize=2, label=label, **style)
                    heights += [height for _, llc, se in shown for height in (llc - se, llc + se)]
                if low:
                    label = f"{label}, {len(low)} far below zero"
                    axes.plot(low, [floor] * len(low), "v", label=label, **style)
                    heights.append(floor)
        first = [rows[0] if rows else None for rows in series]
        for what, colour, line in (("llc_ref", REFERENCE_COLOUR, "-"), ("laplace_llc", GREY, "--")):
            levels = [_or_nan(None if row is None else getattr(row, what)) for row in first]
            if not all(map(math.isnan, levels)):
                label = "reference" if what == "llc_ref" else "Laplace"
                ceiling = _MOST_ABOVE * max([1.0, *heights]) if what == "laplace_llc" else math.inf
                axes.plot(places, levels, color=colour, linestyle=line, linewidth=1.0, zorder=0, label=label)
                heights += [min(level, ceiling) for level in levels if math.isfinite(level)]
                high = [x for x, level in zip(places, levels, strict=True) if level > ceiling]
                if high:
                    label = f"{label}, {len(high)} far above"
                    axes.plot(high, [ceiling] * len(high), "^", color=colour, markerfacecolor="white", label=label)
        lowest, highest = max(min(heights), floor), max(heights)
        margin = _MARGIN * (highest - lowest)
        axes.set_ylim(lowest - margin, highest + margin)
        if not is_numeric:
            _name_places(axes, places, values)
        axes.set_xlabel(name)
        axes.set_ylabel("λ̂")
        figure.legend(loc="outside upper right", ncols=3)
        return Picture(figure, f"λ̂ of every sampler along {name}")


def _moved(figure: Figure, axes: Axes, points: float) -> Transform:
    """The coordinates of the data, so many points to the right."""
    from matplotlib.transforms import ScaledTranslation

    return axes.transData + ScaledTranslation(points / 72, 0.0, figure.dpi_scale_trans)


def _name_places(axes: Axes, places: Sequence[float], values: Sequence[object]) -> None:
    """Values under the axis; aslant where they would overlap, and only some where there are many."""
    every = math.ceil(len(values) / _MOST_VALUES)
    names = [_short(value) for value in values[::every]]
    axes.set_xticks(places[::every], names)
    if sum(map(len, names)) > _MOST_IN_A_LINE:
        axes.tick_params("x", rotation=40)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else f"…{text[-_MOST_CHARACTERS:]}"
