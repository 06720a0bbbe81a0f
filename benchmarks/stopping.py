"""Whether stopping at the first full certificate biases λ̂: `python benchmarks/stopping.py FOLDER [--seeds 20]`.

Certifies every problem under many seeds, as a user calls it, and takes the mean of λ̂ over long runs under other seeds
for the truth. If stopping favours no side, z = (λ̂ − truth) / error has mean 0, and root mean square 1.

Every result is a line of FOLDER/stopping.jsonl as soon as it is there; the same command goes on where it was
interrupted. Its exit code is 1 if |mean z| is above 0.45 or the root mean square above 1.3 on some problem.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lines import Lines
from selfcheck import Case, network

import lambda_hat
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

SECONDS = 1000.0
LONG = {"max_relative_mcse": 0.0015, "seconds": 4 * SECONDS}
NUM_LONG = 2
FIRST_LONG_SEED = 1000
MAX_MEAN_Z, MAX_RMS_Z = 0.45, 1.3


def relu45() -> Case:
    """The ReLU network of the tests, at γ_loc = 100."""
    with np.load(Path(__file__).parents[1] / "tests" / "data" / "relu45.npz") as arrays:
        sizes = tuple(int(size) for size in arrays["sizes"])
        data, w0 = (arrays["X"], arrays["Y"]), arrays["w0"]
    loss = SquaredError(MLP(sizes, "relu", True), 0.5 / 0.05**2)
    return Case(loss, w0, data, 100.0, None, math.nan, math.nan)


PROBLEMS: dict[str, Callable[[], Case]] = {
    "relu 45, radius 0.05": lambda: network(0.05, activation="relu", seed=1, num_data=1000),
    "relu 45, radius 0.1": lambda: network(0.1, activation="relu", seed=1, num_data=1000),
    "tanh 45, radius 0.3": lambda: network(0.3),
    "relu45 of the tests, γ 100": relu45,
}


def certify(case: Case, seed: int, **settings: Any) -> dict[str, Any]:
    """One call of a user's."""
    start = time.process_time()
    settings = {"seconds": SECONDS, **settings}
    result = lambda_hat.certify_llc(
        case.loss_fn, case.w0, case.data, localization=case.localization, seed=seed, **settings
    )
    return {
        "llc": result.llc,
        "se": result.se,
        "is_certified": result.is_reliable,
        "reasons": list(result.reasons),
        "gradients": result.num_gradient_evaluations,
        "cpu": time.process_time() - start,
    }


def truth_of(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean of the long runs, which are equally long, and its standard error."""
    long = [row for row in rows if row["is_long"]]
    return float(np.mean([row["llc"] for row in long])), math.hypot(*(row["se"] for row in long)) / len(long)


def table(rows: list[dict[str, Any]]) -> tuple[str, bool]:
    """A line for each problem, and whether all are within bounds."""
    lines = [
        f"{'problem':28} {'truth':>17} {'certified':>9} {'error':>7} {'mean z':>13} {'rms z':>6} "
        f"{'gradients':>10} CPU s"
    ]
    is_good = True
    for problem in dict.fromkeys(row["problem"] for row in rows):
        found = [row for row in rows if row["problem"] == problem]
        if sum(row["is_long"] for row in found) < NUM_LONG:
            continue
        truth, error = truth_of(found)
        short = [row for row in found if not row["is_long"]]
        given = [row for row in short if row["is_certified"]]
        z = np.array([(row["llc"] - truth) / math.hypot(row["se"], error) for row in given])
        mean, rms = float(np.mean(z)), float(np.sqrt(np.mean(z**2)))
        is_good &= abs(mean) <= MAX_MEAN_Z and rms <= MAX_RMS_Z
        relative, gradients, cpu = (
            np.median(values)
            for values in (
                [row["se"] / truth for row in given],
                [row["gradients"] for row in given],
                [row["cpu"] for row in given],
            )
        )
        lines.append(
            f"{problem:28} {f'{truth:.4f} ± {error:.4f}':>17} {f'{len(given)}/{len(short)}':>9} {relative:7.2%} "
            f"{f'{mean:+.2f} ± {np.std(z) / math.sqrt(len(z)):.2f}':>13} {rms:6.2f} {gradients:10,.0f} {cpu:5.1f}"
        )
    return "\n".join(lines), is_good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--problems", nargs="*", choices=PROBLEMS, default=list(PROBLEMS))
    options = parser.parse_args()
    lines = Lines(options.folder / "stopping.jsonl", ("problem", "seed"))
    for name in options.problems:
        seeds = [*range(FIRST_LONG_SEED, FIRST_LONG_SEED + NUM_LONG), *range(options.seeds)]
        if not (missing := lines.missing([(name, seed) for seed in seeds])):
            continue
        case = PROBLEMS[name]()
        for _, seed in missing:
            is_long = seed >= FIRST_LONG_SEED
            found = {"is_long": is_long, **certify(case, seed, **(LONG if is_long else {}))}
            lines.add((name, seed), found)
            value = f"{found['llc']:.4f} ± {found['se']:.4f}"
            print(f"{name:28} {seed:4}  {value}  {found['gradients']:,.0f} gradients", flush=True)
    text, is_good = table(lines.rows)
    print(text)
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
