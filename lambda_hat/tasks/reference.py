"""The reference of one problem: target, sampling, certificate, files."""

from __future__ import annotations

import io
import os
import socket
import time
import traceback
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lambda_hat.artifacts.files import append_json_line, read_json, write_bytes_atomic, write_json_atomic
from lambda_hat.artifacts.paths import (
    FAILURE_JSON,
    PROGRESS_JSONL,
    REFERENCE_FORMAT,
    REFERENCE_JSON,
    REFERENCE_NPZ,
    TARGET_NPZ,
)
from lambda_hat.clock import now
from lambda_hat.config.problems import LocalizationRadius
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.errors import InputError, StorageError, TargetError
from lambda_hat.estimate.diagnostics import TraceDiagnostics
from lambda_hat.reference.engine import Reference, exact_reference, sample_reference
from lambda_hat.reference.work import Progress
from lambda_hat.samplers.pace import OutOfTime
from lambda_hat.targets import build_target, load_target
from lambda_hat.tasks.budget import Limits, end_busy_worker, log_event, watchdog
from lambda_hat.tasks.problem import LoadedProblem, read_arrays, read_problem
from lambda_hat.tasks.provenance import provenance

__all__ = ["run_reference"]

# What a stored reference may differ in and still be gone on from.
_BOUNDS = ("max_relative_mcse", "on_uncertified", "cross_check", "draws_per_round")

# For what comes after the sampling: diagnostics, coordinates and traces to disk. A share of the budget, up to so much.
RESERVE = 0.1
MAX_RESERVE_SEC = 30.0


def run_reference(problem_dir: str, spec: dict[str, Any], hmc_sec: float) -> dict[str, Any]:
    """See `lambda_hat.tasks.reference_task`."""
    folder, started = Path(problem_dir), now()
    limits = Limits(time.monotonic(), hmc_sec, min(RESERVE * hmc_sec, MAX_RESERVE_SEC))
    (folder / FAILURE_JSON).unlink(missing_ok=True)
    log_event(folder, "started", pid=os.getpid(), host=socket.gethostname())
    try:
        with (
            watchdog(limits, "execution.budget.hmc_sec", folder / FAILURE_JSON, lambda: {"started": started}),
            jax.enable_x64(True),
        ):
            content = _reference(folder, ReferenceSpec.model_validate(spec), limits, started)
        write_json_atomic(folder / REFERENCE_JSON, content)
        content = read_json(folder / REFERENCE_JSON) or content
    except StorageError:
        raise  # of the machine, not of this task
    except (Exception, OutOfTime) as error:
        content = {
            "state": "FAIL",
            "reason": _reason(error, hmc_sec),
            "traceback": traceback.format_exc(),
            "started": started,
            "finished": now(),
            **provenance(),
        }
        write_json_atomic(folder / FAILURE_JSON, content)
    log_event(folder, "ended", state=content["state"])
    end_busy_worker()
    return content


def _reason(error: BaseException, hmc_sec: float) -> str:
    if isinstance(error, OutOfTime):
        return f"out of time before there was a reference: raise execution.budget.hmc_sec, which is {hmc_sec:g} s"
    return f"{type(error).__name__}: {error}"


def _reference(folder: Path, spec: ReferenceSpec, limits: Limits, started: str) -> dict[str, Any]:
    """Content of `ref.json`; what it stands on is saved."""
    made_by, clock = provenance(), time.monotonic()
    progress_path = folder / PROGRESS_JSONL
    append_json_line(progress_path, {"stage": "training"})
    loaded = _load_or_train(folder, limits)
    training_sec = time.monotonic() - clock
    earlier = _earlier(folder, spec)

    def on_progress(progress: Progress) -> None:
        append_json_line(progress_path, vars(progress))

    posterior = loaded.posterior("float64")
    if spec.method == "exact":
        with limits.sampling_guard():
            reference = exact_reference(posterior, _exact_llc(loaded))
    else:
        stored = read_arrays(folder / REFERENCE_NPZ) if earlier else None
        reference = sample_reference(
            posterior,
            spec,
            deadline=limits.deadline,
            on_progress=on_progress,
            stored=stored,
            guard=limits.sampling_guard,
        )
    stages = dict(earlier.get("stages", {}))
    for stage, seconds in {"training": training_sec, **reference.seconds}.items():
        stages[stage] = stages.get(stage, 0.0) + seconds
    _save_arrays(folder / REFERENCE_NPZ, reference.arrays)
    return {
        "format": REFERENCE_FORMAT,
        "method": spec.method,
        **_of_problem(loaded),
        **_of_reference(reference),
        "stages": stages,
        "seconds": sum(seconds for stage, seconds in stages.items() if stage != "training"),
        "num_extensions": earlier.get("num_extensions", -1) + 1,
        "spec": spec.to_dict(),
        "started": started,
        "finished": now(),
        **made_by,
    }


