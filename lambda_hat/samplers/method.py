"""What a method is beside its settings: how its chains are built, and how they are judged when they have ended."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.config.methods import MethodSettings
from lambda_hat.draws.info import Info
from lambda_hat.draws.llc import LLCEstimate
from lambda_hat.posterior import Coordinates, LocalPosterior, Whitening
from lambda_hat.samplers.base import Sampler
from lambda_hat.samplers.runner import Chains

__all__ = [
    "Built",
    "Ended",
    "FitDraws",
    "Judge",
    "Judgement",
    "adjusted_reports",
    "build",
    "divergence_rate",
    "starts_at_w0",
    "starts_by_whitening",
]


class Ended(NamedTuple):
    """Chains that have ended, as their method judges them."""

    chains: Chains
    info: Info
    """Traces without burn-in."""
    is_stopped: bool
    """Whether whoever looked on had seen enough."""
    is_diverged: bool


class FitDraws(NamedTuple):
    """Draws of a fitted density judged on the full data, each `(num_draws,)` or `(num_fits, num_draws)`.

    `log_weights` lead from that density to π, up to a constant.
    """

    excess_loss: Array | np.ndarray
    squared_distance: Array | np.ndarray
    log_weights: Array | np.ndarray


class Judgement(NamedTuple):
    """What a method says of chains that have ended. `reports` are those that its settings declare."""

    reports: Mapping[str, float] = MappingProxyType({})
    estimate: LLCEstimate | None = None
    """An estimate that replaces the one from the readings of the chains; None keeps that."""
    fit_draws: FitDraws | None = None
    """Draws of fitted densities that the estimate comes from, `(num_fits, num_draws)`; None without a fit."""
    num_gradient_evaluations: float = 0.0
    """Spent on it, on the full-data scale."""


class Judge(Protocol):
    """Judges chains that have ended.

    Raises:
        OutOfTime: there is no time for it; `Chains.settled_states` does where the device may still be at work.
    """

    def __call__(self, ended: Ended, rng_key: Array) -> Judgement:
        """The verdict; `rng_key` is for draws of its own."""
        ...


class Built(NamedTuple):
    """A method on one posterior, ready to run."""

    sampler: Sampler
    starts: Float[Array, "chains d"]
    """w − w0 of every chain's start."""
    judge: Judge
    num_gradient_evaluations: float = 0.0
    """Spent on building it, on the full-data scale."""


def build(posterior: LocalPosterior, coordinates: Coordinates, settings: MethodSettings, rng_key: Array) -> Built:
    """What `build` of the method's own module makes of its settings.

    Raises:
        InputError: settings that do not fit together.
    """
    return import_module(f"lambda_hat.samplers.{settings.method}").build(posterior, coordinates, settings, rng_key)


def starts_at_w0(posterior: LocalPosterior, num_chains: int) -> Float[Array, "chains d"]:
    """Displacements of chains that start at w0."""
    return jnp.zeros((num_chains, posterior.dim), posterior.w0.dtype)


def starts_by_whitening(
    whitening: Whitening, posterior: LocalPosterior, num_chains: int, rng_key: Array
) -> Float[Array, "chains d"]:
    """Displacements drawn from N(0, A Aᵀ), which is π where that is Gaussian."""
    noise = jax.random.normal(rng_key, (num_chains, posterior.dim), posterior.w0.dtype)
    return jax.vmap(whitening.displacement)(noise)


def divergence_rate(ended: Ended) -> float:
    """Fraction of retained steps that failed numerically."""
    return float(np.mean(ended.info.is_divergent))


def adjusted_reports(ended: Ended) -> dict[str, float]:
    """What every sampler reports whose Metropolis decision and step size are adapted to an acceptance rate."""
    return {
        "divergence_rate": divergence_rate(ended),
        "undefined_rate": float(np.mean(ended.info.is_undefined)),
        "acceptance_rate": float(np.mean(ended.info.acceptance_rate)),
        "adapted_step_size": float(ended.chains.sampler.step_size),
    }
