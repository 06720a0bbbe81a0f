"""What a worker runs. Folders in; records out, and the same records in files.

JAX is imported when a task runs, never by the controller that submits it. A worker keeps, between tasks, the targets it
has loaded, their posteriors and every compiled kernel.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lambda_hat.config.study import ReferenceSpec
    from lambda_hat.records.metrics import Metrics
    from lambda_hat.records.probe import Probe
    from lambda_hat.records.provenance import Provenance
    from lambda_hat.records.reference import ReferenceFailure, ReferenceRecord

__all__ = ["hard_limit", "import_task", "pack_task", "probe_task", "reference_task", "trial_task"]


def hard_limit(budget_sec: float) -> float:
    """Seconds after which a worker has ended a task of this budget, or itself: a tenth more, and two to be tidy."""
    return 1.1 * budget_sec + 2.0


def reference_task(
    problem_dir: str, spec: ReferenceSpec, hmc_sec: float, setup_sec: float | None = None
) -> ReferenceRecord | ReferenceFailure:
    """Train the target or load it, sample its reference within `hmc_sec`, write `ref.json`, return its content.

    Training and compiling count apart, up to `setup_sec`; the default is that of a study.

    Failures of the code are written to `failure.json` and returned, not raised.
    """
    from lambda_hat.tasks.reference import run_reference

    return run_reference(problem_dir, spec, hmc_sec, setup_sec)


def trial_task(trial_dir: str, problem_dir: str) -> Metrics:
    """Run the trial that `manifest.json` describes; write progress after each chunk and `metrics.json` at the end.

    Failures of the code are written and returned as state FAIL, not raised.
    """
    began = time.monotonic()
    from lambda_hat.tasks.trial import run_trial

    return run_trial(trial_dir, problem_dir, time.monotonic() - began)


def pack_task(trial_dirs: Sequence[str], problem_dir: str) -> dict[str, Metrics]:
    """Run trials of one problem side by side, as one program where their shapes agree; their metrics by folder name.

    Each has its own budget and files, and ends when it has to; estimates are those of `trial_task`.
    """
    began = time.monotonic()
    from lambda_hat.tasks.trial import run_trials

    return run_trials(trial_dirs, problem_dir, time.monotonic() - began)


def import_task() -> Provenance:
    """Import what trials need, and have JAX find its devices; where and with which versions that was."""
    importlib.import_module("lambda_hat.tasks.trial")
    from lambda_hat.tasks.provenance import provenance

    return provenance()


def probe_task(folder: str) -> Probe:
    """Say where this worker runs, on what, in which precisions, and whether it sees the controller's `folder`."""
    from lambda_hat.tasks.probe import run_probe

    return run_probe(folder)
