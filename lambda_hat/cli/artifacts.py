"""`lambda-hat artifacts`: list, show and remove what lies under a store's root."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

__all__ = ["artifacts"]

_root = click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder to look in, a study's `store.root`.",
)
_json = click.option("--json", "is_json", is_flag=True, help="Print JSON.")


@click.group()
def artifacts() -> None:
    """List, show and clean up the files of runs."""


@artifacts.command("ls")
@_root
@_json
def list_command(root: Path, is_json: bool) -> None:
    """List runs, problems and studies, with their sizes and ages."""
    from lambda_hat.artifacts.inventory import runs_under

    runs = runs_under(root)
    content = {
        "runs": [run.to_dict() for run in runs],
        "problems": [problem for run in runs for problem in run.problems()],
        "studies": [study for run in runs for study in run.studies()],
    }
    if is_json:
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    if not runs:
        click.echo(f"There are no runs in {root}.", err=True)
        return
    _print_table("runs", content["runs"], {
        "run": "run", "problems": "num_problems", "trials": _trials, "size": _size, "age": _age,
        "ttl": lambda row: "–" if row["ttl_days"] is None else f"{row['ttl_days']:g} d",
        "state": lambda row: f"in use by {row['in_use_by']}" if row["in_use_by"] else "",
    })  # fmt: skip
    _print_table("problems", content["problems"], {
        "problem": "pid", "run": "run", "reference": _reference, "size": _size, "age": _age,
    })  # fmt: skip
    _print_table("studies", content["studies"], {
        "study": "study", "run": "run", "trials": _trials, "size": _size, "age": _age,
    })  # fmt: skip


@artifacts.command()
@click.argument("id", metavar="ID")
@_root
@_json
def show(id: str, root: Path, is_json: bool) -> None:
    """Print what is known about ID: a problem `p_…`, a trial `r_…` or a study `p_…:method`.

    The beginning of an id is enough.
    """
    from lambda_hat.artifacts.inventory import find
    from lambda_hat.config.explain import to_yaml
    from lambda_hat.errors import InputError

    found = find(root, id)
    names = sorted({item.id for item in found})
    if not found:
        raise InputError(
            f"Nothing in {root} is called {id!r} or begins so. `lambda-hat artifacts ls` lists what is there."
        )
    if len(names) > 1:
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise InputError(f"{id!r} is the beginning of several ids: {some}.")
    content = [item.to_dict() for item in found]  # one problem can lie in several runs
    if is_json:
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        click.echo("---\n".join(map(to_yaml, content)), nl=False)


@artifacts.command()
@click.option("--dry-run", is_flag=True, help="List what would be removed; remove nothing.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Age in days to use instead of each run's `store.ttl_days`.",
)
@click.option("--whole-runs", is_flag=True, help="Also remove whole runs of that age that are finished.")
@_root
@_json
def gc(dry_run: bool, older_than: float | None, whole_runs: bool, root: Path, is_json: bool) -> None:
    """Remove what is older than the run's `store.ttl_days` and not needed.

    This removes trials and problems that no study and no table mentions, logs of executors, compiled programs, and
    temporary files of killed writers. It skips runs that a command is working on.
    """
    from lambda_hat.artifacts.collection import Skipped, collect
    from lambda_hat.artifacts.inventory import borrowers, runs_under
    from lambda_hat.workflows.changes import begun_studies

    garbage: list[dict[str, Any]] = []
    runs = runs_under(root)
    for run in runs:
        for item in collect(
            run,
            older_than=older_than,
            with_whole_runs=whole_runs,
            is_finished=not begun_studies(run.paths),
            borrowers=borrowers(run, runs),
            is_dry=dry_run,
        ):
            if isinstance(item, Skipped):
                click.echo(f"{item.run}: left alone, {item.reason}", err=True)
                continue
            garbage.append({"path": str(item.path), "reason": item.reason, "bytes": item.num_bytes})
            if not is_json:
                click.echo(f"{_size(garbage[-1]):>8}  {item.path}  ({item.reason})")
    if is_json:
        click.echo(json.dumps(garbage, indent=2, ensure_ascii=False))
    total = {"bytes": sum(item["bytes"] for item in garbage)}
    verb = "would go" if dry_run else "removed"
    click.echo(f"{len(garbage)} {'thing' if len(garbage) == 1 else 'things'} {verb}, {_size(total)}", err=True)


def _print_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any]) -> None:
    if not rows:
        return
    cells = [list(columns)]
    cells += [[str(column(row) if callable(column) else row[column]) for column in columns.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    click.secho(title, bold=True)
    for line in cells:
        click.echo("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _trials(row: Mapping[str, Any]) -> str:
    return f"{row['num_ended']}/{row['num_trials']}"


def _size(row: Mapping[str, Any]) -> str:
    size = float(row["bytes"])
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""


def _age(row: Mapping[str, Any]) -> str:
    days = row["age_days"]
    if days >= 2:
        return f"{days:.0f} d"
    return f"{24 * days:.0f} h" if days >= 1 / 12 else f"{1440 * days:.0f} min"


def _reference(row: Mapping[str, Any]) -> str:
    from lambda_hat.formatting import estimate

    if row["llc"] is None:
        return "none"
    return f"{estimate(row['llc'], row['se'])} {'certified' if row['is_certified'] else 'not certified'}"
