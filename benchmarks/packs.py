"""Trials at once against one at a time, on the device that JAX finds: `python benchmarks/packs.py FOLDER [--quick]`.

Warm runs of one method with differing numeric hyperparameters, and in MCLMC's case differing trajectories, one after
the other and as one vectorised program, by turns; medians of seconds, wall and CPU, and of the ratios of wall seconds.
Writes FOLDER/packs.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1")

import jax
from sgld import network_posterior

from lambda_hat.config.methods import MethodSettings
from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.config.methods.vi import VISettings
from lambda_hat.estimate.method import run_method, sample_method
from lambda_hat.posterior import Coordinates, identity_whitening
from lambda_hat.samplers.runner import run_together

SMALL, LARGE = (4, 4, 4, 1), (16, 308, 308, 1)


def sgld(index: int, num_steps: int) -> MethodSettings:
    return SGLDSettings(initial_step_size=1e-7 * (1 + index), batch_size=64, num_steps=num_steps)


def vi(index: int, num_steps: int) -> MethodSettings:
    return VISettings(learning_rate=1e-3 / (1 + index), batch_size=64, num_steps=num_steps, num_draws=100)


def mclmc(index: int, num_steps: int) -> MethodSettings:
    return MCLMCSettings(decoherence_length=0.5 + 0.2 * index, num_steps=num_steps, dtype="float32")


# Layer sizes, settings of trial number so and so, steps.
CASES: dict[str, tuple[tuple[int, ...], Callable[[int, int], MethodSettings], int]] = {
    "sgld, 45 parameters": (SMALL, sgld, 4000),
    "sgld, 1e5 parameters": (LARGE, sgld, 100),
    "vi, 45 parameters": (SMALL, vi, 1000),
    "mclmc, 45 parameters": (SMALL, mclmc, 200),
}


def measure(case: str, size: int, repeats: int) -> dict[str, Any]:
    sizes, settings_of, num_steps = CASES[case]
    posterior = network_posterior(sizes, 1000)
    whitening = identity_whitening(posterior)
    coordinates = Coordinates(whitening, whitening)
    settings = [settings_of(index, num_steps) for index in range(size)]
    options: dict[str, Any] = {"coordinates": coordinates, "seed": 0}
    runs: dict[str, Callable[[], list[Any]]] = {
        "alone": lambda: [run_method(posterior, one, **options) for one in settings],
        "together": lambda: list(run_together([sample_method(posterior, one, **options) for one in settings])),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    ratios = [alone[0] / together[0] for alone, together in zip(*seconds.values(), strict=True)]
    return {
        "case": case,
        "size": size,
        **{
            f"{name}_{kind}": statistics.median(times[column] for times in seconds[name])
            for name in runs
            for column, kind in enumerate(("seconds", "cpu_seconds"))
        },
        "times_as_fast": statistics.median(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=8, help="trials at once (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="two turns, the small network only")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(f"{options.size} trials on {jax.devices()[0].device_kind}: seconds one at a time, at once, and the ratio")
    rows = []
    for case in (case for case, (sizes, *_) in CASES.items() if sizes == SMALL or not options.quick):
        row = measure(case, options.size, 2 if options.quick else 5)
        rows.append(row)
        print(f"{case:20}  {row['alone_seconds']:8.3f}  {row['together_seconds']:8.3f}  {row['times_as_fast']:6.2f}")
    (options.folder / "packs.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
