"""What step size and minibatches add to λ̂ of a stochastic-gradient sampler: the traces that tell it to first order."""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lambda_hat.posterior import LocalPosterior, Whitening

__all__ = ["BiasTraces", "measure_bias_traces"]

NUM_ROWS = 256  # per chain, whose gradients give the minibatch noise
NUM_PROBES = 256  # of each trace; up to as many parameters it is exact


class BiasTraces(NamedTuple):
    """Traces of a posterior N(w0, K⁻¹), K = H + γ_loc, H the Hessian of nβL_n, and of a constant preconditioner P.

    λ = ½ tr(HK⁻¹). C₁ is the covariance of nβ∇l_i over the rows i, so that the gradient of a minibatch of B rows has
    noise of covariance C = C₁/B. Not a number where the whitening is not one of this posterior.
    """

    discretisation: float
    """tr(PH) / tr(HK⁻¹)."""
    row_noise: float
    """tr(HK⁻¹PC₁) / tr(HK⁻¹)."""
    num_gradient_evaluations: float
    """Spent on them, on the full-data scale."""

    def minibatch_noise(self, batch_size: int, num_data: int) -> float:
        """tr(HK⁻¹PC) / tr(HK⁻¹): 0 where the minibatch is the whole data."""
        return self.row_noise / batch_size if batch_size < num_data else 0.0


@eqx.filter_jit
def _traces(
    posterior: LocalPosterior,
    whitening: Whitening,
    displacements: Float[Array, "chains d"],
    rng_key: Array,
    is_whitened: Array,
    num_probes: int,
) -> tuple[Array, Array, Array]:
    """tr(H K⁻¹), tr(P H) and tr(H K⁻¹ P C₁).

    One program for both preconditioners, and all random numbers in it: every further one costs a compilation.
    """
    localization, dim, num_data = posterior.localization, posterior.dim, posterior.num_data
    probe_key, row_key = jax.random.split(rng_key)
    if dim <= num_probes:
        probes = jnp.eye(dim, dtype=posterior.w0.dtype)
    else:
        probes = jax.random.rademacher(probe_key, (num_probes, dim), posterior.w0.dtype)
    row_keys = jax.random.split(row_key, len(displacements))
    indices = jax.lax.map(lambda key: jax.random.permutation(key, num_data)[: _num_rows(num_data)], row_keys)
    squares = lambda rows: jnp.sum(rows**2, axis=-1)  # noqa: E731
    mean_square = lambda rows: jnp.mean(squares(rows)) * dim / squares(probes[0])  # noqa: E731
    down, up = jax.vmap(whitening.pullback), jax.vmap(whitening.displacement)
    fitted = dim - localization * mean_square(down(probes))
    total = jax.lax.cond(
        is_whitened,
        lambda: fitted,
        lambda: mean_square(jax.vmap(whitening.coordinates)(probes)) - localization * dim,
    )

    def noise(args: tuple[Array, Array]) -> Array:
        displacement, rows = args
        gradients = posterior.nbeta * posterior.row_gradients(posterior.w0 + displacement, rows)
        gradients = gradients - jnp.mean(gradients, axis=0)
        pulled = down(gradients)
        form = jax.lax.cond(
            is_whitened,
            lambda: squares(pulled) - localization * squares(up(pulled)),
            lambda: squares(gradients) - localization * squares(pulled),
        )
        return jnp.sum(form) / (form.size - 1)

    return fitted, total, jnp.mean(jax.lax.map(noise, (displacements, indices)))


def _num_rows(num_data: int) -> int:
    return min(NUM_ROWS, num_data)


def measure_bias_traces(
    posterior: LocalPosterior,
    whitening: Whitening,
    displacements: Float[Array, "chains d"],
    rng_key: Array,
    *,
    is_whitened: bool,
) -> BiasTraces:
    """The traces for P = 1, or for P = K⁻¹ = A Aᵀ (`is_whitened`), from where chains ended.

    K is what the whitening says, K⁻¹ = A Aᵀ. Nothing here takes the model to be true: C₁ is measured on `NUM_ROWS` rows
    at the end of each chain. A model that is true has C₁ = nβ H, so that whitened its trace is κ nβ with
    κ = tr((HK⁻¹)²)/tr(HK⁻¹) ≤ 1.
    """
    traces = _traces(posterior, whitening, displacements, rng_key, jnp.asarray(is_whitened), NUM_PROBES)
    fitted, total, noise = map(float, traces)
    if not 0 < fitted < posterior.dim:
        fitted = math.nan
    num_data = posterior.num_data
    return BiasTraces(total / fitted, noise / fitted, len(displacements) * _num_rows(num_data) / num_data)
