"""Runs of fixed settings as a lane of the scheduler: no search, no pruning, and none of them twice."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lambda_hat.artifacts.paths import PROGRESS_JSONL, Paths
from lambda_hat.config.study import Budget
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.progress import Chunk, read_progress
from lambda_hat.records.state import State
from lambda_hat.scheduling.folders import clear_folder, fail_in, lacks_time, metrics_in, write_manifest
from lambda_hat.scheduling.pace import Ahead, expected_seconds
from lambda_hat.scheduling.scheduler import AnyLane, Task

__all__ = ["FixedLane", "FixedTrial", "fixed_trial"]


@dataclass(frozen=True)
class FixedTrial:
    """What a run's worker is told, and the folder that is named after it."""

    manifest: Manifest
    folder: Path

    @property
    def run_id(self) -> str:
        """`r_` and a hash of the manifest."""
        return self.folder.name

    def ended(self, *, may_fail: bool = False) -> Metrics | None:
        """What it ended with; None where it is missing, lacked time that it has now, or failed and that will not do."""
        metrics = metrics_in(self.folder)
        if metrics is None or (metrics.state is State.FAIL and not may_fail):
            return None
        return None if lacks_time(self.folder, metrics, self.manifest.budget) else metrics


def fixed_trial(
    paths: Paths,
    pid: str,
    name: str,
    *,
    method: str,
    hyperparams: Mapping[str, object],
    settings: Mapping[str, object],
    seed: int,
    trial_sec: float,
    setup_sec: float = Budget().setup_sec,
) -> FixedTrial:
    """The run of `method` with `settings`, of which `hyperparams` were chosen, in the folder `name` of a problem.

    The manifest is that of a trial.
    """
    manifest = Manifest.of(
        pid,
        method,
        hyperparams=hyperparams,
        settings=settings,
        seed=seed,
        trial_sec=trial_sec,
        setup_sec=setup_sec,
    )
    return FixedTrial(manifest, paths.trial_dir(pid, name, manifest.run_id))


class FixedLane:
    """Runs what of `runs` is missing, and knows the metrics of all of them.

    One that failed in an earlier command is missing unless `may_fail`.
    `open_next` gives the lanes that follow once the last has ended.
    """

    def __init__(
        self,
        name: str,
        label: str,
        runs: Sequence[FixedTrial],
        *,
        problem_dir: Path,
        function: Callable[..., Metrics],
        max_in_flight: int | None = None,
        may_fail: bool = False,
        open_next: Callable[[], Sequence[AnyLane]] | None = None,
    ) -> None:
        self.name = name
        self.label = label
        self.runs = tuple({run.run_id: run for run in runs}.values())
        self.max_in_flight = max_in_flight or max(1, len(self.runs))
        self._problem_dir = problem_dir
        self._function = function
        self._open_next = open_next
        ended = {run.run_id: run.ended(may_fail=may_fail) for run in self.runs}
        self._metrics = {rid: metrics for rid, metrics in ended.items() if metrics is not None}
        self._waiting = deque(run for run in self.runs if run.run_id not in self._metrics)
        self._sampling: set[str] = set()  # ids of those that have done a step
        self._running: dict[str, tuple[FixedTrial, int]] = {}  # and the bytes of its progress that were read

    @property
    def is_through(self) -> bool:
        """Whether every run has ended."""
        return len(self._metrics) == len(self.runs)

    @property
    def num_running(self) -> int:
        """Runs in flight."""
        return len(self._running)

    @property
    def num_setting_up(self) -> int:
        """Those in flight that have not sampled yet."""
        return sum(run_id not in self._sampling for run_id in self._running)

    @property
    def ahead(self) -> Ahead:
        """The runs that have not ended."""
        return Ahead(self.label, len(self.runs) - len(self._metrics), expected_seconds(self._metrics.values()))

    @property
    def counts(self) -> Counter[State]:
        """Number of runs by how they ended."""
        return Counter(metrics.state for metrics in self._metrics.values())

    def metrics_of(self, run: FixedTrial) -> Metrics | None:
        """What the run ended with; None while it has not."""
        return self._metrics.get(run.run_id)

    def next_task(self) -> Task[Metrics] | None:
        """The next run that is missing."""
        if not self._waiting:
            return None
        run = self._waiting.popleft()
        write_manifest(run.folder, run.manifest)
        self._running[run.run_id] = run, clear_folder(run.folder)
        args = (str(run.folder), str(self._problem_dir))
        return Task(run.run_id, self._function, args, run.manifest.program)

    def on_progress(self, task: Task[Metrics]) -> bool:
        """Whether the worker has written anything since."""
        run, offset = self._running[task.name]
        lines, offset = read_progress(run.folder / PROGRESS_JSONL, offset)
        self._running[task.name] = run, offset
        if any(isinstance(line, Chunk) for line in lines):
            self._sampling.add(task.name)
        return bool(lines)

    def stored_result(self, task: Task[Metrics]) -> Metrics | None:
        """`metrics.json`, which its worker may have written before it was lost, or ended itself with: out of time."""
        return metrics_in(self._running[task.name][0].folder)

    def on_retry(self, task: Task[Metrics]) -> None:
        """The next worker starts afresh."""

    def on_done(self, task: Task[Metrics], result: Metrics) -> Sequence[AnyLane]:
        """Keep what `metrics.json` says, or the returned values where a shared disk is slow to show it."""
        return self._end(task, metrics_in(self._running[task.name][0].folder) or result)

    def on_error(self, task: Task[Metrics], error: Exception) -> Sequence[AnyLane]:
        """Keep the reason and the traceback in the run's folder."""
        return self._end(task, fail_in(self._running[task.name][0].folder, error))

    def close(self) -> None:
        """Leave runs in flight to the command that resumes."""

    def _end(self, task: Task[Metrics], metrics: Metrics) -> Sequence[AnyLane]:
        del self._running[task.name]
        self._metrics[task.name] = metrics
        return self._open_next() if self.is_through and self._open_next is not None else ()
