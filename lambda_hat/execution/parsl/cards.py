"""From a card to Parsl's configuration."""

from __future__ import annotations

import logging
import math
import os
import shlex
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from parsl.config import Config
from parsl.errors import OptionalModuleMissing
from parsl.executors.status_handling import BlockProviderExecutor
from parsl.jobs.errors import TooManyJobFailuresError
from parsl.jobs.states import JobState, JobStatus
from parsl.launchers import MpiExecLauncher, MpiRunLauncher, SingleNodeLauncher, SrunLauncher
from parsl.launchers.base import Launcher
from parsl.logconfigs.file import FileLogging
from parsl.providers import LocalProvider
from parsl.providers.base import ExecutionProvider

from lambda_hat.config.card import (
    BlockCard,
    InlineCard,
    KubernetesCard,
    LocalCard,
    LocalExecutor,
    ParslCard,
    PBSCard,
    SlurmCard,
)
from lambda_hat.config.load import load_card
from lambda_hat.environment import CONTROLLER_VARIABLE, EXECUTOR_VARIABLE
from lambda_hat.errors import ExecutionError, UsageError
from lambda_hat.execution.parsl import lifeline
from lambda_hat.execution.parsl.private import (
    Executor,
    Kubernetes,
    Pbs,
    Slurm,
    build_executor,
    manager_command,
    refusal,
)
from lambda_hat.execution.resources import (
    capacity,
    compilation_cache,
    memory_fraction,
    own_addresses,
    process_variables,
    walltime_seconds,
    workers_per_node,
)

__all__ = ["load_parsl_config_from_card"]

# Seconds. On this machine a process that is gone is seen to be gone, and one that is late is only late: it starves, or
# the machine was suspended, which Parsl's clock counts. Larger ones do not fit into 31 bits of milliseconds.
_NEVER = 2_000_000
_MAX_FAILED_BLOCKS = 3  # in a row, before a worker reported; then the executor is given up


def load_parsl_config_from_card(
    card: ParslCard | str | Path,
    run_dir: str | Path | None = None,
    cache_dir: Path | None = None,
    label: str | None = None,
    *,
    dotlist: Sequence[str] = (),
) -> Config:
    """Parsl's configuration for `card`, or for one executor of it, with everything of Parsl's own under `run_dir`.

    `card` may be the path of its file, over which `dotlist` is written as by `--set`. `run_dir` defaults to the card's,
    in the current folder.
    `cache_dir` holds XLA's compiled programs, for all workers and later commands; default: what the environment's
    JAX_COMPILATION_CACHE_DIR names, else `cache/jax` beside `run_dir`. Parsl writes
    `run_dir` into scripts as it stands: `lambda_hat.execution.plain` gives one that no shell reads anything into.
    Parsl never retries: it would repeat errors of the code as well as lost workers.

    Raises:
        ConfigError: a card with faults, or one that does not say how many workers a node takes.
        UsageError: the file is a card of type `inline`, which needs no Parsl.
        ExecutionError: a package that its type needs is missing.
    """
    if isinstance(card, str | Path):
        card = _read_card(card, dotlist)
    run_dir = Path(card.run_dir if run_dir is None else run_dir).absolute()  # a link stays one
    cache_dir = (cache_dir or compilation_cache(run_dir.resolve())).resolve()
    if not isinstance(card, LocalCard):
        executors = [_block_executor(card, run_dir, cache_dir)]
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


def _read_card(path: str | Path, dotlist: Sequence[str]) -> ParslCard:
    card = load_card(dotlist, parsl_card=str(path)).card
    if isinstance(card, InlineCard):
        raise UsageError(f"{path} is a card of type `inline`, whose tasks run without Parsl.")
    return card


def _local_executor(pool: LocalExecutor, num_workers: int, cache_dir: Path) -> Executor:
    gpus = pool.accelerators
    fraction = memory_fraction(num_workers, len(gpus), pool.memory_fraction if gpus else None)
    return _executor(
        pool.label,
        num_workers,
        LocalProvider(
            init_blocks=1, min_blocks=1, max_blocks=1, worker_init=_worker_init(pool, pool.label, cache_dir, fraction)
        ),
        accelerators=_pinned(gpus, num_workers),
        heartbeat=(2, _NEVER),
        bind_to="127.0.0.1",
        addresses={"127.0.0.1"},
    )


