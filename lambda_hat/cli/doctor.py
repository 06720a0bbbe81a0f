"""`lambda-hat doctor`: can this environment and this card run a study?"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from lambda_hat.cli.completion import complete_file
from lambda_hat.cli.options import StudyCommand, file_options

__all__ = ["doctor"]


@click.command(cls=StudyCommand, short_help="Check the environment and a card.")
@click.option(
    "--config",
    metavar="FILE",
    shell_complete=complete_file,
    help="Study or experiments file (YAML) to check against the card.",
)
@click.option("--no-workers", is_flag=True, help="Do not start the card's executors.")
@click.option("--timeout", type=float, default=300.0, show_default=True, help="Seconds to wait for workers.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@file_options
@click.pass_context
def doctor(
    ctx: click.Context,
    config: str | None,
    no_workers: bool,
    timeout: float,
    is_json: bool,
    local: bool,
    inline: bool,
    parsl_card: str | None,
    dotlist: tuple[str, ...],
) -> None:
    """Check the environment and a card with its workers, and say what to fix.

    Runs nothing of a study. Exits with code 1 if a check failed.

    \b
    Examples:
      lambda-hat doctor --local
      lambda-hat doctor --parsl-card config/parsl/slurm/cpu.yaml --set partition=long
    """
    from lambda_hat.config.load import load_card, load_file
    from lambda_hat.workflows.doctor import examine

    if config is None:
        loaded = load_card(dotlist, parsl_card=parsl_card, local=local, inline=inline)
    else:
        loaded = load_file(config, dotlist, parsl_card=parsl_card, local=local, inline=inline)
    checks = []
    for check in examine(loaded, with_workers=not no_workers, timeout=timeout):
        checks.append(check)
        if not is_json:
            click.echo(f"{check.state:8} {check.name:16} {check.found}")
            if check.advice:
                click.echo(f"{'':25} {check.advice}")
    if is_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=2, ensure_ascii=False))
    if any(check.state == "failed" for check in checks):
        ctx.exit(1)
