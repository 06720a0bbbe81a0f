"""What a report says of its run: machines, versions, files, and what the executors did when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lambda_hat.artifacts.paths import Paths
from lambda_hat.formatting import clock, count, number
from lambda_hat.report import figures
from lambda_hat.report.drawing import Picture
from lambda_hat.report.page.table import Links, Row
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
    sources = [*run.references.values(), *run.rows]
    versions = [_versions(source) for source in sources]
    taken = {
        name: sorted({str(known[name]) for known in versions if known.get(name)})
        for name in dict.fromkeys(name for known in versions for name in known)
    }
    yield "git commit", ", ".join(taken.pop("git_commit", [])) or "none"
    if taken:
        yield "versions", ", ".join(f"{name} {' and '.join(found)}" for name, found in taken.items() if found)
    for name, title in (("host", "machines"), ("device", "devices"), ("dtype", "precisions")):
        if found := sorted({str(source[name]) for source in sources if source.get(name)}):
            yield title, ", ".join(found)
    for index, events in enumerate(run.commands, 1):
        end = next((event for event in events if event["kind"] == "end"), None)
        length = f"{clock(end['at'])} long" if end else "not ended"
        yield f"command {index}", f"{moment(events[0].get('time', ''))} on {events[0].get('host')}, {length}"
    seconds = [row["total_sec"] for row in run.rows if row.get("total_sec") is not None]
    if seconds:
        yield "time in trials", f"{clock(sum(seconds))} (h:mm:ss), {number(sum(seconds) / len(seconds), '.1f')} s each"


def _versions(source: Row) -> dict[str, Any]:
    versions = source.get("versions")
    if isinstance(versions, str):
        versions = json.loads(versions)
    return versions if isinstance(versions, dict) else {}


def moment(time: str) -> str:
    """A time as people write it."""
    try:
        return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return time


def files(paths: Paths, links: Links) -> Iterator[tuple[str, str]]:
    """Names and addresses of the files that there are."""
    places = {
        "table of trials": paths.trials_table,
        "confirmed settings": paths.confirmed_table,
        "table of runs": paths.runs_table,
        "resolved configuration": paths.resolved_config,
        "events": paths.events,
        "Optuna's journal": paths.journal,
    }
    for name, path in places.items():
        if href := links.to(path):
            yield name, href


def timelines(run: RunFiles) -> Iterator[TimelinePart]:
    """The last commands that ran anything."""
    worked = [events for events in run.commands if any(event["kind"] == "started" for event in events)]
    for events in worked[-MAX_COMMANDS:]:
        spans = spans_of(events)
        caps = events[0].get("caps") or {}
        uses = [use_of(spans, label, cap) for label, cap in caps.items()]
        caption = "; ".join(
            f"{use.label}: {use.busy_fraction:.0%} of {count(use.cap, 'worker')} busy over {use.seconds:.0f} s"
            for use in uses
            if use.seconds
        )
        title = f"Command of {moment(events[0].get('time', ''))}"
        yield TimelinePart(title, caption, figures.timeline_figure(events))
