"""From the command to the first trial, and what too many workers cost: `python benchmarks/startup.py FOLDER`.

First the quick start's study runs once, so that references and compiled programs are there. Then, by turns, it is asked
for one trial more per method, on pools of the size that `auto` gives and on others: seconds from the start of the
process to the first trial that a worker has begun, and to the end. Then whole searches without a reference, on each
size of pools: trials per minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

SIZES = {"auto": ("auto", "auto"), "2 + 6": (2, 6)}


def run(folder: Path, name: str, sizes: tuple[Any, Any], num_trials: int) -> tuple[float, float]:
    """Seconds to the first trial that this command began, and to its end."""
    words = ["--local", "--resume", "--set", f"store.root={folder}", "--set", f"store.namespace={name}", "-q"]
    words += ["--set", f"optuna.max_trials_per_method={num_trials}", "--set", "confirm.top_k=0"]
    for index, size in enumerate(sizes):
        words += ["--set", f"executors.{index}.max_workers={size}"]
    command = [sys.executable, "-m", "lambda_hat", "workflow", "optuna", "--config", "config/optuna/quickstart.yaml"]
    start, wall = time.time(), time.monotonic()
    subprocess.run([*command, *words], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - wall
    begun = []
    for path in (folder / name / "v1" / "trials").glob("*/*/*/progress.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event.get("event") == "started" and (at := datetime.fromisoformat(event["time"]).timestamp()) > start:
                begun.append(at - start)
    return min(begun), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=24, help="per method, of the whole searches")
    options = parser.parse_args()
    folder = options.folder.resolve()
    rows = []
    for name, sizes in SIZES.items():
        namespace = name.replace(" ", "").replace("+", "and")
        _, seconds = run(folder, namespace, sizes, 1)
        print(f"{name:6}: first run with its reference and compilation {seconds:.1f} s", flush=True)
    for repeat in range(options.repeats):
        for name, sizes in SIZES.items():
            first, seconds = run(folder, name.replace(" ", "").replace("+", "and"), sizes, 2 + repeat)
            rows.append({"workers": name, "first_trial": first, "all": seconds})
    result: dict[str, Any] = {"warm": rows, "searches": {}}
    for name, sizes in SIZES.items():
        first, seconds = run(folder, name.replace(" ", "").replace("+", "and"), sizes, options.trials)
        num = 3 * (options.trials - options.repeats - 1)
        result["searches"][name] = {"trials": num, "seconds": seconds - first}
        of = [row["first_trial"] for row in rows if row["workers"] == name]
        print(f"{name:6}: first trial after {statistics.median(of):.1f} s (median of {len(of)});", end=" ")
        print(f"{num} trials in {seconds - first:.1f} s, {60 * num / (seconds - first):.0f} per minute", flush=True)
    (folder / "startup.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
