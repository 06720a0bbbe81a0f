"""What the identities cost a minibatch sampler: `python benchmarks/identities.py FOLDER [--repeats 7]`.

SGLD of tanh networks, four chains, 128 rows a step. Identities are by a dense A0, by Kronecker factors of layers, or by
those of leaves with stiff directions apart, as plain functions have. They are read at the interval that the sampler
chooses, at every step, and never. Prints the share of the CPU time that they take in each case, medians of paired runs;
writes FOLDER/identities.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1", PJRT_NPROC="1")

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.posterior import LocalPosterior, build_posterior, factored_whitening, hessian_whitening
from lambda_hat.posterior.geometry import MAX_DENSE_DIM
from lambda_hat.samplers.runner import init_chains, run_chains
from lambda_hat.samplers.sgld import SGLD
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

NETWORKS = {  # layers, rows, steps
    "d = 45": ((4, 4, 4, 1), 400, 8000),
    "d = 433": ((8, 16, 16, 1), 3000, 3000),
    "d = 1,633": ((16, 32, 32, 1), 1000, 1000),
    "d = 10,497": ((16, 96, 89, 1), 5000, 300),
    "d = 100,717": ((16, 308, 308, 1), 5000, 60),
}
NUM_CHAINS, BATCH_SIZE = 4, 128
NEVER = np.iinfo(np.int32).max


def _call(loss: Any, position: Any, batch: Any) -> Any:
    return loss(position, batch)


def posterior_of(sizes: tuple[int, ...], num_data: int, *, is_plain: bool) -> LocalPosterior:
    rng, network = np.random.default_rng(0), MLP(sizes, "tanh")
    dim = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    w0, inputs = 0.3 * rng.standard_normal(dim), rng.standard_normal((num_data, sizes[0]))
    outputs = np.asarray(network(jnp.asarray(w0), jnp.asarray(inputs))) + 0.1 * rng.standard_normal((num_data, 1))
    nbeta = num_data / np.log(num_data)
    loss: Any = SquaredError(network, 50.0)
    if is_plain:
        loss = partial(_call, loss)  # a function whose layers nobody knows
    return build_posterior(loss, w0, (inputs, outputs), nbeta=nbeta, localization=100.0, dtype="float32")


def seconds_of(sampler: SGLD, num_steps: int) -> float:
    states = init_chains(sampler, jax.random.key(0), jnp.zeros((NUM_CHAINS, sampler.posterior.dim)))
    start = time.process_time()
    jax.block_until_ready(run_chains(sampler, jax.random.key(1), states, num_steps, chunk_size=500).states)
    return time.process_time() - start


def measure(name: str, kind: str, preconditioner: str, repeats: int) -> dict[str, Any]:
    sizes, num_data, num_steps = NETWORKS[name]
    posterior = posterior_of(sizes, num_data, is_plain=kind == "leaves")
    at_w0 = posterior.w0[None]
    if kind == "dense":
        whitening, _ = hessian_whitening(posterior, at_w0)
    else:
        whitening, _ = factored_whitening(posterior, at_w0, jax.random.key(0))
    step_size = 0.05 if preconditioner == "whitened" else 1e-6
    settings = SGLDSettings(initial_step_size=step_size, batch_size=BATCH_SIZE, preconditioner=preconditioner)
    chosen = SGLD.from_settings(posterior, whitening, settings)
    samplers = {
        "chosen": chosen,
        "always": eqx.tree_at(lambda s: s.interval, chosen, jnp.asarray(1, jnp.int32)),
        "never": eqx.tree_at(lambda s: s.interval, chosen, jnp.asarray(NEVER, jnp.int32)),
    }
    for sampler in samplers.values():
        seconds_of(sampler, num_steps)  # compiles
    turns = [{key: seconds_of(sampler, num_steps) for key, sampler in samplers.items()} for _ in range(repeats)]
    shares = {key: statistics.median(1 - turn["never"] / turn[key] for turn in turns) for key in ("chosen", "always")}
    row = {"network": name, "A0": kind, "preconditioner": preconditioner, "interval": int(chosen.interval), **shares}
    print(
        f"{name:12} {kind:10} {preconditioner:9} every {row['interval']:2}: {shares['chosen']:5.1%}, "
        f"always {shares['always']:5.1%}",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = [
        measure(name, kind, preconditioner, options.repeats)
        for name, (sizes, *_) in NETWORKS.items()
        for kind in ("dense", "Kronecker", "leaves")
        if kind != "dense" or sum((a + 1) * b for a, b in pairwise(sizes)) <= MAX_DENSE_DIM
        for preconditioner in ("none", "whitened")
    ]
    (options.folder / "identities.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
