"""Networks of one's own, built before anything else: their content names their problems."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.load import LoadedFile
from lambda_hat.config.problems import ProblemSpec, PythonProblem
from lambda_hat.config.problems.kinds.python import file_hash
from lambda_hat.errors import ConfigError, Fault, LambdaHatError
from lambda_hat.records.build import BuildOrder, BuildReport, BuiltProblem, KnownContents

__all__ = ["built", "check_builds", "known_builds", "save_builds"]

LoadedT = TypeVar("LoadedT", bound=LoadedFile)

_LAST_LINES = 20


def built(loaded: LoadedT, tell: Callable[[str], object] = lambda _: None) -> LoadedT:
    """The file with the content of every network of one's own: each is built, by a process that ends with it.

    Raises:
        ConfigError: what a function does wrong, or two problems of the same content, with the lines of their entries.
    """
    todo = [problem for problem in loaded.problems if isinstance(problem, PythonProblem) and not problem.is_built]
    if not todo:
        return loaded
    noun = f"{len(todo)} networks" if len(todo) > 1 else "the network"
    tell(f"Building {noun} of {', '.join(dict.fromkeys(problem.build for problem in todo))}.")
    reports = _carried_out(loaded, is_called=True)
    problems = tuple(
        problem if report is None else _named(problem, report)
        for problem, report in zip(loaded.problems, reports, strict=True)
    )
    _refuse_twins(loaded, problems)
    return replace(loaded, problems=problems)


def check_builds(loaded: LoadedFile) -> list[Fault]:
    """Faults of the functions, whose files are imported; no function is called."""
    if all(not isinstance(problem, PythonProblem) or problem.is_built for problem in loaded.problems):
        return []
    try:
        _carried_out(loaded, is_called=False)
    except ConfigError as error:
        return list(error.faults)
    return []


def known_builds(loaded: LoadedT) -> LoadedT:
    """The file with what the last command of its run built, where neither sources nor named files have changed."""
    if not any(isinstance(problem, PythonProblem) and not problem.is_built for problem in loaded.problems):
        return loaded
    known = KnownContents.read(Paths.from_store(loaded.sections.store).built) or KnownContents()
    problems = (
        _named(problem, report)
        if isinstance(problem, PythonProblem)
        and not problem.is_built
        and (report := known.problems.get(_declaration(problem))) is not None
        and _is_current(problem, report)
        else problem
        for problem in loaded.problems
    )
    return replace(loaded, problems=tuple(problems))


def save_builds(paths: Paths, loaded: LoadedFile) -> None:
    """Keep what was built for the dry runs of this run."""
    found = {
        _declaration(problem): BuiltProblem(
            content=problem.content, sources=problem.sources, sketch=problem.sketch, files=problem.named_files()
        )
        for problem in loaded.problems
        if isinstance(problem, PythonProblem)
    }
    if found:
        KnownContents(problems=found).write(paths.built)


def _is_current(problem: PythonProblem, report: BuiltProblem) -> bool:
    """Whether all files are as they were; of a module nobody can say where it lies without importing it."""
    if problem.folder is None or problem.named_files() != dict(report.files):
        return False
    paths = {problem.folder / place: known for place, known in report.sources.items()}
    return all(path.is_file() and file_hash(path) == known for path, known in paths.items())


def _declaration(problem: PythonProblem) -> str:
    """The id of the problem as the file has it, whatever its function gives."""
    return problem_id(problem.model_copy(update={"content": "", "sources": {}, "sketch": ()}).identity())


def _named(problem: Any, report: BuiltProblem) -> PythonProblem:
    found = {"content": report.content, "sources": dict(report.sources), "sketch": report.sketch}
    return problem.model_copy(update=found)


def _carried_out(loaded: LoadedFile, *, is_called: bool) -> Sequence[BuiltProblem | None]:
    """What has become of each problem; None for those that nobody has to build.

    Raises:
        ConfigError: with every fault, by the line of its entry.
    """
    problems = {index: problem for index, problem in enumerate(loaded.problems) if isinstance(problem, PythonProblem)}
    reports: list[BuiltProblem | None] = [None] * len(loaded.problems)
    found = _run(list(problems.values()), loaded.sections.execution.budget.setup_sec, is_called=is_called)
    for index, report in zip(problems, found, strict=False):  # a process that ended early leaves fewer
        reports[index] = report
    if faults := [
        _fault(loaded, index, report.fault) for index, report in enumerate(reports) if report and report.fault
    ]:
        raise ConfigError(list(dict.fromkeys(faults)))
    return reports


def _fault(loaded: LoadedFile, index: int, message: str) -> Fault:
    return loaded.locate(Fault(key=f"{loaded.entries_name}.{loaded.places[index]}.build", message=message))


def _run(problems: Sequence[PythonProblem], setup_sec: float, *, is_called: bool) -> Sequence[BuiltProblem]:
    """The report of a process that builds the problems, on the CPU; its end is a fault of the one that it was at."""
    order = BuildOrder(problems=tuple(problem.to_dict() for problem in problems), is_called=is_called)
    with tempfile.TemporaryDirectory(prefix="lambda-hat-build-") as folder:
        paths = [Path(folder) / name for name in ("order.json", "report.json")]
        order.write(paths[0])
        # -P: what only the present folder has, workers would not find.
        words = [sys.executable, "-P", "-X", "faulthandler", "-m", "lambda_hat.tasks.build", *map(str, paths)]
        limit = setup_sec * len(problems)
        try:
            done = subprocess.run(
                words,
                env=os.environ | {"JAX_PLATFORMS": "cpu"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            report = BuildReport.read(paths[1])
            last = f" It was at {problems[len(report.problems)].call}." if report is not None else ""
            raise LambdaHatError(
                f"Building took more than {limit:g} s, which `execution.budget.setup_sec` allows.{last}"
            ).advising(f"execution.budget.setup_sec={2 * setup_sec:g}") from error
        report = BuildReport.read(paths[1])
    end = f"{_end_in_words(done.returncode)}{_last_lines(done.stderr)}"
    if report is None:
        raise LambdaHatError(f"The process that builds networks {end}")
    if len(report.problems) == len(problems):
        return report.problems
    fault = f"{problems[len(report.problems)].call} ended the process that builds it, which {end}"
    return [*report.problems, BuiltProblem(fault=fault)]


def _end_in_words(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}."
    names = {int(number): number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}."


def _last_lines(text: str) -> str:
    """What the process wrote last, without the list of libraries that a crash of Python ends with."""
    lines = [line for line in text.splitlines() if line and not line.startswith("Extension modules:")]
    return "".join(f"\n    {line}" for line in lines[-_LAST_LINES:])


def _refuse_twins(loaded: LoadedFile, problems: Sequence[ProblemSpec]) -> None:
    titles = [entry.title for entry in loaded.sections.entries]
    first: dict[str, int] = {}
    faults = []
    for index, problem in enumerate(problems):
        pid = problem_id(problem.identity())
        other = first.setdefault(pid, index)
        if other != index:
            message = f"{titles[index]} builds the same network on the same data as {titles[other]}."
            faults.append(replace(_fault(loaded, index, message), hint="Remove one of the two."))
    if faults:
        raise ConfigError(faults)
