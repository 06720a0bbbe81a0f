"""The figures of a run that the read-me shows: `python benchmarks/gallery.py RUN FOLDER`.

Of the first problem that has a reference: estimates of each method's confirmed settings, λ̂ against work, error against
cost, and the chains of the reference. PNG files of less than 150 kB each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lambda_hat.artifacts.files import make_dir, write_bytes_atomic
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.report.drawing import Picture, colour_of, drawn, log_scale, reference_band
from lambda_hat.report.figures import cost_figure, estimates_figure
from lambda_hat.report.run_files import RunFiles, find_run
from lambda_hat.report.subjects import Subject, find_subjects
from lambda_hat.report.summary import trials_by_method

MAX_BYTES = 150_000
NUM_SHOWN = 300  # draws of every chain


def running(subjects: Sequence[Subject], reference: ReferenceRecord) -> Picture:
    """λ̂ of each method's best trial as it sampled."""
    llc, se = reference.llc or 0.0, reference.se
    with drawn(6.8, 3.2) as figure:
        axes = figure.subplots()
        reference_band(axes, llc, se)
        ends = []
        for subject in subjects:
            assert subject.traces is not None
            curve = subject.traces.running_llc()
            error = np.where(np.isfinite(curve.se), 2 * curve.se, np.nan)
            colour = colour_of(subject.method)
            axes.fill_between(curve.work, curve.llc - error, curve.llc + error, color=colour, alpha=0.15, linewidth=0)
            axes.plot(curve.work, curve.llc, color=colour, label=subject.method)
            ends += [curve.work[0], curve.work[-1]]
        log_scale(axes.xaxis, min(ends), max(ends))
        axes.set_ylim(0.7 * llc, 1.3 * llc)
        axes.set_xlabel("gradient evaluations (full-data scale)")
        axes.set_ylabel("λ̂ so far ± 2 s.e.")
        figure.legend(loc="outside upper right", ncols=5)
        return Picture(figure, "λ̂ against work")


def chains(subject: Subject) -> Picture:
    """The reference's chains and the spread of their readings."""
    traces = subject.traces
    assert traces is not None
    readings = traces.nbeta * np.asarray(traces.excess_loss, np.float64)
    with drawn(6.8, 2.8) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        for chain, trace in enumerate(readings):
            left.plot(trace[:NUM_SHOWN], linewidth=0.7, alpha=0.8, label=f"chain {chain}")
            right.hist(trace, bins=40, histtype="step", orientation="horizontal", density=True)
        for axes in (left, right):
            reference_band(axes, subject.llc, subject.se, "λ ± 2 s.e.")
        left.set_xlabel("draw after burn-in")
        left.set_ylabel("nβ (L(w) − L(w0))")
        right.set_xlabel("density")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=6)
        return Picture(figure, "chains of the reference")


def draw(run: RunFiles) -> dict[str, Picture | None]:
    pid, reference = next(iter(run.references.items()))
    ours = [subject for subject in find_subjects(run) if subject.pid == pid and subject.traces is not None]
    trials = [subject for subject in ours if not subject.is_reference and subject.method != "vi"]  # a fit is no chain
    references = [subject for subject in ours if subject.is_reference]
    by_method = trials_by_method(run.rows, pid)
    winners = {row.method: row for row in run.confirmed if row.pid == pid and row.rank == 1}
    return {
        "estimates": estimates_figure(by_method, reference, winners),
        "cost": cost_figure(by_method, reference),
        "running": running(trials, reference) if trials else None,
        "reference": chains(references[0]) if references else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    run = RunFiles(find_run(options.run))
    if not run.references:
        raise SystemExit(f"{options.run} has no reference yet.")
    make_dir(options.folder)
    for name, picture in draw(run).items():
        if picture is None:
            print(f"{name}: nothing to draw")
            continue
        content = picture.png(dpi=110)
        if len(content) > MAX_BYTES:
            raise SystemExit(f"{name}.png would have {len(content)} bytes, at most {MAX_BYTES} are allowed.")
        write_bytes_atomic(options.folder / f"{name}.png", content)
        print(f"{options.folder / name}.png  {len(content) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
