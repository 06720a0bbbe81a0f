"""Names of the environment variables by which processes of a run pass information to each other."""

from __future__ import annotations

__all__ = ["CACHE_VARIABLE", "CONTROLLER_VARIABLE", "EXECUTOR_VARIABLE"]

EXECUTOR_VARIABLE = "LAMBDA_HAT_EXECUTOR"  # in a worker: the label of the executor that it belongs to
CONTROLLER_VARIABLE = "LAMBDA_HAT_CONTROLLER_PID"  # in a manager on the controller's machine: the controller's pid
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"  # JAX's own: where compiled programs are kept
