"""SGHMC beside SGLD at as many gradients: `python benchmarks/sghmc.py FOLDER [--quick]`.

Both run whitened, on the full data (discretisation is all the bias there is) and on minibatches, over step sizes η of
SGLD and η = α η_SGLD/2 of SGHMC, which goes as far per gradient. Writes sghmc.json and sghmc.png: measured bias beside
the predicted one, and error against bias. Bars are two standard errors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from known import Known, quadratic, relu45

from lambda_hat.config.methods import MethodSettings
from lambda_hat.config.methods.sghmc import SGHMCSettings
from lambda_hat.config.methods.sgld import SGLDSettings

STEP_SIZES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
FRICTIONS = (0.3, 0.1, 0.03)
COLOURS = {"SGLD": "#d55e00", "SGHMC 0.3": "#882255", "SGHMC 0.1": "#0072b2", "SGHMC 0.03": "#009e73"}


def plan(batch: int, step_sizes: tuple[float, ...], num_steps: int) -> list[tuple[str, float, MethodSettings]]:
    """(series, SGLD's step size that goes as far, settings)."""
    common = {"batch": batch, "precond_type": "whitened", "steps": num_steps, "num_chains": 8}
    runs: list[tuple[str, float, MethodSettings]] = []
    for eta in step_sizes:
        runs.append(("SGLD", eta, SGLDSettings(eta0=eta, **common)))
        for friction in FRICTIONS:
            settings = SGHMCSettings(eta=friction * eta / 2, friction=friction, **common)
            runs.append((f"SGHMC {friction:g}", eta, settings))
    return runs


def measure(known: Known, problem: str, batch: int, series: str, x: float, settings: MethodSettings) -> dict:
    """One row of the results."""
    run = known.run(settings, seed=1)
    estimate = run.estimate
    return {
        "problem": problem,
        "batch": batch,
        "series": series,
        "x": x,
        "settings": settings.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "bias": estimate.raw_llc / known.truth - 1,
        "bias_se": estimate.raw_se / known.truth,
        "predicted_bias": run.extras.get("predicted_bias"),
        "rhat_loss": estimate.rhat_loss,
        "num_gradient_evaluations": run.num_gradient_evaluations,
        "state": run.state,
    }


def draw(rows: list[dict], path: Path) -> None:
    """A row of panels per problem and minibatch: bias against step size, and the standard error beside it."""
    groups = list(dict.fromkeys((row["problem"], row["batch"]) for row in rows))
    figure, axes = plt.subplots(len(groups), 2, figsize=(10, 3.6 * len(groups)), squeeze=False)
    for (left, right), (problem, batch) in zip(axes, groups, strict=True):
        here = [row for row in rows if (row["problem"], row["batch"]) == (problem, batch)]
        here = [row for row in here if row["state"] == "COMPLETE"]
        for series, colour in COLOURS.items():
            points = [row for row in here if row["series"] == series]
            x, bias, se = ([row[name] for row in points] for name in ("x", "bias", "bias_se"))
            left.errorbar(x, bias, [2 * one for one in se], fmt="o", color=colour, markersize=4, label=series)
            left.plot(x, [row["predicted_bias"] for row in points], "--", color=colour, linewidth=1)
            right.plot([abs(row["predicted_bias"]) for row in points], se, "o-", color=colour, label=series)
        left.set(xscale="log", xlabel="SGLD's step size, or 2η/α", ylabel="(λ̂ − λ)/λ; dashed: predicted")
        left.set_yscale("symlog", linthresh=0.01)
        left.set_title(f"{problem}, {'full data' if batch > 1000 else f'minibatches of {batch}'}", fontsize=10)
        right.set(xscale="log", yscale="log", xlabel="predicted bias", ylabel="standard error over λ")
        right.set_title("error at as many gradients", fontsize=10)
        left.axhline(0, color="black", linewidth=1)
        for axis in (left, right):
            axis.grid(alpha=0.3)
        left.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="one step size and short runs, on the quadratic")
    options = parser.parse_args()
    problems = {"quadratic, d = 10": quadratic}
    if not options.quick:
        problems["ReLU network, d = 45"] = relu45
    step_sizes, num_steps = ((0.1,), 2000) if options.quick else (STEP_SIZES, 10_000)
    rows = []
    for name, build in problems.items():
        known = build()
        for batch in (10_000, 128) if build is quadratic else (128,):
            for series, x, settings in plan(batch, step_sizes, num_steps):
                rows.append(measure(known, name, batch, series, x, settings))
                row = rows[-1]
                predicted = "" if row["predicted_bias"] is None else f"  predicted {row['predicted_bias']:+.4f}"
                measured = f"{row['bias']:+.4f} ± {row['bias_se']:.4f}{predicted}"
                print(f"{name}  batch {batch}  {series}  {x:g}  {measured}", flush=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "sghmc.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    draw(rows, options.folder / "sghmc.png")


if __name__ == "__main__":
    main()
