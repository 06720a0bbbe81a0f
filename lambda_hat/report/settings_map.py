"""Maps of settings: bias, R̂ and virial excess over step size and localization, and where results can be trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lambda_hat.config.methods import METHODS
from lambda_hat.config.problems import ProblemEntry
from lambda_hat.config.study import Study
from lambda_hat.draws.criteria import MAX_RELATIVE_BIAS, MAX_RHAT_APPROXIMATE
from lambda_hat.formatting import count
from lambda_hat.records.rows import TrialRow
from lambda_hat.report.analysis import as_numbers, parameter_importances, parameters
from lambda_hat.report.drawing import GREY, Picture, drawn, log_scale, value_ticks
from lambda_hat.report.failure_modes import FailureMode, failure_modes, is_trusted
from lambda_hat.report.run_files import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SettingsMap", "settings_map_figure", "settings_maps"]

_MIN_TRIALS = 8
_BANDWIDTH = 0.08  # of the vote on where trials can be trusted, in widths of the figure
_LEAST_VOTE = 0.3  # of the nearest trusted trial, where one in the very place has 1
_MOST_LINEAR = 8.0  # ratio of its ends, up to which an axis is not logarithmic
_NUM_CELLS, _NUM_COLOURS = 60, 16
_TRUSTED = "#c7e9c0"


@dataclass(frozen=True)
class SettingsMap:
    """The map of one method, on one problem or over the localizations of one, and how its trials fail."""

    title: str
    figure: Picture
    modes: tuple[FailureMode, ...]


@dataclass(frozen=True)
class _Axis:
    """What an axis shows: a name, and its value in a trial."""

    name: str
    value: Callable[[TrialRow], float | None]


@dataclass(frozen=True)
class _Colour:
    """What a panel shows by colour."""

    title: str
    value: Callable[[TrialRow], float | None]
    low: float
    high: float
    colours: str


_COLOURS = (
    _Colour("bias (λ̂ − λ)/λ", lambda row: row.relative_error, -4 * MAX_RELATIVE_BIAS, 4 * MAX_RELATIVE_BIAS, "RdBu_r"),
    _Colour("R̂", lambda row: row.rhat, 1.0, 1 + 4 * (MAX_RHAT_APPROXIMATE - 1), "viridis_r"),
    _Colour("virial excess", lambda row: row.virial_excess, -0.2, 0.2, "PuOr_r"),
)


def settings_maps(run: RunFiles) -> Iterator[SettingsMap]:
    """A map for every method: over step size and γ_loc or nβ where problems differ in those alone, else per problem."""
    for pids in _families(run):
        for method in dict.fromkeys(method for pid, method in run.studies if pid in pids):
            trials = [row for pid in pids for row in run.studies.get((pid, method), [])]
            figure = settings_map_figure(trials)
            if figure is not None:
                on = f" on {run.names[pids[0]]}" if len(pids) == 1 and len(run.titles) > 1 else ""
                yield SettingsMap(f"{method}{on}", figure, failure_modes(trials))


def _families(run: RunFiles) -> list[tuple[str, ...]]:
    """Problems that are the same but for their posteriors, together."""
    entries = run.config.entries if isinstance(run.config, Study) else []
    if len(entries) != len(run.begun.pids):
        return [(pid,) for pid in run.titles]
    families: dict[str, list[str]] = {}
    for pid, entry in zip(run.begun.pids, entries, strict=True):
        families.setdefault(_without_posterior(entry), []).append(pid)
    known = {pid for pids in families.values() for pid in pids}
    return [*map(tuple, families.values()), *((pid,) for pid in run.titles if pid not in known)]


def _without_posterior(entry: ProblemEntry) -> str:
    values = entry.model_dump(mode="json")
    values["overrides"] = {
        key: value for key, value in values["overrides"].items() if key.partition(".")[0] != "posterior"
    }
    return json.dumps(values, sort_keys=True)


def settings_map_figure(trials: Sequence[TrialRow]) -> Picture | None:
    """Trials by step size and what else matters most, coloured by bias, R̂ and virial excess.

    Trials that can be trusted have a black ring, those without an estimate are crosses. Green is where most trials
    nearby can be trusted, and one of these is close. None below eight trials, or where step size or everything else is
    the same in all.
    """
    axes_of = _axes(trials)
    if axes_of is None:
        return None
    shown = [row for row in trials if all(axis.value(row) is not None for axis in axes_of)]
    panels = [panel for panel in _COLOURS if any(panel.value(row) is not None for row in shown)]
    if len(shown) < _MIN_TRIALS or not panels:
        return None
    places = np.array([[axis.value(row) for axis in axes_of] for row in shown], np.float64)
    scales = (_Scale.of(places[:, 0]), _Scale.of(places[:, 1]))
    is_good = np.array([is_trusted(row) for row in shown])
    with drawn(3.3 * len(panels), 3.2) as figure:
        grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw_region(axes, places, is_good, scales)
            _draw_trials(figure, axes, panel, places, shown, is_good)
            axes.set_xlabel(axes_of[0].name)
            axes.set_title(panel.title)
        _apply(grid, scales, places)
        grid[0].set_ylabel(axes_of[1].name)
        by = " and ".join(axis.name for axis in axes_of)
        return Picture(figure, f"{int(is_good.sum())} of {count(len(shown), 'trial')} can be trusted, by {by}")


def _axes(trials: Sequence[TrialRow]) -> tuple[_Axis, _Axis] | None:
    """Step size, and beside it localization, inverse temperature, or the number that explains most of the objective."""
    if not trials:
        return None
    step = METHODS[trials[0].method].step_name
    if any("adapted_step_size" in row.reports for row in trials):
        first = _Axis("step size, adapted", lambda row: row.reports.get("adapted_step_size"))
    else:
        first = _Axis(step, lambda row: _number(row, step))
    important = parameter_importances(trials)
    names = [name for name in sorted(parameters(trials), key=lambda name: -important.get(name, 0.0)) if name != step]
    numeric = [name for name in names if as_numbers([row.hyperparameters.get(name) for row in trials])]
    others = [
        _Axis("localization γ", lambda row: row.localization),
        _Axis("inverse temperature nβ", lambda row: row.nbeta),
        *(_Axis(name, lambda row, name=name: _number(row, name)) for name in numeric),
    ]
    second = next((axis for axis in others if _varies(axis, trials)), None)
    return (first, second) if second is not None and _varies(first, trials) else None


def _number(row: TrialRow, name: str) -> float | None:
    value = row.hyperparameters.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _varies(axis: _Axis, trials: Sequence[TrialRow]) -> bool:
    values = [value for row in trials if (value := axis.value(row)) is not None]
    return len(values) > 1 and not math.isclose(min(values), max(values), rel_tol=1e-3)


@dataclass(frozen=True)
class _Scale:
    """The range of an axis with room around, and whether it is logarithmic."""

    low: float
    high: float
    is_logarithmic: bool

    @classmethod
    def of(cls, values: np.ndarray) -> _Scale:
        low, high = float(values.min()), float(values.max())
        if low > 0 and high / low > _MOST_LINEAR:
            room = (high / low) ** 0.06
            return cls(low / room, high * room, True)
        room = 0.06 * (high - low)
        return cls(low - room, high + room, False)

    def shares(self, values: np.ndarray) -> np.ndarray:
        """Places from 0, the low end, to 1."""
        if self.is_logarithmic:
            return np.log(values / self.low) / math.log(self.high / self.low)
        return (values - self.low) / (self.high - self.low)

    def places(self, shares: np.ndarray) -> np.ndarray:
        """What `shares` was given."""
        if self.is_logarithmic:
            return self.low * (self.high / self.low) ** shares
        return self.low + shares * (self.high - self.low)


def _draw_region(axes: Axes, places: np.ndarray, is_good: np.ndarray, scales: Sequence[_Scale]) -> None:
    """Shade where the trials nearby, each by its distance, can be trusted for the greater part, and one is close."""
    if not is_good.any():
        return
    middles = (np.arange(_NUM_CELLS) + 0.5) / _NUM_CELLS
    x, y = (scale.shares(column) for scale, column in zip(scales, places.T, strict=True))
    distance = (middles[None, :, None] - x) ** 2 + (middles[:, None, None] - y) ** 2
    votes = np.exp(-distance / (2 * _BANDWIDTH**2))
    is_near = votes[:, :, is_good].max(axis=2) > _LEAST_VOTE
    share = np.where(is_near, votes @ is_good / votes.sum(axis=2).clip(_LEAST_VOTE), 0.0)
    if share.max() > 0.5:
        axes.contourf(
            *(scale.places(middles) for scale in scales), share, levels=[0.5, 1.01], colors=[_TRUSTED], zorder=0
        )


def _draw_trials(
    figure: Figure,
    axes: Axes,
    panel: _Colour,
    places: np.ndarray,
    rows: Sequence[TrialRow],
    is_good: np.ndarray,
) -> None:
    from matplotlib import colormaps

    values = np.array([math.nan if (value := panel.value(row)) is None else value for row in rows])
    has_value = np.isfinite(values)
    axes.plot(*places[~has_value].T, "x", color=GREY, markersize=4, zorder=2)
    style: dict[str, Any] = {
        "cmap": colormaps[panel.colours].resampled(_NUM_COLOURS),
        "vmin": panel.low,
        "vmax": panel.high,
        "s": 26,
        "zorder": 3,
    }
    edges = ["black" if good else "#bbbbbb" for good in is_good[has_value]]
    widths = [1.1 if good else 0.4 for good in is_good[has_value]]
    points = axes.scatter(*places[has_value].T, c=values[has_value], edgecolors=edges, linewidths=widths, **style)
    figure.colorbar(points, ax=axes, extend="max" if panel.low == 1.0 else "both", aspect=30, pad=0.02)


def _apply(grid: Sequence[Axes], scales: tuple[_Scale, _Scale], places: np.ndarray) -> None:
    for axes in grid:
        axes.set(xlim=(scales[0].low, scales[0].high), ylim=(scales[1].low, scales[1].high))
        for axis, scale, values in zip((axes.xaxis, axes.yaxis), scales, places.T, strict=True):
            if scale.is_logarithmic:
                log_scale(axis, scale.low, scale.high)
            value_ticks(axis, values.tolist())
