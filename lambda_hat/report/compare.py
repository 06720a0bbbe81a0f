"""Runs side by side: what differs in their configuration, λ, confirmed errors, and what each cost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TextIO

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lambda_hat.draws.criteria import MAX_Z
from lambda_hat.errors import UsageError
from lambda_hat.formatting import MISSING, clock, estimate, listed, number, sentence
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import ConfirmedRow
from lambda_hat.report.overview import problem_verdict
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.summary import UNBOUNDED, counts_text, trials_by_method
from lambda_hat.report.verdict import settings_text

__all__ = ["Comparison", "Line", "Part", "compare", "print_comparison"]

_NOT_SET = "not set"
_PLACES = ("store",)  # where a run lies is no part of what it computes


@dataclass(frozen=True)
class Line:
    """One thing that is compared, and what it is in each run."""

    name: str
    cells: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs are not alike in it."""
        return len(set(self.cells)) > 1


@dataclass(frozen=True)
class Part:
    """Lines under a title, and sentences about them."""

    title: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Runs called A, B, … and what is to be said of them."""

    runs: tuple[tuple[str, str, Path], ...]
    """Letter, state and folder of every run."""
    parts: tuple[Part, ...]

    @property
    def letters(self) -> tuple[str, ...]:
        """What the runs are called."""
        return tuple(letter for letter, _, _ in self.runs)


def compare(runs: Sequence[RunFiles]) -> Comparison:
    """The runs side by side, in the order given.

    Problems with the same id are the same problem. Where no id is shared, problems with the same title stand beside
    each other, and a note says that they differ.

    Raises:
        UsageError: fewer than two runs, one of them twice, or more than 26.
    """
    roots = [run.paths.root for run in runs]
    if len(set(roots)) < len(roots) or not 2 <= len(runs) <= len(ascii_uppercase):
        raise UsageError(f"Give from 2 to {len(ascii_uppercase)} different runs to compare.")
    letters = ascii_uppercase[: len(runs)]
    named = tuple((letter, run.state.word, run.paths.root) for letter, run in zip(letters, runs, strict=True))
    parts = [_configuration(runs), *_problems(runs, letters), _cost(runs), _making(runs)]
    return Comparison(named, tuple(part for part in parts if part.lines or part.notes))


def print_comparison(stream: TextIO, comparison: Comparison) -> None:
    """Print the comparison. On a terminal, lines in which the runs differ are bold, and what is too long is broken."""
    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        console.width = UNBOUNDED
    for letter, state, path in comparison.runs:
        console.print(Text(f"{letter}  {path}  {state}"), soft_wrap=True)
    for part in comparison.parts:
        console.print()
        console.print(Text(part.title, style="bold"))
        if part.lines:
            table = Table(Column("  ", overflow="fold"), box=None, pad_edge=False, padding=(0, 2, 0, 0))
            for letter in comparison.letters:
                table.add_column(letter, overflow="fold")
            for line in part.lines:
                table.add_row(Text(f"  {line.name}"), *map(Text, line.cells), style="bold" if line.differs else "")
            console.print(table)
        for note in part.notes:
            console.print(Text(f"  {note}"))


def _configuration(runs: Sequence[RunFiles]) -> Part:
    values = [dict(_leaves(run.config_values)) for run in runs]
    names = [name for name in dict.fromkeys(name for of in values for name in of) if not name.startswith(_PLACES)]
    lines = (Line(name, tuple(of.get(name, _NOT_SET) for of in values)) for name in names)
    differing = tuple(line for line in lines if line.differs)
    return Part("Configuration", differing, () if differing else ("The configurations do not differ.",))


def _leaves(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys with their values as text. A list of plain values is one value."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, list) and any(isinstance(value, Mapping) for value in values):
        for index, value in enumerate(values):
            yield from _leaves(value, f"{path}.{index}")
    else:
        yield path, values if isinstance(values, str) else json.dumps(values, ensure_ascii=False)


def _problems(runs: Sequence[RunFiles], letters: str) -> Iterator[Part]:
    """A part for every problem of any run."""
    for title, pids in _matched(runs):
        references = [run.references.get(pid) if pid else None for run, pid in zip(runs, pids, strict=True)]
        lines = [*_reference_lines(references)]
        notes = [
            sentence(f"{letter} has no reference: {run.reference_failures[pid].reason}")
            for letter, run, pid in zip(letters, runs, pids, strict=True)
            if pid in run.reference_failures
        ]
        notes += _reference_notes(pids, references, letters)
        winners = [_winners(run, pid) for run, pid in zip(runs, pids, strict=True)]
        names = dict.fromkeys(name for run, pid in zip(runs, pids, strict=True) if pid for name in _names_in(run, pid))
        for name in names:
            lines += _method_lines(name, runs, pids)
            notes += _method_notes(name, [of.get(name) for of in winners], pids, letters)
        yield Part(title, tuple(lines), tuple(notes))


def _matched(runs: Sequence[RunFiles]) -> Iterator[tuple[str, tuple[str | None, ...]]]:
    """Titles of problems with the problem's id in every run: the same id, or else the same title."""
    left = [dict(run.titles) for run in runs]
    for run in runs:
        for pid, title in run.titles.items():
            if not any(pid in of for of in left):
                continue
            ours = [pid if pid in other.titles else None for other in runs]
            for index, of in enumerate(left):
                twins = [twin for twin, name in of.items() if name == title and not _is_shared(twin, runs)]
                if ours[index] is None and len(twins) == 1:
                    ours[index] = twins[0]
            for of, found in zip(left, ours, strict=True):
                of.pop(found or "", None)
            yield title, tuple(ours)


