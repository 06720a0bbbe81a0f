"""The folder of one trial or run, as the controller keeps it: manifest out, metrics in."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lambda_hat.artifacts.files import drop_link, make_dir, read_json, read_json_lines, write_json_atomic
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, PROGRESS_JSONL, STOP_FLAG

__all__ = ["End", "clear_folder", "discard", "end_of", "fail_in", "metrics_in", "write_manifest"]

End = Literal["COMPLETE", "PRUNED", "FAIL"]


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Make the folder, and say in it what its worker has to do."""
    make_dir(folder)
    write_json_atomic(folder / MANIFEST_JSON, manifest)


def metrics_in(folder: Path) -> dict[str, Any] | None:
    """What its worker ended with; None where it has not ended."""
    return read_json(folder / METRICS_JSON)


def clear_folder(folder: Path) -> int:
    """Remove how an earlier attempt ended; the number of bytes of progress that it left."""
    discard(folder, METRICS_JSON, STOP_FLAG)
    drop_link(folder / PROGRESS_JSONL)
    return read_json_lines(folder / PROGRESS_JSONL)[1]


def discard(folder: Path, *names: str) -> None:
    """Remove files that may be there."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def fail_in(folder: Path, error: Exception) -> dict[str, Any]:
    """The metrics of a task that raised, kept in its folder."""
    metrics = {
        "state": "FAIL",
        "reason": f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)),
    }
    write_json_atomic(folder / METRICS_JSON, metrics)
    return metrics


def end_of(metrics: Mapping[str, Any]) -> tuple[End, str]:
    """How a task ended, and why: one that is complete has an estimate that is a finite number."""
    state, llc_hat, reason = metrics.get("state"), metrics.get("llc_hat"), str(metrics.get("reason") or "")
    if state == "COMPLETE" and (llc_hat is None or not math.isfinite(llc_hat)):
        return "FAIL", "the estimate is not a finite number"
    if state == "COMPLETE" or state == "PRUNED":
        return state, reason
    return "FAIL", reason or "the task gave no reason"
