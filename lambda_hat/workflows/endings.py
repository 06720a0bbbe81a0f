"""What a command that ends early leaves, and with what settings it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from lambda_hat.config.study import Budget
from lambda_hat.formatting import count
from lambda_hat.records.state import State
from lambda_hat.workflows.plan import Plan

__all__ = ["doubled", "kept", "more_time"]


class _Row(Protocol):
    @property
    def state(self) -> State: ...
    @property
    def short_of(self) -> str | None: ...


def kept(plan: Plan) -> str:
    """What is there by now, in one line: `1 of 1 references and 14 of 72 trials are kept in …`."""
    num_problems = len(plan.problems)
    parts = [f"{sum(not problem.needs_reference for problem in plan.problems)} of {count(num_problems, 'reference')}"]
    if num_begun := sum(problem.needs_reference and problem.is_begun for problem in plan.problems):
        parts[0] += f" ({num_begun} begun)"
    if plan.studies:
        num_trials = sum(study.num_trials for study in plan.studies)
        parts.append(f"{sum(study.num_finished for study in plan.studies)} of {count(num_trials, 'trial')}")
    if plan.runs:
        parts.append(f"{sum(run.is_finished for run in plan.runs)} of {count(len(plan.runs), 'run')}")
    return f"{' and '.join(parts)} in {plan.paths.root}"


def more_time(budget: Budget, rows: Iterable[_Row]) -> tuple[str, ...]:
    """Settings that give twice the time to what failed for want of it; none where nothing did."""
    return doubled(budget, {row.short_of for row in rows if row.state is State.FAIL and row.short_of is not None})


def doubled(budget: Budget, names: Iterable[str]) -> tuple[str, ...]:
    """Settings that double these budgets."""
    values: Mapping[str, float] = budget.model_dump()
    return tuple(f"execution.budget.{name}={2 * values[name]:g}" for name in sorted(names) if name in values)
