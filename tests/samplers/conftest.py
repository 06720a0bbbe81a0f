"""How every sampler's test runs chains and reads off λ̂, and kernels broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.draws.info import drop_burn_in
from lambda_hat.draws.llc import LLCEstimate, estimate_llc_from_traces
from lambda_hat.samplers.base import MinibatchSampler
from lambda_hat.samplers.runner import init_chains, run_chains

NUM_CHAINS = 8


@pytest.fixture
def sample_llc() -> Callable[..., LLCEstimate]:
    """λ̂ from chains that start at w0: one program per sampler type, as numbers are traced."""

    def sample_llc(sampler: Any, num_steps: int, *, num_burn_in: int = 200, seed: int = 0) -> LLCEstimate:
        init_key, run_key = jax.random.split(jax.random.key(seed))
        posterior = sampler.posterior
        starts = jnp.zeros((NUM_CHAINS, posterior.dim), posterior.w0.dtype)
        states = init_chains(sampler, init_key, starts)
        chains = run_chains(sampler, run_key, states, num_burn_in + num_steps, num_warmup=num_burn_in)
        return estimate_llc_from_traces(
            drop_burn_in(chains.info, num_burn_in),
            float(posterior.nbeta),
            has_minibatch_noise=isinstance(sampler, MinibatchSampler),
        )

    return sample_llc


@pytest.fixture
def never_rejecting() -> Callable[[Callable], Callable]:
    """A BlackJAX kernel without its Metropolis decision: the end of every trajectory is the next state."""

    def never_rejecting(kernel: Callable) -> Callable:
        def broken(*args: Any) -> tuple[Any, Any]:
            chain, info = kernel(*args)
            names = ("position", "logdensity", "logdensity_grad")
            return chain._replace(**{name: getattr(info.proposal, name) for name in names}), info

        return broken

    return never_rejecting


@pytest.fixture
def recast() -> Callable[..., Any]:
    """The same fields in another class; a class of its own keeps a broken kernel apart from compiled sound ones."""

    def recast(sampler: Any, cls: type, **more: Any) -> Any:
        fields = {name: getattr(sampler, name) for name in sampler.__dataclass_fields__}
        return cls(**fields, **{name: np.asarray(value, sampler.posterior.w0.dtype) for name, value in more.items()})

    return recast


@pytest.fixture
def without_localization() -> Callable[[Any], Any]:
    """The sampler with the prior left out of its posterior."""

    def without_localization(sampler: Any) -> Any:
        zero = jnp.zeros_like(sampler.posterior.localization)
        return eqx.tree_at(lambda s: s.posterior.localization, sampler, zero)

    return without_localization
