"""What a report says: a run's files as sentences, tables and figures, ready for the template."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml
from markupsafe import Markup

from lambda_hat.formatting import count
from lambda_hat.report.drawing import Picture
from lambda_hat.report.page.confirmed import confirmed_table
from lambda_hat.report.page.origin import TimelinePart, files, moment, provenance, timelines
from lambda_hat.report.page.problem import ProblemPart, problem_part
from lambda_hat.report.page.table import Links, Table, plain_table
from lambda_hat.report.page.trials import (
    MapPart,
    StudyPart,
    failures_table,
    failures_text,
    maps,
    study_part,
    trials_table,
    trials_text,
)
from lambda_hat.report.run_files import RunFiles, RunState
from lambda_hat.report.sweep import sweep_figures

__all__ = ["Page", "PlotPart", "build_page"]


@dataclass(frozen=True)
class PlotPart:
    """An interactive figure."""

    title: str
    html: Markup


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole report."""

    title: str
    subtitle: str
    state: RunState
    next_command: str
    notes: tuple[str, ...]
    problems: tuple[ProblemPart, ...]
    confirmed: Table | None
    across: Table | None
    llc_runs: Table | None
    sweeps: tuple[Picture, ...]
    provenance: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
    config: str
    studies: tuple[StudyPart, ...]
    maps: tuple[MapPart, ...]
    failures: Table
    failures_text: str
    timelines: tuple[TimelinePart, ...]
    trials: Table
    trials_text: str
    plots: tuple[PlotPart, ...] = field(default=())

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Ids and names of the sections that there are."""
        parts = (
            ("verdict", "Verdict", True),
            ("confirmed", "Confirmed", self.confirmed),
            ("across", "Across problems", self.across),
            ("runs", "Runs", self.llc_runs),
            ("interactive", "To look closer", self.plots),
            ("provenance", "Where this comes from", True),
            ("references", "References", True),
            ("studies", "Searches", self.studies),
            ("maps", "Maps of settings", self.maps),
            ("cost", "Accuracy against cost", self.studies),
            ("failures", "Failures", self.failures.rows),
            ("executors", "Executors", self.timelines),
            ("trials", "Trials", self.trials.rows),
        )
        return [(name, title) for name, title, is_there in parts if is_there]


def build_page(run: RunFiles, place: Path) -> Page:
    """All that is known of `run`, for a page in the file `place`."""
    links = Links(run.paths, place.parent)
    last = moment(run.commands[-1].begin.time) if run.commands else ""
    return Page(
        title=f"λ̂ of {run.paths.root.parent.name}{'' if run.state.word == 'finished' else f', {run.state.word}'}",
        subtitle=f"{_size_text(run)}{f', last command of {last}' if last else ''}",
        state=run.state,
        next_command="" if run.state.word in ("finished", "running") else run.next_command,
        notes=tuple(run.missing()),
        problems=tuple(problem_part(run, pid, title, links) for pid, title in run.titles.items()),
        confirmed=confirmed_table(run, links),
        across=plain_table(run.across, run.names) if run.across else None,
        llc_runs=plain_table(run.llc_runs, run.names) if run.llc_runs else None,
        sweeps=tuple(sweep_figures(run)),
        provenance=tuple(provenance(run)),
        files=tuple(files(run.paths, links)),
        config=_config_text(run),
        studies=tuple(study_part(run, pid, method, trials) for (pid, method), trials in run.studies.items()),
        maps=tuple(maps(run)),
        failures=failures_table(run, links),
        failures_text=failures_text(run),
        timelines=tuple(timelines(run)),
        trials=trials_table(run, links),
        trials_text=trials_text(run),
    )


def _config_text(run: RunFiles) -> str:
    values = run.config_values
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100) if values else ""


def _size_text(run: RunFiles) -> str:
    num_methods = len({row.method for row in run.rows})
    parts = [count(len(run.titles), "problem")]
    if run.rows:
        parts += [count(num_methods, "method"), count(len(run.rows), "trial")]
    if run.llc_runs:
        parts.append(count(len(run.llc_runs), "run"))
    return ", ".join(parts)
