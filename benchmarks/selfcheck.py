"""Estimates that know their own error: `python benchmarks/selfcheck.py FOLDER [--seeds 10] [--problems NAME ...]`.

On networks with a certified reference, on linear models whose λ̂ is a formula and on potentials whose λ̂ is a
quadrature, it runs `auto` as a user calls it,
`auto` held to SGLD, whitened SGLD at one step size and unadjusted MCLMC. For each it prints the error before and after
the correction by identities, the error that is claimed, whether the 95 % interval covers, gradients and CPU time.

`transformer 1824` needs the checkpoints that `python examples/grokking/train.py` makes, `mlp 9610` scikit-learn.

Every result is a line of FOLDER/selfcheck.jsonl as soon as it is there; the same command goes on where it was
interrupted. Its exit code is 1 if a reliable result is off by more than 5 %.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from lines import Lines
from own_network import minimum_from, trained, transformer

import lambda_hat
from lambda_hat.config.problems import LocalizationRadius, MLPProblem, PosteriorSpec, ProblemSpec
from lambda_hat.config.problems.kinds.linear_regression import LinearRegressionProblem
from lambda_hat.config.problems.kinds.mlp import DataSpec, ModelSpec
from lambda_hat.config.problems.kinds.quadratic import QuadraticProblem
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.estimate import auto
from lambda_hat.posterior import posterior_of
from lambda_hat.reference.engine import sample_reference
from lambda_hat.targets import Model, build_target, read_model

REFERENCE_SEC = 1200.0  # of wall time: a busy machine needs more of it
RELIABLE_ERROR = 0.05
METHODS: dict[str, dict[str, Any]] = {
    "auto": {"sampler": "auto"},
    "auto by SGLD": {"sampler": "auto"},
    "sgld": {"sampler": "sgld", "precond_type": "whitened", "eta0": 0.1, "steps": 4000},
    "mclmc unadjusted": {"sampler": "mclmc", "adjusted": False, "step_size": 0.3, "steps": 4000},
    "mclmc, bias 1 %": {"sampler": "mclmc", "adjusted": False, "max_bias": 0.01, "steps": 4000},
}


@dataclass(frozen=True, eq=False)
class Case:
    """A problem as `estimate_llc` takes it, and its λ̂."""

    loss_fn: Callable[[Any, Any], Any]
    w0: Any
    data: tuple[np.ndarray, ...]
    localization: float
    inverse_temperature: float | None
    truth: float
    truth_error: float


def network(radius: float, *, seed: int = 0, loss: str = "gaussian_nll", **fields: Any) -> Case:
    """A trained network; its truth is a certified reference."""
    data = {name: fields.pop(name) for name in list(fields) if name in DataSpec.model_fields}
    problem = MLPProblem(
        model=ModelSpec(**fields), data=DataSpec(**data), loss=loss, seed=seed,
        posterior=PosteriorSpec(localization=LocalizationRadius(radius=radius)),
    )  # fmt: skip
    with jax.enable_x64(True):
        model = build_target(problem)
    return certified(model, model.loss_fn, model.w0, model.columns("float64"), problem.posterior)


def certified(model: Model, loss_fn: Callable[[Any, Any], Any], w0: Any, data: Any, spec: PosteriorSpec) -> Case:
    """A case whose truth is the reference of `model`, which is `loss_fn` around `w0`."""
    with jax.enable_x64(True):
        posterior = posterior_of(model, spec, "float64")
        reference = sample_reference(posterior, ReferenceSpec(seed=7), deadline=time.monotonic() + REFERENCE_SEC)
    if not reference.certificate.is_certified:
        raise SystemExit(f"no certified reference: {'; '.join(reference.reasons)}")
    return Case(loss_fn, w0, data, float(posterior.localization), None, reference.llc, reference.se)


def plain(loss_fn: Callable[[Any, Any], Any], params: Any, data: Any) -> Case:
    """A trained network that is a plain function."""
    model = read_model(loss_fn, params, data)
    return certified(model, loss_fn, params, data, PosteriorSpec(localization=LocalizationRadius(radius=0.1)))


def _cnn(params: dict[str, Any], images: jax.Array) -> jax.Array:
    signal = images[..., None]
    for name in ("first", "second"):
        kernel, bias = params[name]
        axes = ("NHWC", "HWIO", "NHWC")
        signal = jnp.tanh(jax.lax.conv_general_dilated(signal, kernel, (2, 2), "SAME", dimension_numbers=axes) + bias)
    kernel, bias = params["out"]
    return signal.mean((1, 2)) @ kernel + bias


def _cnn_loss(params: dict[str, Any], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    images, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(_cnn(params, images), labels)


def cnn() -> Case:
    """Two convolutions and a linear layer, 363 parameters, for classes that another such network draws."""
    rng = np.random.default_rng(0)
    shapes = {"first": (3, 3, 1, 4), "second": (3, 3, 4, 8), "out": (8, 3)}

    def some(scale: float) -> dict[str, Any]:
        return {
            name: [scale * rng.standard_normal(shape) / math.sqrt(math.prod(shape[:-1])), np.zeros(shape[-1])]
            for name, shape in shapes.items()
        }

    images = rng.standard_normal((600, 8, 8))
    with jax.enable_x64(True):
        logits = np.asarray(_cnn(some(3.0), images))
        labels = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1).astype(np.int32)
        flat, unravel = jax.flatten_util.ravel_pytree(some(1.0))
        decay = 1e-3  # without it classes that can be separated have no minimum
        found = minimum_from(
            lambda w: jnp.mean(_cnn_loss(unravel(w), (images, labels))) + decay * jnp.sum(w**2), np.asarray(flat)
        )
        params = jax.tree.map(np.asarray, unravel(jnp.asarray(found)))

    def loss_fn(params: dict[str, Any], batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
        return _cnn_loss(params, batch) + decay * squares

    return plain(loss_fn, params, (images, labels))


def exact(problem: ProblemSpec) -> Case:
    """A linear model; its truth is a formula."""
    with jax.enable_x64(True):
        model = build_target(problem)
        posterior = posterior_of(model, problem.posterior, "float64")
        assert model.exact_llc_fn is not None
        truth = model.exact_llc_fn(float(posterior.nbeta), float(posterior.localization))
    return Case(
        model.loss_fn, model.w0, model.columns("float64"), float(posterior.localization), None, truth, 1e-9 * truth
    )


def _monomial(position: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    exponents, scale = batch
    return scale[:, 0] * jnp.prod(position[None] ** exponents, axis=1)


def monomial(first: int, second: int) -> Case:
    """w₁^a w₂^b at nβ = 1000, γ_loc = 1, by quadrature in the plane."""
    grid = np.concatenate([-np.geomspace(6, 1e-6, 3000), np.geomspace(1e-6, 6, 3000)])
    widths = np.gradient(grid)
    values = 1000.0 * grid[:, None] ** first * grid[None] ** second
    weights = np.exp(-values - 0.5 * (grid[:, None] ** 2 + grid[None] ** 2)) * widths[:, None] * widths
    truth = float(np.sum(values * weights) / np.sum(weights))
    data = np.tile([first, second], (4, 1)), np.ones((4, 1))
    return Case(_monomial, np.zeros(2), data, 1.0, 250.0, truth, 1e-4 * truth)


CASES: dict[str, Callable[[Path], Case]] = {
    **{f"tanh 45, radius {radius}": lambda _, radius=radius: network(radius) for radius in (0.05, 0.1, 0.3)},
    **{f"relu 45, radius {radius}": lambda _, radius=radius: network(radius, activation="relu", seed=1, num_data=1000)
       for radius in (0.05, 0.1, 0.3)},
    "student-t 45": lambda _: network(0.1, loss="student_t_nll", noise="student_t", num_data=300),
    "cross-entropy 55": lambda _: network(0.1, loss="cross_entropy", out_dim=3, num_data=1000),
    **{f"tanh 433, radius {radius}": lambda _, radius=radius: network(radius, in_dim=8, width=16, num_data=3000)
       for radius in (0.05, 0.1, 0.3)},
    "cnn 363": lambda _: cnn(),
    "transformer 1824": lambda _: plain(*transformer()[1]),
    "mlp 9610": lambda folder: plain(*trained("mlp", folder)),
    "linear regression 31": lambda _: exact(LinearRegressionProblem(dim=31)),
    "quadratic 100": lambda _: exact(QuadraticProblem(dim=100)),
    "w1^2 w2^2": lambda _: monomial(2, 2),
    "w1^2 w2^4": lambda _: monomial(2, 4),
    "w1^4 w2^4": lambda _: monomial(4, 4),
}  # fmt: skip
SHORT = ("tanh 45, radius 0.1",)


def run(case: Case, method: str, seed: int) -> dict[str, Any]:
    """One call of a user's."""
    affordable = auto.GRADIENTS_OF_HMC
    if method == "auto by SGLD":
        auto.GRADIENTS_OF_HMC = math.inf
    start = time.process_time()
    try:
        result = lambda_hat.estimate_llc(
            case.loss_fn, case.w0, case.data, localization=case.localization,
            inverse_temperature=case.inverse_temperature, seed=seed, **METHODS[method],
        )  # fmt: skip
    finally:
        auto.GRADIENTS_OF_HMC = affordable
    error = math.hypot(1.96 * result.se, 1.96 * case.truth_error)
    return {
        "llc": result.llc,
        "se": result.se,
        "truth": case.truth,
        "raw_error": result.raw_llc / case.truth - 1,
        "error": result.llc / case.truth - 1,
        "claimed": 1.96 * result.se / case.truth,
        "covers": bool(abs(result.llc - case.truth) <= error),
        "is_reliable": result.is_reliable,
        "reasons": list(result.reasons),
        "gradients": result.num_gradient_evaluations,
        "cpu": time.process_time() - start,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each problem and method, and one for each method."""
    lines = [
        f"{'problem':22} {'method':17} {'reliable':>8} {'raw':>7} {'error':>7} {'claimed':>7} {'cover':>6} "
        f"{'worst':>6} {'CPU s':>6}"
    ]
    for problem in [*dict.fromkeys(row["problem"] for row in rows), "all"]:
        for method in METHODS:
            found = [row for row in rows if row["method"] == method and problem in (row["problem"], "all")]
            if not found:
                continue
            given = [row for row in found if row["is_reliable"]]
            worst = max((abs(row["error"]) for row in given), default=math.nan)
            cover = np.mean([row["covers"] for row in given]) if given else math.nan
            raw, error, claimed = (
                np.median([abs(row[name]) for row in found]) for name in ("raw_error", "error", "claimed")
            )
            cpu = np.median([row["cpu"] for row in found])
            lines.append(
                f"{problem:22} {method:17} {f'{len(given)}/{len(found)}':>8} {raw:7.1%} {error:7.1%} {claimed:7.1%} "
                f"{cover:6.0%} {worst:6.1%} {cpu:6.1f}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--problems", nargs="*", choices=CASES, default=None)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    lines = Lines(options.folder / "selfcheck.jsonl", ("problem", "method", "seed"))
    for name in options.problems or (SHORT if options.short else CASES):
        seeds = range(1 if options.short else options.seeds)
        if not (missing := lines.missing([(name, method, seed) for method in options.methods for seed in seeds])):
            continue
        case = CASES[name](options.folder)
        for _, method, seed in missing:
            row = run(case, method, seed)
            lines.add((name, method, seed), row)
            print(f"{name:22} {method:17} {seed:2}  {row['llc']:.4g} of {row['truth']:.4g}  {row['error']:+.1%}"
                  f"  {'reliable' if row['is_reliable'] else 'not reliable'}", flush=True)  # fmt: skip
    print(table(lines.rows))
    if any(row["is_reliable"] and abs(row["error"]) > RELIABLE_ERROR for row in lines.rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
