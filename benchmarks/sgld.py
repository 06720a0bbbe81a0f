"""SGLD against the minibatch gradients that it is made of: `python benchmarks/sgld.py FOLDER [--quick]`.

The yardstick is a loop of the paired minibatch loss and its gradient alone, one fixed batch per chain: no noise, no
drawing of rows, nothing recorded; chains as one batch or one after the other, whichever is the faster. By turns with it
run 4 chains of SGLD, as a trial runs them. Figures are medians of CPU seconds and of ratios within a turn. With
`--devinterp PYTHON`, the Python of an environment that has devinterp, also against its `sample` (`devinterp_steps.py`).
Writes FOLDER/sgld.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1")

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.posterior import LocalPosterior, build_posterior, identity_whitening
from lambda_hat.samplers.runner import init_chains, run_chains
from lambda_hat.samplers.sgld import SGLD
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

NUM_CHAINS = 4
# Layer sizes, rows, batch size, steps per turn, and the share of the yardstick's speed that is wanted.
CASES = {
    "P1a": ((16, 32, 32, 1), 1000, 128, 2000, 0.6),
    "P1b": ((32, 256, 256, 1), 5000, 256, 250, 0.8),
}
PRECONDITIONERS = ("none", "rmsprop", "adam")


def network_posterior(sizes: tuple[int, ...], num_data: int) -> LocalPosterior:
    """A ReLU network with random weights on data that it has made, in float32."""
    rng, network = np.random.default_rng(0), MLP(sizes, "relu")
    dim = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    w0, inputs = 0.2 * rng.standard_normal(dim), rng.standard_normal((num_data, sizes[0]))
    outputs = np.asarray(network(jnp.asarray(w0), jnp.asarray(inputs))) + 0.1 * rng.standard_normal((num_data, 1))
    return build_posterior(
        SquaredError(network, 50.0),
        w0,
        (inputs, outputs),
        nbeta=PosteriorSpec().nbeta(num_data),
        localization=1000.0,
        dtype="float32",
    )


@eqx.filter_jit
def gradients_alone(
    posterior: LocalPosterior, positions: jax.Array, batches: Any, num_steps: jax.Array, is_sequential: bool
) -> tuple[jax.Array, jax.Array]:
    """So many gradients of each chain; the positions move, or XLA would compute one."""
    gradient = jax.value_and_grad(posterior.paired_excess_loss)

    def one(args: Any) -> tuple[jax.Array, jax.Array]:
        position, (batch, at_w0) = args
        return gradient(position, batch, at_w0)

    def body(_: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        positions, total = carry
        args = (positions, batches)
        losses, slopes = jax.lax.map(one, args) if is_sequential else jax.vmap(one)(args)
        return positions - 1e-9 * slopes, total + losses

    return jax.lax.fori_loop(0, num_steps, body, (positions, jnp.zeros(len(positions))))


def runs_of(case: str, num_steps: int) -> dict[str, Callable[[], Any]]:
    """What is timed, by name; the yardsticks first."""
    sizes, num_data, batch_size, _, _ = CASES[case]
    posterior = network_posterior(sizes, num_data)
    rng = np.random.default_rng(1)
    rows = jnp.asarray(rng.integers(0, num_data, (NUM_CHAINS, batch_size)))
    positions, batches = jnp.tile(posterior.w0, (NUM_CHAINS, 1)), jax.vmap(posterior.take)(rows)
    steps = jnp.asarray(num_steps)

    def yardstick(is_sequential: bool) -> Callable[[], Any]:
        return lambda: gradients_alone(posterior, positions, batches, steps, is_sequential)

    def sgld(preconditioner: str) -> Callable[[], Any]:
        settings = SGLDSettings(initial_step_size=1e-7, batch_size=batch_size, preconditioner=preconditioner)
        sampler = SGLD.from_settings(posterior, identity_whitening(posterior), settings)
        states = init_chains(sampler, jax.random.key(0), jnp.zeros_like(positions))
        return lambda: run_chains(sampler, jax.random.key(1), states, num_steps, chunk_size=settings.chunk_size).states

    return {
        "gradients, one batch": yardstick(False),
        "gradients, one by one": yardstick(True),
        **{f"sgld {name}": sgld(name) for name in PRECONDITIONERS},
    }


def cpu_seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    jax.block_until_ready(run())
    return time.process_time() - start


def measure(case: str, repeats: int, share: float) -> list[dict[str, Any]]:
    """A row per run: steps of all chains per CPU second, and its speed as a share of the yardstick's."""
    num_steps = max(1, int(share * CASES[case][3]))
    runs = runs_of(case, num_steps)
    for run in runs.values():
        cpu_seconds(run)  # compiles
    turns = [{name: cpu_seconds(run) for name, run in runs.items()} for _ in range(repeats)]
    medians = {name: statistics.median(turn[name] for turn in turns) for name in runs}
    yardstick = min((name for name in runs if name.startswith("gradients")), key=medians.__getitem__)
    return [
        {
            "case": case,
            "run": name,
            "steps_per_cpu_second": num_steps / seconds,
            "share": statistics.median(turn[yardstick] / turn[name] for turn in turns),
            "goal": CASES[case][4] if name == "sgld none" else None,
        }
        for name, seconds in medians.items()
    ]


def devinterp(python: str, case: str, repeats: int, steps_per_second: float) -> dict[str, Any]:
    """Steps of single chains per CPU second, there and, as `steps_per_second` of all chains, here."""
    sizes, num_data, batch_size, num_steps, _ = CASES[case]
    words = [",".join(map(str, sizes)), str(num_data), str(batch_size), str(num_steps)]
    command = [python, str(Path(__file__).with_name("devinterp_steps.py")), *words]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(repeats)]
    whole, further = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    return {
        "case": case,
        "run": "devinterp",
        "whole_run": statistics.median(whole),
        "further_steps": statistics.median(further),
        "lambda_hat": NUM_CHAINS * steps_per_second,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, three turns")
    parser.add_argument("--devinterp", metavar="PYTHON")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    print(f"case  {'run':22}  steps/CPU s  of the yardstick  goal")
    for case in CASES:
        for row in measure(case, 3 if options.quick else 7, 0.1 if options.quick else 1.0):
            goal = "" if row["goal"] is None else f"≥ {row['goal']}"
            print(f"{case}   {row['run']:22}  {row['steps_per_cpu_second']:11.0f}  {row['share']:16.2f}  {goal}")
            rows.append(row)
        if options.devinterp:
            steps_per_second = next(row for row in rows if (row["case"], row["run"]) == (case, "sgld none"))
            row = devinterp(options.devinterp, case, 3, steps_per_second["steps_per_cpu_second"])
            for name in ("whole_run", "further_steps"):
                ratio = row["lambda_hat"] / row[name]
                print(f"{case}   devinterp, {name:13}  {row[name]:8.0f} of one chain; {ratio:.1f} times as fast here")
            rows.append(row)
    (options.folder / "sgld.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
