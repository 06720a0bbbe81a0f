"""`lambda-hat diagnose`: a close look at references and trials."""

from __future__ import annotations

from pathlib import Path

import click

from lambda_hat.cli.options import UserPath

__all__ = ["diagnose"]


@click.command()
@click.argument("run", type=UserPath(), metavar="RUN")
@click.argument("names", nargs=-1, metavar="[ID]...")
@click.option("--all", "with_all", is_flag=True, help="Take all references and trials that have draws.")
def diagnose(run: Path, names: tuple[str, ...], with_all: bool) -> None:
    """Draw figures of references and trials of RUN and write their draws for ArviZ, under RUN/diagnostics/ID.

    Without IDs, takes every reference and every study's best trial. The beginning of an ID is enough if it fits only
    one.
    """
    if names and with_all:
        raise click.UsageError("--all and IDs exclude each other.")
    from lambda_hat.report.run_files import RunFiles, find_run

    files = RunFiles(find_run(run))
    from lambda_hat.report.diagnosis import write_diagnosis  # JAX: not before there is something to do
    from lambda_hat.report.subjects import find_subjects

    for subject in find_subjects(files, names, with_all=with_all):
        written = write_diagnosis(files.paths, subject)
        click.echo(f"{subject.title}\n  {written[0].parent}: {', '.join(path.name for path in written)}")
