"""A page of all runs under a store's root."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lambda_hat.artifacts.inventory import RunFolder, runs_under
from lambda_hat.formatting import count
from lambda_hat.report.html import Entry, write_index
from lambda_hat.report.overview import overview_of
from lambda_hat.report.verdict import ProblemVerdict

__all__ = ["INDEX", "is_root", "write_root"]

INDEX = "index.html"


def is_root(folder: Path) -> bool:
    """Whether the folder is no run itself but has runs below it."""
    return folder.is_dir() and not (folder / "meta").is_dir() and bool(runs_under(folder))


def write_root(root: Path, output: Path | None = None) -> Path:
    """Write a page of all runs under `root`, by default `root/index.html`, and say where it lies."""
    runs = runs_under(root)
    place = root / INDEX if output is None else output
    return write_index(place, f"Runs in {root.resolve().name}", count(len(runs), "run"), list(map(_entry, runs)))


def _entry(run: RunFolder) -> Entry:
    known, figures = overview_of(run.paths), run.figures()
    tones = {verdict.tone for verdict in known.verdicts.values()}
    trials = f"{figures.num_ended} of {count(figures.num_trials, 'trial')} ended"
    about = f"{known.state}, {trials}, {known.certified} references certified"
    is_there = run.paths.report.is_file()
    missing = () if is_there else (f"There is no report yet: `lambda-hat report {run.folder}` writes it.",)
    return Entry(
        name=run.name,
        about=about,
        lines=(*_lines(known.verdicts, known.names), *missing),
        tone="bad" if "bad" in tones else "good" if tones == {"good"} else "",
        page=run.paths.report if is_there else None,
    )


def _lines(verdicts: Mapping[str, ProblemVerdict], names: Mapping[str, str]) -> Iterator[str]:
    for pid, verdict in verdicts.items():
        yield f"{names.get(pid, pid)}: {verdict.citation} Best: {verdict.best}."
