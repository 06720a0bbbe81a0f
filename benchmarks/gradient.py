"""Gradients of the full data, as HMC and MCLMC take them: `python benchmarks/gradient.py FOLDER [--quick]`.

Four chains; as the samplers compute them (data in chunks, above 1000 parameters one chain after the other), against
`vmap` over chains with the data in one piece, and against the rate of a product of 512 × 512 matrices. Turns are
interleaved; medians of CPU milliseconds of one gradient of one chain. Writes FOLDER/gradient.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1")

import jax
import jax.numpy as jnp
import numpy as np
from sgld import cpu_seconds

from lambda_hat.config.problems import Activation
from lambda_hat.posterior import LocalPosterior, build_posterior
from lambda_hat.posterior.local import LARGE_DIM
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

NUM_CHAINS = 4
# Layer sizes, activation, rows of data, and how many times as fast as in one piece is wanted.
CASES: dict[str, tuple[tuple[int, ...], Activation, int, float | None]] = {
    "45": ((4, 4, 4, 1), "tanh", 20_000, None),
    "6.3k": ((32, 64, 64, 1), "relu", 5000, 2.0),
    "9.4k": ((32, 80, 80, 1), "relu", 20_000, 2.0),
}
MATRIX_SIZE = 512
NUM_GRADIENTS = 8  # of each chain in a turn


def posterior_of(case: str, dtype: str, rows_per_chunk: int | None) -> LocalPosterior:
    sizes, activation, num_data, _ = CASES[case]
    rng, network = np.random.default_rng(0), MLP(sizes, activation)
    w0 = 0.2 * rng.standard_normal(network.dim)
    data = rng.standard_normal((num_data, sizes[0])), rng.standard_normal((num_data, 1))
    return build_posterior(
        SquaredError(network, 50.0), w0, data, nbeta=100.0, localization=100.0, dtype=dtype,
        rows_per_chunk=rows_per_chunk,
    )  # fmt: skip


def gradients(posterior: LocalPosterior, is_sequential: bool) -> Callable[[], jax.Array]:
    """So many gradients of each chain; the positions move, or XLA would compute one."""
    gradient = jax.value_and_grad(posterior.logdensity)

    @jax.jit
    def run(positions: jax.Array) -> jax.Array:
        def body(_: Any, positions: jax.Array) -> jax.Array:
            slopes = (jax.lax.map(gradient, positions) if is_sequential else jax.vmap(gradient)(positions))[1]
            return positions - 1e-12 * slopes

        return jax.lax.fori_loop(0, NUM_GRADIENTS, body, positions)

    positions = jnp.tile(posterior.w0, (NUM_CHAINS, 1))
    return lambda: run(positions)


def matrix_products(dtype: str, number: int) -> Callable[[], jax.Array]:
    matrix = jnp.asarray(np.random.default_rng(0).standard_normal((MATRIX_SIZE,) * 2) / MATRIX_SIZE, dtype)
    run = jax.jit(lambda x: jax.lax.fori_loop(0, number, lambda _, x: x @ matrix, x))
    return lambda: run(matrix)


def measure(case: str, dtype: str, repeats: int) -> dict[str, Any]:
    sizes, _, num_data, goal = CASES[case]
    ours, whole = posterior_of(case, dtype, None), posterior_of(case, dtype, num_data)
    num_products = 20
    runs = {
        "ours": gradients(ours, ours.dim > LARGE_DIM),
        "one piece": gradients(whole, False),
        "matrices": matrix_products(dtype, num_products),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run().block_until_ready()
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(cpu_seconds(run))
    num_weights = sum(fan_in * fan_out for fan_in, fan_out in pairwise(sizes))
    first = sizes[0] * sizes[1]  # nobody wants the gradient of the inputs
    flops = 2 * num_data * (3 * num_weights - first) * NUM_CHAINS * NUM_GRADIENTS
    rate = [2 * MATRIX_SIZE**3 * num_products / time for time in seconds["matrices"]]
    shares = [flops / time / matrix for time, matrix in zip(seconds["ours"], rate, strict=True)]
    ratios = [slow / fast for fast, slow in zip(seconds["ours"], seconds["one piece"], strict=True)]
    return {
        "case": case,
        "dtype": dtype,
        "num_data": num_data,
        "milliseconds": 1e3 * statistics.median(seconds["ours"]) / (NUM_CHAINS * NUM_GRADIENTS),
        "times_as_fast_as_one_piece": statistics.median(ratios),
        "goal": goal,
        "share_of_matrix_rate": statistics.median(shares),
        "gigaflops_of_matrices": statistics.median(rate) / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="three turns, without the largest")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    print("parameters  precision   n      ms per gradient  × one piece  of the matrix rate")
    for case in list(CASES)[:2] if options.quick else CASES:
        for dtype in ("float64", "float32"):
            with jax.enable_x64(dtype == "float64"):
                row = measure(case, dtype, 3 if options.quick else 9)
            rows.append(row)
            print(
                f"{case:10}  {dtype}  {row['num_data']:6d}  {row['milliseconds']:15.3f}  "
                f"{row['times_as_fast_as_one_piece']:11.2f}  {row['share_of_matrix_rate']:18.2f}",
                flush=True,
            )
    (options.folder / "gradient.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
