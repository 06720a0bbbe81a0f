"""`lambda-hat workflow`: the long-running commands."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_hat.cli.options import RunOptions, StudyCommand, run_options
from lambda_hat.errors import ConfigError, LambdaHatError, RunStateError

if TYPE_CHECKING:
    from lambda_hat.records.rows import TrialRow
    from lambda_hat.workflows.plan import Plan

__all__ = ["workflow"]


@click.group()
def workflow() -> None:
    """Run a study or experiments.

    \b
    Examples:
      lambda-hat workflow optuna --config quickstart.yaml --local
      lambda-hat workflow llc --config experiments.yaml --local
    """


@workflow.command("optuna", cls=StudyCommand)
@run_options
def optuna_command(**arguments: Any) -> None:
    """Certify a reference for every problem, then tune every method against it.

    \b
    Examples:
      lambda-hat workflow optuna --config quickstart.yaml --local --dry-run
      lambda-hat workflow optuna --config quickstart.yaml --local
      lambda-hat workflow optuna --config mine.yaml --local --resume --set optuna.max_trials_per_method=48
    """
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
    from lambda_hat.workflows.builds import built
    from lambda_hat.workflows.endings import doubled, more_time
    from lambda_hat.workflows.optuna import run_optuna
    from lambda_hat.workflows.plan import build_plan, problem_titles

    is_inline = isinstance(loaded.card, InlineCard)
    with _ending(options, "optuna", lambda: build_plan(loaded)):
        with Progress(sys.stderr, options.quiet, options.verbose, may_redraw=not is_inline) as progress:
            loaded = built(loaded, progress.message)
            outcome = run_optuna(loaded, resume=options.resume, progress=progress)
        titles = problem_titles(loaded)
        print_summary(
            sys.stdout, outcome.rows, outcome.references, outcome.places, titles, outcome.confirmed, outcome.why_none
        )
        if outcome.failure is not None:
            raise outcome.failure
    budget, store = loaded.study.execution.budget, loaded.study.store
    longer = more_time(budget, (row for row in outcome.rows if not _is_repeated(row, outcome.rows)))
    certain = ()
    if not all(reference.is_certified for reference in outcome.references.values()):
        certain = (f"store.namespace={store.namespace}-longer", *doubled(budget, ["hmc_sec"]))
    more = f"optuna.max_trials_per_method={2 * loaded.study.optuna.max_trials_per_method}"
    _print_next(
        ["lambda-hat", "diagnose", outcome.places["run"]],
        *([_again(options, "optuna", outcome.places, longer)] if longer else []),
        *([_again(options, "optuna", outcome.places, certain, resume=False)] if certain else []),
        _again(options, "optuna", outcome.places, [more]),
        *(["lambda-hat", "workflow", "llc", "--config", path, "--dry-run"] for path in _recommended(outcome.places)),
    )


@workflow.command("llc", cls=StudyCommand)
@run_options
def llc_command(**arguments: Any) -> None:
    """Certify a reference for every target, then run every sampler on it with its fixed settings.

    \b
    Examples:
      lambda-hat workflow llc --config experiments.yaml --local
      lambda-hat workflow llc --config runs/quickstart/v1/recommended/mclmc.yaml --local
    """
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
    from lambda_hat.workflows.builds import built
    from lambda_hat.workflows.llc import run_llc
    from lambda_hat.workflows.plan import build_llc_plan, problem_titles

    is_inline = isinstance(loaded.card, InlineCard)
    with _ending(options, "llc", lambda: build_llc_plan(loaded)):
        with Progress(sys.stderr, options.quiet, options.verbose, may_redraw=not is_inline) as progress:
            loaded = built(loaded, progress.message)
            outcome = run_llc(loaded, resume=options.resume, progress=progress)
        titles = problem_titles(loaded)
        print_runs(sys.stdout, outcome.rows, outcome.references, outcome.places, titles, outcome.why_none)
        if outcome.failure is not None:
            raise outcome.failure
    _print_next(["lambda-hat", "diagnose", outcome.places["run"], "--all"])


def _recommended(places: Mapping[str, Path]) -> list[Path]:
    folder = places.get("recommended")
    return sorted(folder.glob("*.yaml")) if folder else []


def _again(
    options: RunOptions, workflow: str, places: Mapping[str, Path], settings: Sequence[str] = (), *, resume: bool = True
) -> list[str]:
    """The words of the command that was given, with other settings; of the run's snapshot where that read a pipe."""
    from lambda_hat.config.load import find_file

    flags = ["--resume"] if resume else []
    keys = {text.partition("=")[0] for text in settings}
    texts = [*(text for text in options.dotlist if text.partition("=")[0] not in keys), *settings]
    begin = ["lambda-hat", "workflow", workflow, "--config"]
    if find_file(options.config).is_file():
        return [*begin, options.config, *options.card_words, *flags, *_sets(texts)]
    return [*begin, str(places["configuration"]), *flags, *_sets(settings)]


def _sets(texts: Sequence[str]) -> list[str]:
    return [word for text in texts for word in ("--set", text)]


def _is_repeated(row: TrialRow, rows: Sequence[TrialRow]) -> bool:
    """Whether a later trial has the same settings: it was run again with more time."""
    return any(
        other.number > row.number
        and (other.pid, other.method, other.hyperparameters) == (row.pid, row.method, row.hyperparameters)
        for other in rows
    )


@contextmanager
def _ending(options: RunOptions, workflow: str, plan: Callable[[], Plan]) -> Generator[None]:
    """Have whatever ends the block early say what is kept, if anything, and how to go on."""
    from lambda_hat.execution.signals import interrupts_tell

    try:
        with interrupts_tell():
            yield
    except (ConfigError, RunStateError):
        raise  # nothing was begun
    except BaseException as error:
        advice = error.advice if isinstance(error, LambdaHatError) else ()
        with suppress(Exception):  # what is wrong with the files is told already
            from lambda_hat.config.load import find_file
            from lambda_hat.workflows.endings import kept

            left = plan()
            has_begun = left.paths.begun.is_file()
            if has_begun:
                error.add_note(f"{'kept':13}  {kept(left)}")
            if has_begun or (advice and find_file(options.config).is_file()):
                places = {"configuration": left.paths.resolved_config}
                again = _again(options, workflow, places, advice, resume=has_begun)
                error.add_note(f"{'next':13}  {shlex.join(again)}")
        raise


def _print_next(*commands: Sequence[object]) -> None:
    """Print commands to type next, quoted for a shell."""
    for number, words in enumerate(commands):
        click.echo(f"{'next' if number == 0 else '':13}  {shlex.join(map(str, words))}")


def _tell(plan: Plan, options: RunOptions) -> None:
    """Print the plan of a dry run, and end as the run would before it begins."""
    from lambda_hat.artifacts.paths import refuse_held
    from lambda_hat.cli.dry_run import plan_to_dict, plan_to_text
    from lambda_hat.workflows.begin import refuse_changes, refuse_unfinished

    refuse_held(plan.paths)
    refuse_changes(plan)
    click.echo(json.dumps(plan_to_dict(plan), indent=2, ensure_ascii=False) if options.is_json else plan_to_text(plan))
    refuse_unfinished(plan, resume=options.resume)
