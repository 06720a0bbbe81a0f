"""What executors do while they wait for the first reference: compile the programs that its trials will run."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lambda_hat.artifacts.paths import TARGET_NPZ
from lambda_hat.config.methods import program_of
from lambda_hat.config.study import CategoricalDist, Distribution
from lambda_hat.scheduling.scheduler import AnyLane, Task
from lambda_hat.tasks import compile_task, import_task

__all__ = ["CompileLane", "Program", "programs_of_search"]

_MAX_COMBINATIONS = 1000  # of choices that are looked at

Program = tuple[str, dict[str, Any]]  # a method, and settings that run it


def programs_of_search(method: str, settings: Mapping[str, object], space: Mapping[str, Distribution]) -> list[Program]:
    """A setting for each program that a search can run, those of `settings` alone first.

    Programs differ by choices; numbers are the least of their ranges, with which nothing diverges.
    """
    least = {name: spec.choices[0] if isinstance(spec, CategoricalDist) else spec.low for name, spec in space.items()}
    base = {**settings, **least}

    def program(**chosen: object) -> Hashable | None:
        return program_of(method, {**base, **chosen})

    choices = {name: spec.choices for name, spec in space.items() if isinstance(spec, CategoricalDist)}
    choices = {
        name: values for name, values in choices.items() if len({program(**{name: value}) for value in values}) > 1
    }
    found: dict[Hashable, Program] = {}
    for values in itertools.islice(itertools.product(*choices.values()), _MAX_COMBINATIONS):
        chosen = dict(zip(choices, values, strict=True))
        if (key := program(**chosen)) is not None:
            found.setdefault(key, (method, {**base, **chosen}))
    first = program_of(method, dict(settings))
    return [found[key] for key in sorted(found, key=lambda key: key != first)]


class CompileLane:
    """Has every worker of an idle executor import what it needs, then compiles `programs` once the target is there.

    It stops as soon as it `is_wanted` no more; what fails here is a warning, and fails again where it matters.
    """

    def __init__(
        self,
        name: str,
        label: str,
        programs: Sequence[Program],
        *,
        problem_dir: Path,
        num_workers: int,
        seconds: float,
        max_seconds: float,
        is_wanted: Callable[[], bool],
    ) -> None:
        self.name = name
        self.label = label
        self.max_in_flight = num_workers
        self._problem_dir = problem_dir
        self._seconds = seconds
        self._max_seconds = max_seconds
        self._is_wanted = is_wanted
        self._num_to_import = num_workers
        self._numbered = deque(enumerate(programs))

    def next_task(self) -> Task[Any] | None:
        """Importing, once per worker; then a program."""
        if not self._is_wanted():
            return None
        if self._num_to_import:
            self._num_to_import -= 1
            return Task(f"{self.name}:imports {self._num_to_import}", import_task, (), self._max_seconds)
        if not self._numbered or not (self._problem_dir / TARGET_NPZ).is_file():
            return None
        number, (method, settings) = self._numbered.popleft()
        args = (str(self._problem_dir), method, settings, self._seconds)
        return Task(f"{self.name}:{method} {number}", compile_task, args, self._max_seconds)

    def on_progress(self, task: Task[Any]) -> bool:
        """It gives no sign."""
        return False

    def stored_result(self, task: Task[Any]) -> None:
        """It leaves nothing but what the compiler keeps."""
        return

    def on_retry(self, task: Task[Any]) -> None:
        """Nothing to tidy."""

    def on_done(self, task: Task[Any], result: Any) -> Sequence[AnyLane]:
        """Nothing depends on it."""
        return ()

    def on_error(self, task: Task[Any], error: Exception) -> Sequence[AnyLane]:
        """Nothing depends on it."""
        return ()

    def close(self) -> None:
        """Nothing is open."""
