"""What a Parsl card (`config/parsl/*.yaml`) may say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from lambda_hat.config.base import Frozen

__all__ = ["Card", "LocalCard", "LocalExecutor", "SlurmCard"]

Label = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", description="a name of letters, digits, `-` and `_`")]
Walltime = Annotated[str, Field(pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$", description="a time as [days-]HH:MM:SS")]


class LocalExecutor(Frozen):
    """One pool of worker processes on this machine."""

    label: Label
    max_workers: PositiveInt | Literal["auto"] = "auto"
    cores_per_worker: PositiveFloat = 1.0
    worker_init: str = ""


class LocalCard(Frozen):
    """Pools on this machine; `auto` pools together never use more workers than there are cores."""

    type: Literal["local"] = "local"
    run_dir: str = "parsl_runinfo"
    retries: Annotated[int, Field(ge=0)] = 1  # how often a task whose worker was lost is queued again
    executors: Annotated[tuple[LocalExecutor, ...], Field(min_length=1)]


class SlurmCard(Frozen):
    """One pool of workers in Slurm jobs."""

    type: Literal["slurm"]
    label: Label = "htex_slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes_per_block: PositiveInt = 1
    init_blocks: Annotated[int, Field(ge=0)] = 1
    min_blocks: Annotated[int, Field(ge=0)] = 1
    max_blocks: PositiveInt = 1
    walltime: Walltime = "01:00:00"
    cores_per_node: PositiveInt | None = None
    mem_per_node: PositiveInt | None = None  # GiB
    gpus_per_node: PositiveInt | None = None
    gpu_type: str | None = None
    scheduler_options_extra: tuple[str, ...] = ()  # whole #SBATCH lines
    worker_init: str = ""
    max_workers: PositiveInt | Literal["auto"] = "auto"
    cores_per_worker: PositiveFloat = 1.0
    retries: Annotated[int, Field(ge=0)] = 1
    run_dir: str = "parsl_runinfo"


Card = Annotated[LocalCard | SlurmCard, Field(discriminator="type")]
