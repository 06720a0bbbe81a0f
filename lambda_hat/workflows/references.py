"""The reference of one problem as a lane of the scheduler."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lambda_hat.artifacts.files import (
    drop_link,
    make_dir,
    read_json,
    read_json_lines,
    touch,
    write_json_atomic,
    write_text_atomic,
)
from lambda_hat.artifacts.paths import (
    FAILURE_JSON,
    PROBLEM_YAML,
    PROGRESS_JSONL,
    REFERENCE_FORMAT,
    REFERENCE_JSON,
    Paths,
)
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.problems import Problem
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.errors import RunStateError
from lambda_hat.formatting import estimate
from lambda_hat.scheduling.scheduler import Lane, Task
from lambda_hat.tasks import reference_task

__all__ = ["ReferenceLane", "judge_stored_reference", "stored_reference"]

LOCK = "lock"  # of a problem whose reference is being made


def stored_reference(paths: Paths, pid: str, spec: ReferenceSpec) -> dict[str, Any] | None:
    """What `ref.json` says, if it will do for `spec`; any other is made anew or sampled on.

    One that is not certified will do once trials were judged by it, where `on_uncertified` is `warn`.

    Raises:
        RunStateError: trials were judged by one that is less certain than `spec` asks for.
    """
    return judge_stored_reference(paths, pid, spec)[0]


def judge_stored_reference(paths: Paths, pid: str, spec: ReferenceSpec) -> tuple[dict[str, Any] | None, str]:
    """As `stored_reference`, and in words why what is there will not do."""
    reference = read_json(paths.problem_dir(pid) / REFERENCE_JSON)
    if not reference:
        return None, "there is none"
    if reference.get("format") != REFERENCE_FORMAT:
        return None, "it is of another version of lambda-hat"
    if reference.get("method") != spec.method:
        return None, f"it was made by `{reference.get('method')}`, not `{spec.method}`"
    llc, se = reference.get("llc"), reference.get("se")
    if llc is None or se is None:
        return None, "it has no value"
    is_judged_by = paths.problem_trials_dir(pid).exists()
    if not reference.get("is_certified"):
        is_wanted = spec.on_uncertified == "warn" and is_judged_by
        return reference if is_wanted else None, f"not certified: {'; '.join(reference.get('reasons') or ())}"
    earlier = reference["spec"]
    wanted = [
        name
        for name, is_met in (
            ("max_relative_mcse", se <= spec.max_relative_mcse * abs(llc)),
            ("cross_check", spec.cross_check in (None, earlier["cross_check"])),
        )
        if not is_met
    ]
    names = ", ".join(f"`reference.{name}`" for name in wanted)
    if wanted and paths.references is not None:
        raise RunStateError(
            f"The reference of {pid} in {paths.references} was made with another {names}, and other runs may rely on "
            "it. Restore it, or choose another `store.references`."
        )
    if wanted and is_judged_by:
        raise RunStateError(
            f"The trials of {pid} were judged by a reference with another {names}. "
            "Restore it, or choose another `store.namespace`."
        )
    return (None, f"it was made with another {names}") if wanted else (reference, "")


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
        max_seconds: float,
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
        self._max_seconds = max_seconds
        self._open_studies = open_studies
        self._is_started = False
        self._offset = 0
        self._before: dict[str, Any] | None = None  # ref.json of an earlier command
        from filelock import FileLock  # here, since its import is slow and `--dry-run` needs `stored_reference` alone

        self._lock = FileLock(folder / LOCK, timeout=0)

    def next_task(self) -> Task | None:
        """The reference, once, unless another run is making it in a folder that both share."""
        if self._is_started:
            return None
        self._is_started = True
        make_dir(self._folder)
        touch(self._folder / LOCK)
        try:
            self._lock.acquire()
        except TimeoutError:
            self.state = f"failed: another run is making it in {self._folder}; `--resume` once it is there"
            self.result = {"state": "FAIL", "reason": self.state}
            return None
        self.state = "starting"
        write_text_atomic(self._folder / PROBLEM_YAML, to_yaml(self._problem.to_dict()))
        (self._folder / FAILURE_JSON).unlink(missing_ok=True)
        drop_link(self._folder / PROGRESS_JSONL)
        _, self._offset = read_json_lines(self._folder / PROGRESS_JSONL)
        self._before = read_json(self._folder / REFERENCE_JSON)
        args = (str(self._folder), self._spec.to_dict(), self._hmc_sec)
        return Task(self.name, reference_task, args, self._max_seconds)

    def on_progress(self, task: Task) -> bool:
        """Put the newest line of progress into words."""
        lines, self._offset = read_json_lines(self._folder / PROGRESS_JSONL, self._offset)
        if stages := [line for line in lines if "stage" in line]:
            line = stages[-1]
            self.state = line["stage"]
            if line.get("llc") is not None:
                value = estimate(line["llc"], line["se"])
                self.state += f" {line['seconds']:.0f} s: λ {value}, R̂ {line['rhat'] or 0:.3f}, ESS {line['ess']:.0f}"

        return bool(lines)

    def stored_result(self, task: Task) -> dict[str, Any] | None:
        """The reference that its worker wrote before it was lost, or why it ended itself: out of time."""
        failure = read_json(self._folder / FAILURE_JSON)
        reference = read_json(self._folder / REFERENCE_JSON)
        return failure or (reference if reference != self._before else None)

    def on_retry(self, task: Task) -> None:
        """The next worker goes on from what is stored."""
        self.state = "starting again: its worker was lost"

    def on_done(self, task: Task, result: dict[str, Any]) -> Sequence[Lane]:
        """Take the reference and open its studies, unless it cannot be used."""
        self.result = result
        self._lock.release()
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
        self.result = {
            "state": "FAIL",
            "reason": f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error)),
        }
        write_json_atomic(self._folder / FAILURE_JSON, self.result)
        self.state = f"failed: {error}"
        self._lock.release()
        return ()

    def close(self) -> None:
        """Let others make it."""
        self._lock.release()
