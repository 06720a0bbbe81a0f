"""What a worker finds where it runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import jax
import jax.numpy as jnp

from lambda_hat.artifacts.files import write_text_atomic
from lambda_hat.environment import executor_label
from lambda_hat.records.probe import Probe
from lambda_hat.tasks.provenance import provenance

__all__ = ["run_probe"]


def run_probe(folder: str) -> Probe:
    """Say what this worker finds where it runs: `lambda_hat.tasks.probe_task`."""
    place, label = Path(folder), executor_label()
    shared = place / "controller"
    sees_controller = shared.is_file()
    if sees_controller:
        write_text_atomic(place / f"worker-{label}", socket.gethostname())
    errors: dict[str, float] = {}  # of a computation in each precision
    for is_double in (True, False):
        with jax.enable_x64(is_double):
            third = jnp.sum(jnp.full(3, 1.0) / 3.0**2)
            errors[str(third.dtype)] = abs(float(third) * 3.0 - 1.0)
    return Probe(
        provenance=provenance(),
        sees_controller=sees_controller,
        errors=errors,
        num_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        devices=tuple(device.device_kind for device in jax.devices()),
    )
