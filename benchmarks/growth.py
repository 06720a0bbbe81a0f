"""How the time of a trial grows: `python benchmarks/growth.py FOLDER [--quick]`.

Warm SGLD and HMC runs, as trials run them, on ReLU networks: against the number of parameters, the rows of data, and
the chains, one at a time, the others fixed. CPU milliseconds per step of all chains, and the exponent of growth between
the two largest sizes: 1 is linear, less is overhead that the work has not yet outgrown. Then what the controller takes
for a study by its number of trials. Writes FOLDER/growth.json and FOLDER/growth.png; `--draw` only draws again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1")

import jax.numpy as jnp
import matplotlib as mpl
from scaling import growth as controller_growth
from sgld import cpu_seconds, network_posterior

from lambda_hat.config.methods import MethodSettings
from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.estimate.method import MethodResult, run_method
from lambda_hat.posterior import Coordinates, DiagonalWhitening

mpl.use("agg")
import matplotlib.pyplot as plt

BATCH_SIZE = 128
HIDDEN = {1e3: 24, 1e4: 92, 1e5: 308, 1e6: 992, 1e7: 3154}  # of two layers, with 16 inputs
BASE = {"dim": 1e4, "num_data": 1000, "num_chains": 4}
SIZES = {"dim": tuple(HIDDEN), "num_data": (1000, 4000, 16_000, 64_000), "num_chains": (1, 2, 4, 8, 16)}
LABELS = {"dim": "parameters", "num_data": "rows of data", "num_chains": "chains"}
SECONDS_PER_STEP = 1.5e-10  # of one parameter and row, roughly: what decides how many steps are timed
REPEATS = 3


def sizes_of(axis: str, is_quick: bool) -> tuple[float, ...]:
    """The largest ones take minutes."""
    return SIZES[axis][:2] if is_quick else SIZES[axis]


def measure(method: str, dim: float, num_data: float, num_chains: float, seconds: float) -> dict[str, Any]:
    """CPU milliseconds per step of all chains, by the difference of two runs of unequal length."""
    hidden = HIDDEN[dim]
    posterior = network_posterior((16, hidden, hidden, 1), int(num_data))
    rows = BATCH_SIZE if method == "sgld" else num_data
    steps = int(min(400, max(4, seconds / (SECONDS_PER_STEP * posterior.dim * rows * num_chains))))
    whitening = DiagonalWhitening(jnp.full_like(posterior.w0, 1 / math.sqrt(float(posterior.localization))))
    coordinates = Coordinates(whitening, whitening)

    def run(num_steps: int) -> float:
        common: dict[str, Any] = {"num_steps": num_steps, "num_chains": int(num_chains), "dtype": "float32"}
        settings: MethodSettings = (
            SGLDSettings(initial_step_size=1e-7, batch_size=BATCH_SIZE, preconditioner="rmsprop", **common)
            if method == "sgld"
            else HMCSettings(step_size=1e-4, num_integration_steps=1, burn_in_fraction=0.0, **common)
        )
        found: list[MethodResult] = []
        time = cpu_seconds(lambda: found.append(run_method(posterior, settings, coordinates=coordinates, seed=0)))
        assert found[0].num_steps_done == num_steps, found[0].reason
        return time

    run(steps)  # compiles
    run(2 * steps)
    per_step = [(run(3 * steps) - run(steps)) / (2 * steps) for _ in range(REPEATS)]
    return {
        "method": method,
        "dim": posterior.dim,
        "num_data": num_data,
        "num_chains": num_chains,
        "milliseconds": 1e3 * statistics.median(per_step),
    }


def exponent(axis: str, rows: list[dict[str, Any]]) -> float:
    """Of growth between the two largest sizes."""
    *_, (small, large) = pairwise(rows)
    return math.log(large["milliseconds"] / small["milliseconds"]) / math.log(large[axis] / small[axis])


def draw(results: dict[str, Any], path: Path) -> None:
    figure, panels = plt.subplots(1, len(SIZES) + 1, figsize=(12.5, 3.4), layout="constrained")
    for panel, axis in zip(panels, SIZES, strict=False):
        for index, (method, rows) in enumerate(results[axis].items()):
            x, y = [row[axis] for row in rows], [row["milliseconds"] for row in rows]
            panel.loglog(x, y, "o-", color=f"C{index}", label=f"{method}, exponent {exponent(axis, rows):.2f}")
            panel.loglog(x, [y[-1] * size / x[-1] for size in x], ":", color=f"C{index}", lw=1)
        panel.set_xlabel(LABELS[axis])
        panel.legend(fontsize=7.5, frameon=False)
    panels[0].set_ylabel("CPU ms per step of all chains")
    rows = results["controller"]
    x = [row["trials"] for row in rows]
    for index, name in enumerate(("ask", "prune", "tell", "pickle"), start=2):
        y = [row[name] for row in rows]
        panels[-1].loglog(x, y, "o-", color=f"C{index}", label=name)
        panels[-1].loglog(x, [y[-1] * size / x[-1] for size in x], ":", color=f"C{index}", lw=1)
    panels[-1].set_xlabel("trials of a study")
    panels[-1].set_ylabel("CPU ms of the controller")
    panels[-1].set_xticks(x, [f"{size:g}" for size in x])
    panels[-1].minorticks_off()
    panels[-1].set_ylim(bottom=0.01)
    panels[-1].legend(fontsize=7.5, frameon=False, ncols=2, loc="lower right")
    figure.suptitle("Dotted: linear", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="two sizes each, short runs")
    parser.add_argument("--draw", action="store_true", help="draw FOLDER/growth.json")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.draw:
        draw(json.loads((options.folder / "growth.json").read_text(encoding="utf-8")), options.folder / "growth.png")
        return
    seconds = 0.05 if options.quick else 0.5
    results: dict[str, Any] = {}
    for axis in SIZES:
        results[axis] = {}
        for method in ("sgld", "hmc"):
            rows = [measure(method, seconds=seconds, **(BASE | {axis: x})) for x in sizes_of(axis, options.quick)]
            results[axis][method] = rows
            figures = ", ".join(f"{row[axis]:g}: {row['milliseconds']:.3g}" for row in rows)
            print(f"{method:4}  {LABELS[axis]:12}  {figures} ms; exponent {exponent(axis, rows):.2f}", flush=True)
    place = options.folder.resolve() / "study"
    shutil.rmtree(place, ignore_errors=True)
    results["controller"] = controller_growth(place, (250, 500) if options.quick else (500, 1000, 2000, 4000))
    (options.folder / "growth.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    draw(results, options.folder / "growth.png")


if __name__ == "__main__":
    main()