def _is_shared(pid: str, runs: Sequence[RunFiles]) -> bool:
    return sum(pid in run.titles for run in runs) > 1


def _names_in(run: RunFiles, pid: str) -> Iterator[str]:
    yield from trials_by_method(run.rows, pid)
    yield from (row.sampler for row in run.llc_runs if row.pid == pid)


def _winners(run: RunFiles, pid: str | None) -> dict[str, ConfirmedRow]:
    return {row.method: row for row in run.confirmed if row.pid == pid and row.rank == 1}


def _reference_lines(references: Sequence[ReferenceRecord | None]) -> Iterator[Line]:
    def line(name: str, texts: Iterator[str]) -> Line:
        return Line(name, tuple(texts))

    yield line("reference λ", (MISSING if one is None else estimate(one.llc, one.se) for one in references))
    yield line("certified", (MISSING if one is None else "yes" if one.is_certified else "no" for one in references))
    yield line("Laplace", (MISSING if one is None else number(one.laplace_llc) for one in references))
    yield line("γ_loc", (MISSING if one is None else number(one.localization) for one in references))
    yield line("nβ", (MISSING if one is None else number(one.nbeta) for one in references))


def _reference_notes(
    pids: Sequence[str | None], references: Sequence[ReferenceRecord | None], letters: str
) -> Iterator[str]:
    """Whether the λ answer one question, and whether they agree."""
    known = [(letter, pid, one) for letter, pid, one in zip(letters, pids, references, strict=True) if one is not None]
    for (first, pid, one), (second, other_pid, other) in pairwise(known):
        names = {"γ_loc": (one.localization, other.localization), "nβ": (one.nbeta, other.nbeta)}
        if differing := [name for name, (x, y) in names.items() if not _is_close(x, y)]:
            yield f"λ of {first} and {second} answer different questions: {listed(differing)} differ."
        elif pid != other_pid:
            yield f"{first} and {second} are not the same problem: their λ need not agree."
        elif one.llc is not None and other.llc is not None and one.llc != other.llc:
            z = abs(one.llc - other.llc) / (math.hypot(one.se or 0.0, other.se or 0.0) or math.inf)
            verb, times = "agree" if z <= MAX_Z else "disagree", number(z, ".1f", MAX_Z)
            yield f"λ of {first} and {second} {verb}: they are {times} combined standard errors apart."


def _is_close(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and math.isclose(one, other, rel_tol=1e-6))


