"""Trains the transformer until it groks: `python train.py`. Its checkpoints are `step-N.npz` beside this file."""

import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize
from transformer import FOLDER, HIDDEN, SHAPES, WIDTH, logits, loss_fn, rows

STEPS, MINIMUM = (0, 50, 100, 150, 200, 300, 500, 1000, 3000), 5000
jax.config.update("jax_enable_x64", True)
optimizer = optax.adamw(0.01, b2=0.98, weight_decay=1.0)
value_and_grad = jax.jit(jax.value_and_grad(lambda params: jnp.mean(loss_fn(params, rows()))))


@jax.jit
def advance(params, state, num_steps):
    """So many steps of AdamW with all rows."""

    def step(_, carry):
        params, state = carry
        updates, state = optimizer.update(value_and_grad(params)[1], state, params)
        return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, num_steps, step, (params, state))


def to_minimum(params):
    """On from there without weight decay: λ̂ is defined around a minimum of the loss alone."""
    start, unravel = jax.flatten_util.ravel_pytree(params)

    def objective(w):
        value, gradient = value_and_grad(unravel(w))
        return float(value), np.asarray(jax.flatten_util.ravel_pytree(gradient)[0])

    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "maxcor": 50})
    return unravel(found.x)


def keep(step, params):
    """Write a checkpoint, and say how well it adds."""
    np.savez(FOLDER / f"step-{step}.npz", **params)
    tokens, sums = rows(is_training=False)
    accuracy = np.mean(np.argmax(logits(params, tokens), axis=1) == sums)
    print(f"step {step}: loss {value_and_grad(params)[0]:.4f}, accuracy in tests {accuracy:.2f}", flush=True)


rng, fan_in = np.random.default_rng(0), dict.fromkeys(SHAPES, WIDTH) | {"down": HIDDEN}
params = {name: jnp.asarray(rng.standard_normal(SHAPES[name]) / math.sqrt(fan_in[name])) for name in SHAPES}
state = optimizer.init(params)
for before, step in zip((0, *STEPS), STEPS, strict=False):
    params, state = advance(params, state, step - before)
    keep(step, params)
keep(MINIMUM, to_minimum(params))
