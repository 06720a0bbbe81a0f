"""`auto` from 10³ to 10⁶ parameters: `python benchmarks/scale.py FOLDER [--parameters N ...] [--rows N ...]`.

Calls `estimate_llc` with nothing but `seconds`, on tanh networks at a point where the loss is exactly minimal: data are
the network's own outputs. Each call is a process of its own, whose largest memory counts. Prints λ̂ and its interval,
whether it is reliable and why not, CPU seconds, and memory beside that of a process that only builds network and data.
Writes FOLDER/scale.json and FOLDER/scale.png; `--draw` only draws again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1")

HIDDEN = {10**3: 24, 10**4: 92, 10**5: 308, 10**6: 992}  # of two layers, with 16 inputs
ROWS = 5000
NOISE = 0.1
MEGABYTE = 1024  # in units of ru_maxrss on Linux


def call(hidden: int, num_rows: int, seconds: float, is_empty: bool) -> dict[str, Any]:
    """One call of a user's, or all but the call."""
    import jax.numpy as jnp
    import numpy as np

    import lambda_hat

    rng = np.random.default_rng(0)
    sizes = (16, hidden, hidden, 1)
    params = [
        {"weights": rng.standard_normal((i, o)).astype(np.float32) / i**0.5, "bias": np.zeros(o, np.float32)}
        for i, o in itertools.pairwise(sizes)
    ]

    def network(params: Any, x: Any) -> Any:
        for layer in params[:-1]:
            x = jnp.tanh(x @ layer["weights"] + layer["bias"])
        return x @ params[-1]["weights"] + params[-1]["bias"]

    def loss(params: Any, batch: Any) -> Any:
        x, y = batch
        return 0.5 * jnp.sum((network(params, x) - y) ** 2, axis=-1) / NOISE**2

    x = rng.standard_normal((num_rows, sizes[0]), np.float32)
    parts = np.array_split(x, max(1, num_rows // 10_000))
    y = np.concatenate([np.asarray(network(params, part)) for part in parts])
    dim = sum(leaf.size for layer in params for leaf in layer.values())
    row: dict[str, Any] = {"dim": dim, "rows": num_rows, "is_empty": is_empty}
    if not is_empty:
        start = time.process_time()
        result = lambda_hat.estimate_llc(loss, params, (x, y), seconds=seconds)
        row |= {
            "llc": result.llc,
            "half_width": 1.96 * result.se,
            "is_reliable": result.is_reliable,
            "reasons": list(result.reasons),
            "extras": dict(result.extras),
            "gradients": result.num_gradient_evaluations,
            "cpu": time.process_time() - start,
            "seconds": result.seconds,
        }
    return {**row, "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE}


def measure(hidden: int, num_rows: int, seconds: float) -> dict[str, Any]:
    """A call in a process of its own, and the memory of one that only builds network and data."""
    rows = []
    for is_empty in (True, False):
        words = [sys.executable, __file__, "--call", str(hidden), str(num_rows), str(seconds), str(int(is_empty))]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    empty, row = rows
    return {**row, "memory_of_data_mb": empty["memory_mb"]}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """CPU seconds and memory against parameters, and against rows."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    by_dim = sorted((row for row in rows if row["rows"] == ROWS), key=lambda row: row["dim"])
    for axis, name, label in ((axes[0], "cpu", "CPU seconds"), (axes[1], "memory_mb", "memory in MB, at most")):
        axis.plot([row["dim"] for row in by_dim], [row[name] for row in by_dim], "o-", color="#0072b2")
        axis.set_xscale("log")
        axis.set_xlabel("parameters")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    axes[1].plot(
        [row["dim"] for row in by_dim], [row["memory_of_data_mb"] for row in by_dim], "o--", color="#888888",
        label="network and data alone",
    )  # fmt: skip
    axes[1].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parameters", nargs="*", type=int, choices=HIDDEN, default=list(HIDDEN))
    parser.add_argument("--rows", nargs="*", type=int, default=[ROWS])
    parser.add_argument("--seconds", type=float, default=300.0, help="that `auto` may sample")
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "scale.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for size, num_rows in [] if options.draw else [(p, n) for n in options.rows for p in options.parameters]:
        row = measure(HIDDEN[size], num_rows, options.seconds)
        rows = [other for other in rows if (other["dim"], other["rows"]) != (row["dim"], row["rows"])] + [row]
        verdict = "reliable" if row["is_reliable"] else f"not reliable: {row['reasons'][0]}"
        print(
            f"d {row['dim']:9,}  n {num_rows:9,}  λ̂ {row['llc']:.4g} ± {row['half_width']:.2g}  "
            f"{row['cpu']:6.0f} CPU s  {row['memory_mb']:6.0f} MB ({row['memory_of_data_mb']:.0f} without the call)  "
            f"{verdict}",
            flush=True,
        )
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(rows, options.folder / "scale.png")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--call"]:
        hidden, num_rows, seconds, is_empty = sys.argv[2:]
        print(json.dumps(call(int(hidden), int(num_rows), float(seconds), is_empty == "1")))
    else:
        main()
