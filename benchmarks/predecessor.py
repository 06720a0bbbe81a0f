"""Whole trials against the program of the same name by danmackinlay: `python benchmarks/predecessor.py FOLDER COMMAND`.

COMMAND is its `lambda-hat` (revision of November 2025), in an environment of its own. There a trial is a process, which
trains and compiles; here it is what a worker does once its kernels are compiled. Both run their small network (45
parameters, 100 rows) with the settings of its `sampler=fast`: two chains, SGLD with 600 steps on 32 rows, HMC with 50 +
100 draws of 5 leapfrog steps, MCLMC with 100 draws. Prints wall seconds there (of the process, and of its sampler
alone, by its log) and here; writes FOLDER/predecessor.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1")

from warm import make_problem, run_trial

from lambda_hat.config.problems import ProblemEntry
from lambda_hat.config.resolve import resolve_problem

# Of its 150 draws a third is warm-up.
SETTINGS: dict[str, dict[str, Any]] = {
    "sgld": {"num_chains": 2, "steps": 600, "batch": 32, "eta0": 1e-6},
    "hmc": {"num_chains": 2, "steps": 150, "num_integration_steps": 5, "burn_in_fraction": 1 / 3},
    "mclmc": {"num_chains": 2, "steps": 150, "burn_in_fraction": 1 / 3},
}
OVERRIDES = ("model=small", "data=small", "sampler=fast", "output.save_plots=false", "use_tqdm=false")


def theirs(command: str, method: str, folder: Path) -> tuple[float, float]:
    """Seconds of one process, and of its sampler."""
    words = [command, *OVERRIDES, f"samplers_to_run=[{method}]", f"hydra.run.dir={folder}"]
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    whole = time.perf_counter() - start
    found = re.search(rf"{method} completed\. Total \(Internal\): ([\d.]+)s", done.stdout + done.stderr)
    if found is None:
        raise RuntimeError(f"no time of {method} in what {command} printed")
    return whole, float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("command")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    folder = options.folder.resolve()
    entry = ProblemEntry(model="small", data="small", seed=42, overrides={"data.num_data": 100})
    make_problem(folder / "problem", resolve_problem(entry), 60.0)
    rows = []
    print("method  process s  its sampler s  warm trial here s  times as fast")
    for method, settings in SETTINGS.items():
        run_trial(folder / method / "cold", folder / "problem", method, settings)
        pairs, here = [], []
        for repeat in range(options.repeats):
            pairs.append(theirs(options.command, method, folder / "theirs" / f"{method}{repeat}"))
            start = time.perf_counter()
            run_trial(folder / method / str(repeat), folder / "problem", method, settings)
            here.append(time.perf_counter() - start)
        process, sampler = (statistics.median(times) for times in zip(*pairs, strict=True))
        row = {"method": method, "process": process, "sampler": sampler, "here": statistics.median(here)}
        rows.append(row)
        print(
            f"{method:6}  {process:9.2f}  {sampler:13.2f}  {row['here']:17.3f}  {process / row['here']:.0f} "
            f"(its sampler alone: {sampler / row['here']:.0f})",
            flush=True,
        )
    (folder / "predecessor.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
