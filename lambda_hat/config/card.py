"""What a Parsl card (`config/parsl/*.yaml`) may say."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt

from lambda_hat.config.base import Frozen

__all__ = [
    "AnyCard",
    "BatchCard",
    "BlockCard",
    "Card",
    "KubernetesCard",
    "LocalCard",
    "LocalExecutor",
    "PBSCard",
    "SlurmCard",
    "Volume",
]

Label = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", description="a name of letters, digits, `-` and `_`")]
Walltime = Annotated[str, Field(pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$", description="a time as [days-]HH:MM:SS")]
RunDir = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="a name of letters, digits, `-` and `_`")
]  # of a folder in the run's own
Retries = Annotated[int, Field(ge=0)]  # how often a task whose worker was lost is queued again
Share = Annotated[float, Field(gt=0, le=1)]
GpuNumber = Annotated[int, Field(ge=0)]
GpuName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]*$", description="the number or name of a GPU")
]  # "0", or a UUID as `nvidia-smi -L` lists them
Namespace = Annotated[
    str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", description="a name of small letters, digits and `-`")
]
Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$", description="the name or number of a host")]
SelectOptions = Annotated[
    str, Field(pattern=r"^([^:\s].*)?$", description="text like `ngpus=4:mem=8gb`, with no `:` in front")
]
AbsolutePath = Annotated[str, Field(pattern=r"^/", description="a path that begins with `/`")]


class LocalExecutor(Frozen):
    """One pool of worker processes on this machine."""

    label: Label  # by which tasks are sent here
    max_workers: PositiveInt | Literal["auto"] = "auto"  # processes; `auto` shares the cores among the pools
    cores_per_worker: PositiveFloat = 1.0  # threads that each may use
    available_accelerators: GpuNumber | tuple[GpuNumber | GpuName, ...] = 0  # how many GPUs, or which
    memory_fraction: Share | None = None  # of a GPU's memory, for each worker; null: an equal share of three quarters
    worker_init: str = ""  # shell lines before a worker starts

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Names of the GPUs."""
        given = self.available_accelerators
        return tuple(map(str, range(given) if isinstance(given, int) else given))


class LocalCard(Frozen):
    """Pools on this machine; `auto` pools together never use more workers than there are cores."""

    type: Literal["local"] = "local"  # kind of card
    run_dir: RunDir = "parsl_runinfo"  # folder of Parsl's files, in the run's
    retries: Retries = 1  # of a task whose worker was lost
    executors: Annotated[tuple[LocalExecutor, ...], Field(min_length=1)]  # pools of workers


class BlockCard(Frozen):
    """One pool of workers in blocks that somebody else's scheduler starts."""

    init_blocks: Annotated[int, Field(ge=0)] = 1  # at the start
    min_blocks: Annotated[int, Field(ge=0)] = 1  # kept while there is nothing to do
    max_blocks: PositiveInt = 1  # at once
    max_workers: PositiveInt | Literal["auto"] = "auto"  # per node
    cores_per_worker: PositiveFloat = 1.0  # threads that each may use
    cores_per_node: PositiveInt | None = None  # null: whole nodes
    mem_per_node: PositiveInt | None = None  # GiB
    gpus_per_node: PositiveInt | None = None  # that workers of a node share
    worker_init: str = ""  # shell lines before the workers start
    retries: Retries = 1  # of a task whose worker was lost
    run_dir: RunDir = "parsl_runinfo"  # folder of Parsl's files, in the run's


class BatchCard(BlockCard):
    """Blocks that are jobs of a batch system, with an end of their own."""

    account: str | None = None  # charged for the jobs
    nodes_per_block: PositiveInt = 1  # that one job asks for
    walltime: Walltime = "01:00:00"  # of a job; budgets must fit in it
    scheduler_options_extra: tuple[str, ...] = ()  # whole lines of the job script


class SlurmCard(BatchCard):
    """One pool of workers in Slurm jobs."""

    type: Literal["slurm"]  # kind of card
    label: Label = "htex_slurm"  # by which tasks are sent here
    partition: str | None = None  # Slurm's
    qos: str | None = None  # quality of service
    constraint: str | None = None  # features of nodes
    gpu_type: str | None = None  # such as a100


class PBSCard(BatchCard):
    """One pool of workers in jobs of PBS Professional or OpenPBS."""

    type: Literal["pbs"]  # kind of card
    label: Label = "htex_pbs"  # by which tasks are sent here
    queue: str | None = None  # PBS's
    select_options: SelectOptions = ""  # what else a chunk needs, e.g. `gpu_model=a100`


class Volume(Frozen):
    """A persistent volume claim and where pods find it."""

    claim: str  # its name
    path: AbsolutePath  # where pods mount it


class KubernetesCard(BlockCard):
    """One pool of workers in Kubernetes pods, one pod per block."""

    type: Literal["kubernetes"]  # kind of card
    label: Label = "htex_kubernetes"  # by which tasks are sent here
    image: str  # with Python and this project in it
    namespace: Namespace = "default"  # Kubernetes' own
    address: Address  # of the controller, as pods reach it
    service_account: str | None = None  # of the pods
    persistent_volumes: tuple[Volume, ...] = ()  # the folder of the run must be on one


AnyCard: TypeAlias = LocalCard | SlurmCard | PBSCard | KubernetesCard
Card = Annotated[AnyCard, Field(discriminator="type")]
