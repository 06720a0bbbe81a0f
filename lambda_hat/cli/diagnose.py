"""`lambda-hat diagnose`: a close look at references and trials."""

from __future__ import annotations

from pathlib import Path

import click

from lambda_hat.cli.completion import complete_id, complete_run
from lambda_hat.cli.options import Choice, UserPath

__all__ = ["diagnose"]


@click.command(short_help="Figures of chains, and draws for ArviZ.")
@click.argument("run", type=UserPath(), shell_complete=complete_run, metavar="RUN")
@click.argument("names", nargs=-1, shell_complete=complete_id, metavar="[ID]...")
@click.option("--all", "with_all", is_flag=True, help="Take all references and trials that have draws.")
@click.option(
    "--format",
    "formats",
    type=Choice(["png", "svg", "pdf"]),
    multiple=True,
    default=["png"],
    show_default=True,
    help="Format of the figures. May be given several times.",
)
def diagnose(run: Path, names: tuple[str, ...], with_all: bool, formats: tuple[str, ...]) -> None:
    """Draw figures of references and trials of RUN and write their draws for ArviZ, under RUN/diagnostics/ID.

    Without IDs, takes every reference and every study's best trial. The beginning of an ID is enough if it fits only
    one. RUN/diagnostics/index.html shows all figures, and the report links to it.

    \b
    Examples:
      lambda-hat diagnose runs/quickstart/v1
      lambda-hat diagnose runs/quickstart/v1 r_65a3 --format svg --format pdf
    """
    if names and with_all:
        raise click.UsageError("--all and IDs exclude each other.")
    from lambda_hat.report.run_files import RunFiles, find_run

    files = RunFiles(find_run(run))
    from lambda_hat.report.diagnosis import write_diagnosis, write_diagnostics_index  # JAX: when there is work
    from lambda_hat.report.html import write_report
    from lambda_hat.report.subjects import find_subjects

    subjects = find_subjects(files, names, with_all=with_all)
    for number, subject in enumerate(subjects, 1):
        click.echo(f"[{number}/{len(subjects)}] {subject.title}", err=True)
        written = write_diagnosis(files.paths, subject, list(dict.fromkeys(formats)))
        click.echo(f"{written[0].parent}: {', '.join(path.name for path in written)}")
    click.echo(write_diagnostics_index(files.paths))
    if files.paths.report.is_file():
        write_report(files.paths)  # which links to the page from now on
