"""The controller alone, at any scale: `python benchmarks/scaling.py FOLDER [--case NAME] [--profile] [--growth]`.

The real scheduler, lanes, studies, journal and files, with a fake clock and a fake backend: workers take a lognormal
time (mean 60 s), append a line of progress each tenth of it, and leave `metrics.json`. What the controller computes is
real time; what it waits for is not. Prints, per stretch of trials, CPU and wall milliseconds of the controller per
trial, how many workers that could keep busy, and memory and journal so far; in the end what asks, polls and pickles
took. A FOLDER in memory, such as one in `/dev/shm`, shows what is left without the disk. `--growth` runs no case: it
prints what single operations take in a study that has so many trials.
"""

from __future__ import annotations

import argparse
import cProfile
import heapq
import itertools
import json
import os
import pstats
import random
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.samplers import RandomSampler

from lambda_hat.artifacts.files import append_json_line
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, PROGRESS_JSONL, Paths
from lambda_hat.config.study import (
    CategoricalDist,
    Concurrency,
    FloatDist,
    IntDist,
    OptunaSection,
    PrunerSpec,
    SearchAlgorithm,
)
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.scheduling import scheduler as scheduler_module
from lambda_hat.scheduling.scheduler import Scheduler, Task
from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.tuning.study import StudyStore, TuningStudy
from lambda_hat.tuning.trials import TrialLane

SPACE = {
    "eta0": FloatDist(dist="float", low=1e-6, high=1e-1, log=True),
    "gamma": FloatDist(dist="float", low=0.3, high=1.0),
    "batch": CategoricalDist(dist="categorical", choices=(32, 64, 128, 256)),
    "steps": IntDist(dist="int", low=5000, high=20000, step=1000),
}
MEAN_SECONDS, SPREAD = 60.0, 0.5
SIZES = (500, 1000, 2000, 4000, 8000)  # trials
NUMBERS = [
    *("se_hat", "rhat", "rhat_loss", "rhat_distance", "ess_bulk", "ess_tail", "predicted_bias"),
    "num_gradient_evaluations",
]
COUNTS = ["num_draws", "num_steps_done", "pid"]
WORDS = ["started", "finished", "dtype", "host", "executor_label", "device"]
PACKAGES = ["lambda-hat", "jax", "jaxlib", "blackjax", "optax", "arviz", "numpy"]


@dataclass(frozen=True)
class Case:
    """So many studies of so many trials each, searched for by one algorithm."""

    num_studies: int
    num_trials: int
    algorithm: str = "tpe"
    pruner: str = "median"
    num_workers: int = 1000


CASES = {
    "tpe 2 x 30": Case(2, 30, num_workers=10),
    "tpe 1 x 1000": Case(1, 1000, num_workers=50),
    "tpe 1 x 4000": Case(1, 4000, num_workers=50),
    "tpe 1 x 10000": Case(1, 10_000, num_workers=50),
    "random 1 x 4000": Case(1, 4000, "random", num_workers=50),
    "tpe 100 x 100": Case(100, 100),
    "random 100 x 1000": Case(100, 1000, "random", "none"),
    "random 10 x 10000": Case(10, 10_000, "random", "none"),
}


@dataclass
class Stopwatch:
    """CPU and wall seconds of this process within its `with` blocks."""

    calls: int = 0
    cpu: float = 0.0
    wall: float = 0.0
    longest_cpu: float = 0.0
    since: tuple[float, float] = (0.0, 0.0)

    def __enter__(self) -> None:
        self.since = (time.process_time(), time.perf_counter())

    def __exit__(self, *_: object) -> None:
        cpu = time.process_time() - self.since[0]
        self.calls += 1
        self.cpu += cpu
        self.wall += time.perf_counter() - self.since[1]
        self.longest_cpu = max(self.longest_cpu, cpu)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return timed


