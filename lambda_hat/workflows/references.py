"""The reference of one problem as a lane of the scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lambda_hat.artifacts.files import drop_link, make_dir, touch, write_text_atomic
from lambda_hat.artifacts.paths import FAILURE_JSON, PROBLEM_YAML, PROGRESS_JSONL, REFERENCE_JSON, Paths
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.problems import ProblemSpec
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.errors import RunStateError
from lambda_hat.formatting import estimate, number
from lambda_hat.records.base import FormatError
from lambda_hat.records.progress import TRAINING, Alive, Stage, read_progress
from lambda_hat.records.reference import ReferenceFailure, ReferenceRecord
from lambda_hat.scheduling.scheduler import AnyLane, Task
from lambda_hat.tasks import reference_task

__all__ = ["ReferenceLane", "judge_stored_reference", "stored_reference"]

Result = ReferenceRecord | ReferenceFailure
LOCK = "lock"  # of a problem whose reference is being made


def stored_reference(paths: Paths, pid: str, spec: ReferenceSpec) -> ReferenceRecord | None:
    """What `ref.json` says, if it will do for `spec`; any other is made anew or sampled on.

    One that is not certified will do once trials were judged by it, where `on_uncertified` is `warn`.

    Raises:
        RunStateError: trials were judged by one that is less certain than `spec` asks for.
    """
    return judge_stored_reference(paths, pid, spec)[0]


def judge_stored_reference(paths: Paths, pid: str, spec: ReferenceSpec) -> tuple[ReferenceRecord | None, str]:
    """The stored reference if it will do for `spec`, and else the reason in words; raises as `stored_reference`."""
    try:
        reference = ReferenceRecord.read(paths.problem_dir(pid) / REFERENCE_JSON)
    except FormatError as error:
        if not error.is_older:
            raise
        return None, "it is of another version of lambda-hat"
    if reference is None:
        return None, "there is none"
    if reference.method != spec.method:
        return None, f"it was made by `{reference.method}`, not `{spec.method}`"
    if not spec.is_certifiable:
        return reference, ""
    llc, se = reference.llc, reference.se
    if llc is None or se is None:
        return None, "it has no value"
    is_judged_by = paths.problem_trials_dir(pid).exists()
    if not reference.is_certified:
        is_wanted = spec.on_uncertified == "warn" and is_judged_by
        return reference if is_wanted else None, f"not certified: {'; '.join(reference.reasons)}"
    wanted = [
        name
        for name, is_met in (
            ("max_relative_mcse", se <= spec.max_relative_mcse * abs(llc)),
            ("cross_check", spec.cross_check in (None, reference.spec.cross_check)),
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
        problem: ProblemSpec,
        folder: Path,
        label: str,
        spec: ReferenceSpec,
        hmc_sec: float,
        setup_sec: float,
        open_studies: Callable[[ReferenceRecord], Sequence[AnyLane]],
    ) -> None:
        self.pid = pid
        self.name = f"{pid}:reference"
        self.label = label
        self.state = "waiting"  # in words, for whoever watches
        self.result: Result | None = None
        self._problem = problem
        self._folder = folder
        self._spec = spec
        self._hmc_sec = hmc_sec
        self._setup_sec = setup_sec
        self._open_studies = open_studies
        self._is_started = False
        self._stage: Stage | None = None  # with the figures that are known
        self._is_compiling = False
        self._offset = 0
        self._before: ReferenceRecord | None = None  # ref.json of an earlier command
        from filelock import FileLock  # here, since its import is slow and `--dry-run` needs `stored_reference` alone

        self._lock = FileLock(folder / LOCK, timeout=0)

    def next_task(self) -> Task[Result] | None:
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
            self.result = ReferenceFailure.failed(self.state)
            return None
        self.state = "queued, or starting on a worker"
        write_text_atomic(self._folder / PROBLEM_YAML, to_yaml(self._problem.to_dict()))
        (self._folder / FAILURE_JSON).unlink(missing_ok=True)
        drop_link(self._folder / PROGRESS_JSONL)
        _, self._offset = read_progress(self._folder / PROGRESS_JSONL)
        self._before = ReferenceRecord.read_current(self._folder / REFERENCE_JSON)
        args = (str(self._folder), self._spec, self._hmc_sec, self._setup_sec)
        return Task(self.name, reference_task, args)

    def on_progress(self, task: Task[Result]) -> bool:
        """Put the newest line of progress into words."""
        lines, self._offset = read_progress(self._folder / PROGRESS_JSONL, self._offset)
        if lines:
            self.state = "loading"
        for line in lines:
            if isinstance(line, Stage):
                known = self._stage if line.llc is None and self._stage is not None else line
                self._stage = known.model_copy(update={"stage": line.stage, "seconds": line.seconds})
                self._is_compiling = False
            elif isinstance(line, Alive) and self._stage is not None:
                seconds = line.setup_seconds if self._stage.stage == TRAINING else line.seconds
                self._stage = self._stage.model_copy(update={"seconds": seconds})
                self._is_compiling = line.is_compiling
        if lines and self._stage is not None:
            self.state = _told(self._stage, self._seconds_of(self._stage), is_compiling=self._is_compiling)
        return bool(lines)

    def _seconds_of(self, stage: Stage) -> float:
        """The bound on the seconds of a stage."""
        return self._setup_sec if stage.stage == TRAINING else self._hmc_sec

    def stored_result(self, task: Task[Result]) -> Result | None:
        """The reference that its worker wrote before it was lost, or why it ended itself: out of time."""
        if (failure := ReferenceFailure.read(self._folder / FAILURE_JSON)) is not None:
            return failure
        reference = ReferenceRecord.read_current(self._folder / REFERENCE_JSON)
        return reference if reference != self._before else None

    def on_retry(self, task: Task[Result]) -> None:
        """The next worker goes on from what is stored."""
        self._stage = None
        self.state = "starting again: its worker was lost"

    def on_done(self, task: Task[Result], result: Result) -> Sequence[AnyLane]:
        """Take the reference and open its studies, unless it cannot be used."""
        self.result = result
        self._lock.release()
        if isinstance(result, ReferenceFailure):
            self.state = f"failed: {result.reason}"
            return ()
        if not self._spec.is_certifiable:
            self.state = f"not asked for; Laplace {number(result.laplace_llc)}"
            return self._open_studies(result)
        verdict = "certified" if result.is_certified else "not certified:"
        self.state = f"{verdict} {estimate(result.llc, result.se)}"
        if not result.is_certified and (self._spec.on_uncertified == "fail" or result.llc is None):
            return ()
        return self._open_studies(result)

    def on_error(self, task: Task[Result], error: Exception) -> Sequence[AnyLane]:
        """No reference, no studies."""
        self.result = ReferenceFailure.failed(error)
        self.result.write(self._folder / FAILURE_JSON)
        self.state = f"failed: {error}"
        self._lock.release()
        return ()

    def close(self) -> None:
        """Let others make it."""
        self._lock.release()


def _told(stage: Stage, bound: float, *, is_compiling: bool) -> str:
    """What it is at, and how far: `rounds: λ 1.23 ± 0.02, 7/9 criteria, 31/120 s`."""
    parts = [f"{stage.seconds or 0:.0f}/{bound:g} s"]
    if stage.num_criteria:
        parts.insert(0, f"{stage.num_met or 0}/{stage.num_criteria} criteria")
    if stage.llc is not None:
        parts.insert(0, f"λ {estimate(stage.llc, stage.se)}")
    return f"{stage.stage}{', compiling' if is_compiling else ''}: {', '.join(parts)}"
