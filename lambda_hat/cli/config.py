"""`lambda-hat config`: look at configuration without running anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from lambda_hat.cli.completion import complete_file, complete_schema
from lambda_hat.cli.options import Choice, file_options

if TYPE_CHECKING:
    from lambda_hat.config.load import LoadedCard, LoadedFile

__all__ = ["config"]


@click.group()
def config() -> None:
    """Check and explain configuration.

    \b
    Examples:
      lambda-hat config validate mine.yaml
      lambda-hat config show mine.yaml --part problems
    """


def _file_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the file, as an argument or as `--config`, which other commands use."""
    option = click.option(
        "--config", "config_file", metavar="FILE", shell_complete=complete_file, help="The file, given as an option."
    )
    return click.argument("file", required=False, shell_complete=complete_file)(option(function))


@config.command()
@_file_argument
@file_options
def validate(
    file: str | None,
    config_file: str | None,
    local: bool,
    inline: bool,
    parsl_card: str | None,
    dotlist: tuple[str, ...],
) -> None:
    """Check FILE and report all faults together.

    FILE is a study or experiments, which are checked with the Parsl card that they run on, or a card. Whether the two
    fit each other shows once neither has faults of its own.

    \b
    Examples:
      lambda-hat config validate mine.yaml
      lambda-hat config validate mine.yaml --parsl-card config/parsl/slurm/cpu.yaml --set partition=long
    """
    from lambda_hat.config.load import LoadedCard
    from lambda_hat.workflows.plan import warnings_of

    loaded = _load(file, config_file, local, inline, parsl_card, dotlist)
    if isinstance(loaded, LoadedCard):
        click.echo(f"{loaded.source} is a valid card.", err=True)
        return
    for warning in warnings_of(loaded):
        click.echo(f"Warning: {warning}", err=True)
    click.echo(f"{loaded.source} and {loaded.card_path} are valid.", err=True)


@config.command()
@_file_argument
@click.option(
    "--part",
    type=Choice(["study", "card", "problems", "samplers"]),
    default="study",
    show_default=True,
    help="Which part to print.",
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON, without the origin of each value.")
@file_options
def show(
    file: str | None,
    config_file: str | None,
    part: str,
    is_json: bool,
    local: bool,
    inline: bool,
    parsl_card: str | None,
    dotlist: tuple[str, ...],
) -> None:
    """Print FILE as YAML with all defaults, and say where each value came from. FILE may be a card, too.

    `study` is the whole file, `card` the card it runs on. `problems` are the problems by id, with presets and overrides
    applied. `samplers` are, by method or name, the settings that are not searched.

    \b
    Examples:
      lambda-hat config show mine.yaml --set optuna.max_trials_per_method=12
      lambda-hat config show mine.yaml --part problems
    """
    from lambda_hat.artifacts.ids import problem_id
    from lambda_hat.config.explain import to_explained_yaml
    from lambda_hat.config.origins import part_of

    loaded = _load(file, config_file, local, inline, parsl_card, dotlist)
    card_option = "--local" if local else "--inline" if inline else f"--parsl-card {parsl_card}" if parsl_card else None
    values, origin = part_of(loaded, part, problem_id, card_option)
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n" if is_json else to_explained_yaml(values, origin)
    click.echo(text, nl=False)


@config.command()
@click.argument("name", shell_complete=complete_schema)
def schema(name: str) -> None:
    """Print the JSON Schema of NAME: `study`, `experiments`, `card`, or a method such as `sgld`.

    \b
    Examples:
      lambda-hat config schema sgld
      lambda-hat config schema study > study.schema.json
    """
    from lambda_hat.config.explain import json_schema, schema_names
    from lambda_hat.config.suggest import did_you_mean, one_of

    if name not in schema_names():
        message = f"found {name!r}, expected {one_of(schema_names())}. {did_you_mean(name, schema_names())}"
        raise click.BadParameter(message.strip(), param_hint="NAME")
    click.echo(json.dumps(json_schema(name), indent=2, ensure_ascii=False))


def _load(
    file: str | None,
    config_file: str | None,
    local: bool,
    inline: bool,
    parsl_card: str | None,
    dotlist: tuple[str, ...],
) -> LoadedFile | LoadedCard:
    """Load the file, and check everything that can be checked without running it."""
    if (file is None) == (config_file is None):
        raise click.UsageError("Give one file: `FILE`, or `--config FILE`.")
    from lambda_hat.config.load import load_file
    from lambda_hat.errors import ConfigError
    from lambda_hat.workflows.plan import check_execution

    loaded = load_file(file or config_file or "", dotlist, parsl_card=parsl_card, local=local, inline=inline)
    if faults := check_execution(loaded):
        raise ConfigError(faults)
    return loaded
