"""What a report says of its run: machines, versions, files, and what the executors did when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from lambda_hat.artifacts.paths import Paths
from lambda_hat.formatting import clock, count, number
from lambda_hat.records.rows import RunRow, TrialRow
from lambda_hat.report import figures
from lambda_hat.report.drawing import Picture
from lambda_hat.report.page.table import Links
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.timeline import spans_of, use_of

__all__ = ["TimelinePart", "files", "moment", "provenance", "timelines"]

MAX_COMMANDS = 3  # whose timelines are drawn, the last ones


@dataclass(frozen=True)
class TimelinePart:
    """What one command's executors did."""

    title: str
    caption: str
    figure: Picture | None


def provenance(run: RunFiles) -> Iterator[tuple[str, str]]:
    """Names and values of where the results come from."""
    yield "run", "/".join(run.paths.root.parts[-3:])
    made_by = [reference.provenance for reference in run.references.values()]
    rows: list[TrialRow | RunRow] = [*run.rows, *run.llc_runs]
    versions = [*(made.versions or {} for made in made_by), *(row.versions for row in rows)]
    taken = {
        name: sorted({known.get(name) or "" for known in versions} - {""})
        for name in dict.fromkeys(name for known in versions for name in known)
    }
    yield "git commit", ", ".join(taken.pop("git_commit", [])) or "none"
    if taken:
        yield "versions", ", ".join(f"{name} {' and '.join(found)}" for name, found in taken.items() if found)
    sources = {
        "machines": [made.host for made in (*made_by, *rows)],
        "devices": [made.device for made in (*made_by, *rows)],
        "precisions": [made.dtype for made in (*run.references.values(), *rows)],
    }
    for title, values in sources.items():
        if found := sorted({value for value in values if value}):
            yield title, ", ".join(found)
    for index, command in enumerate(run.commands, 1):
        length = f"{clock(command.end.at)} long" if command.end else "not ended"
        yield f"command {index}", f"{moment(command.begin.time)} on {command.begin.host}, {length}"
    seconds = [row.total_sec for row in rows if row.total_sec is not None]
    if seconds:
        mean = number(sum(seconds) / len(seconds), ".1f")
        yield f"time in {'trials' if run.rows else 'runs'}", f"{clock(sum(seconds))} (h:mm:ss), {mean} s each"


def moment(time: datetime | None) -> str:
    """A time as people write it; empty where it is not known."""
    return "" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def files(paths: Paths, links: Links) -> Iterator[tuple[str, str]]:
    """Names and addresses of the files that there are."""
    places = {
        "table of trials": paths.trials_table,
        "confirmed settings": paths.confirmed_table,
        "table of runs": paths.runs_table,
        "resolved configuration": paths.resolved_config,
        "events": paths.events,
        "Optuna's journal": paths.journal,
        "diagnostics": paths.diagnostics_index,
    }
    for name, path in places.items():
        if href := links.to(path):
            yield name, href


def timelines(run: RunFiles) -> Iterator[TimelinePart]:
    """The last commands that ran anything."""
    worked = [command for command in run.commands if any(event.kind == "started" for event in command.tasks)]
    for command in worked[-MAX_COMMANDS:]:
        spans = spans_of(command.tasks)
        uses = [use_of(spans, label, cap) for label, cap in command.begin.caps.items()]
        caption = "; ".join(
            f"{use.label}: {use.busy_fraction:.0%} of {count(use.cap, 'worker')} busy over {use.seconds:.0f} s"
            for use in uses
            if use.seconds
        )
        title = f"Command of {moment(command.begin.time)}"
        yield TimelinePart(title, caption, figures.timeline_figure(command))
