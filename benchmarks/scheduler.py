"""How busy the workers are kept: `python benchmarks/scheduler.py FOLDER [--seconds 1] [--trials 50] [--workers 2]`.

Three methods search on two problems, with the real scheduler, studies (TPE), journal and files, on two real executors
of this machine; a trial sleeps in its worker, so that cores do not matter. The workers are up before the first start.
Prints, per executor, the share of its workers' time between the first start and the last end that a trial was in flight
(from the events of the scheduler) and asleep in a worker (what the round trip costs is left out of this one), and the
longest time that a worker waited beside a trial; then the controller's CPU time per trial, and its share of a core
while it only waits. Writes `scheduler.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import scheduler  # itself, under the name by which workers import its functions

from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, Paths
from lambda_hat.config.card import LocalCard
from lambda_hat.config.study import Concurrency, FloatDist, IntDist, OptunaSection
from lambda_hat.execution.parsl.cluster import Cluster
from lambda_hat.execution.resources import capacity
from lambda_hat.records.event import TaskEvent
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.provenance import Timings
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.state import State
from lambda_hat.report.timeline import spans_of, use_of
from lambda_hat.scheduling.scheduler import Event, Scheduler, Task
from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.tuning.study import StudyStore
from lambda_hat.tuning.trials import TrialLane

ROUTES = {"sgld": "htex32", "vi": "htex32", "mclmc": "htex64"}
LABELS = ("htex64", "htex32")
NUM_PROBLEMS = 2
WAITING_SECONDS = 10.0
SPACE = {
    "eta0": FloatDist(dist="float", low=1e-6, high=1e-1, log=True),
    "gamma": FloatDist(dist="float", low=0.3, high=1.0),
    "steps": IntDist(dist="int", low=5000, high=20000, step=1000),
}


def sleeping_trial(trial_dir: str, problem_dir: str) -> Metrics:
    """A trial that takes as long as its manifest says."""
    del problem_dir
    start = time.monotonic()
    folder = Path(trial_dir)
    settings = Manifest.read(folder / MANIFEST_JSON).settings
    time.sleep(settings["seconds"])
    timings = Timings(total=time.monotonic() - start)
    metrics = Metrics(state=State.COMPLETE, llc_hat=8.0 + settings["gamma"], se_hat=0.1, timings=timings)
    metrics.write(folder / METRICS_JSON)
    return metrics


def sleep(seconds: float) -> float:
    """A task that only takes its time."""
    time.sleep(seconds)
    return seconds


class Waiting:
    """A lane of tasks that sleep for some seconds, one for every worker."""

    max_in_flight = 10**6

    def __init__(self, label: str, num_tasks: int, seconds: float) -> None:
        self.name = f"waiting:{label}"
        self.label = label
        self._tasks = [Task(f"{self.name}:{k}", scheduler.sleep, (seconds,)) for k in range(num_tasks)]

    def next_task(self) -> Task | None:
        return self._tasks.pop() if self._tasks else None

    def on_progress(self, task: Task) -> bool:
        return False

    def stored_result(self, task: Task) -> None:
        return None

    def on_retry(self, task: Task) -> None:
        pass

    def on_done(self, task: Task, result: float) -> Sequence[Any]:
        return ()

    def on_error(self, task: Task, error: Exception) -> Sequence[Any]:
        raise error

    def close(self) -> None:
        pass


def drive(cluster: Cluster, caps: dict[str, int], lanes: Sequence[Any]) -> tuple[list[Event], dict[str, float]]:
    """Run all lanes to their end: the events, and CPU seconds of the scheduler's thread and of the whole process."""
    events: list[Event] = []
    loop = Scheduler(
        lambda task, label: cluster.submit(task.function, *task.args, label=label),
        caps,
        max_retries=0,
        on_event=events.append,
    )
    for lane in lanes:
        loop.add(lane)
    thread, process, wall = time.thread_time(), time.process_time(), time.monotonic()
    loop.run()
    took = {"thread": time.thread_time() - thread, "process": time.process_time() - process}
    return events, {**took, "wall": time.monotonic() - wall}


def waiting(cluster: Cluster, caps: dict[str, int], seconds: float) -> dict[str, float]:
    """What it takes to wait for one task on every worker."""
    return drive(cluster, caps, [Waiting(label, num, seconds) for label, num in caps.items()])[1]


