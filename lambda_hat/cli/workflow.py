"""`lambda-hat workflow`: the long-running commands."""

from __future__ import annotations

import json
import sys

import click

from lambda_hat.cli.options import StudyCommand, run_options

__all__ = ["workflow"]


@click.group()
def workflow() -> None:
    """Run a study."""


@workflow.command("optuna", cls=StudyCommand)
@run_options
def optuna_command(
    config: str,
    local: bool,
    parsl_card: str | None,
    dotlist: tuple[str, ...],
    resume: bool,
    dry_run: bool,
    is_json: bool,
    verbose: int,
    quiet: bool,
) -> None:
    """Certify a reference for every problem, then tune every method against it."""
    if is_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run.")
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other.")

    from lambda_hat.config.load import load_cfg

    loaded = load_cfg(config, dotlist, parsl_card=parsl_card, local=local)
    if dry_run:
        from lambda_hat.cli.dry_run import plan_to_dict, plan_to_text
        from lambda_hat.workflows.plan import build_plan

        plan = build_plan(loaded)
        click.echo(json.dumps(plan_to_dict(plan), indent=2, ensure_ascii=False) if is_json else plan_to_text(plan))
        return

    from lambda_hat.report.progress import Progress
    from lambda_hat.report.summary import print_summary
    from lambda_hat.workflows.optuna import run_optuna
    from lambda_hat.workflows.plan import problem_titles

    with Progress(sys.stderr, quiet, verbose) as progress:
        outcome = run_optuna(loaded, resume=resume, progress=progress)
    print_summary(sys.stdout, outcome.rows, outcome.references, outcome.places, problem_titles(loaded))
    if outcome.failure is not None:
        raise outcome.failure
