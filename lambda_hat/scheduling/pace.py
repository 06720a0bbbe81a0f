"""How long tasks take, from those that have ended."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lambda_hat.records.metrics import Metrics
from lambda_hat.records.state import State

__all__ = ["Ahead", "expected_seconds", "seconds_left", "seconds_of"]


@dataclass(frozen=True)
class Ahead:
    """Tasks of one kind that have not ended: their executor, how many, and the seconds that one is expected to take."""

    label: str
    num: int
    seconds: float | None


def seconds_of(metrics: Metrics) -> float | None:
    """Seconds of its worker that a trial took; trials that ran at once share theirs."""
    timings = metrics.timings
    if timings is None or timings.total is None:
        return None
    return ((timings.start or 0.0) + timings.total) / (metrics.num_together or 1)


def expected_seconds(ended: Iterable[Metrics]) -> float | None:
    """Seconds that the next one is expected to take: medians of the pruned and of the others, by their shares."""
    groups: tuple[list[float], list[float]] = [], []
    for metrics in ended:
        if (seconds := seconds_of(metrics)) is not None:
            groups[metrics.state is State.PRUNED].append(seconds)
    num = sum(map(len, groups))
    return sum(len(group) * statistics.median(group) for group in groups if group) / num if num else None


def seconds_left(ahead: Iterable[Ahead], caps: Mapping[str, int]) -> float | None:
    """Seconds until all have ended, `caps` of them at once on each executor; None where nothing has ended to tell.

    Kinds of which none has ended are taken to be as long as the others are in the mean.
    """
    ahead = [item for item in ahead if item.num]
    known = [item.seconds for item in ahead if item.seconds is not None]
    if not known:
        return None if ahead else 0.0
    mean = statistics.fmean(known)
    by_label: dict[str, list[Ahead]] = {}
    for item in ahead:
        by_label.setdefault(item.label, []).append(item)
    return max(
        sum(item.num * (mean if item.seconds is None else item.seconds) for item in items)
        / max(1, min(caps.get(label, 1), sum(item.num for item in items)))
        for label, items in by_label.items()
    )
