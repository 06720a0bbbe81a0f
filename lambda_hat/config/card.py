"""What a card (`config/parsl/*.yaml`) may say."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt

from lambda_hat.config.base import Expected, Frozen

__all__ = [
    "AnyCard",
    "BatchCard",
    "BlockCard",
    "Card",
    "InlineCard",
    "KubernetesCard",
    "LocalCard",
    "LocalExecutor",
    "PBSCard",
    "ParslCard",
    "SlurmCard",
    "Volume",
]

Label = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$"), Expected("a name of letters, digits, `-` and `_`")]
Walltime = Annotated[str, Field(pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$"), Expected("a time as [days-]HH:MM:SS")]
RunDir = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$"), Expected("a name of letters, digits, `-` and `_`")
]  # of a folder in the run's own
Retries = Annotated[int, Field(ge=0)]  # how often a task whose worker was lost is queued again
Share = Annotated[float, Field(gt=0, le=1)]
GpuNumber = Annotated[int, Field(ge=0)]
GpuName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]*$"), Expected("the number or name of a GPU")
]  # "0", or a UUID as `nvidia-smi -L` lists them
Namespace = Annotated[
    str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"), Expected("a name of small letters, digits and `-`")
]
Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$"), Expected("the name or number of a host")]
SelectOptions = Annotated[
    str, Field(pattern=r"^([^:\s].*)?$"), Expected("text like `ngpus=4:mem=8gb`, with no `:` in front")
]
AbsolutePath = Annotated[str, Field(pattern=r"^/"), Expected("a path that begins with `/`")]


class LocalExecutor(Frozen):
    """One pool of worker processes on this machine."""

    label: Label
    """By which tasks are sent here."""
    max_workers: PositiveInt | Literal["auto"] = "auto"
    """Processes; `auto` shares the cores among the pools."""
    cores_per_worker: PositiveFloat = 1.0
    """Threads that each may use."""
    available_accelerators: GpuNumber | tuple[GpuNumber | GpuName, ...] = 0
    """How many GPUs, or which."""
    memory_fraction: Share | None = None
    """Of a GPU's memory, for each worker; null: an equal share of three quarters."""
    worker_init: str = ""
    """Shell lines before a worker starts."""

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Names of the GPUs."""
        given = self.available_accelerators
        return tuple(map(str, range(given) if isinstance(given, int) else given))


class LocalCard(Frozen):
    """Pools on this machine; `auto` pools together never use more workers than there are cores."""

    type: Literal["local"] = "local"
    """Kind of card."""
    run_dir: RunDir = "parsl_runinfo"
    """Folder of Parsl's files, in the run's."""
    retries: Retries = 1
    """Of a task whose worker was lost."""
    executors: Annotated[tuple[LocalExecutor, ...], Field(min_length=1)]
    """Pools of workers."""


class InlineCard(Frozen):
    """No workers: the command runs every task in its own process, one after the other."""

    retries: ClassVar[int] = 0  # there is no worker that could be lost

    type: Literal["inline"] = "inline"
    """Kind of card."""
    labels: Annotated[tuple[Label, ...], Field(min_length=1)] = ("htex64", "htex32")
    """Executors that tasks are sent to; all of them are this process."""


class BlockCard(Frozen):
    """One pool of workers in blocks that somebody else's scheduler starts."""

    init_blocks: Annotated[int, Field(ge=0)] = 1
    """At the start."""
    min_blocks: Annotated[int, Field(ge=0)] = 1
    """Kept while there is nothing to do."""
    max_blocks: PositiveInt = 1
    """At once."""
    max_workers: PositiveInt | Literal["auto"] = "auto"
    """Per node."""
    cores_per_worker: PositiveFloat = 1.0
    """Threads that each may use."""
    cores_per_node: PositiveInt | None = None
    """null: whole nodes."""
    mem_per_node: PositiveInt | None = None
    """GiB."""
    gpus_per_node: PositiveInt | None = None
    """That workers of a node share."""
    worker_init: str = ""
    """Shell lines before the workers start."""
    retries: Retries = 1
    """Of a task whose worker was lost."""
    run_dir: RunDir = "parsl_runinfo"
    """Folder of Parsl's files, in the run's."""


class BatchCard(BlockCard):
    """Blocks that are jobs of a batch system, with an end of their own."""

    account: str | None = None
    """Charged for the jobs."""
    nodes_per_block: PositiveInt = 1
    """That one job asks for."""
    walltime: Walltime = "01:00:00"
    """Of a job; budgets must fit in it."""
    scheduler_options_extra: tuple[str, ...] = ()
    """Whole lines of the job script."""


class SlurmCard(BatchCard):
    """One pool of workers in Slurm jobs."""

    type: Literal["slurm"]
    """Kind of card."""
    label: Label = "htex_slurm"
    """By which tasks are sent here."""
    partition: str | None = None
    """Slurm's."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features of nodes."""
    gpu_type: str | None = None
    """Such as a100."""


class PBSCard(BatchCard):
    """One pool of workers in jobs of PBS Professional or OpenPBS."""

    type: Literal["pbs"]
    """Kind of card."""
    label: Label = "htex_pbs"
    """By which tasks are sent here."""
    queue: str | None = None
    """PBS's."""
    select_options: SelectOptions = ""
    """What else a chunk needs, e.g. `gpu_model=a100`."""


class Volume(Frozen):
    """A persistent volume claim and where pods find it."""

    claim: str
    """Its name."""
    path: AbsolutePath
    """Where pods mount it."""


class KubernetesCard(BlockCard):
    """One pool of workers in Kubernetes pods, one pod per block."""

    type: Literal["kubernetes"]
    """Kind of card."""
    label: Label = "htex_kubernetes"
    """By which tasks are sent here."""
    image: str
    """With Python and this project in it."""
    namespace: Namespace = "default"
    """Kubernetes' own."""
    address: Address
    """Of the controller, as pods reach it."""
    service_account: str | None = None
    """Of the pods."""
    persistent_volumes: tuple[Volume, ...] = ()
    """The folder of the run must be on one."""


ParslCard: TypeAlias = LocalCard | SlurmCard | PBSCard | KubernetesCard
AnyCard: TypeAlias = LocalCard | InlineCard | SlurmCard | PBSCard | KubernetesCard
Card = Annotated[AnyCard, Field(discriminator="type")]
