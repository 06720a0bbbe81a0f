"""Plain functions through the public call: `python benchmarks/own_network.py FOLDER [--only PART …] [--seconds S]`.

- `cnn`, `transformer`, `mlp`: what `estimate_llc` says, with its own choice of sampler, of networks of 1,418, 1,824 and
  9,610 parameters, trained to a minimum. The digits come from scikit-learn, the extra `datasets`.
- `share`: the part of a warm `estimate_llc(sampler="sgld")` that its minibatch gradients alone would take, and where
  the rest goes; networks of 1,633 and 74,497 parameters.
- `series`: ten checkpoints of the transformer by `estimate_llc_series`, against the sum of their sampling.

All seconds are CPU seconds of one thread, those of limits too. Networks are kept in FOLDER; every part writes
FOLDER/PART.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1", PJRT_NPROC="1")

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize
from sgld import CASES, NUM_CHAINS, cpu_seconds, runs_of

import lambda_hat
from lambda_hat.api import calls
from lambda_hat.api.surroundings import Surroundings
from lambda_hat.samplers.stopwatch import Stopwatch, setting_up

GROKKING = Path(__file__).parents[1] / "examples" / "grokking"
SMOOTHING = 0.1  # of labels: without it a network that separates the classes has no minimum at finite weights
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "cnn": {"first": (3, 3, 1, 8), "second": (3, 3, 8, 16), "out": (16, 10)},
    "mlp": {"hidden": (64, 128), "out": (128, 10)},
}
MAX_OVERHEAD = 1.2  # of a series, over the sum of its sampling

Params = dict[str, Any]
Batch = tuple[Any, Any]
LossFn = Callable[[Params, Batch], jax.Array]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[1]), SMOOTHING))


def cnn_loss(params: Params, batch: Batch) -> jax.Array:
    """Two convolutions of 3 × 3 with stride 2, a mean over places, a linear layer."""
    images, labels = batch
    signal = images.reshape(-1, 8, 8, 1)
    for name in ("first", "second"):
        kernel = params[name]["kernel"]
        signal = jax.lax.conv_general_dilated(
            signal, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        signal = jnp.tanh(signal + params[name]["bias"])
    return cross_entropy(signal.mean((1, 2)) @ params["out"]["kernel"] + params["out"]["bias"], labels)


def mlp_loss(params: Params, batch: Batch) -> jax.Array:
    """One hidden layer of tanh units."""
    images, labels = batch
    hidden = jnp.tanh(images @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return cross_entropy(hidden @ params["out"]["kernel"] + params["out"]["bias"], labels)


LOSSES: dict[str, LossFn] = {"cnn": cnn_loss, "mlp": mlp_loss}


def digits() -> Batch:
    datasets: Any = importlib.import_module("sklearn.datasets")
    images, classes = datasets.load_digits(return_X_y=True)
    return np.asarray(images, np.float64) / 16, np.asarray(classes, np.int32)


def trained(name: str, folder: Path) -> tuple[LossFn, Params, Batch]:
    """A network at a minimum, trained once."""
    if name == "transformer":
        return transformer()[1]
    loss_fn, data, file = LOSSES[name], digits(), folder / f"{name}.npy"
    rng = np.random.default_rng(0)
    start = {
        layer: {
            "kernel": rng.standard_normal(shape) / math.sqrt(math.prod(shape[:-1])),
            "bias": np.zeros(shape[-1]),
        }
        for layer, shape in SHAPES[name].items()
    }
    flat, unravel = jax.flatten_util.ravel_pytree(start)
    if not file.exists():
        np.save(file, minimum_from(lambda w: jnp.mean(loss_fn(unravel(w), data)), np.asarray(flat)))
    return loss_fn, jax.tree.map(np.asarray, unravel(jnp.asarray(np.load(file)))), data


def minimum_from(mean_loss: Callable[[jax.Array], jax.Array], start: np.ndarray) -> np.ndarray:
    """By L-BFGS on all the data."""
    objective = jax.jit(jax.value_and_grad(mean_loss))
    found = minimize(
        lambda w: tuple(map(np.asarray, objective(w))), start, jac=True, method="L-BFGS-B",
        options={"maxiter": 20_000, "maxfun": 20_000, "ftol": 0.0, "gtol": 1e-7, "maxcor": 50},
    )  # fmt: skip
    print(f"trained: loss {found.fun:.5f} after {found.nfev} gradients, largest slope {np.abs(found.jac).max():.1g}")
    return found.x


def transformer() -> tuple[dict[int, Params], tuple[LossFn, Params, Batch]]:
    """The checkpoints of the example, by step, and its last one, a minimum."""
    sys.path.insert(0, str(GROKKING))
    network: Any = importlib.import_module("transformer")
    steps = sorted(int(path.stem.removeprefix("step-")) for path in GROKKING.glob("step-*.npz"))
    if not steps:
        raise SystemExit(f"First `python {GROKKING / 'train.py'}`.")
    loss_fn, last, data = network.modular_addition(steps[-1])
    return {step: network.modular_addition(step)[1] for step in steps}, (loss_fn, last, data)


@contextmanager
def cpu_by_part() -> Generator[dict[str, float]]:
    """CPU seconds that calls within spend around w0, in sampling and in the look for wells."""
    seconds = dict.fromkeys(("around w0", "sampling", "wells"), 0.0)
    before = calls.look_around, calls.run_method, Surroundings.look_farther

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **options)
            finally:
                seconds[name] += time.process_time() - start

        return run

    parts = zip(seconds, before, strict=True)
    calls.look_around, calls.run_method, Surroundings.look_farther = (timed(*part) for part in parts)
    try:
        yield seconds
    finally:
        calls.look_around, calls.run_method, Surroundings.look_farther = before


def measured(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a call gives, and its CPU seconds by part, with those of the whole."""
    with cpu_by_part() as seconds:
        start = time.process_time()
        given = call()
        whole = {"whole": time.process_time() - start}
    return given, whole | seconds