def _load_or_train(folder: Path, limits: Limits) -> LoadedProblem:
    problem = read_problem(folder)
    try:
        target = load_target(folder / TARGET_NPZ, problem)
    except TargetError:
        with limits.sampling_guard():
            target = build_target(problem)
        target.save(folder / TARGET_NPZ)
    return LoadedProblem(problem, target)


def _exact_llc(loaded: LoadedProblem) -> float:
    llc = loaded.target.exact_llc(loaded.nbeta, loaded.localization)
    if llc is None:
        raise InputError(f"the exact value of target `{loaded.problem.target}` is not known")
    return llc


def _earlier(folder: Path, spec: ReferenceSpec) -> dict[str, Any]:
    """What an earlier call wrote, if this one can go on from it; empty otherwise."""
    stored = read_json(folder / REFERENCE_JSON) or {}

    def sampling(spec: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in spec.items() if name not in _BOUNDS}

    is_whole = (folder / REFERENCE_NPZ).is_file() and stored.get("format") == REFERENCE_FORMAT
    return stored if is_whole and sampling(stored.get("spec", {})) == sampling(spec.to_dict()) else {}


def _of_problem(loaded: LoadedProblem) -> dict[str, Any]:
    target, localization = loaded.target, loaded.problem.posterior.localization
    return {
        "exact_llc": target.exact_llc(loaded.nbeta, loaded.localization),
        "localization": loaded.localization,
        "radius": localization.radius if isinstance(localization, LocalizationRadius) else None,
        "nbeta": loaded.nbeta,
        "num_data": target.num_data,
        "dim": target.dim,
        "loss_at_w0": float(loaded.posterior("float64").loss_at_w0),
        "target": {key: value for key, value in target.info.items() if isinstance(value, bool | int | float | str)},
    }


def _of_reference(reference: Reference) -> dict[str, Any]:
    def figures(trace: TraceDiagnostics) -> dict[str, float]:
        return {"rhat": trace.rhat, "ess_bulk": trace.ess_bulk, "ess_tail": trace.ess_tail, "mcse": trace.mcse}

    spectrum, info = reference.spectrum, reference.info
    return {
        "state": "COMPLETE",
        "llc": reference.llc,
        "se": reference.se,
        "is_certified": reference.certificate.is_certified,
        "reasons": list(reference.certificate.reasons),
        "certificate": reference.certificate.to_list(),
        "diagnostics": {name: figures(trace) for name, trace in reference.diagnostics.items()},
        "laplace_llc": reference.laplace_llc,
        "laplace_se": reference.laplace_se,
        "spectrum": None
        if spectrum is None
        else {"smallest": spectrum.smallest, "largest": spectrum.largest, "is_exact": spectrum.is_exact},
        "decrease_available": reference.decrease_available,
        "wells": {
            "num_descents": reference.wells.num_descents,
            "log_masses": reference.wells.log_masses.tolist(),
        },
        "whitening": None if reference.coordinates is None else type(reference.coordinates.averaged).__name__,
        "num_chains": 0 if info is None else int(info.excess_loss.shape[0]),
        "num_draws": 0 if info is None else int(info.excess_loss.size),
        "step_size": reference.step_size,
        "num_integration_steps": reference.num_integration_steps,
        "num_gradient_evaluations": reference.num_gradient_evaluations,
        "num_curvature_passes": reference.num_curvature_passes,
        "dtype": "float64",
        "evaluation_dtype": reference.evaluation_dtype,
        "evaluation_error": reference.evaluation_error,
    }


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_bytes_atomic(path, buffer.getvalue())
