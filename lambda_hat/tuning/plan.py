"""What a study searches for, beside its search space."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from lambda_hat.config.study import Budget
from lambda_hat.records.manifest import TrialBudget
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceRecord

__all__ = ["StudyPlan"]


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What all trials of one (problem, method) pair have in common."""

    pid: str
    method: str
    label: str  # executor
    settings: Mapping[str, object]  # fixed ones, under YAML's names; sampled ones win over them
    reference: ReferenceRecord  # of the problem
    seed: int  # each trial derives its own from it
    trial_sec: float
    setup_sec: float = Budget().setup_sec
    function: Callable[..., Metrics]  # called with (trial folder, problem folder)

    @property
    def budget(self) -> TrialBudget:
        """What each trial may spend."""
        return TrialBudget(trial_sec=self.trial_sec, setup_sec=self.setup_sec)

    @property
    def llc_ref(self) -> float:
        """λ̂ of the reference; a problem without a value has no studies."""
        return math.nan if self.reference.llc is None else self.reference.llc

    @property
    def se_ref(self) -> float:
        """Standard error of the reference."""
        return math.nan if self.reference.se is None else self.reference.se

    def conditions(self, searched: Container[str]) -> dict[str, object]:
        """What makes two trials comparable beside the search space, under YAML's names; none of it may change."""
        settings = {
            f"samplers.{self.method}.{name}": value for name, value in self.settings.items() if name not in searched
        }
        return {**settings, "reference": {"llc": self.reference.llc, "se": self.reference.se}}
