"""`lambda-hat dashboard`: Optuna's dashboard of a run."""

from __future__ import annotations

from pathlib import Path

import click

from lambda_hat.cli.completion import complete_run
from lambda_hat.cli.options import UserPath

__all__ = ["dashboard"]


@click.command(short_help="Live, read-only dashboard of a run.")
@click.argument("run", type=UserPath(), shell_complete=complete_run, metavar="RUN")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 takes any free one.",
)
def dashboard(run: Path, port: int) -> None:
    """Serve a live, read-only Optuna dashboard of RUN on this machine (needs the extra `dashboard`).

    Running studies are not disturbed. Ctrl-C ends the dashboard.

    \b
    Example:
      lambda-hat dashboard runs/quickstart/v1 --port 0
    """
    from lambda_hat.report.run_files import find_run
    from lambda_hat.tuning.dashboard import build_app, build_server

    with build_server(build_app(find_run(run).journal), port) as server:
        click.echo(f"http://127.0.0.1:{server.server_port}/dashboard")
        server.serve_forever()
