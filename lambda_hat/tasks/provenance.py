"""Where, when and by what a result was made, and where its time went."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import socket
import subprocess
import time
from typing import Any

import jax

from lambda_hat.clock import now
from lambda_hat.environment import executor_label
from lambda_hat.records.provenance import Provenance, Timings

__all__ = ["Clock", "provenance"]


class _CompileClock:
    """Seconds that JAX has spent tracing, lowering and compiling in this process."""

    def __init__(self) -> None:
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            self.seconds += duration_secs


_compile_clock = _CompileClock()


class Clock:
    """Wall seconds of a trial in three parts that add up: loading, compiling, and the rest, which is sampling."""

    def __init__(self) -> None:
        self.started = now()
        self._start = time.monotonic()
        self._compiled_before = _compile_clock.seconds
        self._load = 0.0

    @property
    def start(self) -> float:
        """`time.monotonic` when the trial began."""
        return self._start

    def mark_loaded(self) -> None:
        """Target and posterior are there."""
        self._load = time.monotonic() - self._start - self._compiling()

    def _compiling(self) -> float:
        return _compile_clock.seconds - self._compiled_before

    def timings(self) -> Timings:
        """Seconds so far."""
        total, compiling = time.monotonic() - self._start, self._compiling()
        return Timings(load=self._load, compile=compiling, sample=total - self._load - compiling, total=total)


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
