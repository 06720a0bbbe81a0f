"""How long tasks take, from those that have ended."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lambda_hat.records.metrics import Metrics
from lambda_hat.records.state import State

__all__ = ["Ahead", "expected_seconds", "seconds_left"]

_ENOUGH = 3


@dataclass(frozen=True)
class Ahead:
    """Tasks of one kind that have not ended: their executor, how many, and the seconds that one is expected to take."""

    label: str
    num: int
    seconds: float | None


def expected_seconds(ended: Iterable[Metrics]) -> float | None:
    """Seconds that the next one is expected to take: medians of the pruned and the complete, by their shares.

    Setting up counts by its median once three have ended: the first ones compile what the later ones share.
    """
    groups: tuple[list[float], list[float]] = [], []
    setups: list[float] = []
    for metrics in ended:
        timings = metrics.timings
        if metrics.state is not State.FAIL and timings is not None and timings.total is not None:
            share = 1 / (metrics.num_together or 1)  # trials that ran at once share their seconds
            setup = 0.0 if timings.sample is None else timings.total - timings.sample
            groups[metrics.state is State.PRUNED].append(share * (timings.total - setup))
            setups.append(share * (setup + (timings.start or 0.0)))
    if not setups:
        return None
    sampling = sum(len(group) * statistics.median(group) for group in groups if group) / len(setups)
    return sampling + (statistics.median(setups) if len(setups) >= _ENOUGH else 0.0)


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
