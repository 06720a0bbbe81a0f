"""What a certified reference takes: `python benchmarks/reference.py FOLDER CASE ...`.

Cases: `relu45:GAMMA`, a 45-parameter ReLU network with a known answer at that localization;
`MODEL-DATA-TEACHER:RADIUS`, a problem of presets; `yardstick`, the ESS of the loss per 1000 gradients on relu45 at
localization 100 against BlackJAX's HMC with its window adaptation (diagonal mass, 10 leapfrog steps), in turns.
`calibration:SEEDS`, references of relu45 at localization 100 from so many seeds against the truth. Prints a row each;
writes FOLDER/CASE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", NPROC="1", JAX_ENABLE_X64="true")

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from known import relu45_posterior

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.config.problems import ProblemEntry
from lambda_hat.config.resolve import resolve_problem
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.draws.diagnostics import diagnose_trace
from lambda_hat.posterior import LocalPosterior, geometry_at_w0, posterior_of
from lambda_hat.reference.coordinates import find_coordinates, start_hmc
from lambda_hat.reference.engine import sample_reference
from lambda_hat.samplers.growing import GrowingChains
from lambda_hat.samplers.mclmc import AdjustedMCLMC
from lambda_hat.samplers.work import Work
from lambda_hat.targets import build_target

TRUTH = {100.0: (15.637, 0.007), 10.0: (17.41, 0.05), 1.0: (18.23, 0.07)}
REPEATS = 3
SECONDS = 900.0


def preset(names: str, radius: float) -> tuple[LocalPosterior, float]:
    """The posterior of a problem of presets, and the CPU seconds that training it took."""
    model, data, teacher = names.split("-", 2)
    entry = ProblemEntry(
        model=model, data=data, teacher=teacher, seed=42, overrides={"posterior.localization.radius": radius}
    )
    problem = resolve_problem(entry)
    start = time.process_time()
    target = build_target(problem)
    posterior = posterior_of(target, problem.posterior, "float64")
    return posterior, time.process_time() - start


def certify(case: str, seconds: float) -> dict[str, Any]:
    name, _, number = case.partition(":")
    localization = float(number)
    posterior, training = (relu45_posterior(localization), 0.0) if name == "relu45" else preset(name, localization)
    start = time.process_time()
    result = sample_reference(posterior, ReferenceSpec(), deadline=time.monotonic() + seconds)
    truth = TRUTH.get(localization) if name == "relu45" else None
    loss, distance = result.diagnostics["loss"], result.diagnostics["distance"]
    return {
        "case": case,
        "d": posterior.dim,
        "n": posterior.num_data,
        "localization": float(posterior.localization),
        "llc": result.llc,
        "se": result.se,
        "truth": truth and truth[0],
        "z": truth and (result.llc - truth[0]) / np.hypot(result.se, truth[1]),
        "laplace": result.laplace_llc,
        "laplace_se": result.laplace_se,
        "is_certified": result.certificate.is_certified,
        "reasons": list(result.certificate.reasons),
        "rhat": max(loss.rhat, distance.rhat),
        "ess": min(loss.ess_bulk, distance.ess_bulk),
        "gradients": result.num_gradient_evaluations,
        "evaluation": result.evaluation_dtype,
        "training_cpu_sec": training,
        "cpu_sec": time.process_time() - start,
    }


def calibration(num_seeds: int, seconds: float) -> dict[str, Any]:
    """How far certified references are from the truth, in standard errors: their root mean square should be one."""
    posterior, (truth, error) = relu45_posterior(100.0), TRUTH[100.0]
    rows = []
    for seed in range(num_seeds):
        result = sample_reference(posterior, ReferenceSpec(seed=seed), deadline=time.monotonic() + seconds)
        if result.certificate.is_certified:
            rows.append((result.llc, result.se, (result.llc - truth) / float(np.hypot(result.se, error))))
    z = np.array([row[2] for row in rows])
    return {
        "case": f"calibration:{num_seeds}",
        "certified": len(rows),
        "mean_z": float(z.mean()),
        "rms_z": float(np.sqrt(np.mean(z**2))),
        "largest_z": float(np.abs(z).max()),
        "rows": rows,
    }


def ess_of_window_adaptation(posterior: LocalPosterior, seed: int) -> float:
    """Stock BlackJAX: window adaptation of step size and diagonal mass, 4 chains of 8000 draws of 10 steps."""
    logdensity = lambda w: posterior.logdensity(w)  # noqa: E731
    adaptation = blackjax.window_adaptation(blackjax.hmc, logdensity, num_integration_steps=10)

    def chain(key: jax.Array) -> jax.Array:
        warmup_key, key = jax.random.split(key)
        (state, parameters), _ = adaptation.run(warmup_key, posterior.w0, 1000)
        kernel = blackjax.hmc(logdensity, **parameters).step

        def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            state, _ = kernel(key, state)
            return state, posterior.excess_loss_from(state.logdensity, jnp.sum((state.position - posterior.w0) ** 2))

        return jax.lax.scan(step, state, jax.random.split(key, 8000))[1]

    trace = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(seed), 4))
    return 1000 * diagnose_trace(np.asarray(trace)).ess_bulk / (4 * 8000 * 10)


def ess_of_reference(posterior: LocalPosterior, seed: int) -> tuple[float, float]:
    """The reference's chains and those of its cross-check, in A1, 4 chains of 4000 draws each."""
    keys = iter(jax.random.split(jax.random.key(seed), 1000))
    spec = ReferenceSpec()
    settings = HMCSettings(
        step_size=0.1, num_integration_steps=spec.num_integration_steps, target_accept=spec.target_accept
    )
    found = find_coordinates(posterior, geometry_at_w0(posterior, next(keys)), settings, 4, keys, Work())
    whitening, starts = found.coordinates.averaged, found.draws[-4:]
    hmc = start_hmc(posterior, Coordinates(whitening, whitening), settings, starts, keys, Work())
    sampler = AdjustedMCLMC.from_settings(
        posterior, whitening, MCLMCSettings(step_size=0.1, target_accept=spec.target_accept)
    )
    mclmc = GrowingChains(sampler, next(keys), starts, Work())
    mclmc.advance(next(keys), 200, num_warmup=200)

    def ess(chains: GrowingChains) -> float:
        info = chains.advance(next(keys), 4000)
        return 1000 * diagnose_trace(info.excess_loss).ess_bulk / float(np.sum(info.num_gradient_evaluations))

    return ess(hmc), ess(mclmc)


def yardstick() -> dict[str, Any]:
    posterior = relu45_posterior(100.0)
    rows = [(ess_of_window_adaptation(posterior, seed), *ess_of_reference(posterior, seed)) for seed in range(REPEATS)]
    window, hmc, mclmc = (statistics.median(column) for column in zip(*rows, strict=True))
    return {
        "case": "yardstick",
        "window_adapted": window,
        "reference": hmc,
        "cross_check": mclmc,
        "ratio": statistics.median(hmc / window for window, hmc, _ in rows),
        "ratio_of_cross_check": statistics.median(mclmc / window for window, _, mclmc in rows),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="wall seconds of one reference")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for case in options.cases:
        name, _, number = case.partition(":")
        if name == "yardstick":
            row = yardstick()
        elif name == "calibration":
            row = calibration(int(number), options.seconds)
        else:
            row = certify(case, options.seconds)
        print("  ".join(f"{k}={v:.5g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
        path = options.folder / f"{case.replace(':', '_')}.json"
        path.write_text(json.dumps(row, indent=2, default=float) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
