"""One layer against the whole: restricted LLCs of a network, of a layer and of single rows of its matrix."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

import lambda_hat

NOISE = 0.1
rng = np.random.default_rng(0)
x = rng.standard_normal((300, 2))
y = np.tanh(x @ np.array([1.0, -1.0])) + NOISE * rng.standard_normal(300)


def loss_fn(params, batch):
    """Negative log-likelihood of every row, without its constant."""
    outputs = jnp.tanh(batch["x"] @ params["hidden"]["w"] + params["hidden"]["b"]) @ params["out"]["w"]
    return (outputs - batch["y"]) ** 2 / (2 * NOISE**2)


data = {"x": x, "y": y}
start = {"hidden": {"w": rng.standard_normal((2, 3)), "b": np.zeros(3)}, "out": {"w": rng.standard_normal(3)}}
with jax.enable_x64(True):  # to a minimum: λ̂ is defined around one
    flat, unravel = jax.flatten_util.ravel_pytree(start)
    objective = jax.jit(jax.value_and_grad(lambda w: jnp.mean(loss_fn(unravel(w), data))))
    found = minimize(lambda w: tuple(map(np.asarray, objective(w))), flat, jac=True, method="BFGS")
    params = unravel(found.x)

first_row = np.zeros((2, 3), bool)
first_row[0] = True
for name, sampled in {
    "all parameters": None,
    "the hidden layer": "hidden",
    "its weights": ["hidden/w"],
    "their first row": {"hidden": {"w": first_row, "b": False}, "out": False},
}.items():
    result = lambda_hat.estimate_llc(loss_fn, params, data, sampled=sampled, localization=100.0)
    print(f"{name:18} d = {result.dim:2}  λ̂ = {result.llc:.3f} ± {result.se:.3f}  Laplace {result.laplace_llc:.3f}")
