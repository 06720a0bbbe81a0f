"""How long tasks took that have ended: in this run, and in others beside it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from lambda_hat.artifacts.paths import METRICS_JSON, REFERENCE_JSON, Paths
from lambda_hat.errors import LambdaHatError
from lambda_hat.records.base import Record
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.scheduling.pace import expected_seconds

__all__ = ["reference_seconds", "trial_seconds"]

_MOST = 200  # files that are read

R = TypeVar("R", bound=Record)


def trial_seconds(paths: Paths, pid: str, method: str) -> float | None:
    """Seconds of a trial of the method on the problem, or else on any; None where none has ended under `store.root`.

    In `workflow llc`, `method` is the name of the sampler.
    """
    for pattern in (f"trials/{pid}/{method}/*", f"trials/*/{method}/*"):
        ended = _records(paths, f"{pattern}/{METRICS_JSON}", Metrics)
        if (seconds := expected_seconds(ended)) is not None:
            return seconds
    return None


def reference_seconds(paths: Paths, pid: str) -> float | None:
    """Seconds that the reference of the problem took; None where there was none under `store.root`."""
    stored = _records(paths, f"problems/{pid}/{REFERENCE_JSON}", ReferenceRecord)
    seconds = [(record.seconds or 0.0) + record.stages.get("training", 0.0) for record in stored]
    return statistics.median(seconds) if seconds else None


def _records(paths: Paths, pattern: str, kind: type[R]) -> Sequence[R]:
    """The records of this run's files, or else of other runs'; those of other versions are left out."""
    own = list(_read(paths.root, pattern, kind))
    return own or list(_read(paths.root.parent.parent, f"*/*/{pattern}", kind))


def _read(root: Path, pattern: str, kind: type[R]) -> Iterator[R]:
    for _, path in zip(range(_MOST), root.glob(pattern), strict=False):
        try:
            record = kind.read(path)
        except LambdaHatError:
            continue
        if record is not None:
            yield record
