"""`lambda-hat artifacts`: list, show and remove what lies under a store's root."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_hat.cli.completion import complete_id
from lambda_hat.cli.options import UserPath
from lambda_hat.errors import RunStateError
from lambda_hat.formatting import count

if TYPE_CHECKING:  # commands import what they need when they run
    from lambda_hat.artifacts.collection import Garbage
    from lambda_hat.artifacts.inventory import Found, ProblemFigures, RunFigures, StudyFigures
    from lambda_hat.report.overview import Overview

__all__ = ["artifacts"]

_root = click.option(
    "--root",
    type=UserPath(),
    default=Path("runs"),
    show_default=True,
    help="Folder to look in, a study's `store.root`.",
)
_json = click.option("--json", "is_json", is_flag=True, help="Print JSON.")


@click.group()
def artifacts() -> None:
    """List, show and clean up the files of runs.

    \b
    Examples:
      lambda-hat artifacts ls
      lambda-hat artifacts gc --dry-run
    """


@artifacts.command("ls")
@_root
@_json
def list_command(root: Path, is_json: bool) -> None:
    """List runs, problems and studies: their states, the best of each, certificates, sizes and ages.

    \b
    Examples:
      lambda-hat artifacts ls
      lambda-hat artifacts ls --root ~/runs --json
    """
    from lambda_hat.artifacts.inventory import runs_under
    from lambda_hat.report.overview import overview_of

    runs = runs_under(root)
    known = {run.name: overview_of(run.paths) for run in runs}
    figures = [run.figures() for run in runs]
    problems = [problem for run in runs for problem in run.problems()]
    studies = [study for run in runs for study in run.studies()]
    if is_json:
        rows = {
            "runs": [
                {**asdict(row), "num_wanted": sum(known[row.run].wanted.values()), **_run_words(known[row.run])}
                for row in figures
            ],
            "problems": [{**asdict(row), **_problem_words(known[row.run], row.pid)} for row in problems],
            "studies": [
                {
                    **asdict(row),
                    "num_wanted": known[row.run].wanted.get(row.study),
                    **_study_words(known[row.run], row.study),
                }
                for row in studies
            ],
        }
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not runs:
        click.echo(f"There are no runs in {root}.", err=True)
        return
    _print_table(
        "runs",
        ("run", "state", "ended", "certified", "best", "size", "age", "ttl"),
        (_run_cells(row, known[row.run]) for row in figures),
    )
    _print_table(
        "problems",
        ("problem", "run", "reference", "best", "size", "age", "what"),
        (_problem_cells(row, _problem_words(known[row.run], row.pid)) for row in problems),
    )
    _print_table(
        "studies",
        ("study", "run", "ended", "verdict", "size", "age"),
        (_study_cells(row, known[row.run]) for row in studies),
    )


@artifacts.command()
@click.argument("id", metavar="ID", shell_complete=complete_id)
@_root
@click.option("--raw", is_flag=True, help="Print everything that the files say, as YAML.")
@_json
def show(id: str, root: Path, raw: bool, is_json: bool) -> None:
    """Print what is known about ID: a problem `p_…`, a trial `r_…` or a study `p_…:method`.

    The beginning of an id is enough.

    \b
    Examples:
      lambda-hat artifacts show p_c687
      lambda-hat artifacts show r_65a3 --raw
    """
    from lambda_hat.artifacts.inventory import find
    from lambda_hat.config.explain import to_yaml
    from lambda_hat.errors import InputError
    from lambda_hat.report.overview import print_artifact

    found = find(root, id)
    names = sorted({item.id for item in found})
    if not found:
        raise InputError(
            f"Nothing in {root} is called {id!r} or begins so. `lambda-hat artifacts ls` lists what is there."
        )
    if len(names) > 1:
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise InputError(f"{id!r} is the beginning of several ids: {some}.")
    refusals = [list(_of_other_versions(item)) for item in found]
    for refusal in itertools.chain(*refusals):
        click.echo(f"Warning: {refusal}", err=True)
    if is_json or raw:  # one problem can lie in several runs
        content = [item.to_dict() for item in found]
        text = (
            json.dumps(content, indent=2, ensure_ascii=False) + "\n" if is_json else "---\n".join(map(to_yaml, content))
        )
        click.echo(text, nl=False)
        return
    for place, (item, unread) in enumerate(zip(found, refusals, strict=True)):
        if place:
            click.echo()
        if unread:  # as it stands, since this version does not know what it says
            click.echo(to_yaml(item.to_dict()), nl=False)
        else:
            print_artifact(sys.stdout, item)


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

    \b
    Examples:
      lambda-hat artifacts gc --dry-run
      lambda-hat artifacts gc --older-than 90 --whole-runs
    """
    from lambda_hat.artifacts.collection import Skipped, collect
    from lambda_hat.artifacts.inventory import borrowers, runs_under
    from lambda_hat.workflows.changes import begun_studies

    garbage: list[Garbage] = []
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
            garbage.append(item)
            if not is_json:
                click.echo(f"{_size(item.num_bytes):>8}  {item.path}  ({item.reason})")
    if is_json:
        rows = [{"path": str(item.path), "reason": item.reason, "bytes": item.num_bytes} for item in garbage]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    verb, size = "would go" if dry_run else "removed", _size(sum(item.num_bytes for item in garbage))
    click.echo(f"{count(len(garbage), 'thing')} {verb}, {size}", err=True)


