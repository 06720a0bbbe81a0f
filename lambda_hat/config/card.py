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

    label: Label
    max_workers: PositiveInt | Literal["auto"] = "auto"
    cores_per_worker: PositiveFloat = 1.0
    available_accelerators: GpuNumber | tuple[GpuNumber | GpuName, ...] = 0  # how many GPUs, or which
    memory_fraction: Share | None = None  # of a GPU's memory, for each worker; null: an equal share of three quarters
    worker_init: str = ""

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Names of the GPUs."""
        given = self.available_accelerators
        return tuple(map(str, range(given) if isinstance(given, int) else given))


class LocalCard(Frozen):
    """Pools on this machine; `auto` pools together never use more workers than there are cores."""

    type: Literal["local"] = "local"
    run_dir: RunDir = "parsl_runinfo"
    retries: Retries = 1
    executors: Annotated[tuple[LocalExecutor, ...], Field(min_length=1)]


class BlockCard(Frozen):
    """One pool of workers in blocks that somebody else's scheduler starts."""

    init_blocks: Annotated[int, Field(ge=0)] = 1
    min_blocks: Annotated[int, Field(ge=0)] = 1
    max_blocks: PositiveInt = 1
    max_workers: PositiveInt | Literal["auto"] = "auto"  # per node
    cores_per_worker: PositiveFloat = 1.0
    cores_per_node: PositiveInt | None = None
    mem_per_node: PositiveInt | None = None  # GiB
    gpus_per_node: PositiveInt | None = None
    worker_init: str = ""
    retries: Retries = 1
    run_dir: RunDir = "parsl_runinfo"


class BatchCard(BlockCard):
    """Blocks that are jobs of a batch system, with an end of their own."""

    account: str | None = None
    nodes_per_block: PositiveInt = 1
    walltime: Walltime = "01:00:00"
    scheduler_options_extra: tuple[str, ...] = ()  # whole lines of the job script


class SlurmCard(BatchCard):
    """One pool of workers in Slurm jobs."""

    type: Literal["slurm"]
    label: Label = "htex_slurm"
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpu_type: str | None = None


class PBSCard(BatchCard):
    """One pool of workers in jobs of PBS Professional or OpenPBS."""

    type: Literal["pbs"]
    label: Label = "htex_pbs"
    queue: str | None = None
    select_options: SelectOptions = ""  # what else a chunk needs, e.g. `gpu_model=a100`


class Volume(Frozen):
    """A persistent volume claim and where pods find it."""

    claim: str
    path: AbsolutePath


class KubernetesCard(BlockCard):
    """One pool of workers in Kubernetes pods, one pod per block."""

    type: Literal["kubernetes"]
    label: Label = "htex_kubernetes"
    image: str  # with Python and this project in it
    namespace: Namespace = "default"
    address: Address  # of the controller, as pods reach it
    service_account: str | None = None
    persistent_volumes: tuple[Volume, ...] = ()  # the folder of the run must be on one


AnyCard: TypeAlias = LocalCard | SlurmCard | PBSCard | KubernetesCard
Card = Annotated[AnyCard, Field(discriminator="type")]
