"""The reference of a problem whose λ̂ is known: no sampling, no error."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np

from lambda_hat.artifacts.files import read_json, write_bytes_atomic, write_json_atomic
from lambda_hat.artifacts.paths import REFERENCE_JSON, REFERENCE_NPZ
from lambda_hat.config.problems import LocalizationRadius
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.errors import InputError
from lambda_hat.posterior import hessian_whitening, laplace_llc
from lambda_hat.tasks.problem import LoadedProblem
from lambda_hat.tasks.provenance import now, provenance

__all__ = ["write_exact_reference"]


def write_exact_reference(
    folder: Path, loaded: LoadedProblem, spec: ReferenceSpec, *, started: str, training_sec: float
) -> dict[str, Any]:
    """Write `ref.json` with the exact λ̂, `ref.npz` with A0, the whitening at w0, in place of A1 too; return the first.

    Raises:
        InputError: the exact value of this target is not known.
    """
    clock = time.monotonic()
    target, posterior = loaded.target, loaded.posterior("float64")
    llc = target.exact_llc(loaded.nbeta, loaded.localization)
    if llc is None:
        raise InputError(f"the exact value of target `{loaded.problem.target}` is not known")
    whitening, eigenvalues = hessian_whitening(posterior, posterior.w0[None])
    localization = loaded.problem.posterior.localization
    exact_sec = time.monotonic() - clock
    content = {
        "state": "COMPLETE",
        "method": "exact",
        "llc": llc,
        "se": 0.0,
        "is_certified": True,
        "reasons": [],
        "certificate": [],
        "laplace_llc": laplace_llc(eigenvalues, posterior.localization),
        "exact_llc": llc,
        "localization": loaded.localization,
        "radius": localization.radius if isinstance(localization, LocalizationRadius) else None,
        "nbeta": loaded.nbeta,
        "num_data": target.num_data,
        "dim": target.dim,
        "loss_at_w0": float(posterior.loss_at_w0),
        "target": {key: value for key, value in target.info.items() if isinstance(value, bool | int | float | str)},
        "num_chains": 0,
        "num_draws": 0,
        "step_size": None,
        "num_integration_steps": 0,
        "num_gradient_evaluations": 0.0,
        "num_hessian_evaluations": 1,
        "seconds": exact_sec,
        "stages": {"training": training_sec, "exact": exact_sec},
        "spec": spec.to_dict(),
        "dtype": str(posterior.w0.dtype),
        "started": started,
        "finished": now(),
        **provenance(),
    }
    arrays = {"hessian_eigenvalues": np.asarray(eigenvalues)}
    for prefix in ("at_w0", "averaged"):
        arrays |= {f"{prefix}.{name}": array for name, array in whitening.to_arrays().items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    write_bytes_atomic(folder / REFERENCE_NPZ, buffer.getvalue())
    write_json_atomic(folder / REFERENCE_JSON, content)
    return read_json(folder / REFERENCE_JSON) or content