def told(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())


def estimate(name: str, folder: Path, sampling_seconds: float, certify: bool) -> dict[str, Any]:
    """One call with its defaults, but for the time that it may take."""
    with jax.enable_x64(True):
        loss_fn, params, data = trained(name, folder)
    call = lambda_hat.certify_llc if certify else lambda_hat.estimate_llc
    result, seconds = measured(partial(call, loss_fn, params, data, seconds=sampling_seconds))
    print(f"{name}: {result}\n{name}: CPU s: {told(seconds)}")
    for reason in result.reasons:
        print(f"{name}: {reason}")
    return {"result": result.to_dict(), "cpu_seconds": seconds}


def share(case: str, repeats: int, num_steps: int) -> dict[str, Any]:
    """Of the gradients of SGLD in a warm call."""
    sizes, num_data, batch_size, few, goal = CASES[case]
    rng = np.random.default_rng(0)
    params = [0.2 * rng.standard_normal((fan_in + 1, fan_out)) for fan_in, fan_out in pairwise(sizes)]
    inputs = rng.standard_normal((num_data, sizes[0]))

    def outputs(params: list[Any], x: Any) -> Any:
        for index, layer in enumerate(params):
            x = (jax.nn.relu(x) if index else x) @ layer[:-1] + layer[-1]
        return x[:, 0]

    def loss_fn(params: list[Any], batch: Batch) -> jax.Array:
        return 50.0 * (outputs(params, batch[0]) - batch[1]) ** 2

    with jax.enable_x64(True):
        data = inputs, np.asarray(outputs(params, inputs)) + 0.1 * rng.standard_normal(num_data)
    call = partial(
        lambda_hat.estimate_llc, loss_fn, params, data,
        sampler="sgld", steps=num_steps, batch=batch_size, eta0=1e-7, localization=1000.0,
    )  # fmt: skip
    yardsticks = {name: run for name, run in runs_of(case, few).items() if name.startswith("gradients")}
    for run in (call, *yardsticks.values()):
        run()  # compiles
    rows = []
    for _ in range(repeats):
        alone = min(cpu_seconds(run) for run in yardsticks.values())
        _, seconds = measured(call)
        seconds["gradients alone"] = alone * num_steps / few
        rows.append(seconds)
        print(f"share {case}, CPU s: {told(seconds)}", flush=True)
    shares = [row["gradients alone"] / row["whole"] for row in rows]
    print(f"share {case}: {np.median(shares):.2f}, at least {goal} wanted")
    return {"share": float(np.median(shares)), "cpu_seconds": rows, "num_chains": NUM_CHAINS}


def series(settings: dict[str, Any]) -> dict[str, Any]:
    """Ten checkpoints, compiling included and not."""
    checkpoints, (loss_fn, _, data) = transformer()
    found: dict[str, Any] = {"num_checkpoints": len(checkpoints)}
    for name in ("cold", "warm"):
        points, seconds = measured(partial(lambda_hat.estimate_llc_series, loss_fn, checkpoints, data, **settings))
        ratio = seconds["whole"] / seconds["sampling"]
        print(f"series, {name}: {ratio:.2f} times its sampling, at most {MAX_OVERHEAD} wanted; CPU s: {told(seconds)}")
        found[name] = {"ratio": ratio, "cpu_seconds": seconds, "points": [point.to_dict() for point in points]}
    return found


def go_by_cpu_time() -> None:
    """Have limits go by the CPU's time, from which other work on the machine takes nothing: JAX tells by `time.time`
    how long it compiled, which does not count.
    """
    time.monotonic = time.time = time.process_time
    vars(setting_up).update(vars(Stopwatch(time.process_time)))


PARTS = ("cnn", "transformer", "mlp", "share", "series")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--seconds", type=float, default=120.0, help="that `estimate_llc` may sample")
    parser.add_argument("--certify", action="store_true", help="by `certify_llc`")
    parser.add_argument("--repeats", type=int, default=3, help="warm calls of `share`")
    parser.add_argument("--steps", type=int, default=10_000, help="of SGLD in them; these are its default")
    options = parser.parse_args()
    go_by_cpu_time()
    options.folder.mkdir(parents=True, exist_ok=True)
    for part in options.only:
        if part == "share":
            result: dict[str, Any] = {case: share(case, options.repeats, options.steps) for case in CASES}
        elif part == "series":
            result = series({"sampler": "sgld", "eta0": 1e-4, "steps": 2000, "localization": 500.0})
        else:
            result = estimate(part, options.folder, options.seconds, options.certify)
        (options.folder / f"{part}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
