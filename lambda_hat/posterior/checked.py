"""The local posterior of a model that nobody has tried yet."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.errors import InputError
from lambda_hat.posterior.local import LocalPosterior, posterior_of
from lambda_hat.targets.model import Model
from lambda_hat.targets.pytrees import check_loss_type, check_loss_values, check_rows, coarsest_dtype

__all__ = ["check_gradient", "checked_posterior_of"]

# Of a finite difference: its step over the distance from w0, and how far it may be from the gradient's.
STEP, TOLERANCE = 1e-5, 1e-2
SHARES_OF_THE_WAY = (0.0, 1e-6, 1e-3, 1.0)  # a narrow hole in a plateau has a slope at one of them
COARSE_STEP, COARSE_TOLERANCE = 1e-2, 0.2  # where the loss computes in less than float64


def checked_posterior_of(model: Model, spec: PosteriorSpec, dtype: str) -> LocalPosterior:
    """The local posterior that `spec` describes around the model's w0, once its loss has been tried in `dtype`.

    Raises:
        InputError: a loss of another shape or type, that is not finite at w0, that mixes rows, that leaves parameters
            out, or that has another gradient than its values.
    """
    check_loss_type(model, dtype)
    posterior = posterior_of(model, spec, dtype)
    check_loss_values(np.asarray(posterior.row_losses_at_w0).reshape(-1)[: posterior.num_data])
    elsewhere = _elsewhere(posterior)
    check_rows(model.loss_fn, elsewhere, tuple(column[0] for column in posterior.rows), posterior.frozen)
    if model.sampled:
        check_gradient(model, posterior)
    return posterior


def check_gradient(model: Model, posterior: LocalPosterior) -> None:
    """Refuse a loss that no entry of a leaf matters to, or whose gradient is not that of its values.

    Both are seen at w0 and at points away from it, the second at the farthest along one random direction.

    Raises:
        InputError: the leaves that do not matter, or both slopes.
    """
    dtype = str(posterior.w0.dtype)
    coarsest = coarsest_dtype(model, dtype)
    is_coarse = coarsest != "float64"
    distance = math.sqrt(posterior.dim / float(posterior.localization))
    step = (COARSE_STEP if is_coarse else STEP) * distance
    direction = np.random.default_rng(0).standard_normal(posterior.dim)
    direction /= np.linalg.norm(direction)
    gradients, slope, level = _gradients_and_slope(
        posterior, _elsewhere(posterior), jnp.asarray(direction, dtype), jnp.asarray(step, dtype)
    )
    gradients, slope = np.asarray(gradients, np.float64), float(slope)
    if not (np.isfinite(gradients).all() and math.isfinite(slope)):
        return  # a loss may well overflow out there
    sizes = [size for _, size in model.sampled]
    parts = np.split(gradients, np.cumsum(sizes)[:-1], axis=1)
    if ignored := [place for (place, _), part in zip(model.sampled, parts, strict=True) if not part.any()]:
        advice = "Choose the others with `sampled`, or take it out of params."
        if len(ignored) == len(model.sampled):
            advice = "Look for `stop_gradient`, rounding to whole numbers, or a loss_fn that does not use its params."
        raise InputError(
            f"{', '.join(ignored)}: found a gradient that is zero everywhere, expected parameters that loss_fn depends "
            f"on. {advice}"
        )
    found = float(gradients[-1] @ direction)
    typical = max(abs(slope), float(np.linalg.norm(gradients[-1])) / math.sqrt(posterior.dim))
    size = float(np.mean(np.abs(posterior.row_losses_at_w0))) + float(level)
    rounding, curving = float(jnp.finfo(coarsest).eps) * size / step, (step / distance) ** 2 * float(level) / distance
    noise = 8 * (rounding + curving)  # of a difference in place of a derivative
    if abs(found - slope) > (COARSE_TOLERANCE if is_coarse else TOLERANCE) * typical + noise:
        raise InputError(
            f"loss_fn: along a random direction its values change by {slope:.4g} per unit of distance and its gradient "
            f"says {found:.4g}; expected the gradient to be that of the values. Look for `stop_gradient`, rounding to "
            "whole numbers, or a rule for derivatives of your own."
        )


def _elsewhere(posterior: LocalPosterior) -> Float[Array, " d"]:
    signs = jnp.where(jnp.arange(posterior.dim) % 2, -1, 1)
    return posterior.w0 + signs / jnp.sqrt(posterior.localization)


@eqx.filter_jit
def _gradients_and_slope(
    posterior: LocalPosterior, position: Float[Array, " d"], direction: Float[Array, " d"], step: Float[Array, ""]
) -> tuple[Float[Array, "points d"], Float[Array, ""], Float[Array, ""]]:
    """∇L_n on the way from w0 to `position`, the slope of L_n there by a central difference, and |L_n − L_n(w0)|."""
    shares = jnp.asarray(SHARES_OF_THE_WAY, position.dtype)[:, None]
    gradients = jax.lax.map(jax.grad(posterior.excess_loss), posterior.w0 + shares * (position - posterior.w0))
    ends = jnp.stack([position + step * direction, position - step * direction])
    ahead, behind = jax.lax.map(posterior.excess_loss, ends)
    return gradients, (ahead - behind) / (2 * step), jnp.abs(ahead)
