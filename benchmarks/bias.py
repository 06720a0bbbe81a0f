"""Bias of SGLD, unadjusted MCLMC and VI against what causes it: `python benchmarks/bias.py FOLDER [--quick]`.

Writes bias.json and bias.png. Bars are two standard errors; a hollow mark has R̂ of the loss above 1.02.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import matplotlib as mpl
import matplotlib.ticker

mpl.use("Agg")
import matplotlib.pyplot as plt
from known import Known, quadratic, relu45

from lambda_hat.config.methods import MethodSettings
from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.config.methods.vi import VISettings

CAPACITIES = [(1, 0), (1, 1), (1, 4), (2, 2), (4, 2), (8, 2)]
COLORS = {"none": "tab:orange", "whitened": "tab:blue", "rmsprop": "tab:orange", "hessian": "tab:blue"}
MAX_RHAT = 1.02


def sgld(is_quick: bool, is_quadratic: bool) -> list[tuple[str, float, MethodSettings]]:
    """(series, step size, settings)."""
    plain = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3] if is_quadratic else [1e-8, 3e-8, 1e-7, 3e-7, 1e-6]
    white = [0.01, 0.02, 0.05, 0.1, 0.2]
    keep = slice(2, 3) if is_quick else slice(None)
    common = {"batch": 128, "steps": 2000 if is_quick else 20_000, "num_chains": 8}
    return [
        (name, eta, SGLDSettings(eta0=eta, precond_type=name, **common))
        for name, sizes in (("none", plain), ("whitened", white))
        for eta in sizes[keep]
    ]


def mclmc(is_quick: bool, _: bool) -> list[tuple[str, float, MethodSettings]]:
    """(series, step size, settings)."""
    sizes = [0.3] if is_quick else [0.1, 0.2, 0.3, 0.5, 0.7, 1.0]
    common = {"adjusted": False, "L": 1.0, "steps": 1000 if is_quick else 10_000, "num_chains": 8}
    return [("whitened", size, MCLMCSettings(step_size=size, **common)) for size in sizes]


def vi(is_quick: bool, _: bool) -> list[tuple[str, float, MethodSettings]]:
    """(series, index of the capacity, settings)."""
    capacities = CAPACITIES[1:2] if is_quick else CAPACITIES
    common = {"steps": 200 if is_quick else 8000, "batch_size": 256, "lr": 1e-2, "num_draws": 500 if is_quick else 2000}
    slots = {} if is_quick else {"max_components": 8, "max_rank": 4}
    return [
        (mode, CAPACITIES.index((m, r)), VISettings(M=m, r=r, whitening_mode=mode, **common, **slots))
        for mode in ("rmsprop", "hessian")
        for m, r in capacities
    ]


METHODS = {"SGLD": sgld, "unadjusted MCLMC": mclmc, "VI": vi}
XLABELS = {
    "SGLD": "step size η",
    "unadjusted MCLMC": "step size, units of √d posterior standard deviations",
    "VI": "components M, rank r",
}


def measure(known: Known, name: str, method: str, series: str, x: float, settings: MethodSettings) -> dict:
    """One row of the results."""
    start = time.process_time()
    run = known.run(settings, seed=1)
    estimate = run.estimate
    return {
        "problem": name,
        "method": method,
        "series": series,
        "x": x,
        "settings": settings.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "llc": estimate.raw_llc,
        "se": estimate.raw_se,
        "truth": known.truth,
        "bias": estimate.raw_llc / known.truth - 1,
        "bias_se": estimate.raw_se / known.truth,
        "rhat_loss": estimate.rhat_loss,
        "rhat_distance": estimate.rhat_distance,
        "num_gradient_evaluations": run.num_gradient_evaluations,
        "cpu_sec": time.process_time() - start,
        "state": run.state,
        **run.extras,
    }


def draw(rows: list[dict], problems: list[str], path: Path) -> None:
    """A row of panels per problem, a column per method."""
    figure, axes = plt.subplots(len(problems), 3, figsize=(13, 4.2 * len(problems)), squeeze=False)
    for i, problem in enumerate(problems):
        for axis, method in zip(axes[i], METHODS, strict=True):
            axis.axhline(0, color="black", lw=1, label="truth")
            here = [row for row in rows if row["problem"] == problem and row["method"] == method]
            here = [row for row in here if row["state"] == "COMPLETE"]
            for series in dict.fromkeys(row["series"] for row in here):
                points = [row for row in here if row["series"] == series]
                for row in points:
                    hollow = {"mfc": "white"} if row["rhat_loss"] > MAX_RHAT else {}
                    axis.errorbar(
                        row["x"], 100 * row["bias"], 200 * row["bias_se"], fmt="o", color=COLORS[series], **hollow
                    )
                axis.plot([], [], "o", color=COLORS[series], label=f"{series}, measured ± 2 se")
                if method == "SGLD":
                    predicted = [100 * row["predicted_bias"] for row in points]
                    label = f"{series}, predicted"
                    axis.plot([row["x"] for row in points], predicted, "--", color=COLORS[series], label=label)
                if method == "VI":
                    values = [100 * (row["llc_psis"] / row["truth"] - 1) for row in points]
                    label = f"{series}, importance sampling"
                    axis.plot([row["x"] for row in points], values, "x", color=COLORS[series], label=label)
                    for row in points:
                        text = rf"$\hat k$ {row['k_hat']:.1f}"
                        axis.annotate(
                            text, (row["x"], 100 * row["bias"]), (0, 7), textcoords="offset points", fontsize=6
                        )
            if method == "SGLD":
                axis.set_xscale("log")
            if method == "VI":
                axis.set_xticks(range(len(CAPACITIES)), [f"{m}, {r}" for m, r in CAPACITIES])
            axis.set_yscale("symlog", linthresh=2)
            axis.set_ylim(-150, 150)
            axis.set_yticks([-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100], minor=False)
            axis.yaxis.set_major_formatter("{x:+g}")
            axis.yaxis.set_minor_locator(mpl.ticker.NullLocator())
            axis.set_xlabel(XLABELS[method])
            axis.set_title(f"{method}, {problem}", fontsize=10)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncol=2)
        axes[i][0].set_ylabel("(λ̂ − λ)/λ in %")
    figure.suptitle(
        "Bias of the estimated λ; hollow: R̂ of the loss above 1.02, the chains had not converged", fontsize=11
    )
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="one short run of each kind, on the quadratic")
    options = parser.parse_args()
    problems = {"quadratic, d = 10": quadratic}
    if not options.quick:
        problems["ReLU network, d = 45"] = relu45
    rows = []
    for name, build in problems.items():
        known = build()
        for method, plan in METHODS.items():
            for series, x, settings in plan(options.quick, build is quadratic):
                rows.append(measure(known, name, method, series, x, settings))
                row = rows[-1]
                print(f"{name}  {method}  {series}  {x:g}  {row['bias']:+.4f} ± {row['bias_se']:.4f}", flush=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "bias.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    draw(rows, list(problems), options.folder / "bias.png")
    print(f"CPU seconds: {time.process_time():.0f}")


if __name__ == "__main__":
    main()
