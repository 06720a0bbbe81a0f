"""Close looks at one reference or trial: figures and ArviZ's InferenceData in a folder of its own."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from lambda_hat.artifacts.files import make_dir, write_bytes_atomic
from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.methods import MethodSettings, parse_settings
from lambda_hat.draws.array_stats import array_stats
from lambda_hat.draws.criteria import MIN_BFMI, MIN_ESS
from lambda_hat.draws.diagnostics import bfmi, diagnose_trace
from lambda_hat.errors import InputError
from lambda_hat.estimate.traces import Traces
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.report.drawing import REFERENCE_COLOUR, Picture, drawn, reference_band
from lambda_hat.report.html import Entry, FileLink, write_index
from lambda_hat.report.problem_figures import draw_problem
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.subjects import Subject, find_subjects

if TYPE_CHECKING:
    import arviz as az
    from matplotlib.figure import Figure

__all__ = ["INFERENCE_DATA", "to_inference_data", "write_diagnosis", "write_diagnostics_index"]

INFERENCE_DATA = "inference_data.nc"

_MAX_LINE_POINTS = 1000
_MAX_LAG = 100
_NUM_RANK_BINS = 20
_SIZE = (6.4, 3.4)
_DPI = 130  # of PNG files
_ORDER = ("running", "trace", "rank", "autocorrelation", "ess", "distance")

Draw = Callable[["Figure", Subject, Traces], None]


def write_diagnosis(paths: Paths, subject: Subject, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write the figures, and the InferenceData where there are draws, of `subject`; say what was written.

    `formats` are those of the figures: `png`, `svg`, `pdf`.
    """
    folder = paths.diagnostics_dir(subject.name)
    make_dir(folder)
    written: list[Path] = []
    if subject.traces is not None:
        written.append(folder / INFERENCE_DATA)
        to_inference_data(subject).to_netcdf(str(written[-1]), engine="h5netcdf")
        for name, draw in _figures_of(subject):
            written += _written(folder, name, _picture(draw, subject, subject.traces), formats)
    if isinstance(subject.record, ReferenceRecord):
        for name, picture in draw_problem(paths.problem_dir(subject.pid), subject.record):
            written += _written(folder, name, picture, formats)
    return written


def _written(folder: Path, name: str, picture: Picture, formats: Sequence[str]) -> Iterator[Path]:
    for kind in formats:
        write_bytes_atomic(folder / f"{name}.{kind}", picture.file(kind, dpi=_DPI))
        yield folder / f"{name}.{kind}"


def write_diagnostics_index(paths: Paths) -> Path:
    """Write a page of everything that lies under `diagnostics`, and say where it lies; the run's report links to it."""
    folders = sorted(folder for folder in paths.diagnostics.iterdir() if folder.is_dir())
    run, what = RunFiles(paths), "what `lambda-hat diagnose` has drawn"
    entries = [_entry(folder, run) for folder in folders]
    return write_index(paths.diagnostics_index, f"Diagnostics of {paths.root.parent.name}", what, entries)


def _entry(folder: Path, run: RunFiles) -> Entry:
    """A reference or a trial with its figures, those of the draws first, and links to its other files."""
    try:
        (subject,) = find_subjects(run, [folder.name])
        name, about = subject.title, run.titles.get(subject.pid, subject.pid)
    except InputError:  # its trial was removed since
        name, about = folder.name, ""
    order = [*_ORDER, *_OWN_FIGURES]
    files = sorted(folder.iterdir(), key=lambda path: (order.index(path.stem) if path.stem in order else 99, path.name))
    shown: dict[str, FileLink] = {}
    for path in (path for kind in ("svg", "png") for path in files if path.suffix == f".{kind}"):
        shown.setdefault(path.stem, FileLink(path.stem, path))
    return Entry(
        name=name,
        about=about,
        figures=tuple(shown[path.stem] for path in files if shown.get(path.stem) == FileLink(path.stem, path)),
        files=tuple(FileLink(path.name, path) for path in files),
    )


