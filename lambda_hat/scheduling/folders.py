"""The folder of one trial or run, as the controller keeps it: manifest out, metrics in."""

from __future__ import annotations

import math
from pathlib import Path

from lambda_hat.artifacts.files import drop_link, make_dir, read_json_lines
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, PROGRESS_JSONL, STOP_FLAG
from lambda_hat.records.manifest import Manifest, TrialBudget
from lambda_hat.records.metrics import Metrics

__all__ = ["clear_folder", "discard", "fail_in", "lacks_time", "metrics_in", "write_manifest"]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the folder, and say in it what its worker has to do."""
    make_dir(folder)
    manifest.write(folder / MANIFEST_JSON)


def metrics_in(folder: Path) -> Metrics | None:
    """What its worker ended with; None where it has not ended."""
    return Metrics.read(folder / METRICS_JSON)


def lacks_time(folder: Path, metrics: Metrics, budget: TrialBudget) -> bool:
    """Whether a run ended as it did for want of time, and `budget` has more of it than its manifest gave."""
    short_of = metrics.short_of or ("trial_sec" if metrics.is_truncated else None)
    if short_of is None or (manifest := Manifest.read(folder / MANIFEST_JSON)) is None:
        return False
    return getattr(budget, short_of, 0.0) > getattr(manifest.budget, short_of, math.inf)


def clear_folder(folder: Path) -> int:
    """Remove how an earlier attempt ended; the number of bytes of progress that it left."""
    discard(folder, METRICS_JSON, STOP_FLAG)
    drop_link(folder / PROGRESS_JSONL)
    return read_json_lines(folder / PROGRESS_JSONL)[1]


def discard(folder: Path, *names: str) -> None:
    """Remove files that may be there."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def fail_in(folder: Path, error: Exception) -> Metrics:
    """The metrics of a task that raised, kept in its folder."""
    metrics = Metrics.failed(error)
    metrics.write(folder / METRICS_JSON)
    return metrics
