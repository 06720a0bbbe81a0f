"""`lambda-hat report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from lambda_hat.cli.options import UserPath

__all__ = ["report"]


@click.command()
@click.argument("run", type=UserPath(), metavar="RUN")
@click.option(
    "--output",
    type=UserPath(dir_okay=False),
    metavar="FILE",
    help="File to write; RUN/report.html by default.",
)
@click.option("--interactive", is_flag=True, help="Add figures that you can zoom into (needs the extra `plotly`).")
def report(run: Path, output: Path | None, interactive: bool) -> None:
    """Write the report of RUN, a run's folder such as runs/quickstart/v1, as one self-contained HTML file."""
    from lambda_hat.report.html import write_report
    from lambda_hat.report.run_files import find_run

    click.echo(write_report(find_run(run), output=output, is_interactive=interactive))