def search(cluster: Cluster, caps: dict[str, int], folder: Path, num_trials: int, seconds: float) -> dict[str, Any]:
    """Three methods on two problems; how busy the workers were, and what the controller took."""
    paths = Paths(folder)
    paths.make_folders()
    batch_size = max(caps.values())
    spec = OptunaSection(max_trials_per_method=num_trials, concurrency=Concurrency(batch_size=batch_size))
    with StudyStore(paths, spec) as store:
        plans = [
            StudyPlan(
                pid=f"p_{number}",
                method=method,
                label=label,
                settings={"seconds": seconds},
                reference=ReferenceRecord(method="hmc", llc=8.0, se=0.01, is_certified=True),
                seed=number,
                num_trials=num_trials,
                trial_sec=600.0,
                function=scheduler.sleeping_trial,
            )
            for number in range(NUM_PROBLEMS)
            for method, label in ROUTES.items()
        ]
        lanes = [TrialLane(store.open(plan.pid, plan.method, SPACE), plan, spec, paths) for plan in plans]
        events, took = drive(cluster, caps, lanes)
        rows = [row for lane in lanes for row in lane.rows()]
    assert all(row.state is State.COMPLETE for row in rows), "a trial failed"
    spans = spans_of(TaskEvent(**asdict(event)) for event in events)
    asleep = dict.fromkeys(LABELS, 0.0)
    for plan, lane in zip(plans, lanes, strict=True):
        for trial in lane.study.trials:
            metrics = Metrics.read(paths.trial_dir(plan.pid, plan.method, str(trial.run_id)) / METRICS_JSON)
            asleep[plan.label] += metrics.timings.total
    executors = []
    for label, cap in caps.items():
        use = use_of(spans, label, cap)
        last_start = max(span.start for span in spans if span.label == label)
        gaps = [to - since for since, to, _ in use.idle if since < last_start]
        executors.append(
            {
                "label": label,
                "workers": cap,
                "max_in_flight": use.max_in_flight,
                "num_trials": sum(span.label == label for span in spans),
                "in_flight": use.busy_fraction,
                "asleep": asleep[label] / (cap * use.seconds),
                "longest_gap": max(gaps, default=0.0),
            }
        )
    return {"executors": executors, "num_trials": len(rows), "controller": took}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0, help="that a trial sleeps")
    parser.add_argument("--trials", type=int, default=50, help="per method and problem")
    parser.add_argument("--workers", type=int, default=2, help="of each executor")
    options = parser.parse_args()
    folder = options.folder.resolve()
    place = folder / "scheduler"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    init = f'export PYTHONPATH="{Path(__file__).resolve().parent}"'
    pools = [{"label": label, "max_workers": options.workers, "worker_init": init} for label in LABELS]
    card = LocalCard.model_validate({"type": "local", "executors": pools})
    caps = capacity(card)
    with Cluster(card, place / "parsl_runinfo") as cluster:
        waiting(cluster, caps, 2.0)  # until every worker is up
        result = search(cluster, caps, place / "run", options.trials, options.seconds)
        idle = waiting(cluster, caps, WAITING_SECONDS)
    result |= {
        "seconds": options.seconds,
        "cpu_ms_per_trial": 1e3 * result["controller"]["thread"] / result["num_trials"],
        "waiting_share_of_a_core": idle["process"] / idle["wall"],
        "load_average": os.getloadavg(),
    }
    (folder / "scheduler.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{result['num_trials']} trials that sleep {options.seconds:g} s")
    print(f"{'executor':10}{'workers':>8}{'trials':>8}{'in flight':>11}{'asleep':>8}{'longest gap':>13}")
    for row in result["executors"]:
        print(f"{row['label']:10}{row['workers']:8}{row['num_trials']:8}{row['in_flight']:11.3f}", end="")
        print(f"{row['asleep']:8.3f}{row['longest_gap']:11.3f} s")
    print(f"controller: {result['cpu_ms_per_trial']:.1f} CPU ms per trial;", end=" ")
    print(f"{result['waiting_share_of_a_core']:.1%} of a core while it waits; load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
