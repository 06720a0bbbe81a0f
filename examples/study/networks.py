"""A network of one's own for a study: trained here once, and loaded from its checkpoints ever after.

To use your own, change `loss_fn`, `rows` and `tanh_network`: the loss, the data, and what the study calls.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

WIDTH, NOISE = 3, 0.1
FOLDER = Path(__file__).parent


def forward(params, x):
    """Outputs of a network with one hidden layer."""
    return jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"]


def loss_fn(params, batch):
    """Negative log-likelihood of every row, without its constant."""
    x, y = batch
    return (forward(params, x) - y) ** 2 / (2 * NOISE**2)


def rows():
    """Inputs and noisy labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 2))
    return x, np.tanh(x @ np.array([1.0, -1.0])) + NOISE * rng.standard_normal(300)


def train(steps=(200, 5000)):
    """Full-batch Adam; parameters after each number of steps, as `step-N.npz` beside this file."""
    rng, data = np.random.default_rng(1), rows()
    shapes = {"w1": (2, WIDTH), "b1": (WIDTH,), "w2": (WIDTH,)}
    params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, max(steps)))

    @jax.jit
    def update(params, state):
        updates, state = optimizer.update(jax.grad(lambda p: jnp.mean(loss_fn(p, data)))(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for step in range(1, max(steps) + 1):
        params, state = update(params, state)
        if step in steps:
            np.savez(FOLDER / f"step-{step}.npz", **params)


def tanh_network(checkpoint):
    """What the study calls: the loss, the parameters of a checkpoint, and the data."""
    return loss_fn, dict(np.load(checkpoint)), rows()


if __name__ == "__main__":
    train()
