"""Compiling what trials will run, by a worker that has nothing else to do while their reference is being made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from lambda_hat.config.methods import parse_settings
from lambda_hat.estimate.method import run_method
from lambda_hat.posterior import Coordinates, DenseWhitening, LocalPosterior
from lambda_hat.posterior.geometry import MAX_DENSE_DIM
from lambda_hat.records.provenance import Provenance
from lambda_hat.tasks.problem import load_problem
from lambda_hat.tasks.provenance import provenance

__all__ = ["run_compilation", "run_import"]

NUM_STEPS = 8  # of each chain: how many a run has is no part of its programs


def run_import() -> Provenance:
    """See `lambda_hat.tasks.import_task`."""
    return provenance()


def run_compilation(problem_dir: str, method: str, settings: Mapping[str, object], seconds: float) -> float:
    """See `lambda_hat.tasks.compile_task`."""
    start = time.monotonic()
    parsed = parse_settings(method, {**settings, "steps": NUM_STEPS})
    with jax.enable_x64(parsed.dtype == "float64"):
        posterior = load_problem(Path(problem_dir)).posterior(parsed.dtype)
        if posterior.dim <= MAX_DENSE_DIM:  # of a larger one the kind of coordinates is not known yet
            run_method(posterior, parsed, coordinates=_isotropic(posterior), seed=0, deadline=start + seconds)
    return time.monotonic() - start


def _isotropic(posterior: LocalPosterior) -> Coordinates:
    """Those of the localization alone, in place of what the reference will find."""
    whitening = DenseWhitening(jnp.eye(posterior.dim, dtype=posterior.w0.dtype) / jnp.sqrt(posterior.localization))
    return Coordinates(whitening, whitening)
