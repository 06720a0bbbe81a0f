"""λ̂ along training, with its figure: hollow points are checkpoints that are no minima."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import lambda_hat

NOISE = 0.1
rng = np.random.default_rng(0)
x = rng.standard_normal((300, 2))
y = np.tanh(x @ np.array([1.0, -1.0])) + NOISE * rng.standard_normal(300)


def loss_fn(params, batch):
    """Negative log-likelihood of every row, without its constant."""
    x, y = batch
    outputs = jnp.tanh(x @ params["w1"]) @ params["w2"]
    return (outputs - y) ** 2 / (2 * NOISE**2)


def train(steps):
    """Full-batch Adam; parameters by step."""
    params = {"w1": jnp.asarray(rng.standard_normal((2, 3))), "w2": jnp.asarray(rng.standard_normal(3))}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, max(steps)))

    @jax.jit
    def update(params, state):
        gradient = jax.grad(lambda p: jnp.mean(loss_fn(p, (x, y))))(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    checkpoints, state = {}, optimizer.init(params)
    for step in range(max(steps) + 1):
        if step in steps:
            checkpoints[step] = params
        params, state = update(params, state)
    return checkpoints


checkpoints = train(steps=(0, 100, 300, 1000, 3000, 10_000))
settings = {"sampler": "hmc", "steps": 1000, "localization": 100.0}
series = lambda_hat.estimate_llc_series(
    loss_fn, checkpoints, (x, y), resume_from="series.json", on_point=print, **settings
)
print(series.to_frame()[["llc", "se", "laplace_llc", "decrease_available", "is_minimum"]])
axes = series.plot()
axes.set_xscale("symlog", linthresh=100)
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "lambda_along_training.png")
axes.figure.savefig(figure)
print(f"figure: {figure}")