def to_inference_data(subject: Subject) -> az.InferenceData:
    """ArviZ's container: `excess_loss` = L_n(w) − L_n(w0) and `squared_distance` = |w − w0|² of the draws kept.

    Of VI they are draws of the fitted densities, a chain per fit. Facts are attributes; lists and mappings as JSON.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # announces ArviZ 1.0, which this project does not use yet
        import arviz as az

        traces = subject.traces
        assert traces is not None
        loss, distance = _draws(traces)
        posterior = {"excess_loss": loss, "squared_distance": distance}
        facts = subject.record.to_json() | ({} if subject.is_reference else {"settings": dict(subject.settings)})
        attrs = {
            name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value
            for name, value in facts.items()
            if value is not None
        }
        attrs |= {"pid": subject.pid, "method": subject.method, "thinning": traces.thinning, "nbeta": traces.nbeta}
        warnings.simplefilter("ignore", UserWarning)  # fewer draws than chains
        return az.from_dict(posterior=posterior, sample_stats=_sample_stats(traces), attrs=attrs)


def _sample_stats(traces: Traces) -> dict[str, np.ndarray]:
    if traces.draw_log_weights is not None:
        return {"log_importance_weight": traces.draw_log_weights}
    stats = {name: getattr(traces, name) for name in ("acceptance_rate", "energy", "weight")}
    return {**stats, "diverging": traces.is_divergent > 0}


def _draws(traces: Traces) -> tuple[np.ndarray, np.ndarray]:
    """Excess loss and r² of the draws that λ̂ was made of."""
    if traces.draw_excess_loss is not None and traces.draw_squared_distance is not None:
        return traces.draw_excess_loss, traces.draw_squared_distance
    return traces.excess_loss, traces.squared_distance


def _readings(traces: Traces) -> np.ndarray:
    """nβ (L_n(w) − L_n(w0)) of the draws."""
    return traces.nbeta * np.asarray(_draws(traces)[0], np.float64)


def _figures_of(subject: Subject) -> Iterator[tuple[str, Draw]]:
    traces = subject.traces
    assert traces is not None
    yield "running", _draw_running
    yield "trace", _draw_trace
    if _can_be_ranked(_readings(traces)):
        yield "rank", _draw_rank
        yield "autocorrelation", _draw_autocorrelation
        yield "ess", _draw_ess
    yield "distance", _draw_distance
    for name in _settings(subject).figures:
        yield name, _OWN_FIGURES[name]


def _settings(subject: Subject) -> MethodSettings:
    """Settings of a trial; for a reference, the default settings of the method that sampled it."""
    return parse_settings(subject.method, dict(subject.settings))


def _can_be_ranked(readings: np.ndarray) -> bool:
    return readings.shape[1] >= _NUM_RANK_BINS and bool(np.isfinite(readings).all()) and np.ptp(readings) > 0


def _picture(draw: Draw, subject: Subject, traces: Traces) -> Picture:
    with drawn(*_SIZE) as figure, np.errstate(invalid="ignore", over="ignore"):
        draw(figure, subject, traces)
        figure.suptitle(subject.title, x=0.01, ha="left", fontsize=9)
        return Picture(figure, subject.title)


def _colour(chain: int) -> Any:
    from matplotlib import colormaps

    return colormaps["tab10"](chain % 10)


def _draw_running(figure: Figure, subject: Subject, traces: Traces) -> None:
    """λ̂ of the draws so far with two standard errors, against work."""
    running = traces.running_llc()
    axes = figure.subplots()
    known = np.isfinite(running.llc)
    work, llc, se = running.work[known], running.llc[known], running.se[known]
    error = np.where(np.isfinite(se), se, np.nan)
    axes.fill_between(work, llc - 2 * error, llc + 2 * error, color="#0072b2", alpha=0.2, linewidth=0, label="± 2 s.e.")
    is_fit = _settings(subject).is_fit
    axes.plot(work, llc, color="#0072b2", label="readings of the fit" if is_fit else "λ̂ so far")
    if subject.is_reference:
        reference_band(axes, subject.llc, subject.se, "in the end, ± 2 s.e.")
    else:
        reference_band(axes, subject.llc_ref, subject.se_ref)
    if is_fit and subject.llc is not None:
        se_hat = 2 * (subject.se or 0.0)
        at = work[-1] if len(work) else 0.0
        axes.errorbar(at, subject.llc, se_hat, fmt="D", color="#d55e00", capsize=3, label="λ̂ of its draws")
    axes.set_xlabel("gradient evaluations (full-data scale, all chains)")
    axes.set_ylabel("λ̂")
    if (seconds := subject.sampling_seconds) and len(work) and work[-1] > 0:
        pace = seconds / float(work[-1])
        scales = (lambda x: np.asarray(x) * pace, lambda x: np.asarray(x) / pace)
        above = axes.secondary_xaxis("top", functions=scales)
        above.set_xlabel("seconds of sampling, at an even pace")
    _legend(figure)


def _draw_trace(figure: Figure, subject: Subject, traces: Traces) -> None:
    """Readings of λ̂, chain by chain."""
    del subject
    axes = figure.subplots()
    readings = _readings(traces)
    step = max(1, readings.shape[1] // _MAX_LINE_POINTS)
    places = np.arange(0, readings.shape[1], step) * _thinning(traces)
    for chain, trace in enumerate(readings[:, ::step]):
        axes.plot(places, trace, color=_colour(chain), linewidth=0.6, alpha=0.8, label=f"chain {chain}")
    axes.set_xlabel("draw after burn-in")
    axes.set_ylabel("nβ (L(w) − L(w0))")
    _legend(figure, num=len(readings))


def _draw_rank(figure: Figure, subject: Subject, traces: Traces) -> None:
    """How the ranks among all draws are spread in every chain: evenly, if the chains sample the same."""
    del subject
    readings = _readings(traces)
    num_chains, num_draws = readings.shape
    ranks = rankdata(readings, method="ordinal").reshape(readings.shape) - 1
    expected = num_draws / _NUM_RANK_BINS
    axes = figure.subplots()
    edges = np.linspace(0, readings.size, _NUM_RANK_BINS + 1)
    for chain, own in enumerate(ranks):
        counts, _ = np.histogram(own, edges)
        shares = counts / expected
        axes.stairs(shares, edges / readings.size, baseline=None, color=_colour(chain), label=f"chain {chain}")
    axes.axhline(1.0, color=REFERENCE_COLOUR, linestyle="--", linewidth=1.0, label="even")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rank of the loss among the draws of all chains")
    axes.set_ylabel("draws, over an even spread")
    _legend(figure, num=num_chains)


def _draw_autocorrelation(figure: Figure, subject: Subject, traces: Traces) -> None:
    """Autocorrelation of the loss within every chain."""
    del subject
    readings = _readings(traces)
    axes = figure.subplots()
    lags = min(_MAX_LAG, readings.shape[1] // 2)
    places = np.arange(lags) * _thinning(traces)
    for chain, values in enumerate(array_stats.autocorr(readings)[:, :lags]):
        axes.plot(places, values, color=_colour(chain), linewidth=1.0, label=f"chain {chain}")
    bound = 2 / math.sqrt(readings.shape[1])
    axes.axhspan(-bound, bound, color=REFERENCE_COLOUR, alpha=0.15, linewidth=0, label="± 2 s.e. of independent draws")
    axes.axhline(0.0, color=REFERENCE_COLOUR, linewidth=0.8)
    axes.set_xlabel("lag (draws)")
    axes.set_ylabel("autocorrelation of the loss")
    _legend(figure, num=len(readings))


def _draw_ess(figure: Figure, subject: Subject, traces: Traces) -> None:
    """Effective sample sizes of the draws so far: straight lines, if the chains have converged."""
    del subject
    loss, distance = _readings(traces), np.asarray(_draws(traces)[1], np.float64)
    moments = np.unique(np.linspace(loss.shape[1] // 10, loss.shape[1], 12).astype(int))
    moments = moments[moments >= 8]
    axes = figure.subplots()
    for name, trace, colour in (("loss", loss, "#0072b2"), ("r²", distance, "#d55e00")):
        found = [diagnose_trace(trace[:, :moment]) for moment in moments]
        places = moments * _thinning(traces) * trace.shape[0]
        axes.plot(places, [one.ess_bulk for one in found], "o-", color=colour, markersize=3, label=f"bulk, {name}")
        axes.plot(places, [one.ess_tail for one in found], "s--", color=colour, markersize=3, label=f"tail, {name}")
    axes.axhline(MIN_ESS, color=REFERENCE_COLOUR, linestyle=":", linewidth=1.0, label=f"{MIN_ESS:g}, for a certificate")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("draws of all chains")
    axes.set_ylabel("effective sample size (of kept draws)")
    _legend(figure)


def _draw_distance(figure: Figure, subject: Subject, traces: Traces) -> None:
    """Loss against the distance from w0."""
    del subject
    readings, radius = _readings(traces), np.sqrt(np.asarray(_draws(traces)[1], np.float64))
    axes = figure.subplots()
    step = max(1, readings.shape[1] // (_MAX_LINE_POINTS // 2))
    for chain in range(len(readings)):
        x, y = radius[chain, ::step], readings[chain, ::step]
        axes.plot(x, y, "o", color=_colour(chain), markersize=2.5, alpha=0.4, markeredgewidth=0, label=f"chain {chain}")
    axes.set_xlabel("|w − w0|")
    axes.set_ylabel("nβ (L(w) − L(w0))")
    _legend(figure, num=len(readings))


def _draw_energy(figure: Figure, subject: Subject, traces: Traces) -> None:
    """How the energy is spread, beside how it changes from draw to draw (Betancourt 1604.00695)."""
    energy, settings = np.asarray(traces.energy, np.float64), _settings(subject)
    axes = figure.subplots()
    if not settings.is_exact:
        axes.hist(energy.ravel(), bins=60, density=True, color="#0072b2", alpha=0.7, label="energy change of a step")
        axes.set_xlabel("energy change of a step")
    else:
        centred = energy - energy.mean(axis=1, keepdims=True)
        kept = {"energy, about its mean": centred}
        has_changes = traces.thinning == 1 and settings.has_fresh_momentum
        if has_changes:
            kept["change from draw to draw"] = np.diff(energy, axis=1)
        for (name, values), colour in zip(kept.items(), ("#0072b2", "#d55e00"), strict=False):
            axes.hist(values.ravel(), bins=60, density=True, color=colour, alpha=0.5, label=name)
        if has_changes:
            axes.plot([], [], " ", label=f"E-BFMI {bfmi(energy):.2f} (at least {MIN_BFMI:g} wanted)")
        axes.set_xlabel("energy (nats)")
    axes.set_ylabel("density")
    _legend(figure)


def _draw_elbo(figure: Figure, subject: Subject, traces: Traces) -> None:
    """The evidence lower bound of every fit, step by step."""
    del subject
    axes = figure.subplots()
    elbo = -np.asarray(traces.energy, np.float64)
    size = max(1, elbo.shape[1] // 100)
    num_blocks = elbo.shape[1] // size
    means = elbo[:, : num_blocks * size].reshape(len(elbo), num_blocks, size).mean(axis=2)
    places = (np.arange(num_blocks) + 0.5) * size * traces.thinning
    for fit, trace in enumerate(means):
        axes.plot(places, trace, color=_colour(fit), linewidth=1.0, label=f"fit {fit}")
    axes.set_xlabel("step after burn-in")
    axes.set_ylabel("evidence lower bound (nats)")
    _legend(figure, num=len(elbo))


_OWN_FIGURES: dict[str, Draw] = {"energy": _draw_energy, "elbo": _draw_elbo}
"""Figures that only some methods have: those that a method's settings name."""


def _thinning(traces: Traces) -> int:
    return 1 if traces.draw_excess_loss is not None else traces.thinning


def _legend(figure: Figure, num: int = 0) -> None:
    """A legend below the axes, unless it would be of more chains than anybody can tell apart."""
    if num <= 8:
        figure.legend(loc="outside lower center", ncols=5)
