"""`lambda-hat report`: a run as one HTML page, or a page of many runs."""

from __future__ import annotations

from pathlib import Path

import click

from lambda_hat.cli.completion import complete_run
from lambda_hat.cli.options import UserPath

__all__ = ["report"]


@click.command(short_help="Write the page of a run, or of all runs.")
@click.argument("run", type=UserPath(), shell_complete=complete_run, metavar="RUN|ROOT")
@click.option(
    "--output",
    type=UserPath(dir_okay=False),
    metavar="FILE",
    help="File to write; by default RUN/report.html or ROOT/index.html.",
)
@click.option("--interactive", is_flag=True, help="Add figures that you can zoom into (needs the extra `plotly`).")
def report(run: Path, output: Path | None, interactive: bool) -> None:
    """Write the report of RUN, a run's folder such as runs/quickstart/v1, as one self-contained HTML file.

    Of a folder with runs in it, such as runs, it writes a page that lists them: index.html, with links to their
    reports.

    \b
    Examples:
      lambda-hat report runs/quickstart/v1
      lambda-hat report runs/quickstart/v1 --interactive --output mine.html
      lambda-hat report runs
    """
    from lambda_hat.report.root import is_root, write_root

    if is_root(run):
        if interactive:
            raise click.UsageError(f"--interactive is for one run, and {run} has several in it.")
        click.echo(write_root(run, output))
        return
    from lambda_hat.report.html import write_report
    from lambda_hat.report.run_files import find_run

    click.echo(write_report(find_run(run), output=output, is_interactive=interactive))
