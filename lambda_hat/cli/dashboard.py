"""`lambda-hat dashboard`: Optuna's dashboard of a run."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["dashboard"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes any free one.")
def dashboard(run: Path, port: int) -> None:
    """Show the studies of RUN, live, in Optuna's dashboard on this machine, by the extra `dashboard`; Ctrl-C ends it.

    Nothing can be changed in it, and a study that is running is not disturbed.
    """
    from lambda_hat.report.run_files import find_run
    from lambda_hat.tuning.dashboard import build_app, build_server

    with build_server(build_app(find_run(run).journal), port) as server:
        click.echo(f"http://127.0.0.1:{server.server_port}/dashboard")
        server.serve_forever()
