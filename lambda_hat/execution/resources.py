"""How many workers a card gives, with what, for how long, and what it cannot give. Needs no Parsl."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import psutil

from lambda_hat.config.card import AnyCard, BatchCard, BlockCard, InlineCard, LocalCard, LocalExecutor
from lambda_hat.config.study import Budget
from lambda_hat.environment import CACHE_VARIABLE
from lambda_hat.errors import ConfigError, Fault

__all__ = [
    "capacity",
    "check_budget",
    "check_card",
    "compilation_cache",
    "memory_fraction",
    "own_addresses",
    "process_variables",
    "walltime_seconds",
    "workers_per_node",
]


def capacity(card: AnyCard) -> dict[str, int]:
    """Workers per executor label: with all blocks running, where there are blocks.

    Raises:
        ConfigError: the card does not say how many.
    """
    if isinstance(card, InlineCard):
        return dict.fromkeys(card.labels, 1)
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


def process_variables(cores_per_worker: float, cache_dir: Path) -> dict[str, str]:
    """Environment of a process that runs tasks: how many threads it uses, and where compiled programs are kept."""
    threads = str(max(1, int(cores_per_worker)))
    return {
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PJRT_NPROC": threads,  # what sizes XLA's thread pool on CPUs; the flags of XLA do not bound it
        "NPROC": threads,  # its older name
        CACHE_VARIABLE: str(cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def compilation_cache(run_dir: Path) -> Path:
    """Where XLA's compiled programs go unless somebody says otherwise: the user's own place for them, or the run's."""
    return Path(os.environ.get(CACHE_VARIABLE) or run_dir.parent / "cache" / "jax")


def walltime_seconds(card: AnyCard) -> float | None:
    """How long a block of `card` lives; None where nothing ends it."""
    if not isinstance(card, BatchCard):
        return None
    days, _, clock = card.walltime.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def check_card(card: AnyCard) -> list[Fault]:
    """Faults of a card that its schema cannot see."""
    if not isinstance(card, BlockCard):
        return []
    return _check_workers(card) or [*_check_affinity(card), *_check_interface(card)]


def _check_workers(card: BlockCard) -> list[Fault]:
    if card.max_workers != "auto" or card.gpus_per_node is not None or card.cores_per_node is not None:
        return []
    message = "`auto` needs `cores_per_node` or `gpus_per_node`; the card has neither."
    return [Fault(key="max_workers", message=message, hint="Give a number, or describe the node.")]


def _check_affinity(card: BlockCard) -> list[Fault]:
    kind, *cores = card.cpu_affinity.split(":")
    num_workers = workers_per_node(card)
    if kind == "list" and len(cores) != num_workers:
        message = f"names the cores of {len(cores)}, but a node has {num_workers} (`max_workers`)."
        return [Fault(key="cpu_affinity", message=message, hint="Name the cores of each worker.")]
    if kind != "none" and card.cores_per_node is not None and num_workers > card.cores_per_node:
        message = f"pins workers to cores of their own, but {num_workers} share {card.cores_per_node}."
        return [Fault(key="cpu_affinity", message=message, hint="Lower `max_workers`, or set it to `none`.")]
    return []


def _check_interface(card: BlockCard) -> list[Fault]:
    if not isinstance(card, BatchCard) or card.interface is None or own_addresses(card.interface):
        return []
    names = ", ".join(f"`{name}`" for name in psutil.net_if_addrs() if own_addresses(name))
    message = f"this machine has no interface `{card.interface}` with an IPv4 address; it has {names}."
    return [Fault(key="interface", message=message, hint="Null lets jobs try all addresses.")]


def own_addresses(interface: str | None = None) -> set[str]:
    """IPv4 addresses of this machine, or of one network interface of it; names are not resolved."""
    return {
        entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family == socket.AF_INET and interface in (None, name)
    }


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
