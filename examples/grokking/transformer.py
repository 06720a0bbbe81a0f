"""A one-layer transformer with four heads for a + b mod 23, and what a study calls. First `python train.py`."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

P, WIDTH, HEADS, HIDDEN = 23, 12, 4, 27  # tokens 0 to 22 are numbers, 23 is "="
SHAPES = {"embed": (P + 1, WIDTH), "place": (3, WIDTH), "out": (WIDTH, P)}
SHAPES |= dict.fromkeys(("query", "key", "value", "mix"), (WIDTH, WIDTH))
SHAPES |= {"up": (WIDTH, HIDDEN), "down": (HIDDEN, WIDTH)}  # 1,824 parameters in all
FOLDER = Path(__file__).parent


def logits(params, tokens):
    """Logits (B, 23) of what follows the tokens (B, 3) of a, b and "="."""
    x = params["embed"][tokens] + params["place"]
    shape = (*tokens.shape, HEADS, WIDTH // HEADS)
    query, key, value = ((x @ params[name]).reshape(shape) for name in ("query", "key", "value"))
    scores = jnp.einsum("bhd,bthd->bht", query[:, -1], key) / math.sqrt(shape[-1])
    heads = jnp.einsum("bht,bthd->bhd", jax.nn.softmax(scores), value)
    x = x[:, -1] + heads.reshape(-1, WIDTH) @ params["mix"]
    return (x + jax.nn.gelu(x @ params["up"]) @ params["down"]) @ params["out"]


def loss_fn(params, batch):
    """Cross-entropy of every row, with smoothed labels: there would be no minimum at finite weights without."""
    tokens, sums = batch
    return optax.softmax_cross_entropy(logits(params, tokens), optax.smooth_labels(jax.nn.one_hot(sums, P), 0.1))


def rows(is_training=True):
    """Tokens and sums (n,): of all 529 pairs of numbers four fifths are for training, the others for tests."""
    a, b = np.divmod(np.random.default_rng(0).permutation(P * P), P)
    chosen = (np.arange(P * P) < 0.8 * P * P) == is_training
    tokens = np.stack([a, b, np.full_like(a, P)], axis=1)
    return tokens[chosen].astype(np.int32), ((a + b) % P)[chosen].astype(np.int32)


def modular_addition(step):
    """The loss, the parameters after so many steps of training, and the data."""
    return loss_fn, dict(np.load(FOLDER / f"step-{step}.npz")), rows()
