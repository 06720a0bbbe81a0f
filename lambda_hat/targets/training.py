"""Training to a minimum: Adam on minibatches, then saddle-free Newton steps on the full data."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from lambda_hat.config.problems import PosteriorSpec, TrainingSpec
from lambda_hat.errors import TargetError
from lambda_hat.targets.fullbatch import mean_loss
from lambda_hat.targets.minimum import LocalModel, build_local_model
from lambda_hat.targets.model import Data, PerExampleLossFn

__all__ = ["train"]

_CURVE_POINTS = 100  # of each of the two stages
_MAX_NEWTON_DIM = 200  # up to here steps come from all eigenpairs of the Hessian, beyond from Krylov spaces
_MAX_EIGEN_DIM = 2000  # up to here all eigenvalues have the last word: half a minute at 20,000 rows
_DAMPING_FACTOR = 4.0
_MAX_REJECTED_STEPS = 20  # in a row, each with more damping: at a kink of a ReLU network no step may lead down

_logger = logging.getLogger(__name__)


def train(
    loss_fn: PerExampleLossFn,
    start: Float[np.ndarray, " d"],
    data: Data,
    spec: TrainingSpec,
    posterior: PosteriorSpec,
    batch_seed: int,
) -> tuple[Float[np.ndarray, " d"], dict[str, Any]]:
    """A minimum w0 of the mean loss and a record of how good it is.

    The record's `decrease_available` and `saddle_gain` are those of `LocalModel`, in units of the LLC; `is_minimum`
    says whether both are at most `spec.tolerance` per parameter. A position above it is returned too, for the caller to
    report: ReLU networks have kinks where no gradient vanishes.

    Raises:
        TargetError: the loss is not finite after Adam.
    """
    started = time.perf_counter()
    data = tuple(map(jnp.asarray, data))
    position, batch_losses = jax.block_until_ready(_run_adam(loss_fn, jnp.asarray(start), data, spec, batch_seed))
    if not np.isfinite(mean_loss(loss_fn, position, data)):
        raise TargetError("Training left the finite numbers: lower training.learning_rate.")
    adam_seconds = time.perf_counter() - started
    model, w0, losses = _polish(loss_fn, np.asarray(position), data, spec, posterior)
    is_minimum = model.is_minimum(spec.tolerance * w0.size)
    if not is_minimum:
        _logger.warning(
            "w0 is no minimum: nβ × the decrease still available is %.2g (gradient) and %.2g (negative curvature), "
            "allowed %.2g; more training.num_steps or training.max_polish_steps may help",
            model.decrease_available,
            model.saddle_gain,
            spec.tolerance * w0.size,
        )
    info = {
        "is_minimum": is_minimum,
        "loss": model.loss,
        "gradient_norm": model.gradient_norm,
        "decrease_available": model.decrease_available,
        "saddle_gain": model.saddle_gain,
        "smallest_curvature": float(model.curvatures[0]),
        "largest_curvature": float(model.curvatures[-1]),
        "has_all_curvatures": model.has_all_directions,
        "num_adam_steps": spec.num_steps,
        "num_polish_steps": len(losses) - 1,
        "adam_seconds": adam_seconds,
        "polish_seconds": time.perf_counter() - started - adam_seconds,
        "training_curve": _curve(np.asarray(batch_losses), 0) + _curve(np.asarray(losses), spec.num_steps),
    }
    return w0, info


@partial(jax.jit, static_argnames=("loss_fn", "spec"))
def _run_adam(
    loss_fn: PerExampleLossFn, start: Float[Array, " d"], data: Data, spec: TrainingSpec, batch_seed: int | Array
) -> tuple[Float[Array, " d"], Float[Array, " steps"]]:
    """Position and batch losses after Adam with a cosine schedule, on batches drawn with replacement."""
    num_data = data[0].shape[0]
    optimizer = optax.adam(optax.cosine_decay_schedule(spec.learning_rate, max(1, spec.num_steps)))

    def step(carry: tuple[Array, Any], rng_key: Array) -> tuple[tuple[Array, Any], Array]:
        position, state = carry
        batch = data
        if spec.batch_size < num_data:
            rows = jax.random.randint(rng_key, (spec.batch_size,), 0, num_data)
            batch = tuple(array[rows] for array in data)
        loss, gradient = jax.value_and_grad(lambda w: jnp.mean(loss_fn(w, batch)))(position)
        updates, state = optimizer.update(gradient, state)
        return (jnp.asarray(optax.apply_updates(position, updates)), state), loss

    rng_keys = jax.random.split(jax.random.key(batch_seed), spec.num_steps)
    (position, _), losses = jax.lax.scan(step, (start, optimizer.init(start)), rng_keys)
    return position, losses


def _polish(
    loss_fn: PerExampleLossFn,
    position: Float[np.ndarray, " d"],
    data: Data,
    spec: TrainingSpec,
    posterior: PosteriorSpec,
) -> tuple[LocalModel, Float[np.ndarray, " d"], list[float]]:
    """Saddle-free Newton steps, with less damping after each success and more after each failure, down to a minimum.

    It stops at the first one rather than the lowest: overfitted networks have valleys that lead to infinity, and what
    lies further away than the posterior reaches does not change the LLC.
    """
    nbeta = posterior.nbeta(data[0].shape[0])
    tolerance = spec.tolerance * position.size
    damping: float | None = None
    losses = []
    while True:
        localization = posterior.localization_at(position.size, float(np.linalg.norm(position)))
        is_small = position.size <= _MAX_NEWTON_DIM
        model = build_local_model(loss_fn, position, data, nbeta, localization, is_dense=is_small)
        if model.is_minimum(tolerance) and not model.has_all_directions and position.size <= _MAX_EIGEN_DIM:
            model = build_local_model(loss_fn, position, data, nbeta, localization, is_dense=True)
        losses.append(model.loss)
        if model.is_minimum(tolerance) or len(losses) > spec.max_polish_steps:
            return model, position, losses
        damping = localization if damping is None else max(damping / _DAMPING_FACTOR, 1e-6 * localization)
        for _ in range(_MAX_REJECTED_STEPS):
            candidate = position + model.step(damping)
            if float(mean_loss(loss_fn, jnp.asarray(candidate), data)) < model.loss:
                position = candidate
                break
            damping *= _DAMPING_FACTOR
        else:
            return model, position, losses


def _curve(losses: Float[np.ndarray, " steps"], first_step: int) -> list[list[float]]:
    """At most `_CURVE_POINTS` pairs of a step and the mean loss since the pair before."""
    ends = np.unique(np.linspace(0, len(losses), min(len(losses), _CURVE_POINTS) + 1).astype(int))[1:]
    parts = np.split(losses, ends[:-1]) if len(losses) else []
    return [[first_step + int(end), float(part.mean())] for end, part in zip(ends, parts, strict=True)]
