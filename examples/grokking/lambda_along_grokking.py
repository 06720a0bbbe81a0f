"""λ̂ of a transformer while it groks modular addition, with its figure. First `python train.py`."""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from transformer import FOLDER, logits, loss_fn, modular_addition, rows

import lambda_hat

steps = sorted(int(path.stem.removeprefix("step-")) for path in FOLDER.glob("step-*.npz"))
checkpoints = {step: modular_addition(step)[1] for step in steps}
settings = {"sampler": "sgld", "precond_type": "whitened", "eta0": 0.05, "steps": 3000, "localization": 500.0}
series = lambda_hat.estimate_llc_series(
    loss_fn, checkpoints, rows(), resume_from="grokking.json", on_point=print, **settings
)


def accuracy(params, is_training):
    """Share of rows whose sum is right."""
    tokens, sums = rows(is_training)
    return np.mean(jnp.argmax(logits(params, tokens), axis=1) == sums)


axes = series.plot()
right = axes.twinx()
for label, is_training in (("of training rows", True), ("of test rows", False)):
    values = [accuracy(params, is_training) for params in checkpoints.values()]
    right.plot(steps, values, "s--", markersize=3, linewidth=0.8, color="grey" if is_training else "C1", label=label)
right.set(ylabel="accuracy", ylim=(0, 1.05))
right.legend(loc="lower right", frameon=False)
axes.set_xscale("symlog", linthresh=100)
axes.set_xlim(-5, 8000)
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "lambda_along_grokking.png")
axes.figure.savefig(figure)
print(f"figure: {figure}")
