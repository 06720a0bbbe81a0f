"""Pages: the report of a run, runs compared, and lists of runs and of figures. None asks anything of a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lambda_hat.artifacts.files import make_dir, write_text_atomic
from lambda_hat.artifacts.paths import Paths
from lambda_hat.draws.criteria import MAX_K_HAT, MAX_RHAT_APPROXIMATE, MAX_Z
from lambda_hat.report.compare import Comparison
from lambda_hat.report.page import build_page
from lambda_hat.report.page.table import address
from lambda_hat.report.run_files import RunFiles

__all__ = ["Entry", "FileLink", "write_comparison", "write_index", "write_report"]

# What the page may load: what it brings along.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_POLICY_WITH_FILES = _POLICY.replace("img-src data:", "img-src data: 'self' file:")  # figures beside the page
# Plotly draws parallel coordinates by WebGL programs that it makes as it goes.
_POLICY_WITH_PLOTS = _POLICY.replace("'unsafe-inline'; img", "'unsafe-inline' 'unsafe-eval'; img") + " blob:"


def write_report(paths: Paths, *, output: Path | None = None, is_interactive: bool = False) -> Path:
    """Write the report of the run at `paths` from its files alone, and say where it lies: `report.html` by default.

    Whatever is missing in a run that was cut short is said in the page.

    Raises:
        UsageError: it shall be interactive, and Plotly is not installed.
    """
    place = paths.report if output is None else output
    run = RunFiles(paths)
    page = build_page(run, place)
    if is_interactive:
        from lambda_hat.report.interactive import build_plots

        page = dataclasses.replace(page, plots=build_plots(run))
    policy = _POLICY_WITH_PLOTS if is_interactive else _POLICY
    bounds = {"z": f"{MAX_Z:g}", "rhat": f"{MAX_RHAT_APPROXIMATE:g}", "k_hat": f"{MAX_K_HAT:g}"}
    return _write(place, "report.html.j2", policy, page=page, bounds=bounds)


def write_comparison(comparison: Comparison, place: Path) -> Path:
    """Write runs side by side as a page at `place`, with links to their reports where there are any."""
    runs = [
        (letter, state, str(path), address(Paths(path).report, place.parent)) for letter, state, path in comparison.runs
    ]
    return _write(place, "compare.html.j2", _POLICY, comparison=comparison, runs=runs)


@dataclass(frozen=True)
class FileLink:
    """A file that a page shows or leads to."""

    name: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that a list has: a run, a reference, a trial. `tone` is `good`, `bad` or empty."""

    name: str
    about: str = ""
    lines: tuple[str, ...] = ()
    tone: str = ""
    page: Path | None = None
    figures: tuple[FileLink, ...] = ()
    files: tuple[FileLink, ...] = ()


def write_index(place: Path, title: str, subtitle: str, entries: Sequence[Entry]) -> Path:
    """Write a list as a page at `place`. Figures are shown, files linked; both stay where they are."""

    def linked(files: Sequence[FileLink]) -> list[dict[str, str]]:
        return [{"name": file.name, "href": href} for file in files if (href := address(file.path, place.parent))]

    shown = [
        {
            "name": entry.name,
            "about": entry.about,
            "lines": entry.lines,
            "tone": entry.tone,
            "href": address(entry.page, place.parent) if entry.page else "",
            "figures": linked(entry.figures),
            "files": linked(entry.files),
        }
        for entry in entries
    ]
    return _write(place, "index.html.j2", _POLICY_WITH_FILES, title=title, subtitle=subtitle, entries=shown)


def _write(place: Path, template: str, policy: str, **values: Any) -> Path:
    environment = Environment(
        loader=PackageLoader("lambda_hat.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    css, js = _inline(environment, "report.css"), _inline(environment, "report.js")
    text = environment.get_template(template).render(policy=policy, css=css, js=js, **values)
    make_dir(place.parent)
    write_text_atomic(place, text)
    return place


def _inline(environment: Environment, name: str) -> Markup:
    """A file of this package, as it is: none of it comes from a run."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])
