"""Which sampler serves curved posteriors best: `python benchmarks/kernels.py FOLDER [--repeats 8] [--only NAME ...]`.

On hyperbolas and on a ReLU network whose localization is wide, chains in fixed coordinates mix r² slowly. This runs
what the field has for that, each in the coordinates that the reference finds and from the draws of its pilots:

- hmc: the reference's chains, 4 of them, with a fixed number of leapfrog steps;
- long hmc: the same with eight times as many steps;
- nuts: trajectories that end where they turn back;
- chees: 64 chains whose common trajectory length maximizes ChEES;
- meads: 64 chains of generalized HMC, tuned by each other;
- mclmc: adjusted microcanonical Langevin;
- smc: 512 particles tempered from the localization's Gaussian, with moves of HMC;
- reference: all that `certify_llc` does, importance sampling included.

Prints, for each, the median number of gradients, the root mean squared relative error, how many gradients an error of
1 % takes at that rate, and in how many of the runs R̂ of loss and r² is at most 1.01. Writes FOLDER/kernels.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(OMP_NUM_THREADS="1", NPROC="1", JAX_ENABLE_X64="true")

import blackjax
import blackjax.smc.resampling
import jax
import jax.numpy as jnp
import numpy as np
import optax
from gauntlet_problems import Problem, fixed_problems

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.draws.criteria import MAX_RHAT
from lambda_hat.draws.diagnostics import diagnose_trace
from lambda_hat.posterior import Coordinates, LocalPosterior, Whitening, geometry_at_w0, posterior_of
from lambda_hat.reference.coordinates import find_coordinates, start_hmc
from lambda_hat.reference.engine import sample_reference
from lambda_hat.samplers.growing import GrowingChains
from lambda_hat.samplers.mclmc import AdjustedMCLMC
from lambda_hat.samplers.work import Work
from lambda_hat.targets import read_model

PROBLEMS = ("hyperbola γ=0.1", "hyperbola γ=0.03", "u v w = 1", "relu45 γ=10", "relu45 γ=1")
GRADIENTS = 200_000  # of the draws, of each kernel but the reference
NUM_CHAINS, NUM_ENSEMBLE, NUM_PARTICLES = 4, 64, 512
SECONDS = 120.0  # CPU seconds of a reference


class Run(NamedTuple):
    """λ̂ of one run, what it took, and its R̂."""

    llc: float
    gradients: float
    rhat: float


class Place(NamedTuple):
    """What every kernel starts from."""

    posterior: LocalPosterior
    whitening: Whitening
    draws: jax.Array  # w − w0
    key: jax.Array

    @property
    def logdensity(self) -> Callable[[jax.Array], jax.Array]:
        """By whitened coordinates."""
        return lambda z: self.posterior.logdensity(self.posterior.w0 + self.whitening.displacement(z))

    def starts(self, num_chains: int) -> jax.Array:
        """Whitened coordinates of the last draws."""
        return jax.vmap(self.whitening.coordinates)(self.draws[-num_chains:])

    def traces(self, logdensities: jax.Array, positions: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """Loss and r² of each chain."""
        squared = jnp.sum(jax.vmap(jax.vmap(self.whitening.displacement))(positions) ** 2, axis=-1)
        return np.asarray(self.posterior.excess_loss_from(logdensities, squared)), np.asarray(squared)

    def result(self, loss: np.ndarray, squared: np.ndarray, gradients: float) -> Run:
        """λ̂ by the mean of the loss."""
        rhat = max(diagnose_trace(loss).rhat, diagnose_trace(squared).rhat)
        return Run(float(self.posterior.nbeta) * float(loss.mean()), gradients, rhat)


def find_place(posterior: LocalPosterior, seed: int) -> Place:
    keys = iter(jax.random.split(jax.random.key(seed), 1000))
    settings = HMCSettings(step_size=0.1, num_integration_steps=ReferenceSpec().num_integration_steps)
    found = find_coordinates(posterior, geometry_at_w0(posterior, next(keys)), settings, NUM_CHAINS, keys, Work())
    return Place(found.posterior, found.coordinates.averaged, found.draws, next(keys))


def hmc(place: Place, factor: int = 1) -> Run:
    keys = iter(jax.random.split(place.key, 1000))
    steps = factor * ReferenceSpec().num_integration_steps
    settings = HMCSettings(step_size=0.1, num_integration_steps=steps)
    coordinates = Coordinates(place.whitening, place.whitening)
    chains = start_hmc(place.posterior, coordinates, settings, place.draws[-NUM_CHAINS:], keys, Work())
    chains.extend(next(keys), GRADIENTS // (steps * NUM_CHAINS))
    return _of_chains(place, chains)


def mclmc(place: Place) -> Run:
    keys = iter(jax.random.split(place.key, 1000))
    sampler = AdjustedMCLMC.from_settings(place.posterior, place.whitening, MCLMCSettings(step_size=0.1))
    chains = GrowingChains(sampler, next(keys), place.draws[-NUM_CHAINS:], Work())
    chains.advance(next(keys), 200, num_warmup=200)
    chains.extend(next(keys), 200)
    assert chains.info is not None
    per_draw = float(np.mean(chains.info.num_gradient_evaluations)) * NUM_CHAINS
    chains.extend(next(keys), max(int(GRADIENTS / per_draw) - 200, 100))
    return _of_chains(place, chains)


def _of_chains(place: Place, chains: GrowingChains) -> Run:
    assert chains.info is not None
    info = chains.info
    return place.result(info.excess_loss, info.squared_distance, float(np.sum(info.num_gradient_evaluations)))


def nuts(place: Place) -> Run:
    adaptation = blackjax.window_adaptation(
        blackjax.nuts, place.logdensity, is_mass_matrix_diagonal=True, target_acceptance_rate=0.8
    )
    parameters = jax.jit(lambda key, start: adaptation.run(key, start, 400)[0].parameters)(
        place.key, place.starts(1)[0]
    )
    kernel = blackjax.nuts(place.logdensity, parameters["step_size"], jnp.ones(place.posterior.dim))

    states = jax.vmap(kernel.init)(place.starts(NUM_CHAINS))
    return _of_ensemble(place, states, kernel.step, lambda info: info.num_integration_steps)


def chees(place: Place) -> Run:
    adaptation = blackjax.chees_adaptation(place.logdensity, NUM_ENSEMBLE, target_acceptance_rate=0.75)
    (states, parameters), _ = adaptation.run(place.key, place.starts(NUM_ENSEMBLE), 0.1, optax.adam(0.02), 300)
    kernel = blackjax.dynamic_hmc(place.logdensity, **parameters)
    return _of_ensemble(place, states, kernel.step, lambda info: info.num_integration_steps)


def meads(place: Place) -> Run:
    adaptation = blackjax.meads_adaptation(place.logdensity, NUM_ENSEMBLE)
    (states, parameters), _ = adaptation.run(place.key, place.starts(NUM_ENSEMBLE), 500)
    kernel = blackjax.ghmc(place.logdensity, **parameters)
    return _of_ensemble(place, states, kernel.step, lambda _: 1)


def _of_ensemble(place: Place, states: Any, kernel: Callable[..., Any], cost: Callable[[Any], Any]) -> Run:
    num_chains = len(states.logdensity)

    @jax.jit
    def run(key: jax.Array, states: Any) -> Any:
        def step(states: Any, key: jax.Array) -> Any:
            states, info = jax.vmap(kernel)(jax.random.split(key, num_chains), states)
            steps = jnp.sum(jnp.broadcast_to(cost(info), (num_chains,)))
            return states, (states.logdensity, states.position, steps)

        return jax.lax.scan(step, states, jax.random.split(key, 50))

    rows, gradients, number = [], 0.0, 0
    while gradients < GRADIENTS:
        number += 1
        states, (logdensity, position, steps) = run(jax.random.fold_in(place.key, number), states)
        rows.append(place.traces(logdensity.T, jnp.swapaxes(position, 0, 1)))
        gradients += float(jnp.sum(steps))
    loss, squared = (np.concatenate(parts, axis=1) for parts in zip(*rows, strict=True))
    return place.result(loss, squared, gradients)


def smc(place: Place) -> Run:
    """From N(0, 1/γ) to the posterior, in parameters scaled by √γ; every level moves the particles by 5 × 10 steps."""
    scale, posterior = 1 / math.sqrt(float(place.posterior.localization)), place.posterior
    dim, moves, steps = posterior.dim, 5, 10

    def log_prior(z: jax.Array) -> jax.Array:
        return -0.5 * jnp.sum(z**2)

    def log_likelihood(z: jax.Array) -> jax.Array:
        return posterior.logdensity(posterior.w0 + scale * z) - log_prior(z)

    particles = jax.random.normal(place.key, (NUM_PARTICLES, dim), jnp.float64)
    width, temperature, gradients, key = jnp.ones(dim), 0.0, 0.0, place.key

    @jax.jit
    def move(key: jax.Array, particles: jax.Array, width: jax.Array, step: jax.Array, temperature: jax.Array) -> Any:
        logdensity = lambda z: log_prior(z) + temperature * log_likelihood(z)  # noqa: E731
        kernel = blackjax.hmc(logdensity, step, width**2, steps)

        def once(states: Any, key: jax.Array) -> Any:
            states, info = jax.vmap(kernel.step)(jax.random.split(key, NUM_PARTICLES), states)
            return states, jnp.mean(info.acceptance_rate)

        states, rates = jax.lax.scan(once, jax.vmap(kernel.init)(particles), jax.random.split(key, moves))
        return states.position, jnp.mean(rates)

    likelihoods = jax.jit(jax.vmap(log_likelihood))
    step = 0.3
    while temperature < 1:
        values = np.asarray(likelihoods(particles))
        gain = _largest_gain(values, 1 - temperature)
        weights = np.exp(gain * (values - values.max()))
        temperature, key = temperature + gain, jax.random.fold_in(key, 1)
        chosen = blackjax.smc.resampling.systematic(key, jnp.asarray(weights / weights.sum()), NUM_PARTICLES)
        particles = particles[chosen]
        width = jnp.std(particles, axis=0)
        for attempt in range(2):
            key = jax.random.fold_in(key, 2 + attempt)
            particles, rate = move(key, particles, width, step, temperature)
            gradients += NUM_PARTICLES * moves * steps
            step = float(np.clip(step * (1.3 if rate > 0.8 else 0.7), 1e-3, 1.0))
    squared = scale**2 * jnp.sum(particles**2, axis=1)
    loss = posterior.excess_loss_from(
        jax.vmap(lambda z: posterior.logdensity(posterior.w0 + scale * z))(particles), squared
    )
    return Run(float(posterior.nbeta) * float(jnp.mean(loss)), gradients, math.nan)


def _largest_gain(values: np.ndarray, most: float) -> float:
    """How much the temperature may grow for half of the particles to remain effective."""

    def is_allowed(gain: float) -> bool:
        weights = np.exp(gain * (values - values.max()))
        return bool(weights.sum() ** 2 >= 0.5 * len(values) * np.sum(weights**2))

    if is_allowed(most):
        return most
    low, high = 0.0, most
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if is_allowed(middle) else (low, middle)
    return low


def reference(place: Place) -> Run:
    seed = int(jax.random.randint(place.key, (), 0, 2**31 - 1))
    found = sample_reference(place.posterior, ReferenceSpec(seed=seed), deadline=time.monotonic() + SECONDS)
    rhat = 1.0 if found.certificate.is_certified else math.inf
    return Run(found.llc, found.num_gradient_evaluations, rhat)


KERNELS: dict[str, Callable[[Place], Run]] = {
    "hmc": hmc,
    "long hmc": partial(hmc, factor=8),
    "nuts": nuts,
    "chees": chees,
    "meads": meads,
    "mclmc": mclmc,
    "smc": smc,
    "reference": reference,
}


def compare(problem: Problem, name: str, repeats: int) -> dict[str, Any]:
    spec = PosteriorSpec(localization=problem.localization, inverse_temperature=problem.inverse_temperature)
    posterior = posterior_of(read_model(problem.loss_fn, problem.w0, problem.data), spec, "float64")
    start = time.process_time()
    runs = [KERNELS[name](find_place(posterior, seed)) for seed in range(repeats)]
    truth = problem.truth
    errors = np.array([run.llc / truth.llc - 1 for run in runs])
    gradients, rms = float(np.median([run.gradients for run in runs])), float(np.sqrt(np.mean(errors**2)))
    return {
        "problem": problem.name,
        "kernel": name,
        "gradients": gradients,
        "rms_error": rms,
        "gradients_per_percent": gradients * (rms / 0.01) ** 2,
        "mixed": sum(run.rhat <= MAX_RHAT for run in runs),
        "runs": [run._asdict() for run in runs],
        "truth": truth.llc,
        "cpu": time.process_time() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--only", nargs="+", default=PROBLEMS, metavar="TEXT", help="names of problems")
    parser.add_argument("--kernels", nargs="+", default=list(KERNELS), choices=list(KERNELS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    print(f"{'problem':20} {'kernel':10} {'gradients':>10} {'rms error':>10} {'for 1 %':>12} {'mixed':>6} {'CPU s':>6}")
    for problem in fixed_problems():
        for name in options.kernels if problem.name in options.only else ():
            row = compare(problem, name, options.repeats)
            rows.append(row)
            work = f"{row['gradients']:10,.0f} {row['rms_error']:10.2%} {row['gradients_per_percent']:12,.0f}"
            mixed = f"{row['mixed']:3}/{options.repeats}"
            print(f"{problem.name:20} {name:10} {work} {mixed:>6} {row['cpu']:6.0f}", flush=True)
            (options.folder / "kernels.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
