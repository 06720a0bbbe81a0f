"""λ̂ of one network by devinterp and by this project: `python benchmarks/comparison.py FOLDER --devinterp PYTHON`.

The network, the data, nβ, γ_loc, the minibatches' size, the chains and their steps are the same, and a certified
reference says what λ̂ is. Step sizes run over decades, as nobody knows the right one beforehand; `auto` has none to
choose. PYTHON is that of an environment that has devinterp and torch; without it only this project's figures are made.
Prints a table in Markdown and writes FOLDER/comparison.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1")

import jax
import jax.numpy as jnp
import numpy as np

import lambda_hat
from lambda_hat.config.problems import DataSpec, MLPProblem, ModelSpec
from lambda_hat.formatting import count
from lambda_hat.targets import build_target
from lambda_hat.targets.losses import SquaredError

NUM_DATA, BATCH, NUM_CHAINS, NUM_STEPS = 400, 50, 4, 1000
STEP_SIZES = (1e-6, 1e-5, 1e-4, 3e-4)
LOCALIZATION = 100.0
HERE = Path(__file__).parent


def build() -> Any:
    """A tanh network 4-4-4-1 at a minimum, d = 45."""
    network = ModelSpec(in_dim=4, width=4, depth=2, activation="tanh")
    problem = MLPProblem(model=network, data=DataSpec(num_data=NUM_DATA, noise_scale=0.2), seed=1)
    with jax.enable_x64(True):
        return build_target(problem)


def as_arguments(model: Any) -> tuple[Any, Any, Any]:
    """What `estimate_llc` takes."""

    def loss_fn(params: Any, batch: Any) -> Any:
        return model.loss_fn(params, batch)

    return loss_fn, model.w0, tuple(model.data)


def write_problem(model: Any, path: Path, nbeta: float, num_steps: int) -> None:
    """The network layer by layer, for another framework."""
    assert isinstance(model.loss_fn, SquaredError)
    layers = model.loss_fn.network.layers
    arrays = {f"w{i}": np.asarray(layer.matrix(jnp.asarray(model.w0))) for i, layer in enumerate(layers)}
    arrays |= {f"b{i}": model.w0[layer.bias] for i, layer in enumerate(layers)}
    settings = {
        "num_layers": len(layers), "weight": model.loss_fn.weight, "nbeta": nbeta, "localization": LOCALIZATION,
        "num_chains": NUM_CHAINS, "num_steps": num_steps, "batch_size": BATCH, "step_sizes": STEP_SIZES,
    }  # fmt: skip
    np.savez(path, settings=np.array(json.dumps(settings)), inputs=model.data[0], outputs=model.data[1], **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devinterp", metavar="PYTHON", help="of an environment that has devinterp and torch")
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    num_steps = NUM_STEPS // 5 if arguments.quick else NUM_STEPS
    model = build()
    given = as_arguments(model)
    rows: list[dict[str, Any]] = []

    def add(name: str, llc: float, error: float, seconds: float, verdict: str, step_size: float | None = None) -> None:
        rows.append(
            {"name": name, "step_size": step_size, "llc": llc, "error": error, "seconds": seconds, "verdict": verdict}
        )

    def timed(name: str, function: Any, step_size: float | None = None, **settings: Any) -> Any:
        start = time.process_time()
        result = function(*given, localization=LOCALIZATION, **settings)
        seconds = time.process_time() - start
        verdict = "certified" if result.certificate else "reliable"
        if result.reasons:
            verdict = f"not {verdict}, for {count(len(result.reasons), 'reason')}"
        add(name, result.llc, result.se, seconds, verdict, step_size)
        return result

    reference = timed("certify_llc", lambda_hat.certify_llc, seconds=900.0)
    timed("estimate_llc", lambda_hat.estimate_llc)
    for step_size in STEP_SIZES:
        timed(
            "estimate_llc, sgld", lambda_hat.estimate_llc, step_size,
            sampler="sgld", eta0=step_size, batch=BATCH, steps=num_steps, num_chains=NUM_CHAINS,
        )  # fmt: skip
    if arguments.devinterp:
        problem = arguments.folder / "problem.npz"
        write_problem(model, problem, reference.nbeta, num_steps)
        command = [arguments.devinterp, str(HERE / "devinterp_llc.py"), str(problem)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for found in json.loads(done.stdout.splitlines()[-1]):
            for what, llc, std in (
                ("devinterp", found["llc"], found["std_of_chains"]),
                ("devinterp, burn-in left out", found["llc_after_burn_in"], found["std_of_chains_after_burn_in"]),
            ):
                add(what, llc, std / math.sqrt(NUM_CHAINS), found["seconds"], "", found["step_size"])
    (arguments.folder / "comparison.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"d = {model.dim}, n = {model.num_data}, nβ = {reference.nbeta:.4g}, γ_loc = {LOCALIZATION:g}\n")
    print("| by | step size | λ̂ | off by | CPU s | verdict |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        step = "" if row["step_size"] is None else f"{row['step_size']:g}"
        value = f"{row['llc']:.3f} ± {row['error']:.3f}"
        off = f"{row['llc'] / reference.llc - 1:+.1%}"
        print(f"| {' | '.join((row['name'], step, value, off, str(round(row['seconds'])), row['verdict']))} |")


if __name__ == "__main__":
    main()
