"""What a trial costs besides its sampling, cold and warm: `python benchmarks/warm.py FOLDER [--quick]`.

The quick start's problem, its reference, then per method one trial in a fresh worker's state and further ones that
change every number and every choice which shares a shape. Prints per method: the cold trial and the compilations in it;
the warm ones, XLA compilations in all of them, seconds in total and outside the sampling. Writes FOLDER/warm.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1")

import jax

from lambda_hat.config.explain import to_yaml
from lambda_hat.config.problems import MLPProblem
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceFailure
from lambda_hat.samplers import runner as runner_module
from lambda_hat.samplers.chunk import Chunk, ChunkEnd
from lambda_hat.tasks import reference_task, trial_task

# The first settings of each method are those of the cold trial.
TRIALS: dict[str, list[dict[str, Any]]] = {
    "sgld": [
        {"eta0": 1e-5, "steps": 5000},
        {"eta0": 2e-5, "gamma": 0.3, "t0": 500.0, "steps": 7000},
        {"eta0": 1e-6, "precond_type": "rmsprop", "steps": 6000, "b2": 0.99, "eps": 0.1},
        {"eta0": 1e-6, "precond_type": "adam", "steps": 8000, "b1": 0.8, "eps": 0.1},
        {"eta0": 2e-2, "precond_type": "whitened", "steps": 5000},
        {"eta0": 5e-2, "precond_type": "whitened", "steps": 20_000},
    ],
    "vi": [
        {"max_components": 4, "max_rank": 2, **values}
        for values in (
            {"lr": 1e-2, "M": 2, "r": 1, "whitening_mode": "rmsprop", "steps": 1000},
            {"lr": 2e-2, "M": 4, "r": 2, "whitening_mode": "adam", "steps": 1500},
            {"lr": 5e-3, "M": 1, "r": 0, "whitening_mode": "none", "steps": 2000},
            {"lr": 3e-3, "M": 2, "r": 2, "whitening_mode": "rmsprop", "steps": 1200},
        )
    ],
    "mclmc": [
        {"step_size": 0.1, "L": 1.0, "target_accept": 0.9, "steps": 400},
        {"step_size": 0.2, "L": 0.5, "target_accept": 0.8, "steps": 500},
        {"step_size": 0.05, "L": 2.0, "target_accept": 0.7, "steps": 300},
        {"step_size": 0.3, "L": 1.5, "target_accept": 0.85, "steps": 600},
    ],
    "hmc": [
        {"step_size": 0.3, "num_integration_steps": 4, "target_accept": 0.8, "steps": 400},
        {"step_size": 0.2, "num_integration_steps": 3, "target_accept": 0.7, "steps": 500},
        {"step_size": 0.1, "num_integration_steps": 6, "target_accept": 0.9, "steps": 300},
        {"step_size": 0.4, "num_integration_steps": 2, "target_accept": 0.85, "steps": 600},
    ],
}
COMPILED = "/jax/core/compile/backend_compile_duration"


class Compilations:
    """How many programs XLA has compiled, or taken from a cache on disk, in this process, and in how long."""

    def __init__(self) -> None:
        self.number, self.seconds = 0, 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == COMPILED:
            self.number, self.seconds = self.number + 1, self.seconds + duration_secs


class Sampling:
    """Seconds that trials spend in chunks of steps, without what they do between them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._run_chunk = runner_module.run_chunk
        runner_module.run_chunk = self._timed

    def _timed(self, chunk: Chunk) -> ChunkEnd:
        start = time.perf_counter()
        end = self._run_chunk(chunk)
        self.seconds += time.perf_counter() - start
        return end


def make_problem(folder: Path, problem: MLPProblem, seconds: float) -> None:
    """The problem's folder with its reference, certified or not."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "problem.yaml").write_text(to_yaml(problem.to_dict()), encoding="utf-8")
    result = reference_task(str(folder), ReferenceSpec(max_relative_mcse=0.05), seconds)
    if isinstance(result, ReferenceFailure):
        raise RuntimeError(result.reason)


def run_trial(folder: Path, problem: Path, method: str, settings: dict[str, Any]) -> Metrics:
    """One trial's metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").unlink(missing_ok=True)
    manifest = Manifest.of("p_0", method, hyperparams={}, settings=settings, seed=0, trial_sec=120.0)
    manifest.write(folder / "manifest.json")
    return trial_task(str(folder), str(problem))


def measure(folder: Path, method: str, repeats: int, compilations: Compilations, sampling: Sampling) -> dict[str, Any]:
    """The figures of one method, warm ones as medians over trials."""
    rows = []
    cold, *warm = TRIALS[method]
    for index, settings in enumerate([cold, *warm * repeats]):
        number, compiling, in_chunks = compilations.number, compilations.seconds, sampling.seconds
        start, cpu = time.perf_counter(), time.process_time()
        metrics = run_trial(folder / method / str(index), folder / "problem", method, settings)
        seconds = time.perf_counter() - start
        if metrics.traceback is not None:
            raise RuntimeError(metrics.traceback)
        rows.append(
            {
                "settings": settings,
                "seconds": seconds,
                "cpu_seconds": time.process_time() - cpu,
                "outside": seconds - (sampling.seconds - in_chunks),
                "compilations": compilations.number - number,
                "compiling": compilations.seconds - compiling,
                "timings": metrics.timings.to_json(),
            }
        )
    first, *others = rows
    return {
        "cold_seconds": first["seconds"],
        "cold_compilations": first["compilations"],
        "cold_compiling": first["compiling"],
        "warm_compilations": sum(row["compilations"] for row in others),
        "warm_seconds": statistics.median(row["seconds"] for row in others),
        "warm_cpu_seconds": statistics.median(row["cpu_seconds"] for row in others),
        "warm_outside": statistics.median(row["outside"] for row in others),
        "largest_outside": max(row["outside"] for row in others),
        "trials": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="each warm trial once, not five times")
    options = parser.parse_args()
    folder = options.folder.resolve()
    compilations, sampling = Compilations(), Sampling()
    start = time.perf_counter()
    make_problem(folder / "problem", MLPProblem(seed=42), 60.0)
    result: dict[str, Any] = {
        "reference": {
            "seconds": time.perf_counter() - start,
            "compilations": compilations.number,
            "compiling": compilations.seconds,
        },
        "methods": {},
    }
    print("method  cold s (programs, compiling)  warm s  CPU s  outside sampling ms (largest)  compilations")
    for method in TRIALS:
        row = measure(folder, method, 1 if options.quick else 5, compilations, sampling)
        result["methods"][method] = row
        cold = f"{row['cold_seconds']:.2f} ({row['cold_compilations']}, {row['cold_compiling']:.2f})"
        outside = f"{1e3 * row['warm_outside']:.0f} ({1e3 * row['largest_outside']:.0f})"
        print(
            f"{method:6}  {cold:28}  {row['warm_seconds']:6.3f}  {row['warm_cpu_seconds']:.3f}  {outside:29}  "
            f"{row['warm_compilations']}",
            flush=True,
        )
    (folder / "warm.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
