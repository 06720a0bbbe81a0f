"""How noisy one minibatch reading of the loss is, paired and unpaired, against what draws of the posterior vary by.

    python benchmarks/paired_loss.py docs/figures/paired_loss.png

Positions are draws of the local posterior of `tests/data/relu45.npz` (d = 45, n = 2000) at γ_loc = 100, by HMC in the
coordinates of the Hessian at w0. Prints JSON; the error of a reading is its difference from the full-data value.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from known import relu45_posterior

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.draws.diagnostics import diagnose_trace
from lambda_hat.posterior import LocalPosterior, hessian_whitening
from lambda_hat.samplers.hmc import HMC
from lambda_hat.samplers.runner import init_chains, run_chains

NUM_CHAINS, NUM_POSITIONS, STEPS_BETWEEN = 16, 25, 20  # positions per chain
BATCH_SIZE, NUM_BATCHES = 128, 200  # batches per position


def sample_positions(posterior: LocalPosterior) -> np.ndarray:
    """Draws `(num_chains, num_positions, d)`."""
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    sampler = HMC.from_settings(posterior, whitening, HMCSettings(step_size=0.1))
    keys = iter(jax.random.split(jax.random.key(0), 100))
    noise = jax.random.normal(next(keys), (NUM_CHAINS, posterior.dim))
    states = init_chains(sampler, next(keys), jax.vmap(whitening.displacement)(noise))
    chains = run_chains(sampler, next(keys), states, 400, num_warmup=400, chunk_size=STEPS_BETWEEN)
    positions = []
    for _ in range(NUM_POSITIONS):
        chains = run_chains(chains.sampler, next(keys), chains.states, STEPS_BETWEEN, chunk_size=STEPS_BETWEEN)
        positions.append(posterior.w0 + jax.vmap(chains.sampler.displacement)(chains.states))
    return np.stack(positions, axis=1)


@eqx.filter_jit
def read(posterior: LocalPosterior, position: jax.Array, batches: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """nβ times: the excess loss on the full data, and the errors of unpaired and of paired readings."""
    truth = posterior.excess_loss(position)

    def errors(indices: jax.Array) -> tuple[jax.Array, jax.Array]:
        batch, at_w0 = posterior.take(indices)
        unpaired = jnp.mean(posterior.loss_fn(position, batch)) - posterior.loss_at_w0
        return unpaired - truth, posterior.paired_excess_loss(position, batch, at_w0) - truth

    unpaired, paired = jax.lax.map(errors, batches)
    return posterior.nbeta * truth, posterior.nbeta * unpaired, posterior.nbeta * paired


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the figure")
    path = parser.parse_args().file
    with jax.enable_x64(True):
        posterior = relu45_posterior()
        positions = sample_positions(posterior)
        batches = np.random.default_rng(0).integers(0, 2000, (NUM_CHAINS, NUM_POSITIONS, NUM_BATCHES, BATCH_SIZE))
        readings = [
            read(posterior, jnp.asarray(position), jnp.asarray(own))
            for position, own in zip(
                positions.reshape(-1, 45), batches.reshape(-1, NUM_BATCHES, BATCH_SIZE), strict=True
            )
        ]
    draws, unpaired, paired = (np.stack(values) for values in zip(*readings, strict=True))
    trace = diagnose_trace(draws.reshape(NUM_CHAINS, NUM_POSITIONS))
    figures = {
        "llc": trace.mean,
        "se": trace.mcse,
        "rhat": trace.rhat,
        "sd_unpaired": float(unpaired.std()),
        "sd_paired": float(paired.std()),
        "sd_draws": float(draws.std(ddof=1)),
        "mean_error_unpaired": float(unpaired.mean()),
        "mean_error_paired": float(paired.mean()),
        "mcse_of_mean_error_paired": float(paired.std() / np.sqrt(paired.size)),
        "variance_ratio": float(unpaired.var() / paired.var()),
    }
    print(json.dumps(figures, indent=2))
    draw(path, draws, unpaired, paired, figures)


def draw(path: Path, draws: np.ndarray, unpaired: np.ndarray, paired: np.ndarray, figures: dict[str, float]) -> None:
    figure, axes = plt.subplots(figsize=(7.2, 3.8), layout="constrained")
    bins = np.linspace(-60, 60, 121)
    for values, label, color in (
        (
            unpaired.ravel(),
            f"unpaired reading, mean over B of l(w), minus L(w0): sd {figures['sd_unpaired']:.1f}",
            "C1",
        ),
        (paired.ravel(), f"paired reading, mean over B of l(w) − l(w0): sd {figures['sd_paired']:.1f}", "C0"),
        (draws - draws.mean(), f"draws themselves, full-data loss: sd {figures['sd_draws']:.2f}", "0.3"),
    ):
        axes.hist(values, bins, density=True, histtype="step", lw=1.6, color=color, label=label)
    axes.set_xlabel(
        "error of one reading of nβ(L(w) − L(w0)), against the full data; for draws, distance from their mean"
    )
    axes.set_ylabel("density")
    axes.set_title("One minibatch of 128 rows: 45-parameter ReLU network, n = 2000, γ_loc = 100", fontsize=10)
    axes.xaxis.label.set_size(8)
    axes.legend(fontsize=7.5, loc="upper left", frameon=False)
    axes.set_xlim(-60, 60)
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
