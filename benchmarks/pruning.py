"""What pruning saves and what it costs: `python benchmarks/pruning.py FOLDER [--config FILE] [--set KEY=VALUE ...]`.

Runs one study without a pruner and with each of the others, same seeds, and compares the work of all trials (gradient
evaluations, so that a busy machine does not matter) and how good the best settings are. Writes `pruning.json` and
`pruning.png`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from lambda_hat.records.tables import read_frame

mpl.use("agg")
import matplotlib.pyplot as plt

PRUNERS = ("none", "median", "hyperband")
NUM_BEST = 5  # the best one alone is mostly lucky
COLOURS = dict(zip(PRUNERS, ("0.4", "tab:blue", "tab:orange"), strict=True))


def run(folder: Path, config: str, pruner: str, num_trials: int, sets: list[str]) -> pd.DataFrame:
    """The table of one study; what is there already is only read."""
    words = ["--local", "--resume", "--set", f"store.root={folder}", "--set", f"store.namespace={pruner}"]
    sets = [f"optuna.pruner.type={pruner}", f"optuna.max_trials_per_method={num_trials}", "confirm.top_k=0", *sets]
    words += [word for text in sets for word in ("--set", text)]
    command = [sys.executable, "-m", "lambda_hat", "workflow", "optuna", "--config", config, *words]
    subprocess.run(command, check=True)
    table = read_frame(folder / pruner / "v1" / "tables" / "optuna_trials.parquet")
    return table[table["number"] < num_trials]


def figures(table: pd.DataFrame) -> dict[str, Any]:
    """Work and quality of one method's trials."""
    best = table[table["state"] == "COMPLETE"].nsmallest(NUM_BEST, "objective")
    return {
        "num_trials": len(table),
        "num_pruned": int((table["state"] == "PRUNED").sum()),
        "num_stopped": int(table["reason"].str.contains("by the pruner").sum()),
        "gradient_evaluations": float(table["num_gradient_evaluations"].sum()),
        "sample_sec": float(table["sample_sec"].sum()),
        "median_relative_error_of_best": float(best["relative_error"].abs().median()),
        "num_within_2_percent": int((table["relative_error"].abs() <= 0.02).sum()),
    }


def plot(tables: dict[str, pd.DataFrame], path: Path) -> None:
    """Median error of the best settings so far against the work done so far."""
    methods = list(next(iter(tables.values()))["method"].unique())
    fig, axes = plt.subplots(1, len(methods), figsize=(4 * len(methods), 3.6), squeeze=False, layout="constrained")
    for axis, method in zip(axes[0], methods, strict=True):
        for pruner, table in tables.items():
            rows = table[table["method"] == method].sort_values("finished")
            work = rows["num_gradient_evaluations"].fillna(0).cumsum().to_numpy(float)
            is_complete = (rows["state"] == "COMPLETE").to_numpy()
            error = rows["relative_error"].abs().to_numpy(float, na_value=np.nan)
            seen = [np.sort(error[: k + 1][is_complete[: k + 1]])[:NUM_BEST] for k in range(len(rows))]
            median = [np.median(part) if len(part) == NUM_BEST else np.nan for part in seen]
            axis.plot(work, median, color=COLOURS[pruner], label=pruner)
        axis.set(title=method, xscale="log", yscale="log", xlabel="gradient evaluations, all trials")
    axes[0][0].set_ylabel(f"|relative error|, median of the best {NUM_BEST}")
    axes[0][0].legend(title="pruner")
    fig.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", default="config/optuna/default.yaml")
    parser.add_argument("--trials", type=int, default=100, help="per method")
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    parser.add_argument("--pruner", action="append", choices=PRUNERS, help="may be repeated; all without it")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        name: run(folder, options.config, name, options.trials, options.sets) for name in options.pruner or PRUNERS
    }
    result = {
        name: {method: figures(rows) for method, rows in table.groupby("method")} for name, table in tables.items()
    }
    (folder / "pruning.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    plot(tables, folder / "pruning.png")
    print(print("method pruner    stopped  gradients  sample s |error| of best  ≤ 2 %"))
    for name, methods in result.items():
        for method, row in methods.items():
            work = f"{row['gradient_evaluations']:10.3g} {row['sample_sec']:9.0f}"
            quality = f"{row['median_relative_error_of_best']:15.2%} {row['num_within_2_percent']:6}"
            print(f"{method:6} {name:9} {row['num_stopped']:7} {work} {quality}")


if __name__ == "__main__":
    main()
