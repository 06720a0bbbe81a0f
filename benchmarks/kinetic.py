"""SMS-UBU, a kinetic minibatch sampler, against SGLD at equal gradients: `python benchmarks/kinetic.py FOLDER`.

Both run in coordinates whitened at w0, with four chains, and both λ̂ are corrected by the identities. SMS-UBU (Paulin,
Whalley, Chada & Leimkuhler, arXiv 2410.19780) integrates kinetic Langevin dynamics with friction exactly but for the
force. It takes one minibatch per step, in symmetric sweeps: all minibatches in a random order, then in the reverse one.
A minibatch of a sweep depends on where the chain has been, so that λ̂ is read off fresh rows at every fourth step,
which count as gradients.

Every result is a line of FOLDER/kinetic.jsonl as soon as it is there; the same command goes on where it was
interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from lines import Lines
from selfcheck import Case, network

from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.draws.info import Info, drop_burn_in
from lambda_hat.draws.llc import LLCEstimate, estimate_llc_from_traces
from lambda_hat.posterior import Identities, LocalPosterior, Whitening, build_posterior, geometry_at_w0
from lambda_hat.samplers.growing import GrowingChains
from lambda_hat.samplers.sgld import SGLD
from lambda_hat.samplers.work import Work

NUM_CHAINS, BATCH, NUM_STEPS = 4, 64, 6000
STEPS_BETWEEN_READINGS = 4
FRICTION = 2.0  # per unit of whitened time, where a direction oscillates once in 2π
STEP_SIZES = {"sgld": (0.05, 0.1, 0.2, 0.4), "sms-ubu": (0.1, 0.2, 0.4, 0.8)}

CASES: dict[str, Callable[[], Case]] = {
    **{f"tanh 45, radius {radius}": partial(network, radius, num_data=1000) for radius in (0.05, 0.1, 0.3)},
    **{
        f"relu 45, radius {radius}": partial(network, radius, activation="relu", seed=1, num_data=1000)
        for radius in (0.05, 0.1)
    },
    "student-t 45": partial(network, 0.1, loss="student_t_nll", noise="student_t", num_data=1000),
    "cross-entropy 55": partial(network, 0.1, loss="cross_entropy", out_dim=3, num_data=1000),
    **{
        f"tanh 433, radius {radius}": partial(network, radius, in_dim=8, width=16, num_data=3000)
        for radius in (0.05, 0.1)
    },
}


def coast(key: jax.Array, z: jax.Array, v: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """dz = v dt, dv = −c v dt + √(2c) dW for a time t, c = FRICTION, without error."""
    c = FRICTION
    decay, lost = jnp.exp(-c * t), -jnp.expm1(-c * t)
    of_v = -jnp.expm1(-2 * c * t)  # variance of the noise in v
    of_z = 2 * t / c - (3 - 4 * decay + decay**2) / c**2
    both = lost**2 / c  # their covariance
    first, second = jax.random.normal(key, (2, z.size), z.dtype)
    rest = jnp.sqrt(jnp.maximum(of_z - both**2 / of_v, 0.0))
    moved = z + lost / c * v + both / jnp.sqrt(of_v) * first + rest * second
    return moved, decay * v + jnp.sqrt(of_v) * first


@partial(jax.jit, static_argnames=("num_sweeps",))
def sweep_chains(
    posterior: LocalPosterior, whitening: Whitening, key: jax.Array, step_size: jax.Array, num_sweeps: int
) -> tuple[jax.Array, ...]:
    """Losses, both virials and r² at the readings of every chain, each (chains, readings)."""
    n = posterior.num_data
    num_batches = n // BATCH
    identities = Identities(whitening, posterior.localization)

    def force(z: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        displacement = whitening.displacement(z)
        batch, at_w0 = posterior.take(rows)
        loss, gradient = jax.value_and_grad(
            lambda r: posterior.paired_excess_loss(posterior.w0 + r, batch, at_w0)
        )(displacement)  # fmt: skip
        return displacement, loss, posterior.nbeta * gradient + posterior.localization * displacement

    def read(key: jax.Array, z: jax.Array) -> jax.Array:
        displacement, loss, gradient = force(z, jax.random.randint(key, (BATCH,), 0, n))
        virials = identities.read(displacement, gradient)
        return jnp.stack([loss, virials.plain, virials.curved, displacement @ displacement])

    def step(state: tuple[jax.Array, jax.Array], at: Any) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        (z, v), (key, rows, number) = state, at
        before, after, reading = jax.random.split(key, 3)
        z, v = coast(before, z, v, step_size / 2)
        v = v - step_size * whitening.pullback(force(z, rows)[2])
        z, v = coast(after, z, v, step_size / 2)
        is_read = number % STEPS_BETWEEN_READINGS == 0
        return (z, v), lax.cond(is_read, lambda: read(reading, z), lambda: jnp.full(4, jnp.nan, z.dtype))

    def double_sweep(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        order, steps = jax.random.split(key)
        forth = jax.random.permutation(order, n)[: num_batches * BATCH].reshape(num_batches, BATCH)
        rows = jnp.concatenate([forth, forth[::-1]])
        numbers = jnp.arange(2 * num_batches)
        return lax.scan(step, state, (jax.random.split(steps, 2 * num_batches), rows, numbers))

    def chain(key: jax.Array) -> jax.Array:
        place, speed, sweeps = jax.random.split(key, 3)
        start = tuple(jax.random.normal(k, (posterior.dim,), posterior.w0.dtype) for k in (place, speed))
        return lax.scan(double_sweep, start, jax.random.split(sweeps, num_sweeps))[1]

    readings = jax.vmap(chain)(jax.random.split(key, NUM_CHAINS))
    read_at = slice(None, None, STEPS_BETWEEN_READINGS)
    readings = readings[:, :, read_at].reshape(NUM_CHAINS, -1, 4)
    return tuple(readings[..., i] for i in range(4))


def by_sms_ubu(posterior: LocalPosterior, whitening: Whitening, step_size: float, seed: int) -> LLCEstimate:
    """As many gradients as `by_sgld` takes, those of readings included."""
    num_steps = NUM_STEPS / (1 + 1 / STEPS_BETWEEN_READINGS)
    num_sweeps = round(num_steps / (2 * (posterior.num_data // BATCH)))
    loss, plain, curved, squared_distance = sweep_chains(
        posterior, whitening, jax.random.key(seed), jnp.asarray(step_size, posterior.w0.dtype), num_sweeps
    )
    ones = np.ones(loss.shape)
    info = Info(
        **dict.fromkeys(Info._fields, ones)
        | dict.fromkeys(("is_divergent", "is_undefined"), 0 * ones)
        | {
            "excess_loss": np.asarray(loss),
            "squared_distance": np.asarray(squared_distance),
            "virial": np.asarray(plain),
            "curved_virial": np.asarray(curved),
        }
    )
    return judged(posterior, drop_burn_in(info, loss.shape[1] // 4))


def by_sgld(posterior: LocalPosterior, whitening: Whitening, step_size: float, seed: int) -> LLCEstimate:
    """Whitened SGLD from draws of the Gaussian that the coordinates stand for."""
    settings = SGLDSettings(eta0=step_size, precond_type="whitened", num_chains=NUM_CHAINS, batch=BATCH)
    start, init, run = jax.random.split(jax.random.key(seed), 3)
    z = jax.random.normal(start, (NUM_CHAINS, posterior.dim), posterior.w0.dtype)
    chains = GrowingChains(
        SGLD.from_settings(posterior, whitening, settings), init, jax.vmap(whitening.displacement)(z), Work()
    )
    chains.extend(run, NUM_STEPS)
    assert chains.info is not None
    return judged(posterior, drop_burn_in(chains.info, NUM_STEPS // 4))


def judged(posterior: LocalPosterior, info: Info) -> LLCEstimate:
    """λ̂ before and after the correction."""
    return estimate_llc_from_traces(info, float(posterior.nbeta), has_minibatch_noise=True, correction="virial")


RUNS = {"sgld": by_sgld, "sms-ubu": by_sms_ubu}


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each method and step size, and each problem's best."""
    lines = [f"{'problem':22} {'method':8} {'step':>5} {'raw rmse':>9} {'rmse':>7} {'R̂':>6} {'CPU s':>6}"]
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    for problem, method in itertools.product([*problems, "all"], RUNS):
        for step_size in STEP_SIZES[method]:
            found = [
                row
                for row in rows
                if row["method"] == method and row["step_size"] == step_size and problem in (row["problem"], "all")
            ]
            if found:
                raw, error = (math.sqrt(np.mean([row[name] ** 2 for row in found])) for name in ("raw_error", "error"))
                rhat, cpu = (np.median([row[name] for row in found]) for name in ("rhat", "cpu"))
                lines.append(f"{problem:22} {method:8} {step_size:5} {raw:9.1%} {error:7.2%} {rhat:6.3f} {cpu:6.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--problems", nargs="*", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    lines = Lines(options.folder / "kinetic.jsonl", ("problem", "method", "step_size", "seed"))
    for name in options.problems:
        seeds = range(options.seeds)
        wanted = [(name, method, size, seed) for method in RUNS for size in STEP_SIZES[method] for seed in seeds]
        if not (missing := lines.missing(wanted)):
            continue
        case = CASES[name]()
        with jax.enable_x64(True):
            posterior = build_posterior(
                case.loss_fn, case.w0, case.data, nbeta=len(case.data[0]) / math.log(len(case.data[0])),
                localization=case.localization, dtype="float64",
            )  # fmt: skip
            whitening = geometry_at_w0(posterior, jax.random.key(0)).whitening
            for result in missing:
                _, method, step_size, seed = result
                start = time.process_time()
                estimate = RUNS[method](posterior, whitening, step_size, seed)
                found = {
                    "raw_error": estimate.raw_llc / case.truth - 1,
                    "error": estimate.llc / case.truth - 1,
                    "claimed": estimate.se / case.truth,
                    "rhat": estimate.rhat,
                    "cpu": time.process_time() - start,
                }
                lines.add(result, found)
            print(f"{name}: λ = {case.truth:.4g} ± {case.truth_error:.2g}", flush=True)
    print(table(lines.rows))


if __name__ == "__main__":
    main()