@dataclass
class Simulation:
    """A clock that jumps, and workers that end when it gets there."""

    now: float = 0.0
    random: random.Random = field(default_factory=lambda: random.Random(0))
    running: list[tuple[float, int, Future[dict[str, Any]], Path]] = field(default_factory=list)
    steps: list[tuple[float, int, Path, int]] = field(default_factory=list)  # progress to come
    counter: Iterator[int] = field(default_factory=itertools.count)
    backend: Stopwatch = field(default_factory=Stopwatch)  # the fake workers, which are not the controller

    def submit(self, task: Task, label: str) -> Future[dict[str, Any]]:
        del label
        future: Future[dict[str, Any]] = Future()
        seconds = MEAN_SECONDS * self.random.lognormvariate(-(SPREAD**2) / 2, SPREAD)
        folder = Path(task.args[0])
        heapq.heappush(self.running, (self.now + seconds, next(self.counter), future, folder))
        for tenth in range(1, 10):
            heapq.heappush(self.steps, (self.now + seconds * tenth / 10, next(self.counter), folder, tenth))
        return future

    def advance(self, timeout: float) -> None:
        """Let `timeout` pass, or less if a task ends before."""
        with self.backend:
            self._advance(timeout)

    def _advance(self, timeout: float) -> None:
        self.now = min(self.now + timeout, self.running[0][0]) if self.running else self.now
        while self.steps and self.steps[0][0] <= self.now:
            _, _, folder, tenth = heapq.heappop(self.steps)
            append_json_line(folder / PROGRESS_JSONL, {"step": tenth, "fraction": tenth / 10, "llc_hat": 8.0})
        while self.running and self.running[0][0] <= self.now:
            _, _, future, folder = heapq.heappop(self.running)
            settings = Manifest.read(folder / MANIFEST_JSON).settings
            metrics = metrics_of(8.0 + settings["gamma"], self.random)
            metrics.write(folder / METRICS_JSON)
            future.set_result(metrics)


def metrics_of(llc_hat: float, source: random.Random) -> Metrics:
    """As much as a real trial leaves: the controller keeps it in memory."""
    return Metrics.model_validate(
        {
            "state": "COMPLETE",
            "reason": "",
            "llc_hat": llc_hat,
            **{name: 1.0 + 1e-3 * source.random() for name in NUMBERS},
            **{name: source.randrange(10**6) for name in COUNTS},
            **dict.fromkeys(WORDS, "2026-11-25T06:44:16.711+00:00"),
            "timings": {name: source.random() for name in ("load", "compile", "sample", "total")},
            "versions": dict.fromkeys(PACKAGES, "1.2.3"),
        }
    )


