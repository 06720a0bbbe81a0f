"""What processes of a run tell each other by the environment, and what a task learns of where it runs."""

from __future__ import annotations

import os
from contextvars import ContextVar

__all__ = ["CACHE_VARIABLE", "CONTROLLER_VARIABLE", "EXECUTOR_VARIABLE", "INLINE_LABEL", "executor_label"]

EXECUTOR_VARIABLE = "LAMBDA_HAT_EXECUTOR"  # in a worker: the label of the executor that it belongs to
CONTROLLER_VARIABLE = "LAMBDA_HAT_CONTROLLER_PID"  # in a manager on the controller's machine: the controller's pid
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"  # JAX's own: where compiled programs are kept

INLINE_LABEL: ContextVar[str | None] = ContextVar("INLINE_LABEL", default=None)
"""Where a task runs in a process that is no worker: the label that it was sent to."""


def executor_label() -> str | None:
    """The label of the executor that runs the present task; None where no executor does."""
    return INLINE_LABEL.get() or os.environ.get(EXECUTOR_VARIABLE)
