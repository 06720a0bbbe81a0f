"""`lambda-hat workflow`: the long-running commands."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_hat.cli.options import RunOptions, StudyCommand, run_options
from lambda_hat.formatting import user_path

if TYPE_CHECKING:
    from lambda_hat.workflows.plan import Plan

__all__ = ["workflow"]


@click.group()
def workflow() -> None:
    """Run a study or experiments."""


@workflow.command("optuna", cls=StudyCommand)
@run_options
def optuna_command(**arguments: Any) -> None:
    """Certify a reference for every problem, then tune every method against it."""
    options = RunOptions(**arguments)

    from lambda_hat.config.load import load_cfg

    loaded = load_cfg(
        options.config, options.dotlist, parsl_card=options.parsl_card, local=options.local, inline=options.inline
    )
    if options.dry_run:
        from lambda_hat.workflows.plan import build_plan

        _tell(build_plan(loaded), options)
        return

    from lambda_hat.config.card import InlineCard
    from lambda_hat.report.progress import Progress
    from lambda_hat.report.summary import print_summary
    from lambda_hat.workflows.optuna import run_optuna
    from lambda_hat.workflows.plan import problem_titles

    is_inline = isinstance(loaded.card, InlineCard)
    with Progress(sys.stderr, options.quiet, options.verbose, may_redraw=not is_inline) as progress:
        outcome = run_optuna(loaded, resume=options.resume, progress=progress)
    titles = problem_titles(loaded)
    print_summary(
        sys.stdout, outcome.rows, outcome.references, outcome.places, titles, outcome.confirmed, outcome.why_none
    )
    if outcome.failure is not None:
        raise outcome.failure
    more = f"optuna.max_trials_per_method={2 * loaded.study.optuna.max_trials_per_method}"
    _print_next(
        ["lambda-hat", "diagnose", outcome.places["run"]],
        [*_again(options, "optuna", outcome.places), "--resume", "--set", more],
        *(["lambda-hat", "workflow", "llc", "--config", path, "--dry-run"] for path in _recommended(outcome.places)),
    )


@workflow.command("llc", cls=StudyCommand)
@run_options
def llc_command(**arguments: Any) -> None:
    """Certify a reference for every target, then run every sampler on it with its fixed settings."""
    options = RunOptions(**arguments)

    from lambda_hat.config.load import load_experiments

    loaded = load_experiments(
        options.config, options.dotlist, parsl_card=options.parsl_card, local=options.local, inline=options.inline
    )
    if options.dry_run:
        from lambda_hat.workflows.plan import build_llc_plan

        _tell(build_llc_plan(loaded), options)
        return

    from lambda_hat.config.card import InlineCard
    from lambda_hat.report.progress import Progress
    from lambda_hat.report.summary import print_runs
    from lambda_hat.workflows.llc import run_llc
    from lambda_hat.workflows.plan import problem_titles

    is_inline = isinstance(loaded.card, InlineCard)
    with Progress(sys.stderr, options.quiet, options.verbose, may_redraw=not is_inline) as progress:
        outcome = run_llc(loaded, resume=options.resume, progress=progress)
    titles = problem_titles(loaded)
    print_runs(sys.stdout, outcome.rows, outcome.references, outcome.places, titles, outcome.why_none)
    if outcome.failure is not None:
        raise outcome.failure
    _print_next(["lambda-hat", "diagnose", outcome.places["run"], "--all"])


def _recommended(places: Mapping[str, Path]) -> list[Path]:
    folder = places.get("recommended")
    return sorted(folder.glob("*.yaml")) if folder else []


def _again(options: RunOptions, workflow: str, places: Mapping[str, Path]) -> list[str]:
    """The words of the command that was given, without `--resume`; a pipe cannot be read again."""
    begin = ["lambda-hat", "workflow", workflow, "--config"]
    if not user_path(options.config).is_file():
        return [*begin, str(places["configuration"])]
    sets = [word for text in options.dotlist for word in ("--set", text)]
    return [*begin, options.config, *options.card_words, *sets]


def _print_next(*commands: Sequence[object]) -> None:
    """Print commands to type next, quoted for a shell."""
    for number, words in enumerate(commands):
        click.echo(f"{'next' if number == 0 else '':13}  {shlex.join(map(str, words))}")


def _tell(plan: Plan, options: RunOptions) -> None:
    """Print the plan of a dry run, and end as the run would before it begins."""
    from lambda_hat.cli.dry_run import plan_to_dict, plan_to_text
    from lambda_hat.workflows.begin import refuse_changes, refuse_unfinished

    refuse_changes(plan)
    click.echo(json.dumps(plan_to_dict(plan), indent=2, ensure_ascii=False) if options.is_json else plan_to_text(plan))
    refuse_unfinished(plan, resume=options.resume)
