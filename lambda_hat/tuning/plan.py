"""What a study searches for, beside its search space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["StudyPlan"]


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What all trials of one (problem, method) pair have in common."""

    pid: str
    method: str
    label: str  # executor
    settings: Mapping[str, object]  # fixed ones, under YAML's names; sampled ones win over them
    llc_ref: float
    se_ref: float
    seed: int  # each trial derives its own from it
    trial_sec: float
    function: Callable[
        ..., dict[str, Any]
    ]  # called with (trial folder, problem folder); returns what metrics.json holds
