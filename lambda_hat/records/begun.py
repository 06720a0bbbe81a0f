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
    num_trials: int = 0
    """Trials of each method, or runs of each sampler, on each problem."""
    run_ids: tuple[str, ...] = ()
    """Runs of fixed settings; none of a search."""


class Confirmations(Record):
    """Which runs confirm which studies."""

    spec: Confirm
    """How many settings and seeds were wanted."""
    lanes: Mapping[str, tuple[str, ...]] = {}
    """Folders of runs, relative to the run's folder, by the lane of the scheduler that runs them."""
