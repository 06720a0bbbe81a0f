"""`lambda-hat config`: look at configuration without running anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from lambda_hat.cli.options import file_options

if TYPE_CHECKING:
    from lambda_hat.config.load import LoadedFile

__all__ = ["config"]


@click.group()
def config() -> None:
    """Check and explain configuration."""


@config.command()
@click.argument("file")
@file_options
def validate(file: str, local: bool, parsl_card: str | None, dotlist: tuple[str, ...]) -> None:
    """Check the study or experiments FILE and the Parsl card it runs on, and report all faults at once."""
    loaded = _load(file, local, parsl_card, dotlist)
    click.echo(f"{loaded.source} and {loaded.card_path} are valid.", err=True)


@config.command()
@click.argument("file")
@click.option(
    "--part", type=click.Choice(["study", "card", "problems"]), default="study", show_default=True, help="What to show."
)
@file_options
def show(file: str, part: str, local: bool, parsl_card: str | None, dotlist: tuple[str, ...]) -> None:
    """Print what the study or experiments FILE means, with all defaults, as YAML.

    `study` is itself such a file, `card` a Parsl card; `problems` are by id what presets and overrides make of them.
    """
    from lambda_hat.artifacts.ids import problem_id
    from lambda_hat.config.explain import to_yaml

    loaded = _load(file, local, parsl_card, dotlist)
    if part == "study":
        values = loaded.resolved
    elif part == "card":
        values = loaded.card.to_dict()
    else:
        problems = [problem.to_dict() for problem in loaded.sections.resolved_problems]
        values = {problem_id(problem): problem for problem in problems}
    click.echo(to_yaml(values), nl=False)


@config.command()
@click.argument("name")
def schema(name: str) -> None:
    """Print the JSON Schema of NAME: `study`, `experiments`, `card`, or the settings of a method such as `sgld`."""
    from lambda_hat.config.explain import json_schema, schema_names
    from lambda_hat.config.suggest import did_you_mean, one_of

    if name not in schema_names():
        message = f"found {name!r}, expected {one_of(schema_names())}. {did_you_mean(name, schema_names())}"
        raise click.BadParameter(message.strip(), param_hint="NAME")
    click.echo(json.dumps(json_schema(name), indent=2, ensure_ascii=False))


def _load(file: str, local: bool, parsl_card: str | None, dotlist: tuple[str, ...]) -> LoadedFile:
    """The study or experiments, checked as far as it can be without running it."""
    from lambda_hat.config.load import load_file
    from lambda_hat.errors import ConfigError
    from lambda_hat.workflows.plan import check_execution

    loaded = load_file(file, dotlist, parsl_card=parsl_card, local=local)
    if faults := check_execution(loaded):
        raise ConfigError(faults)
    return loaded
