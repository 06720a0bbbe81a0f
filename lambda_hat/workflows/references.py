"""The reference of one problem as a lane of the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lambda_hat.artifacts.files import read_json, read_json_lines, write_text_atomic
from lambda_hat.artifacts.paths import PROBLEM_YAML, PROGRESS_JSONL, REFERENCE_JSON
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.problems import Problem
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.numbers import estimate
from lambda_hat.tasks import reference_task
from lambda_hat.tuning.scheduler import Lane, Task

__all__ = ["ReferenceLane", "stored_reference"]


def stored_reference(folder: Path, method: str) -> dict[str, Any] | None:
    """What `ref.json` says, if it is certified and of this method (`hmc`, `exact`); any other is made anew."""
    reference = read_json(folder / REFERENCE_JSON)
    if not reference or reference.get("method", "hmc") != method:
        return None
    return reference if reference.get("is_certified") else None


class ReferenceLane:
    """One task: train, sample, certify. When it is there, `open_studies` gives the lanes that depend on it."""

    max_in_flight = 1

    def __init__(
        self,
        pid: str,
        problem: Problem,
        folder: Path,
        label: str,
        spec: ReferenceSpec,
        hmc_sec: float,
        open_studies: Callable[[dict[str, Any]], Sequence[Lane]],
    ) -> None:
        self.pid = pid
        self.name = f"{pid}:reference"
        self.label = label
        self.state = "waiting"  # in words, for whoever watches
        self.result: dict[str, Any] | None = None
        self._problem = problem
        self._folder = folder
        self._spec = spec
        self._hmc_sec = hmc_sec
        self._open_studies = open_studies
        self._is_started = False
        self._offset = 0

    def next_task(self) -> Task | None:
        """The reference, once."""
        if self._is_started:
            return None
        self._is_started = True
        self.state = "starting"
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text_atomic(self._folder / PROBLEM_YAML, to_yaml(self._problem.to_dict()))
        (self._folder / PROGRESS_JSONL).unlink(missing_ok=True)
        args = (str(self._folder), self._spec.to_dict(), self._hmc_sec)
        return Task(name=self.name, function=reference_task, args=args)

    def on_progress(self, task: Task) -> None:
        """Put the newest line of progress into words."""
        lines, self._offset = read_json_lines(self._folder / PROGRESS_JSONL, self._offset)
        if lines := [line for line in lines if "event" not in line]:
            line = lines[-1]
            self.state = line["stage"]
            if line.get("llc") is not None:
                value = estimate(line["llc"], line["se"])
                self.state += f" {line['seconds']:.0f} s: λ {value}, R̂ {line['rhat'] or 0:.3f}, ESS {line['ess']:.0f}"

    def on_retry(self, task: Task) -> None:
        """The next attempt writes its progress from the start."""
        self._offset = 0
        self.state = "starting again: its worker was lost"

    def on_done(self, task: Task, result: dict[str, Any]) -> Sequence[Lane]:
        """Take the reference and open its studies, unless it cannot be used."""
        self.result = result
        if result["state"] == "FAIL":
            self.state = f"failed: {result['reason']}"
            return ()
        verdict = "certified" if result["is_certified"] else "not certified:"
        self.state = f"{verdict} {estimate(result['llc'], result['se'])}"
        if not result["is_certified"] and (self._spec.on_uncertified == "fail" or result["llc"] is None):
            return ()
        return self._open_studies(result)

    def on_error(self, task: Task, error: Exception) -> Sequence[Lane]:
        """No reference, no studies."""
        self.result = {"state": "FAIL", "reason": f"{type(error).__name__}: {error}"}
        self.state = f"failed: {error}"
        return ()

    def close(self) -> None:
        """Nothing is held."""