def _method_lines(name: str, runs: Sequence[RunFiles], pids: Sequence[str | None]) -> Iterator[Line]:
    """Confirmed errors of one method, or of one sampler with fixed settings, and what they are worth."""
    columns = [_method_cells(name, run, pid) for run, pid in zip(runs, pids, strict=True)]
    for what in dict.fromkeys(what for column in columns for what in column):
        yield Line(f"{name} {what}", tuple(column.get(what, MISSING) for column in columns))


def _method_cells(name: str, run: RunFiles, pid: str | None) -> dict[str, str]:
    if pid is None:
        return {}
    verdict = next((one.short for one in problem_verdict(run, pid).methods if one.name == name), MISSING)
    if (row := _winners(run, pid).get(name)) is not None:
        return {
            "rms error": estimate(row.rmse, row.rmse_se),
            "relative": number(row.relative_rmse, ".1%"),
            "gradients": number(row.num_gradient_evaluations, ",.0f"),
            "verdict": verdict,
            "settings": settings_text(row.hyperparameters),
        }
    if (sampled := next((one for one in run.llc_runs if (one.pid, one.sampler) == (pid, name)), None)) is not None:
        return {
            "λ̂": estimate(sampled.llc_hat, sampled.se_hat),
            "error": number(sampled.error, "+.3g"),
            "gradients": number(sampled.num_gradient_evaluations, ",.0f"),
            "verdict": verdict,
        }
    trials = trials_by_method(run.rows, pid).get(name)
    return {"trials": counts_text(trials), "verdict": verdict} if trials else {}


def _method_notes(
    name: str, rows: Sequence[ConfirmedRow | None], pids: Sequence[str | None], letters: str
) -> Iterator[str]:
    """Whether confirmed errors on the same problem differ by more than their own errors."""
    known = [
        (letter, pid, row.rmse, row.rmse_se)
        for letter, pid, row in zip(letters, pids, rows, strict=True)
        if row is not None and row.rmse is not None and row.rmse_se is not None
    ]
    for (first, pid, one, se), (second, other_pid, other, other_se) in pairwise(known):
        if pid != other_pid:
            continue
        if abs(one - other) <= MAX_Z * math.hypot(se, other_se):
            yield f"{name}: the errors of {first} and {second} do not differ within error."
        else:
            yield f"{name}: {first if one < other else second} errs less."


def _cost(runs: Sequence[RunFiles]) -> Part:
    def gradients(run: RunFiles) -> float:
        of_trials = (row.num_gradient_evaluations or 0.0 for row in (*run.rows, *run.llc_runs))
        return sum(of_trials) + sum(one.num_gradient_evaluations or 0.0 for one in run.references.values())

    lines = (
        Line("trials", tuple(counts_text(run.rows) or MISSING for run in runs)),
        Line("gradients, references included", tuple(number(gradients(run), ",.0f") for run in runs)),
        Line(
            "seconds in trials",
            tuple(number(sum(row.total_sec or 0.0 for row in (*run.rows, *run.llc_runs)), ",.0f") for run in runs),
        ),
        Line(
            "seconds in references",
            tuple(number(sum(one.seconds or 0.0 for one in run.references.values()), ",.0f") for run in runs),
        ),
        Line("time of commands", tuple(_time_of_commands(run) for run in runs)),
    )
    return Part("Cost", lines)


def _time_of_commands(run: RunFiles) -> str:
    ended = [command.end.at for command in run.commands if command.end is not None]
    return clock(sum(ended)) if ended else MISSING


def _making(runs: Sequence[RunFiles]) -> Part:
    """Versions and machines in which the runs differ."""
    made = [list(_facts(run)) for run in runs]
    names = dict.fromkeys(name for facts in made for name, _ in facts)
    lines = [
        Line(name, tuple(", ".join(dict.fromkeys(value for key, value in of if key == name)) or MISSING for of in made))
        for name in names
    ]
    return Part("Where they come from", tuple(line for line in lines if line.differs))


def _facts(run: RunFiles) -> Iterator[tuple[str, str]]:
    """Names and values of what made a run, in a fixed order."""
    sources = [*(reference.provenance for reference in run.references.values()), *run.rows, *run.llc_runs]
    for source in sources:
        facts = {"machine": source.host, "device": source.device, **(source.versions or {})}
        yield from ((name.replace("_", " "), value) for name, value in sorted(facts.items()) if value)
