"""What a study searches for, beside its search space."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
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
    max_seconds: float  # after which a worker has ended any trial, or itself
    function: Callable[
        ..., dict[str, Any]
    ]  # called with (trial folder, problem folder); returns what metrics.json holds

    def conditions(self, searched: Container[str]) -> dict[str, object]:
        """What makes two trials comparable beside the search space, under YAML's names; none of it may change."""
        settings = {
            f"samplers.{self.method}.{name}": value for name, value in self.settings.items() if name not in searched
        }
        return {**settings, "reference": {"llc": self.llc_ref, "se": self.se_ref}}
