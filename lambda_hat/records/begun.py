"""`meta/begun.json` and `meta/confirmations.json`: what the last command worked on."""

from __future__ import annotations

from collections.abc import Mapping

from lambda_hat.config.study import Confirm
from lambda_hat.records.base import Record

__all__ = ["Begun", "Confirmations"]


class Begun(Record):
    """What a command works on, for those that come after it."""

    pids: tuple[str, ...] = ()
    """Ids of the problems."""
    methods: tuple[str, ...] = ()
    """Methods of a search, or names of samplers with fixed settings."""
    num_trials: int | Mapping[str, int] = 0
    """Trials of a method, or runs of a sampler, on each problem: by name, or one number for all."""
    run_ids: tuple[str, ...] = ()
    """Runs of fixed settings; none of a search."""

    def wanted(self, method: str) -> int:
        """Trials of a method, or runs of a sampler, on each problem."""
        return self.num_trials if isinstance(self.num_trials, int) else self.num_trials.get(method, 0)


class Confirmations(Record):
    """Which runs confirm which studies."""

    spec: Confirm
    """How many settings and seeds were wanted."""
    lanes: Mapping[str, tuple[str, ...]] = {}
    """Folders of runs, relative to the run's folder, by the lane of the scheduler that runs them."""
