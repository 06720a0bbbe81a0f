"""The report of a run: one HTML file that needs nothing else and asks nothing of a network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lambda_hat.artifacts.files import make_dir, write_text_atomic
from lambda_hat.artifacts.paths import Paths
from lambda_hat.draws.criteria import MAX_K_HAT, MAX_RHAT_APPROXIMATE, MAX_Z
from lambda_hat.report.page import build_page
from lambda_hat.report.run_files import RunFiles

__all__ = ["write_report"]

# What the page may load: what it brings along.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
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
    environment = Environment(
        loader=PackageLoader("lambda_hat.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("report.html.j2").render(
        page=page,
        policy=_POLICY_WITH_PLOTS if is_interactive else _POLICY,
        css=_inline(environment, "report.css"),
        js=_inline(environment, "report.js"),
        bounds={"z": f"{MAX_Z:g}", "rhat": f"{MAX_RHAT_APPROXIMATE:g}", "k_hat": f"{MAX_K_HAT:g}"},
    )
    make_dir(place.parent)
    write_text_atomic(place, text)
    return place


def _inline(environment: Environment, name: str) -> Markup:
    """A file of this package, as it is: none of it comes from a run."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])
