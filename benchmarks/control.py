"""The figure of the control at nβ = 0: `python benchmarks/control.py FOLDER [--quick]`.

`control.png` has γ_loc E|w − w0|²/d of SGLD by step size, for chains of two lengths, beside the closed form of its
recursion.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lambda_hat import check_sampler

DIM, LOCALIZATION, BURN_IN = 50, 100.0, 0.25
LENGTHS = {1000: "#d55e00", 10_000: "#0072b2"}
ETAS = np.geomspace(1e-6, 2e-2, 9)


def loss_fn(params, batch):
    inputs, outputs = batch
    return (inputs @ params - outputs) ** 2 / 2


def expected(eta: np.ndarray, steps: int) -> np.ndarray:
    """γ_loc E|w − w0|²/d over the steps after the burn-in of r ← (1 − ηγ/2) r + √η ξ from 0."""
    shrink = 1 - eta * LOCALIZATION / 2
    done = np.arange(int(BURN_IN * steps), steps)[:, None]
    return np.mean(1 - shrink ** (2 * done), axis=0) / (1 - eta * LOCALIZATION / 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="a few step sizes, short chains")
    options = parser.parse_args()
    folder, lengths, etas = options.folder, LENGTHS, ETAS
    if options.quick:
        lengths, etas = {1000: "#0072b2"}, ETAS[4:6]
    rng = np.random.default_rng(0)
    data = (rng.standard_normal((200, DIM)), rng.standard_normal(200))
    params = np.linalg.lstsq(*data)[0]

    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    fine = np.geomspace(etas[0], etas[-1], 200)
    axes.axhline(1.0, color="black", linewidth=1.0, label="wanted")
    axes.axhspan(0.95, 1.05, color="black", alpha=0.1, linewidth=0)
    for steps, colour in lengths.items():
        axes.plot(fine, expected(fine, steps), color=colour, linewidth=0.8)
        checks = [
            check_sampler(
                loss_fn, params, data, sampler="sgld", eta0=float(eta), steps=steps, localization=LOCALIZATION
            )
            for eta in etas
        ]
        for eta, check in zip(etas, checks, strict=True):
            print(f"{steps:6} steps, η = {eta:.1e}: {check.ratio:.4f} ± {check.se:.4f}, {expected(eta, steps)[0]:.4f}")
        ratios, errors = [check.ratio for check in checks], [2 * check.se for check in checks]
        axes.errorbar(etas, ratios, yerr=errors, fmt="o", color=colour, markersize=4, label=f"{steps:,} steps")
        passed = [check.is_passed for check in checks]
        axes.plot(etas[passed], np.array(ratios)[passed], "o", color="none", markeredgecolor="black", markersize=9)
    axes.set(xscale="log", xlabel="step size η", ylabel="γ_loc E|w − w0|²/d", title="SGLD at nβ = 0; ringed: passes")
    axes.legend()
    figure.savefig(folder / "control.png", dpi=110)


if __name__ == "__main__":
    main()
