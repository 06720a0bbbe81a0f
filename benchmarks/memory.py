"""Memory of controller and workers over many trials: `python benchmarks/memory.py FOLDER [--trials 1000]`.

Short trials of SGLD, MCLMC and VI on a quadratic with an exact reference, on two real local pools. Every second the
resident memory of the controller and of each worker is read, and how many trials have ended. Prints the memory after a
fifth of the trials and at the end, megabytes per thousand trials in between by least squares, and writes `memory.json`
and `memory.png`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import psutil
import yaml

mpl.use("agg")
import matplotlib.pyplot as plt

PERIOD = 1.0  # seconds
JAX_MB = 150.0  # a process with less has no JAX: what workers share, not a worker
SPACES = {
    "sgld": {"eta0": {"dist": "float", "low": 1e-4, "high": 1e-3, "log": True}},
    "mclmc": {"step_size": {"dist": "float", "low": 0.05, "high": 0.3, "log": True}},
    "vi": {"lr": {"dist": "float", "low": 1e-3, "high": 5e-2, "log": True}},
}
STEPS = {"sgld": 500, "mclmc": 100, "vi": 300}


def study(num_trials: int) -> dict[str, Any]:
    """A study of so many trials in all, each as short as its set-up."""
    return {
        "problems": [{"target": "quadratic", "seed": 3, "overrides": {"dim": 20, "num_data": 500}}],
        "methods": list(SPACES),
        "optuna": {
            "max_trials_per_method": -(-num_trials // len(SPACES)),
            "concurrency": {"batch_size": 4},
            "sampler": {"type": "random"},
            "pruner": {"type": "none"},
            "enqueue": {method: [] for method in SPACES},
            "max_failed_fraction": 1,
        },
        "search_space": SPACES,
        "samplers": {method: {"steps": steps} for method, steps in STEPS.items()},
        "reference": "exact",
        "execution": {"budget": {"hmc_sec": 60, "trial_sec": 60}},
    }


def observe(folder: Path) -> list[dict[str, Any]]:
    """Run the study in `folder`, and read memory until it ends."""
    command = [sys.executable, "-m", "lambda_hat", "workflow", "optuna", "--config", "study.yaml", "--local", "-q"]
    rows: list[dict[str, Any]] = []
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        controller, start = psutil.Process(process.pid), time.monotonic()
        while process.poll() is None:
            row: dict[str, Any] = {"seconds": time.monotonic() - start, "trials": num_ended(folder)}
            with suppress(psutil.NoSuchProcess):
                row["controller"] = controller.memory_info().rss / 1e6
                row["workers"] = dict(workers(folder))
                rows.append(row)
            time.sleep(PERIOD)
    if process.returncode:
        sys.exit((folder / "log").read_text(encoding="utf-8"))
    return rows


def workers(folder: Path) -> Iterator[tuple[str, float]]:
    """Process id and megabytes of all that the managers of this run have started."""
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = " ".join(process.cmdline())
            if "lambda_hat.execution.parsl.manager" in words and str(folder) in words and "bash" not in process.name():
                for child in process.children(recursive=True):
                    yield str(child.pid), child.memory_info().rss / 1e6


def num_ended(folder: Path) -> int:
    """Trials that have ended, by the log of events."""
    events = folder / "runs" / "optuna" / "v1" / "meta" / "events.jsonl"
    if not events.is_file():
        return 0
    return sum('"kind":"done"' in line and ":" in line for line in events.read_text(encoding="utf-8").splitlines())


def series(rows: list[dict[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(trials, megabytes) by process."""
    found = {"controller": [(row["trials"], row["controller"]) for row in rows]}
    for row in rows:
        for pid, megabytes in row["workers"].items():
            found.setdefault(f"worker {pid}", []).append((row["trials"], megabytes))
    arrays = {name: np.asarray(points, float).T for name, points in found.items() if len(points) > 5}
    return {name: (trials, mb) for name, (trials, mb) in arrays.items() if name == "controller" or mb.max() > JAX_MB}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=1000)
    options = parser.parse_args()
    folder = options.folder.resolve()
    place = folder / "memory"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "study.yaml").write_text(yaml.safe_dump(study(options.trials)), encoding="utf-8")
    rows = observe(place)
    result: dict[str, Any] = {"num_trials": rows[-1]["trials"], "seconds": rows[-1]["seconds"], "processes": {}}
    fig, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    print(f"{rows[-1]['trials']} trials in {rows[-1]['seconds']:.0f} s")
    print("process            MB after a fifth   at the end   MB per 1000 trials")
    for name, (trials, megabytes) in series(rows).items():
        later = trials >= 0.2 * rows[-1]["trials"]
        slope = 1000 * np.polyfit(trials[later], megabytes[later], 1)[0] if later.sum() > 2 else np.nan
        result["processes"][name] = {"first": megabytes[later][0], "last": megabytes[-1], "per_1000": slope}
        print(f"{name:18} {megabytes[later][0]:16.0f} {megabytes[-1]:12.0f} {slope:20.1f}")
        axis.plot(trials, megabytes, label=name)
    axis.set(xlabel="trials that have ended", ylabel="resident memory (MB)", ylim=(0, None))
    axis.legend()
    fig.savefig(folder / "memory.png", dpi=120)
    (folder / "memory.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
