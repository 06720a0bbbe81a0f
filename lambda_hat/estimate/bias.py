"""What SGLD's step size and its minibatches add to λ̂, to first order."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from lambda_hat.config.methods import SGLDSettings
from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.samplers.gradients import row_gradients

__all__ = ["PREDICTABLE", "SGLDBias", "predict_sgld_bias"]

PREDICTABLE = ("none", "whitened")  # P constant, so that it has a stationary law to speak of
NUM_ROWS = 256  # per chain, whose gradients give the minibatch noise
NUM_PROBES = 256  # of each trace; up to as many parameters it is exact


class SGLDBias(eqx.Module):
    """The relative bias (λ̂ − λ)/λ per unit of step size, and how many gradients on the full-data scale it took."""

    discretisation: float
    minibatch: float
    num_gradient_evaluations: float

    @property
    def is_known(self) -> bool:
        """Whether the whitening was one of this posterior, as the formula supposes."""
        return math.isfinite(self.discretisation + self.minibatch)

    def at(self, step_sizes: ArrayLike) -> float:
        """Relative bias of the η-weighted mean of readings taken at `step_sizes`: that of their η-weighted mean."""
        eta = np.asarray(step_sizes, np.float64)
        return (self.discretisation + self.minibatch) * float(np.sum(eta**2) / np.sum(eta))


@eqx.filter_jit
def _traces(
    posterior: LocalPosterior,
    whitening: Whitening,
    displacements: Float[Array, "chains d"],
    rng_key: Array,
    is_whitened: Array,
    num_probes: int,
) -> tuple[Array, Array, Array]:
    """tr(H K⁻¹), tr(P H) and tr(H K⁻¹ P C n_B), with C n_B the covariance of one row's nβ ∇l_i.

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
        gradients = posterior.nbeta * row_gradients(posterior, posterior.w0 + displacement, rows)
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


def predict_sgld_bias(
    posterior: LocalPosterior,
    whitening: Whitening,
    settings: SGLDSettings,
    displacements: Float[Array, "chains d"],
    rng_key: Array,
) -> SGLDBias | None:
    """The relative bias of SGLD with a constant preconditioner P, per unit of η, from where its chains ended.

    Around a posterior N(w0, K⁻¹), K = H + γ_loc, H the Hessian of nβL_n, with gradient noise of covariance C, the
    stationary covariance Σ of w ← w − (η/2) P (K (w − w0) + noise) + √(ηP) ξ solves
    PKΔ + ΔKP = (η/2)(PKP + PCP) to first order in Δ = Σ − K⁻¹, so that

        λ̂ − λ = ½ tr(HΔ) = (η/8) ( tr(PH) + tr(H K⁻¹ P C) ),      λ = ½ tr(H K⁻¹),

    for P = 1 and for P = K⁻¹ = A Aᵀ (whitened), where it becomes λ̂/λ − 1 = (η/4)(1 + κ nβ/B) if the model is true,
    C = (nβ/B) H, with κ = tr((HK⁻¹)²)/tr(HK⁻¹) ≤ 1. Nothing here takes the model to be true: C is measured on
    `NUM_ROWS` rows at the end of each chain. K is what the whitening says, K⁻¹ = A Aᵀ.

    None for preconditioners that follow the gradients; not a number where the whitening is not one of this posterior.
    """
    if settings.preconditioner not in PREDICTABLE:
        return None
    dim, num_data = posterior.dim, posterior.num_data
    is_whitened = jnp.asarray(settings.preconditioner == "whitened")
    traces = _traces(posterior, whitening, displacements, rng_key, is_whitened, NUM_PROBES)
    fitted, total, noise = map(float, traces)
    has_noise = settings.batch_size < num_data
    if not 0 < fitted < dim:
        fitted = math.nan
    return SGLDBias(
        discretisation=0.25 * total / fitted,
        minibatch=0.25 * noise / settings.batch_size / fitted if has_noise else 0.0,
        num_gradient_evaluations=len(displacements) * _num_rows(num_data) / num_data,
    )
