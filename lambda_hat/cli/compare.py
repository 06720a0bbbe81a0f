"""`lambda-hat compare`: runs side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lambda_hat.cli.completion import complete_run
from lambda_hat.cli.options import UserPath

__all__ = ["compare"]


@click.command(short_help="What differs between runs.")
@click.argument("runs", type=UserPath(), shell_complete=complete_run, nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--output", type=UserPath(dir_okay=False), metavar="FILE", help="Also write a page, as HTML.")
def compare(runs: tuple[Path, ...], output: Path | None) -> None:
    """Say in what runs differ: configuration, λ and its certificate, confirmed errors, cost, versions.

    The runs are called A, B, … in the order given.

    \b
    Example:
      lambda-hat compare runs/quickstart/v1 runs/wide/v1 --output compared.html
    """
    from lambda_hat.report.compare import compare as compared
    from lambda_hat.report.compare import print_comparison
    from lambda_hat.report.run_files import RunFiles, find_run

    comparison = compared([RunFiles(find_run(run)) for run in runs])
    print_comparison(sys.stdout, comparison)
    if output is not None:
        from lambda_hat.report.html import write_comparison

        click.echo(write_comparison(comparison, output), err=True)
