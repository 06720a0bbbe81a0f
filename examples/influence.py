"""Which rows a network depends on: contributions to λ̂, influence on queries, and susceptibilities of a layer."""

import sys
from pathlib import Path

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

import lambda_hat

NOISE, WRONG = 0.1, [7, 23]
rng = np.random.default_rng(0)
x = np.sort(rng.uniform(-2, 2, 60))[:, None]
y = np.tanh(2 * x[:, 0]) + NOISE * rng.standard_normal(60)
y[WRONG] -= 0.6  # two labels are wrong
queries = np.linspace(-2, 2, 41)[:, None]


def loss_fn(params, batch):
    """Negative log-likelihood of every row, without its constant."""
    x, y = batch
    outputs = jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"]) @ params["out"]
    return (outputs - y) ** 2 / (2 * NOISE**2)


start = {"hidden": {"w": rng.standard_normal((1, 2)), "b": rng.standard_normal(2)}, "out": rng.standard_normal(2)}
with jax.enable_x64(True):  # to a minimum: λ̂ is defined around one
    flat, unravel = jax.flatten_util.ravel_pytree(start)
    objective = jax.jit(jax.value_and_grad(lambda w: jnp.mean(loss_fn(unravel(w), (x, y)))))
    found = minimize(lambda w: tuple(map(np.asarray, objective(w))), flat, jac=True, method="BFGS")
    params = unravel(found.x)

settings = {"sampler": "hmc", "steps": 1000, "localization": 30.0}
others = (queries, np.tanh(2 * queries[:, 0]))
result = lambda_hat.estimate_llc(loss_fn, params, (x, y), rows=slice(None), queries=others, **settings)
print(result)
losses = result.row_losses
contributions, influence = losses.contributions(), losses.influence()
print(contributions, influence, sep="\n")
own = np.diag(losses.kernel().value)
print("largest variance of the loss:", sorted(np.argsort(own)[-2:].tolist()), "wrong labels:", WRONG)
for part in ("hidden", "out"):
    restricted = lambda_hat.estimate_llc(loss_fn, params, (x, y), rows=slice(None), sampled=part, **settings)
    susceptibilities = restricted.row_losses.susceptibilities()
    most = int(np.argmin(susceptibilities.value))
    value, se = susceptibilities.value[most], susceptibilities.se[most]
    print(f"{part}: most susceptible to row {most}, χ = {value:.2g} ± {se:.1g}")

figure = Figure(figsize=(9.0, 3.6), layout="constrained")
left, right = figure.subplots(1, 2)
contributions.plot(left)
influence.plot(right).set(xlabel="query", ylabel="row")
path = Path(sys.argv[1] if len(sys.argv) > 1 else "influence.png")
figure.savefig(path)
print(f"figure: {path}")
