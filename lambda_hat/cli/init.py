"""`lambda-hat init`: files to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from lambda_hat.cli.options import Choice, UserPath
from lambda_hat.config.shipped import STARTERS, write_starter

__all__ = ["init"]

_KINDS = "\n".join(f"  {name:<14} {starter.summary}" for name, starter in STARTERS.items())


@click.command(
    short_help="Write a study to begin with.",
    help="Write a study with comments into FOLDER (by default this one), ready to run.\n\n"
    f"KIND says which (quickstart if none is given):\n\n\b\n{_KINDS}\n\n"
    "Files that say something else are never overwritten.\n\n"
    "\b\nExamples:\n  lambda-hat init quickstart\n  lambda-hat init own-network my-network",
)
@click.argument("kind", type=Choice(list(STARTERS)), default="quickstart", metavar="[KIND]")
@click.argument("folder", type=UserPath(), default=Path(), metavar="[FOLDER]")
def init(kind: str, folder: Path) -> None:
    """Write the files and say what to type next."""
    written = write_starter(kind, folder)
    click.echo("\n".join(map(str, written)))
    names = {path.name: str(path) for path in written}
    for number, words in enumerate(STARTERS[kind].commands):
        click.echo(f"{'next' if number == 0 else '':5} {shlex.join(names.get(word, word) for word in words)}")