def _of_other_versions(item: Found) -> Iterator[str]:
    """What the artifact's own records say against being read by this version; their content is shown all the same."""
    from lambda_hat.artifacts.paths import METRICS_JSON, REFERENCE_JSON
    from lambda_hat.records.base import FormatError
    from lambda_hat.records.metrics import Metrics
    from lambda_hat.records.reference import ReferenceRecord

    kind, pattern = (ReferenceRecord, REFERENCE_JSON) if item.kind == "problem" else (Metrics, f"**/{METRICS_JSON}")
    for path in sorted(item.path.glob(pattern)):
        try:
            kind.read(path)
        except FormatError as error:
            yield str(error)
        except RunStateError:  # damaged, which its content shows
            continue


def _print_table(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    cells = [headers, *rows]
    if len(cells) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    click.secho(title, bold=True)
    for line in cells:
        click.echo("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _run_words(run: Overview) -> dict[str, str]:
    return {"state": run.state, "certified": run.certified, "best": run.best}


def _problem_words(run: Overview, pid: str) -> dict[str, str]:
    verdict = run.verdicts.get(pid)
    return {
        "title": run.names.get(pid, ""),
        "reference": run.references.get(pid, "none"),
        "best": verdict.best if verdict else "none",
    }


def _study_words(run: Overview, study: str) -> dict[str, str]:
    pid, _, name = study.partition(":")
    method = run.method(pid, name)
    return {"verdict": method.short if method else "no results yet"}


def _ended(num_ended: int, num_wanted: int) -> str:
    """How many trials of those that are wanted; more may have ended, where some ran again with more time."""
    return f"{num_ended} of {num_wanted}" if num_wanted else str(num_ended)  # no command has said how many


def _run_cells(run: RunFigures, overview: Overview) -> Sequence[str]:
    words, trials = _run_words(overview), _ended(run.num_ended, sum(overview.wanted.values()))
    ttl = "–" if run.ttl_days is None else f"{run.ttl_days:g} d"
    state = f"{words['state']}, in use by {run.in_use_by}" if run.in_use_by else words["state"]
    return run.run, state, trials, words["certified"], words["best"], _size(run.bytes), _age(run.age_days), ttl


def _problem_cells(problem: ProblemFigures, words: Mapping[str, str]) -> Sequence[str]:
    size, age = _size(problem.bytes), _age(problem.age_days)
    return problem.pid, problem.run, words["reference"], words["best"], size, age, words["title"]


def _study_cells(study: StudyFigures, overview: Overview) -> Sequence[str]:
    trials, verdict = _ended(study.num_ended, overview.wanted.get(study.study, 0)), _study_words(overview, study.study)
    return study.study, study.run, trials, verdict["verdict"], _size(study.bytes), _age(study.age_days)


def _size(num_bytes: int) -> str:
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""


def _age(days: float) -> str:
    if days >= 2:
        return f"{days:.0f} d"
    return f"{24 * days:.0f} h" if days >= 1 / 12 else f"{1440 * days:.0f} min"
