"""What a study searches for, beside its search space."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from lambda_hat.config.methods import METHODS
from lambda_hat.config.study import Budget, CategoricalDist, Distribution, IntDist, Objective
from lambda_hat.records.manifest import TrialBudget
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceRecord

__all__ = ["StudyPlan", "conditions", "definition", "with_slots"]


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What all trials of one (problem, method) pair have in common."""

    pid: str
    method: str
    label: str  # executor
    settings: Mapping[str, object]  # fixed ones, under YAML's names; sampled ones win over them
    reference: ReferenceRecord  # of the problem
    title: str = ""  # of the problem
    arguments: Mapping[str, object] = field(default_factory=dict)  # of the function that builds it, if one does
    seed: int  # each trial derives its own from it
    num_trials: int
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


def with_slots(settings: Mapping[str, object], method: str, space: Mapping[str, Distribution]) -> dict[str, object]:
    """The fixed settings, with slots for the largest value searched of each hyperparameter that has them.

    So one program serves all values.
    """
    found: dict[str, object] = {**settings}
    for slot, name in METHODS[method].slots.items():
        match space.get(name):
            case CategoricalDist(choices=choices):
                found[slot] = max(int(choice) for choice in choices if isinstance(choice, int))
            case IntDist(high=high):
                found[slot] = high
            case _:
                pass
    return found


def conditions(
    method: str, settings: Mapping[str, object], searched: Container[str], reference: ReferenceRecord
) -> dict[str, object]:
    """What makes two trials comparable beside search space and objective, under YAML's names; none of it may change."""
    fixed = {f"samplers.{method}.{name}": value for name, value in settings.items() if name not in searched}
    return {**fixed, "reference": {"llc": reference.llc, "se": reference.se}}


def definition(
    method: str, objective: Objective, space: Mapping[str, Distribution], conditions: Mapping[str, object]
) -> dict[str, object]:
    """What a study keeps of what all its trials have in common, under YAML's names; none of it may change."""
    kept = {name: value for name, value in objective.to_dict().items() if name != "gates" or value}
    return {
        "optuna.objective": kept,
        **{f"search_space.{method}.{name}": distribution.to_dict() for name, distribution in space.items()},
        **conditions,
    }
