"""`lambda-hat export`: a run's results for other programs and for papers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from lambda_hat.cli.completion import complete_run
from lambda_hat.cli.options import Choice, UserPath

__all__ = ["export"]

_TABLES = ("summary", "trials", "confirmed", "across", "runs")


@click.command(short_help="Tables and figures for elsewhere.")
@click.argument("run", type=UserPath(), shell_complete=complete_run, metavar="RUN")
@click.option("--csv", "form", flag_value="csv", help="Print a table as CSV.")
@click.option("--json", "form", flag_value="json", help="Print a table as JSON.")
@click.option("--latex", "form", flag_value="latex", help="Print the summary as a LaTeX table (booktabs).")
@click.option(
    "--table",
    type=Choice(_TABLES),
    default="summary",
    show_default=True,
    help="With --csv or --json: what to print. The summary has a row for each problem and method.",
)
@click.option("--output", type=UserPath(dir_okay=False), metavar="FILE", help="Write there instead of printing.")
@click.option(
    "--figures",
    type=UserPath(file_okay=False),
    metavar="FOLDER",
    help="Write the figures of the report there, as SVG and PDF.",
)
def export(
    run: Path, form: Literal["csv", "json", "latex"] | None, table: str, output: Path | None, figures: Path | None
) -> None:
    """Take the results of RUN elsewhere: tables as CSV, JSON or LaTeX, figures as SVG and PDF.

    \b
    Examples:
      lambda-hat export runs/quickstart/v1 --latex --output table.tex
      lambda-hat export runs/quickstart/v1 --csv --table trials > trials.csv
      lambda-hat export runs/quickstart/v1 --figures figures
    """
    if form is None and figures is None:
        raise click.UsageError("Say what to export: --csv, --json, --latex or --figures FOLDER.")
    if form == "latex" and table != "summary":
        raise click.UsageError("--latex is for the summary: export other tables as CSV or JSON.")
    from lambda_hat.report.export import TABLES, to_csv, to_json, to_latex, write_figures
    from lambda_hat.report.run_files import RunFiles, find_run

    files = RunFiles(find_run(run))
    if form is not None:
        rows = TABLES[table](files)
        if not rows and (others := [name for name in TABLES if name != "summary" and TABLES[name](files)]):
            known = ", ".join(f"`{name}`" for name in others)
            raise click.UsageError(f"This run has nothing for the table `{table}`. It has {known}.")
        _put(to_latex(files) if form == "latex" else (to_csv if form == "csv" else to_json)(rows), output)
    if figures is not None:
        for path in write_figures(files, figures):
            click.echo(path, err=form is not None and output is None)


def _put(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    from lambda_hat.artifacts.files import make_dir, write_text_atomic

    make_dir(output.parent)
    write_text_atomic(output, text)
    click.echo(output)
