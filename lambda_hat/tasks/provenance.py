"""Where, when and by what a result was made, and where its time went."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import socket
import subprocess
import time

import jax

from lambda_hat.clock import now
from lambda_hat.environment import executor_label
from lambda_hat.records.provenance import Provenance, Timings
from lambda_hat.samplers.stopwatch import compiling, setting_up

__all__ = ["Clock", "provenance"]


class Clock:
    """Wall seconds of a trial in three parts that add up: setting up without compiling, compiling, and sampling.

    `start_seconds` went before it, on imports.
    """

    def __init__(self, start_seconds: float = 0.0) -> None:
        self.started = now()
        self._start_seconds = start_seconds
        self._start = time.monotonic()
        self._before = setting_up.seconds, compiling.seconds

    def timings(self) -> Timings:
        """Seconds so far."""
        total = time.monotonic() - self._start
        setup, compile_ = setting_up.seconds - self._before[0], compiling.seconds - self._before[1]
        return Timings(
            start=self._start_seconds, load=setup - compile_, compile=compile_, sample=total - setup, total=total
        )


@functools.cache
def _versions() -> dict[str, str | None]:
    names = ("lambda-hat", "jax", "jaxlib", "blackjax", "optax", "arviz", "numpy")
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
        versions["git_commit"] = git.stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        versions["git_commit"] = None
    return versions


@functools.cache
def _device() -> str:
    return jax.devices()[0].device_kind


def provenance(*, may_wait: bool = True) -> Provenance:
    """Machine, process, executor, device and versions.

    Unless it `may_wait`, for a device that may not answer or for git, these are None where they are not known yet.
    """
    return Provenance(
        host=socket.gethostname(),
        pid=os.getpid(),
        executor_label=executor_label(),
        device=_device() if may_wait or _device.cache_info().currsize else None,
        versions=_versions() if may_wait or _versions.cache_info().currsize else None,
    )
