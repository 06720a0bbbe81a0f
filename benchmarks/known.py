"""Posteriors whose λ̂ is known, with the coordinates that a reference would find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lambda_hat.config.methods import MethodSettings
from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.problems import PosteriorSpec, QuadraticProblem
from lambda_hat.estimate.method import MethodResult, run_method
from lambda_hat.posterior import (
    Coordinates,
    LocalPosterior,
    build_posterior,
    hessian_whitening,
    posterior_of,
    whitening_from_arrays,
)
from lambda_hat.samplers.hmc import HMC
from lambda_hat.samplers.runner import init_chains, run_chains
from lambda_hat.targets import build_target
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

RELU45 = Path(__file__).parents[1] / "tests/data/relu45.npz"


@dataclass(frozen=True)
class Known:
    """A posterior in each precision, its coordinates, and λ̂."""

    posteriors: dict[str, LocalPosterior]
    coordinates: Coordinates
    truth: float

    def run(self, settings: MethodSettings, seed: int = 0) -> MethodResult:
        """One run in the precision of its method."""
        with jax.enable_x64(settings.dtype == "float64"):
            at_w0, averaged = (
                whitening_from_arrays(whitening.to_arrays(), settings.dtype)
                for whitening in (self.coordinates.at_w0, self.coordinates.averaged)
            )
            return run_method(
                self.posteriors[settings.dtype], settings, coordinates=Coordinates(at_w0, averaged), seed=seed
            )


def quadratic(dim: int = 10, num_data: int = 1000, localization: float = 10.0) -> Known:
    """A rotated quadratic, exact in closed form."""
    problem = QuadraticProblem(dim=dim, num_data=num_data, posterior=PosteriorSpec(localization=localization))
    with jax.enable_x64(True):
        target = build_target(problem)
    posteriors = {}
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            posteriors[dtype] = posterior_of(target, problem.posterior, dtype)
    with jax.enable_x64(True):
        posterior = posteriors["float64"]
        whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    truth = target.exact_llc(float(posterior.nbeta), localization)
    return Known(posteriors, Coordinates(whitening, whitening), truth)


def relu45_posterior(localization: float = 100.0, dtype: str = "float64") -> LocalPosterior:
    """The posterior of the ReLU network 4-4-4-1 of the tests; JAX must be in the mode for `dtype`."""
    with np.load(RELU45) as arrays:
        loss_fn = SquaredError(MLP(tuple(int(size) for size in arrays["sizes"]), "relu"), 0.5 / 0.05**2)
        data, w0 = (arrays["X"], arrays["Y"]), arrays["w0"]
    nbeta = PosteriorSpec().nbeta(data[0].shape[0])
    return build_posterior(loss_fn, w0, data, nbeta=nbeta, localization=localization, dtype=dtype)


def relu45() -> Known:
    """That network at γ_loc = 100, truth pooled over 21 converged runs."""
    posteriors = {}
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            posteriors[dtype] = relu45_posterior(dtype=dtype)
    with jax.enable_x64(True):
        posterior = posteriors["float64"]
        at_w0, _ = hessian_whitening(posterior, posterior.w0[None])
        averaged = at_w0
        for pilot in range(2):
            averaged = _average_over_pilot(posterior, averaged, jax.random.key(pilot))
    return Known(posteriors, Coordinates(at_w0, averaged), 15.637)


def _average_over_pilot(posterior: LocalPosterior, whitening, rng_key):
    start_key, warmup_key, run_key = jax.random.split(rng_key, 3)
    sampler = HMC.from_settings(posterior, whitening, HMCSettings(step_size=0.1))
    starts = jax.vmap(whitening.displacement)(jax.random.normal(start_key, (8, posterior.dim)))
    chains = run_chains(sampler, warmup_key, init_chains(sampler, start_key, starts), 300, num_warmup=300)
    draws = []
    for snapshot in range(20):
        chains = run_chains(chains.sampler, jax.random.fold_in(run_key, snapshot), chains.states, 20)
        draws.append(jax.vmap(sampler.displacement)(chains.states))
    return hessian_whitening(posterior, posterior.w0 + jnp.concatenate(draws))[0]
