"""The reference of one problem: target, sampling, certificate, files."""

from __future__ import annotations

import io
import time
import traceback
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lambda_hat.artifacts.files import append_json_line, read_json, write_bytes_atomic, write_json_atomic
from lambda_hat.artifacts.paths import PROGRESS_JSONL, REFERENCE_JSON, REFERENCE_NPZ, TARGET_NPZ
from lambda_hat.config.problems import LocalizationRadius
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.errors import TargetError
from lambda_hat.estimate.certificate import Certificate, minimum_criterion
from lambda_hat.estimate.reference import Reference, ReferenceProgress, sample_reference
from lambda_hat.targets import Target, build_target, load_target
from lambda_hat.tasks.problem import LoadedProblem, read_problem
from lambda_hat.tasks.provenance import now, provenance

__all__ = ["run_reference"]


def run_reference(problem_dir: str, spec: dict[str, Any], hmc_sec: float) -> dict[str, Any]:
    """See `lambda_hat.tasks.reference_task`."""
    try:
        with jax.enable_x64(True):
            return _reference(Path(problem_dir), ReferenceSpec.model_validate(spec), time.monotonic() + hmc_sec)
    except Exception as error:
        return {"state": "FAIL", "reason": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _decrease_available(target: Target) -> float:
    """nβ × what L_n can still lose near w0, by going downhill or along a direction of negative curvature."""
    return max(float(target.info["decrease_available"]), float(target.info.get("saddle_gain", 0.0)))


def _reference(folder: Path, spec: ReferenceSpec, deadline: float) -> dict[str, Any]:
    started, clock = now(), time.monotonic()
    progress_path = folder / PROGRESS_JSONL
    progress_path.unlink(missing_ok=True)
    append_json_line(progress_path, {"stage": "training"})
    problem = read_problem(folder)
    try:
        target = load_target(folder / TARGET_NPZ, problem)
    except TargetError:
        target = build_target(problem)
        target.save(folder / TARGET_NPZ)
    training_sec = time.monotonic() - clock
    loaded = LoadedProblem(problem, target)
    posterior = loaded.posterior("float64")

    def on_progress(progress: ReferenceProgress) -> None:
        append_json_line(progress_path, vars(progress))

    reference = sample_reference(posterior, spec, deadline=deadline, on_progress=on_progress)
    certificate = Certificate(
        (
            *reference.certificate.criteria,
            minimum_criterion(_decrease_available(target), reference.llc, spec.max_relative_mcse),
        )
    )
    localization = problem.posterior.localization
    content = {
        "state": "COMPLETE",
        "llc": reference.llc,
        "se": reference.se,
        "is_certified": certificate.is_certified,
        "reasons": list(certificate.reasons),
        "certificate": certificate.to_list(),
        "laplace_llc": reference.laplace_llc,
        "exact_llc": target.exact_llc(loaded.nbeta, loaded.localization),
        "localization": loaded.localization,
        "radius": localization.radius if isinstance(localization, LocalizationRadius) else None,
        "nbeta": loaded.nbeta,
        "num_data": target.num_data,
        "dim": target.dim,
        "loss_at_w0": float(posterior.loss_at_w0),
        "target": {key: value for key, value in target.info.items() if isinstance(value, bool | int | float | str)},
        "num_chains": spec.num_chains,
        "num_draws": 0 if reference.info is None else int(reference.info.excess_loss.size),
        "step_size": reference.step_size,
        "num_integration_steps": reference.num_integration_steps,
        "num_gradient_evaluations": reference.num_gradient_evaluations,
        "num_hessian_evaluations": reference.num_hessian_evaluations,
        "seconds": sum(reference.seconds.values()),
        "stages": {"training": training_sec, **reference.seconds},
        "spec": spec.to_dict(),
        "dtype": str(posterior.w0.dtype),
        "started": started,
        "finished": now(),
        **provenance(),
    }
    _save_arrays(folder / REFERENCE_NPZ, reference)
    write_json_atomic(folder / REFERENCE_JSON, content)
    return read_json(folder / REFERENCE_JSON) or content


def _save_arrays(path: Path, reference: Reference) -> None:
    arrays = {
        "hessian_eigenvalues": reference.hessian_eigenvalues,
    }
    for prefix, whitening in (("at_w0", reference.hessian_whitening), ("averaged", reference.whitening)):
        arrays |= {f"{prefix}.{name}": array for name, array in whitening.to_arrays().items()}
    if reference.info is not None:
        arrays["excess_loss"] = np.asarray(reference.info.excess_loss)
        arrays["squared_distance"] = np.asarray(reference.info.squared_distance)
        arrays["energy"] = np.asarray(reference.info.energy)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_bytes_atomic(path, buffer.getvalue())
