"""The command group, and how commands end: exit codes and messages of failures."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from typing import Any, NoReturn

import click

import lambda_hat
from lambda_hat.cli.artifacts import artifacts
from lambda_hat.cli.compare import compare
from lambda_hat.cli.config import config
from lambda_hat.cli.dashboard import dashboard
from lambda_hat.cli.diagnose import diagnose
from lambda_hat.cli.doctor import doctor
from lambda_hat.cli.export import export
from lambda_hat.cli.init import init
from lambda_hat.cli.options import verbosity
from lambda_hat.cli.report import report
from lambda_hat.cli.workflow import workflow
from lambda_hat.errors import ConfigError, LambdaHatError, StorageError

__all__ = ["cli", "main"]

SIGINT_EXIT_CODE = 130


class _Group(click.Group):
    """Ends the process with the exit code of the error's family; a `SystemExit` from a signal passes through."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            click.echo("\nInterrupted.", err=True)
            _print_notes(interruption)
            ctx.exit(SIGINT_EXIT_CODE)
        except SystemExit as end:
            _print_notes(end)
            raise
        except LambdaHatError as error:
            _end_with(ctx, error)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click ends these itself
        except Exception as error:
            reason = StorageError.from_os_error(error) if isinstance(error, OSError) else None
            if reason is not None:  # met by a library that writes files of its own
                for note in getattr(error, "__notes__", ()):
                    reason.add_note(note)
                _end_with(ctx, reason)
            traceback.print_exc()
            click.echo("This is a mistake in lambda-hat; the traceback above says where.", err=True)
            ctx.exit(1)


def _end_with(ctx: click.Context, error: LambdaHatError) -> NoReturn:
    if verbosity(ctx):
        traceback.print_exc()
    else:
        prefix = "" if isinstance(error, ConfigError) else "Error: "  # faults begin with their file and line
        click.echo(f"{prefix}{error}", err=True)
        _print_notes(error)
    ctx.exit(error.exit_code)


def _print_notes(error: BaseException) -> None:
    """What was noted on the way: what is kept, and what to type next."""
    for note in getattr(error, "__notes__", ()):
        click.echo(note, err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(lambda_hat.__version__, prog_name="lambda-hat")
def cli() -> None:
    """Certified references and tuned estimators of Local Learning Coefficients.

    \b
    Examples:
      lambda-hat init quickstart
      lambda-hat workflow optuna --config quickstart.yaml --local
    """


cli.add_command(init)
cli.add_command(workflow)
cli.add_command(config)
cli.add_command(doctor)
cli.add_command(artifacts)
cli.add_command(report)
cli.add_command(compare)
cli.add_command(export)
cli.add_command(diagnose)
cli.add_command(dashboard)


def main() -> None:
    """Run the command line of this process; never returns."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # λ̂ must not end a run where a terminal cannot show it
    logging.raiseExceptions = False  # on a full disk, Parsl's log would show a traceback for every line it loses
    cli(prog_name="lambda-hat")