def _block_executor(card: SlurmCard | PBSCard | KubernetesCard, run_dir: Path, cache_dir: Path) -> Executor:
    num_workers, num_gpus = workers_per_node(card), card.gpus_per_node or 0
    worker_init = _worker_init(card, card.label, cache_dir, memory_fraction(num_workers, num_gpus))
    match card:
        case SlurmCard():
            provider = _slurm_provider(card, worker_init)
        case PBSCard():
            # Jobs of PBS begin in the user's home, where Parsl's launchers leave a list of nodes.
            provider = _pbs_provider(card, f"{worker_init}\ncd {shlex.quote(str(run_dir))}")
        case KubernetesCard():
            provider = _kubernetes_provider(card, worker_init)
    return _executor(
        card.label,
        num_workers,
        provider,
        accelerators=_pinned(tuple(map(str, range(num_gpus))), num_workers),
        heartbeat=(5, 120),
        bind_to="0.0.0.0",  # not what workers are told: nothing can be bound to a host's name or a service's address
        addresses=_addresses(card),
        cpu_affinity=card.cpu_affinity,
    )


def _executor(
    label: str,
    num_workers: int,
    provider: ExecutionProvider,
    *,
    accelerators: Sequence[str],
    heartbeat: tuple[int, int],  # seconds: period, and without one until a process counts as lost
    bind_to: str,
    addresses: set[str],
    cpu_affinity: str = "none",
) -> Executor:
    return build_executor(
        addresses,
        label=label,
        address=bind_to,
        max_workers_per_node=num_workers,
        cores_per_worker=0.001,  # the number of workers is settled; Parsl must not lower it
        available_accelerators=accelerators,
        cpu_affinity=cpu_affinity,
        heartbeat_period=heartbeat[0],
        heartbeat_threshold=heartbeat[1],
        launch_cmd=manager_command(),
        interchange_launch_cmd=_interchange_command(),
        block_error_handler=_give_up_on_early_deaths,
        provider=provider,
    )


def _pinned(gpus: Sequence[str], num_workers: int) -> list[str]:
    """For each worker what it may see, the GPUs in turn; empty where there are none.

    CUDA and ROCm ignore -1 and what follows. It keeps Parsl from taking the name for a number: it divides numbers by
    the workers for each GPU that `nvidia-smi` lists, and workers which share GPUs would all get the first.
    """
    names = [f"{gpu},-1" if gpu.isdecimal() else gpu for gpu in gpus]
    return [names[worker % len(names)] for worker in range(num_workers)] if names else []


def _addresses(card: SlurmCard | PBSCard | KubernetesCard) -> set[str]:
    if card.address is not None:
        return {card.address}
    return own_addresses(card.interface)


def _slurm_provider(card: SlurmCard, worker_init: str) -> ExecutionProvider:
    gpus = ":".join([card.gpu_type or "", str(card.gpus_per_node)]).lstrip(":") if card.gpus_per_node else None
    lines = list(card.scheduler_options_extra)
    if card.reservation:
        lines.append(f"#SBATCH --reservation={card.reservation}")
    if gpus and card.gpu_directive == "gpus-per-node":  # not Parsl's own option, which takes no type
        lines.append(f"#SBATCH --gpus-per-node={gpus}")
    return Slurm(
        partition=card.partition,
        account=card.account,
        qos=card.qos,
        constraint=card.constraint,
        nodes_per_block=card.nodes_per_block,
        cores_per_node=card.cores_per_node,
        mem_per_node=card.mem_per_node,
        gres=f"gpu:{gpus}" if gpus and card.gpu_directive == "gres" else None,
        init_blocks=card.init_blocks,
        min_blocks=card.min_blocks,
        max_blocks=card.max_blocks,
        walltime=_clock(walltime_seconds(card) or 0.0),
        scheduler_options="\n".join(lines),
        worker_init=worker_init,
        # A part of a node can be asked for only by its size.
        exclusive=card.cores_per_node is None if card.exclusive is None else card.exclusive,
        cmd_timeout=card.cmd_timeout,
        launcher=_launcher(card.starts_with, card.launcher_overrides),
    )


def _pbs_provider(card: PBSCard, worker_init: str) -> ExecutionProvider:
    """PBS Professional asks for chunks: `select=1:ncpus=4:...`."""
    asked = {"mem": f"{card.mem_per_node}gb" if card.mem_per_node else None, "ngpus": card.gpus_per_node}
    options = [f"{name}={value}" for name, value in asked.items() if value is not None]
    resources = [f"#PBS -l {name}={value}" for name, value in card.resources.items()]
    return Pbs(
        queue=card.queue and shlex.quote(card.queue),  # these two become words of a command
        account=card.account and shlex.quote(card.account),
        select_options=":".join([*options, *filter(None, [card.select_options])]),
        scheduler_options="\n".join([*card.scheduler_options_extra, *resources]),
        worker_init=worker_init,
        nodes_per_block=card.nodes_per_block,
        cpus_per_node=card.cores_per_node or max(1, math.ceil(workers_per_node(card) * card.cores_per_worker)),
        init_blocks=card.init_blocks,
        min_blocks=card.min_blocks,
        max_blocks=card.max_blocks,
        walltime=_clock(walltime_seconds(card) or 0.0),
        cmd_timeout=card.cmd_timeout,
        launcher=_launcher(card.starts_with, card.launcher_overrides, card.bind_cmd),  # pyright: ignore[reportArgumentType]
    )


