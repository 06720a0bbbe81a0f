"""How many workers a card gives, for how long, and what it cannot give. Needs no Parsl."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence

from lambda_hat.config.card import AnyCard, BatchCard, BlockCard, LocalCard, LocalExecutor
from lambda_hat.config.study import Budget
from lambda_hat.errors import ConfigError, Fault
from lambda_hat.execution.routing import labels_of

__all__ = [
    "capacity",
    "check_budget",
    "check_card",
    "memory_fraction",
    "walltime_seconds",
    "workers_per_node",
]


def capacity(card: AnyCard) -> dict[str, int]:
    """Workers per executor label: with all blocks running, where there are blocks.

    Raises:
        ConfigError: the card does not say how many.
    """
    if isinstance(card, LocalCard):
        return _local_capacity(card.executors, _num_cores())
    num_nodes = card.nodes_per_block if isinstance(card, BatchCard) else 1
    return {card.label: workers_per_node(card) * num_nodes * card.max_blocks}


def workers_per_node(card: BlockCard) -> int:
    """Workers on each node; `auto` is one per GPU, else as many as the cores allow.

    Raises:
        ConfigError: `auto`, but neither GPUs nor cores are given.
    """
    if isinstance(card.max_workers, int):
        return card.max_workers
    if card.gpus_per_node is not None:
        return card.gpus_per_node
    if card.cores_per_node is not None:
        return max(1, math.floor(card.cores_per_node / card.cores_per_worker))
    raise ConfigError(_check_workers(card))


def memory_fraction(num_workers: int, num_gpus: int, given: float | None = None) -> float | None:
    """Share of a GPU's memory for each of its workers; None leaves JAX its own three quarters for each process."""
    if given is not None:
        return given
    return 0.75 * num_gpus / num_workers if num_workers > num_gpus > 0 else None


def walltime_seconds(card: AnyCard) -> float | None:
    """How long a block of `card` lives; None where nothing ends it."""
    if not isinstance(card, BatchCard):
        return None
    days, _, clock = card.walltime.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def check_card(card: AnyCard) -> list[Fault]:
    """Faults of a card that its schema cannot see."""
    if not isinstance(card, LocalCard):
        return _check_workers(card)
    repeated = [label for label, count in Counter(labels_of(card)).items() if count > 1]
    return [
        Fault(key="executors", message=f"the label `{label}` is used more than once.", hint="Labels must differ.")
        for label in repeated
    ]


def _check_workers(card: BlockCard) -> list[Fault]:
    if card.max_workers != "auto" or card.gpus_per_node is not None or card.cores_per_node is not None:
        return []
    message = "`auto` needs `cores_per_node` or `gpus_per_node`; the card has neither."
    return [Fault(key="max_workers", message=message, hint="Give a number, or describe the node.")]


def check_budget(card: AnyCard, budget: Budget) -> list[Fault]:
    """Faults of budgets that a block of `card` cannot outlive."""
    limit = walltime_seconds(card)
    if limit is None or not isinstance(card, BatchCard):
        return []
    return [
        Fault(
            key=f"execution.budget.{name}",
            message=f"{seconds:g} s, but a block of the Parsl card ends after {limit:g} s (walltime: {card.walltime}).",
            hint=f"Lower `execution.budget.{name}` or raise the card's `walltime`.",
        )
        for name, seconds in (("hmc_sec", budget.hmc_sec), ("trial_sec", budget.trial_sec))
        if seconds > limit
    ]


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _local_capacity(executors: Sequence[LocalExecutor], num_cores: int) -> dict[str, int]:
    workers = {pool.label: pool.max_workers for pool in executors if isinstance(pool.max_workers, int)}
    on_gpus = [pool for pool in executors if pool.label not in workers and pool.accelerators]
    workers |= {pool.label: len(pool.accelerators) for pool in on_gpus}
    taken = sum(workers[pool.label] * pool.cores_per_worker for pool in executors if pool.label in workers)
    automatic = [pool for pool in executors if pool.label not in workers]
    free = max(0, math.floor(num_cores - taken))
    for index, pool in enumerate(automatic):
        share = free // len(automatic) + (index < free % len(automatic))
        workers[pool.label] = max(1, math.floor(share / pool.cores_per_worker))
    return {pool.label: workers[pool.label] for pool in executors}
