"""Options that several commands share, and hints for options that the study file replaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lambda_hat.cli.completion import complete_card, complete_file, complete_key
from lambda_hat.config.suggest import did_you_mean
from lambda_hat.formatting import user_path

__all__ = ["Choice", "RunOptions", "StudyCommand", "UserPath", "file_options", "run_options", "verbosity"]

Command = Callable[..., Any]

_VERBOSITY = "lambda_hat.verbosity"

# What people may expect on the command line, and the key of the study file that says it instead.
_IN_STUDY_FILE = {
    "--max-trials": "optuna.max_trials_per_method",
    "--batch-size": "optuna.concurrency.batch_size",
    "--hmc-budget": "execution.budget.hmc_sec",
    "--method-budget": "execution.budget.trial_sec",
    "--artifacts-dir": "store.root",
    "--results-dir": "store.root",
    "--study-name": "store.namespace",
    "--storage": "store.root",
}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What `run_options` parsed.

    Raises:
        click.UsageError: options that do not go together.
    """

    config: str
    local: bool
    inline: bool
    parsl_card: str | None
    dotlist: tuple[str, ...]
    resume: bool
    dry_run: bool
    is_json: bool
    verbose: int
    quiet: bool

    def __post_init__(self) -> None:
        if self.is_json and not self.dry_run:
            raise click.UsageError("--json goes with --dry-run.")
        if self.quiet and self.verbose:
            raise click.UsageError("--quiet and --verbose exclude each other.")

    @property
    def card_words(self) -> list[str]:
        """The words of the command line that chose the card."""
        chosen = {"--local": self.local, "--inline": self.inline}
        flags = [flag for flag, is_given in chosen.items() if is_given]
        return flags or (["--parsl-card", self.parsl_card] if self.parsl_card else [])


class StudyCommand(click.Command):
    """A command whose settings are in the study file.

    The error about an unknown option names the key of the study file that sets it.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, or raise `click.UsageError` with the key to set."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            key = _IN_STUDY_FILE.get(error.option_name)
            if key is None:
                raise
            message = f"There is no {error.option_name}: the study file has it as `{key}`. "
            if error.option_name == "--storage":
                message = "There is no --storage: the studies' journal lies under `store.root`. "
            raise click.UsageError(f"{message}For one run, use `--set {key}=VALUE`.", ctx) from error


class Choice(click.Choice[str]):
    """One of a few words; of any other word the error asks whether a similar one was meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            message = f"{error.message} {did_you_mean(value, self.choices)}".strip()
            raise click.BadParameter(message, ctx, param) from error


class UserPath(click.Path):
    """A path in which `~` is a home, also where the shell leaves it, as in `--root=~/runs`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path with the home in it."""
        return super().convert(user_path(value), param, ctx)


def file_options(function: Command) -> Command:
    """Add options that choose the card and change values of the study file and the card."""
    return _with_options(
        function,
        click.option("--local", is_flag=True, help="Run on this machine, with the local Parsl card."),
        click.option("--inline", is_flag=True, help="Run in this process, one task after the other: for debugging."),
        click.option(
            "--parsl-card",
            metavar="CARD",
            shell_complete=complete_card,
            help="Run on this Parsl card instead of the study file's.",
        ),
        click.option(
            "--set",
            "dotlist",
            metavar="KEY=VALUE",
            multiple=True,
            shell_complete=complete_key,
            help="Change one value of the study file or of the card, e.g. `optuna.max_trials_per_method=24` or "
            "`walltime=04:00:00`. May be given several times.",
        ),
    )


def run_options(function: Command) -> Command:
    """Add options that choose the file, say whether to run it, and how much to print."""
    return _with_options(
        file_options(function),
        click.option(
            "--config",
            metavar="FILE",
            required=True,
            shell_complete=complete_file,
            help="YAML file that says what to run.",
        ),
        click.option("--resume", is_flag=True, help="Continue an unfinished run."),
        click.option(
            "--dry-run", is_flag=True, help="Print the plan with a bound on the time; start and write nothing."
        ),
        click.option("--json", "is_json", is_flag=True, help="With --dry-run: print the plan as JSON."),
        click.option("-v", "--verbose", count=True, callback=_keep_verbosity, help="Print more, and show tracebacks."),
        click.option("-q", "--quiet", is_flag=True, help="Print warnings and errors only."),
    )


def verbosity(ctx: click.Context) -> int:
    """How many `-v` the running command was given."""
    return ctx.meta.get(_VERBOSITY, 0)


def _with_options(function: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        function = option(function)
    return function


def _keep_verbosity(ctx: click.Context, _param: click.Parameter, value: int) -> int:
    ctx.meta[_VERBOSITY] = value
    return value