def _launcher(name: str, overrides: str | None, bind_cmd: str = "") -> Launcher:
    """What starts one manager on each node, with all cores that its job has there."""
    match name:
        case "srun":
            # Else a site's automatic binding can keep a node's manager, and so all its workers, on one core.
            return SrunLauncher(overrides="--cpu-bind=none" if overrides is None else overrides)
        case "mpiexec":
            return MpiExecLauncher(bind_cmd=bind_cmd, overrides=overrides or "")
        case "mpirun":
            return MpiRunLauncher(overrides=overrides or "")
        case _:
            return SingleNodeLauncher()


def _kubernetes_provider(card: KubernetesCard, worker_init: str) -> ExecutionProvider:
    cores = card.cores_per_node or workers_per_node(card) * card.cores_per_worker
    memory = f"{card.mem_per_node or 2 * workers_per_node(card)}Gi"  # a pod without a limit could take the node down
    gpus = {"nvidia.com/gpu": str(card.gpus_per_node)} if card.gpus_per_node else None
    try:
        return Kubernetes(
            image=card.image,
            namespace=card.namespace,
            service_account_name=card.service_account,
            secret=card.secret,
            user_id=None if card.user_id is None else str(card.user_id),
            group_id=None if card.group_id is None else str(card.group_id),
            run_as_non_root=card.user_id is not None,
            persistent_volumes=[(volume.claim, volume.path) for volume in card.persistent_volumes],
            init_blocks=card.init_blocks,
            min_blocks=card.min_blocks,
            max_blocks=card.max_blocks,
            init_cpu=cores,
            max_cpu=cores,
            init_mem=memory,
            max_mem=memory,
            extra_requests=gpus,
            extra_limits=gpus,
            worker_init=worker_init.replace("$", "$$"),  # Kubernetes' own way to write one
        )
    except OptionalModuleMissing as error:
        raise ExecutionError(
            "Cards of type `kubernetes` need the package of that name: `pip install kubernetes`."
        ) from error


def _give_up_on_early_deaths(executor: BlockProviderExecutor, status: dict[str, JobStatus]) -> None:
    """Fail an executor whose first block is refused, or whose last ones all ended before a worker reported.

    Blocks that did work are only replaced, and more of them may be refused while others wait or run.
    """
    assert isinstance(executor, Executor)
    if executor.why_broken is None and (reason := _reason_against(executor.jobs, status)) is not None:
        executor.give_up(TooManyJobFailuresError(reason), len(status))


def _reason_against(jobs: Mapping[str, str], status: Mapping[str, JobStatus]) -> str | None:
    has_others = any(block.state in (JobState.RUNNING, JobState.PENDING) for block in status.values())
    last = [block for block in sorted(status, key=int) if block in jobs or not has_others][-_MAX_FAILED_BLOCKS:]
    if last and not jobs:
        return f"its first block is refused: {refusal(status[last[-1]])}"
    if len(last) < _MAX_FAILED_BLOCKS or any(
        block in jobs and status[block].state != JobState.MISSING for block in last
    ):
        return None
    words = (_last_words if last[-1] in jobs else refusal)(status[last[-1]])
    return f"{_MAX_FAILED_BLOCKS} blocks in a row ended before a worker reported, the last with {words}"


def _last_words(status: JobStatus) -> str:
    words = (status.stderr_summary or status.stdout_summary or "").strip()[-300:] or "no output"
    return words if status.exit_code is None else f"exit code {status.exit_code}: {words}"  # Slurm's are not known


def _interchange_command() -> list[str]:
    return [sys.executable, "-P", lifeline.__file__, str(os.getpid())]


def _worker_init(
    pool: LocalExecutor | BlockCard, label: str, cache_dir: Path, gpu_memory_fraction: float | None = None
) -> str:
    """Shell lines that every worker starts with; the card's own come last and win."""
    exports = {EXECUTOR_VARIABLE: label, **process_variables(pool.cores_per_worker, cache_dir)}
    if isinstance(pool, LocalExecutor):
        exports[CONTROLLER_VARIABLE] = str(os.getpid())
    if gpu_memory_fraction is not None:
        exports["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{gpu_memory_fraction:.3f}"
    lines = [
        "unset JAX_ENABLE_X64",  # the card decides on precision, not the shell that started the controller
        f'export PATH={shlex.quote(sysconfig.get_path("scripts"))}:"$PATH"',
        *(f"export {name}={shlex.quote(value)}" for name, value in exports.items()),
        pool.worker_init,
    ]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)  # Parsl and Slurm count whole minutes, and none of them would mean no limit
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"
