"""Gradients of convolutions in a loop of samples: `python benchmarks/convolutions.py FOLDER`.

One layer of 3 × 3 windows with tanh, its gradient by kernel and by input, as XLA's CPU backend computes it and as the
product of matrices that takes its place: by itself, and inside a loop, as samplers call it. Medians of CPU milliseconds
of one thread. Writes FOLDER/convolutions.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1", PJRT_NPROC="1")

import jax
import jax.numpy as jnp
import numpy as np
from sgld import cpu_seconds

from lambda_hat.targets.convolutions import with_matrix_products

# Images, pixels of a side, channels in and out, stride.
LAYERS = ((256, 28, 1, 8, 1), (256, 14, 8, 16, 2), (128, 16, 32, 32, 1), (128, 8, 64, 128, 1))
IN_LOOP = 5
REPEATS = 5

Step = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def steps(layer: tuple[int, ...]) -> tuple[dict[str, Step], jax.Array, jax.Array]:
    """A step along the gradient, both ways, and where it begins."""
    images, side, inputs, outputs, stride = layer
    rng = np.random.default_rng(0)
    signal = jnp.asarray(rng.standard_normal((images, side, side, inputs)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, inputs, outputs)) / 10, jnp.float32)

    def loss(kernel: jax.Array, signal: jax.Array) -> jax.Array:
        found = jax.lax.conv_general_dilated(
            signal, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.mean(jnp.tanh(found))

    def step_of(loss: Callable[[jax.Array, jax.Array], jax.Array]) -> Step:
        def step(kernel: jax.Array, signal: jax.Array) -> tuple[jax.Array, jax.Array]:
            gradients = jax.grad(loss, (0, 1))(kernel, signal)
            return kernel - 1e-3 * gradients[0], signal - 1e-3 * gradients[1]

        return step

    return {"convolution": step_of(loss), "product": step_of(with_matrix_products(loss))}, kernel, signal


def milliseconds(step: Step, kernel: jax.Array, signal: jax.Array, num_steps: int) -> float:
    """Of one of so many steps in a loop; of one step by itself where there is one."""

    @jax.jit
    def run(kernel: jax.Array, signal: jax.Array) -> Any:
        if num_steps == 1:
            return step(kernel, signal)
        return jax.lax.fori_loop(0, num_steps, lambda _, both: step(*both), (kernel, signal))

    def call() -> None:
        jax.block_until_ready(run(kernel, signal))

    call()  # compiles
    return 1e3 * statistics.median(cpu_seconds(call) for _ in range(REPEATS)) / num_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for layer in LAYERS:
        ways, kernel, signal = steps(layer)
        row: dict[str, Any] = {"layer": layer}
        for name, step in ways.items():
            row[name] = milliseconds(step, kernel, signal, 1)
            row[f"{name} in a loop"] = milliseconds(step, kernel, signal, IN_LOOP)
        rows.append(row)
        figures = ", ".join(f"{name} {value:.1f} ms" for name, value in row.items() if name != "layer")
        print(f"{layer}: {figures}", flush=True)
    (options.folder / "convolutions.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