def simulate(case: Case, folder: Path, is_profiled: bool) -> dict[str, Any]:
    """Run one case, and print a row of (trials so far, CPU ms, wall ms, workers) per stretch of trials."""
    simulation = Simulation()
    wait = Scheduler._wait

    def wait_by_hand(scheduler: Scheduler, timeout: float) -> Iterator[tuple[Future[dict[str, Any]], float]]:
        if timeout > 0:
            simulation.advance(timeout)
        return wait(scheduler, 1e-9)

    class Clock:
        monotonic = staticmethod(lambda: simulation.now)

    asks, polls, pickles = Stopwatch(), Stopwatch(), Stopwatch()
    Scheduler._wait = wait_by_hand
    Scheduler.poll = polls.around(Scheduler.poll)
    TuningStudy.ask = asks.around(TuningStudy.ask)
    TuningStudy.save_pickle = pickles.around(TuningStudy.save_pickle)
    scheduler_module.time = Clock  # pyright: ignore[reportAttributeAccessIssue]
    paths = Paths(folder)
    paths.make_folders()
    spec = OptunaSection(
        max_trials_per_method=case.num_trials,
        concurrency=Concurrency(batch_size=max(1, case.num_workers // case.num_studies)),
        sampler=SearchAlgorithm.model_validate({"type": case.algorithm}),
        pruner=PrunerSpec.model_validate({"type": case.pruner}),
    )
    total = case.num_studies * case.num_trials
    rows: list[dict[str, float]] = []
    marks = {max(1, total * k // 10) for k in range(1, 11)}
    state = {"done": 0, "cpu": 0.0, "wall": 0.0, "since": 0}
    start = (time.process_time(), time.perf_counter())

    def on_event(event: Any) -> None:
        if event.kind != "done":
            return
        state["done"] += 1
        if state["done"] in marks:
            cpu = time.process_time() - start[0] - simulation.backend.cpu
            wall = time.perf_counter() - start[1] - simulation.backend.wall
            num = state["done"] - state["since"]
            row = {
                "trials": state["done"],
                "cpu_ms": 1e3 * (cpu - state["cpu"]) / num,
                "wall_ms": 1e3 * (wall - state["wall"]) / num,
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
                "journal_mb": paths.journal.stat().st_size / 1e6,
                "load_average": os.getloadavg()[0],
            }
            rows.append(row)
            workers = 1e3 * MEAN_SECONDS / row["wall_ms"]
            print(f"{row['trials']:8.0f}{row['cpu_ms']:9.2f}{row['wall_ms']:9.2f}{workers:9.0f}", end="")
            print(f"{row['memory_mb']:8.0f}{row['journal_mb']:9.1f}{row['load_average']:7.1f}", flush=True)
            state.update(cpu=cpu, wall=wall, since=state["done"])

    profile = cProfile.Profile()
    with StudyStore(paths, spec) as store:
        scheduler = Scheduler(
            simulation.submit, {"htex32": case.num_workers}, 0, on_event=on_event,
            on_poll=lambda: [lane.study.best for lane in lanes] and None,
        )  # fmt: skip
        lanes = []
        for number in range(case.num_studies):
            plan = StudyPlan(
                pid=f"p_{number:012d}",
                method="sgld",
                label="htex32",
                settings={},
                reference=ReferenceRecord(method="hmc", llc=8.0, se=0.01, is_certified=True),
                seed=number,
                num_trials=case.num_trials,
                trial_sec=600.0,
                function=Metrics.failed,
            )
            lanes.append(TrialLane(store.open(plan.pid, "sgld", SPACE), plan, spec, paths))
            scheduler.add(lanes[-1])
        if is_profiled:
            profile.enable()
        scheduler.run()
        profile.disable()
    stats: Any = pstats.Stats(profile).stats if is_profiled else {}  # pyright: ignore[reportAttributeAccessIssue]
    parts = ((f"{Path(key[0]).name}:{key[2]}", value[3]) for key, value in stats.items())
    slowest = sorted(parts, key=lambda pair: -pair[1])
    return {
        "rows": rows,
        "num_trials": total,
        "simulated_hours": simulation.now / 3600,
        "parts": {
            name: {"calls": part.calls, "cpu": part.cpu, "wall": part.wall, "longest_cpu": part.longest_cpu}
            for name, part in (("ask", asks), ("poll", polls), ("pickle", pickles), ("workers", simulation.backend))
        },
        "slowest": slowest[:40],
    }


def growth(folder: Path, sizes: tuple[int, ...]) -> list[dict[str, float]]:
    """CPU milliseconds of TPE's ask, the median pruner per report, a tell and a pickle, by number of trials."""
    source = random.Random(0)
    spec = OptunaSection(max_trials_per_method=2 * sizes[-1])
    paths = Paths(folder)
    paths.make_folders()
    rows: list[dict[str, float]] = []
    print("  trials     ask   prune    tell  pickle  CPU ms", flush=True)
    with StudyStore(paths, spec) as store:
        study = store.open("p_0", "sgld", SPACE)
        tpe, study._study.sampler = study._study.sampler, RandomSampler(seed=0)
        for size in sizes:
            while study.num_asked < size:
                number = study.ask().number
                for tenth in range(1, 10):
                    study.report(number, tenth, source.random())
                study.tell_complete(number, source.random())
            random_search, study._study.sampler = study._study.sampler, tpe
            first = study.ask().number  # which imports
            study.report(first, 5, source.random())
            study.should_prune(first)
            watches = {name: Stopwatch() for name in ("ask", "prune", "tell", "pickle")}
            for _ in range(20):
                with watches["ask"]:
                    number = study.ask().number
                study.report(number, 5, source.random())
                with watches["prune"]:
                    study.should_prune(number)
                with watches["tell"]:
                    study.tell_complete(number, source.random())
            with watches["pickle"]:
                study.save_pickle()
            study._study.sampler = random_search
            rows.append({"trials": size, **{name: 1e3 * watch.cpu / watch.calls for name, watch in watches.items()}})
            print(f"{size:8}" + "".join(f"{rows[-1][name]:8.2f}" for name in watches), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--case", choices=CASES, default="tpe 1 x 1000")
    parser.add_argument("--profile", action="store_true", help="slower by half")
    parser.add_argument("--growth", action="store_true", help="single operations instead of a case")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if options.growth:
        place = folder / "growth"
        shutil.rmtree(place, ignore_errors=True)
        rows = growth(place, SIZES)
        (folder / "growth.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        return
    case = CASES[options.case]
    place = folder / options.case.replace(" ", "_")
    shutil.rmtree(place, ignore_errors=True)
    print(f"{options.case}: {case.num_studies * case.num_trials} trials, {case.num_workers} workers", flush=True)
    print("  trials   CPU ms       ms  workers      MB  journal   load", flush=True)
    result = simulate(case, place, options.profile)
    (folder / f"{place.name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, part in result["parts"].items():
        each, longest = 1e3 * part["cpu"] / part["calls"], 1e3 * part["longest_cpu"]
        print(f"{name:8}{part['calls']:7} x {each:.2f} CPU ms, longest {longest:.0f}; {part['wall']:.1f} s in all")
    for what, seconds in result["slowest"]:
        print(f"    {seconds:8.1f} s  {what}")


if __name__ == "__main__":
    main()
