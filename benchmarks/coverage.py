"""Whether intervals of ± 1.96 standard errors cover: `python benchmarks/coverage.py [--seeds 200] [--method NAME ...]`.

Runs every method over many seeds on a quadratic. HMC and MCLMC are unbiased, and their intervals must cover the exact
λ̂ 90–98 % of the time. SGLD's must cover its own stationary value, which is λ̂ of the discretised chain with minibatch
noise (a Lyapunov equation); unadjusted MCLMC and VI have no closed form, and are judged by the exact λ̂, bias and all.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from known import Known, quadratic
from scipy.linalg import solve_discrete_lyapunov

from lambda_hat.config.methods import MethodSettings
from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.config.methods.vi import VISettings

SETTINGS: dict[str, MethodSettings] = {
    "hmc": HMCSettings(steps=400),
    "mclmc": MCLMCSettings(steps=400),
    "mclmc unadjusted": MCLMCSettings(adjusted=False, step_size=0.2, steps=2000),
    "sgld": SGLDSettings(eta0=2e-4, batch=64, steps=4000),
    "sgld whitened": SGLDSettings(eta0=0.1, batch=64, steps=4000, precond_type="whitened"),
    "vi hessian": VISettings(M=1, r=1, lr=2e-2, steps=3000, whitening_mode="hessian"),
}


def stationary_llc(known: Known, settings: SGLDSettings) -> float:
    """λ̂ of w ← w − (η/2) P (K (w − w0) + noise) + √(ηP) ξ at stationarity."""
    posterior, eta = known.posteriors["float64"], settings.initial_step_size
    noise, nbeta = np.asarray(posterior.rows[0]).reshape(-1, posterior.dim), float(posterior.nbeta)
    hessian = nbeta * posterior.loss_fn.geometry.hessian
    precision = hessian + float(posterior.localization) * np.eye(posterior.dim)
    p = np.linalg.inv(precision) if settings.preconditioner == "whitened" else np.eye(posterior.dim)
    minibatch = nbeta**2 * noise.T @ noise / posterior.num_data / settings.batch_size
    kick = eta * p + eta**2 / 4 * p @ minibatch @ p
    covariance = solve_discrete_lyapunov(np.eye(posterior.dim) - eta / 2 * p @ precision, kick)
    return 0.5 * float(np.trace(hessian @ covariance))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--method", action="append", choices=SETTINGS, help="may be repeated; all without it")
    options = parser.parse_args()
    known = quadratic(dim=5, num_data=300)
    print(f"{'method':18} {'about':10} {'coverage':>8} {'bias':>8} {'sd of z':>8} {'se/sd':>6} {'CPU s':>6}")
    for method in options.method or SETTINGS:
        settings, start = SETTINGS[method], time.process_time()
        value = stationary_llc(known, settings) if isinstance(settings, SGLDSettings) else known.truth
        estimates = [known.run(settings, seed).estimate for seed in range(options.seeds)]
        llc, se = (np.array([getattr(estimate, name) for estimate in estimates]) for name in ("llc", "se"))
        z = (llc - value) / se
        coverage = np.mean(np.abs(z) <= 1.96)
        about = "stationary" if isinstance(settings, SGLDSettings) else "exact"
        bias, ratio = llc.mean() / value - 1, se.mean() / llc.std()
        cpu = time.process_time() - start
        print(f"{method:18} {about:10} {coverage:8.1%} {bias:+8.2%} {z.std():8.2f} {ratio:6.2f} {cpu:6.0f}", flush=True)


if __name__ == "__main__":
    main()
