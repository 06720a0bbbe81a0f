"""From a card to Parsl's configuration."""

from __future__ import annotations

import logging
import math
import os
import shlex
import socket
import sys
import sysconfig
from pathlib import Path

import psutil
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from parsl.executors.status_handling import BlockProviderExecutor
from parsl.jobs.errors import TooManyJobFailuresError
from parsl.jobs.states import JobState, JobStatus
from parsl.launchers import SingleNodeLauncher, SrunLauncher
from parsl.logconfigs.file import FileLogging
from parsl.providers import LocalProvider, SlurmProvider

from lambda_hat.config.card import LocalCard, LocalExecutor, SlurmCard
from lambda_hat.execution import lifeline
from lambda_hat.execution.resources import capacity, slurm_workers_per_node, walltime_seconds

__all__ = ["EXECUTOR_VARIABLE", "load_parsl_config_from_card"]

EXECUTOR_VARIABLE = "LAMBDA_HAT_EXECUTOR"  # in a worker's environment: the label it belongs to

_MANAGER_COMMAND = DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", "python -P -m lambda_hat.execution.manager", 1)
_MAX_FAILED_BLOCKS = 3  # in a row, before a worker reported; then the executor is given up


def load_parsl_config_from_card(
    card: LocalCard | SlurmCard, run_dir: Path, cache_dir: Path | None = None, label: str | None = None
) -> Config:
    """Parsl's configuration for `card`, or for one executor of it, with everything of Parsl's own under `run_dir`.

    `cache_dir` holds XLA's compiled programs, for all workers and later runs (default: `cache/jax` beside `run_dir`).
    Parsl never retries: it would repeat errors of the code as well as lost workers.

    Raises:
        ConfigError: a Slurm card does not say how many workers a node takes.
    """
    run_dir = run_dir.resolve()
    cache_dir = (cache_dir or run_dir.parent / "cache" / "jax").resolve()
    if isinstance(card, SlurmCard):
        executors = [_slurm_executor(card, cache_dir)]
    else:
        workers = capacity(card)
        executors = [
            _local_executor(pool, workers[pool.label], cache_dir)
            for pool in card.executors
            if label in (None, pool.label)
        ]
    return Config(
        executors=executors,
        run_dir=str(run_dir),
        retries=0,
        strategy="simple",  # with "none" a block that ended is never replaced, and its tasks wait for ever
        strategy_period=0.1 if isinstance(card, LocalCard) else 1.0,  # seconds
        usage_tracking=0,
        initialize_logging=FileLogging(level=logging.INFO),
    )


def _local_executor(pool: LocalExecutor, num_workers: int, cache_dir: Path) -> HighThroughputExecutor:
    return HighThroughputExecutor(
        label=pool.label,
        address="127.0.0.1",
        max_workers_per_node=num_workers,
        cores_per_worker=0.001,  # the number of workers is settled; Parsl must not lower it
        heartbeat_period=2,
        heartbeat_threshold=6,
        launch_cmd=_MANAGER_COMMAND,
        interchange_launch_cmd=_interchange_command(),
        block_error_handler=_give_up_on_early_deaths,
        provider=LocalProvider(
            init_blocks=1,
            min_blocks=1,
            max_blocks=1,
            worker_init=_worker_init(pool, cache_dir),
        ),
    )


def _slurm_executor(card: SlurmCard, cache_dir: Path) -> HighThroughputExecutor:
    num_workers = slurm_workers_per_node(card)
    worker_init = _worker_init(card, cache_dir)
    gpus = card.gpus_per_node
    if gpus is not None and num_workers > gpus:  # JAX takes three quarters of a GPU for each process
        worker_init = f"export XLA_PYTHON_CLIENT_MEM_FRACTION={0.75 * gpus / num_workers:.3f}\n{worker_init}"
    executor = HighThroughputExecutor(
        label=card.label,
        address="0.0.0.0",
        max_workers_per_node=num_workers,
        cores_per_worker=0.001,
        available_accelerators=num_workers if gpus else (),
        heartbeat_period=5,
        heartbeat_threshold=30,
        launch_cmd=_MANAGER_COMMAND,
        interchange_launch_cmd=_interchange_command(),
        block_error_handler=_give_up_on_early_deaths,
        provider=_Slurm(
            partition=card.partition,
            account=card.account,
            qos=card.qos,
            constraint=card.constraint,
            nodes_per_block=card.nodes_per_block,
            cores_per_node=card.cores_per_node,
            mem_per_node=card.mem_per_node,
            gres=":".join(["gpu", *([card.gpu_type] if card.gpu_type else []), str(gpus)]) if gpus else None,
            init_blocks=card.init_blocks,
            min_blocks=card.min_blocks,
            max_blocks=card.max_blocks,
            walltime=_clock(walltime_seconds(card) or 0.0),
            scheduler_options="\n".join(card.scheduler_options_extra),
            worker_init=worker_init,
            exclusive=card.cores_per_node is None,  # a part of a node can be asked for only by its size
            cmd_timeout=60,
            launcher=SingleNodeLauncher() if card.nodes_per_block == 1 else SrunLauncher(),
        ),
    )
    executor.all_addresses = _own_addresses()  # Parsl's own list asks a web service for one more
    return executor


class _Slurm(SlurmProvider):
    """Asks for the state of its jobs more often: until it knows that a block has ended, no other is submitted."""

    @property
    def status_polling_interval(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return 15  # seconds


def _give_up_on_early_deaths(executor: BlockProviderExecutor, status: dict[str, JobStatus]) -> None:
    """Fail an executor whose last blocks all ended before a worker reported; those that did work are only replaced."""
    last = [status[block] for block in sorted(status, key=int)[-_MAX_FAILED_BLOCKS:]]
    if len(last) == _MAX_FAILED_BLOCKS and all(block.state == JobState.MISSING for block in last):
        end = f"exit code {last[-1].exit_code}: {_last_words(last[-1])}"
        executor.set_bad_state_and_fail_all(
            TooManyJobFailuresError(
                f"{_MAX_FAILED_BLOCKS} blocks in a row ended before a worker reported, the last with {end}"
            )
        )


def _last_words(status: JobStatus) -> str:
    return (status.stderr_summary or status.stdout_summary or "").strip()[-300:] or "no output"


def _interchange_command() -> list[str]:
    return [sys.executable, "-P", lifeline.__file__, str(os.getpid())]


def _worker_init(pool: LocalExecutor | SlurmCard, cache_dir: Path) -> str:
    """Shell lines that every worker starts with; the card's own come last and win."""
    threads = max(1, int(pool.cores_per_worker))
    exports = {
        EXECUTOR_VARIABLE: pool.label,
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PJRT_NPROC": threads,  # what sizes XLA's thread pool on CPUs; the flags of XLA do not bound it
        "NPROC": threads,  # its older name
        "JAX_COMPILATION_CACHE_DIR": cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0,
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": -1,
    }
    lines = [
        "unset JAX_ENABLE_X64",  # the card decides on precision, not the shell that started the controller
        f'export PATH={shlex.quote(sysconfig.get_path("scripts"))}:"$PATH"',
        *(f"export {name}={shlex.quote(str(value))}" for name, value in exports.items()),
        pool.worker_init,
    ]
    return "\n".join(lines)


def _own_addresses() -> set[str]:
    interfaces = psutil.net_if_addrs().values()
    return {entry.address for entries in interfaces for entry in entries if entry.family == socket.AF_INET}


def _clock(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)  # Parsl and Slurm count whole minutes, and none of them would mean no limit
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"
