"""What a card (`config/parsl/*.yaml`) may say."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from lambda_hat.config.base import Expected, Frozen
from lambda_hat.config.numbers import NaturalInt, PositiveFloat, PositiveInt

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
Walltime = Annotated[
    str,
    Field(pattern=r"^(\d{1,4}-)?\d{1,3}:[0-5]\d:[0-5]\d$"),
    Expected("a time as [days-]HH:MM:SS", hint='For 90 seconds write "00:01:30", for 90 minutes "01:30:00".'),
]
RunDir = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$"), Expected("a name of letters, digits, `-` and `_`")
]  # of a folder in the run's own
Retries = NaturalInt  # how often a task whose worker was lost is queued again
Share = Annotated[float, Field(gt=0, le=1)]
GpuNumber = NaturalInt
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
Word = Annotated[str, Field(pattern=r"^[^\s#\"'\\\x00-\x1f]+$"), Expected("one word, as it can stand in a job script")]
Arguments = Annotated[str, Field(pattern=r"^[^\n]*$"), Expected("one line of text")]
Option = Annotated[str, Field(pattern=r"^--?[a-z][a-z-]*$"), Expected("an option such as `--bind-to`")]
Interface = Annotated[str, Field(pattern=r"^\w[\w.:@-]*$"), Expected("the name of a network interface")]
_CORES = r"\d+(-\d+)?(,\d+(-\d+)?)*"
CpuAffinity = Annotated[
    str,
    Field(pattern=rf"^(none|block|block-reverse|alternating|list(:{_CORES})+)$"),
    Expected("`none`, `block`, `block-reverse`, `alternating` or text like `list:0-3:4-7`"),
]
UserId = PositiveInt
AbsolutePath = Annotated[str, Field(pattern=r"^/"), Expected("a path that begins with `/`")]


class LocalExecutor(Frozen):
    """One pool of worker processes on this machine."""

    label: Label
    """Name that tasks are sent to."""
    max_workers: PositiveInt | Literal["auto"] = "auto"
    """Number of worker processes; `auto` shares the cores among the pools."""
    cores_per_worker: PositiveFloat = 1.0
    """Threads that each worker may use."""
    available_accelerators: GpuNumber | tuple[GpuNumber | GpuName, ...] = 0
    """Number of GPUs, or a list of them."""
    memory_fraction: Share | None = None
    """Fraction of a GPU's memory for each worker; null shares three quarters equally."""
    worker_init: str = ""
    """Shell lines that run before a worker starts."""

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Names of the GPUs."""
        given = self.available_accelerators
        return tuple(map(str, range(given) if isinstance(given, int) else given))


class LocalCard(Frozen):
    """Pools on this machine. Pools with `max_workers: auto` together never use more workers than there are cores."""

    type: Literal["local"] = "local"
    """Kind of card."""
    run_dir: RunDir = "parsl_runinfo"
    """Folder of Parsl's files, inside the run's folder."""
    retries: Retries = 1
    """How often a task is started again after its worker was lost."""
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
    """One pool of workers in blocks that another scheduler starts."""

    init_blocks: NaturalInt = 1
    """Number of blocks at the start."""
    min_blocks: NaturalInt = 1
    """Number of blocks that are kept while there is nothing to do. With 0, idle blocks end after two minutes."""
    max_blocks: PositiveInt = 1
    """Largest number of blocks at once."""
    max_workers: PositiveInt | Literal["auto"] = "auto"
    """Workers on each node; `auto` derives it from `gpus_per_node` or `cores_per_node`."""
    cores_per_worker: PositiveFloat = 1.0
    """Threads that each worker may use."""
    cores_per_node: PositiveInt | None = None
    """Cores to ask for on each node; null asks for whole nodes."""
    mem_per_node: PositiveInt | None = None
    """Memory to ask for on each node, in GiB."""
    gpus_per_node: PositiveInt | None = None
    """GPUs to ask for on each node; its workers share them."""
    cpu_affinity: CpuAffinity = "none"
    """Cores that each worker is pinned to, as Parsl names it; `list:0-3:4-7` names those of two workers."""
    worker_init: str = ""
    """Shell lines that run before the workers start."""
    retries: Retries = 1
    """How often a task is started again after its worker was lost."""
    run_dir: RunDir = "parsl_runinfo"
    """Folder of Parsl's files, inside the run's folder."""


class BatchCard(BlockCard):
    """Blocks that are jobs of a batch system and end at their walltime."""

    account: Word | None = None
    """Account that the jobs are charged to."""
    address: Address | None = None
    """Host name or address at which jobs reach the controller; null has them try every address of this machine."""
    interface: Interface | None = None
    """Network interface of this machine at which jobs reach the controller, such as `bond0`; null means any."""
    nodes_per_block: PositiveInt = 1
    """Number of nodes in one job."""
    walltime: Walltime = "01:00:00"
    """Wall time of a job; budgets must fit into it."""
    scheduler_options_extra: tuple[str, ...] = ()
    """Further lines of the job script."""
    launcher_overrides: Arguments | None = None
    """Arguments for the launcher's command; null means `--cpu-bind=none` for `srun` and none for others."""
    cmd_timeout: PositiveInt = 60
    """Seconds that a command of the scheduler may take."""


class SlurmCard(BatchCard):
    """One pool of workers in Slurm jobs."""

    type: Literal["slurm"]
    """Kind of card."""
    label: Label = "htex_slurm"
    """Name that tasks are sent to."""
    partition: Word | None = None
    """Slurm partition."""
    qos: Word | None = None
    """Slurm quality of service."""
    constraint: Word | None = None
    """Features that nodes must have."""
    reservation: Word | None = None
    """Slurm reservation."""
    exclusive: bool | None = None
    """Whether to ask for nodes without other jobs (`--exclusive`); null does if `cores_per_node` is null."""
    gpu_type: Word | None = None
    """Type of GPU, such as `a100`."""
    gpu_directive: Literal["gres", "gpus-per-node", "none"] = "gres"
    """Option that asks for GPUs; `none` is for partitions whose nodes come with all of theirs."""
    launcher: Literal["auto", "single_node", "srun", "mpirun"] = "auto"
    """What starts the workers; `auto` is `single_node`, or `srun` where a block has several nodes."""

    @property
    def starts_with(self) -> Literal["single_node", "srun", "mpirun"]:
        """The launcher, chosen."""
        return self.launcher if self.launcher != "auto" else "single_node" if self.nodes_per_block == 1 else "srun"


class PBSCard(BatchCard):
    """One pool of workers in jobs of PBS Professional or OpenPBS."""

    type: Literal["pbs"]
    """Kind of card."""
    label: Label = "htex_pbs"
    """Name that tasks are sent to."""
    queue: Word | None = None
    """PBS queue, or the queue of a reservation."""
    select_options: SelectOptions = ""
    """Further resources of a chunk, e.g. `gpu_model=a100`."""
    resources: dict[Word, Word | NaturalInt] = {}
    """Resources of the whole job, e.g. `{filesystems: "home:eagle", place: scatter}`: a line `#PBS -l` for each."""
    launcher: Literal["auto", "single_node", "mpiexec", "mpirun"] = "auto"
    """What starts the workers; `auto` is `single_node`, or `mpiexec` where a block has several nodes."""
    bind_cmd: Option = "--bind-to"
    """Option by which `mpiexec` is told `none`, to leave all cores to the workers; `--cpu-bind` on Cray systems."""

    @property
    def starts_with(self) -> Literal["single_node", "mpiexec", "mpirun"]:
        """The launcher, chosen."""
        return self.launcher if self.launcher != "auto" else "single_node" if self.nodes_per_block == 1 else "mpiexec"


class Volume(Frozen):
    """A persistent volume claim and the path at which pods mount it."""

    claim: str
    """Name of the claim."""
    path: AbsolutePath
    """Path at which pods mount it."""


class KubernetesCard(BlockCard):
    """One pool of workers in Kubernetes pods, one pod per block."""

    type: Literal["kubernetes"]
    """Kind of card."""
    label: Label = "htex_kubernetes"
    """Name that tasks are sent to."""
    image: Word
    """Container image that has Python and this project."""
    namespace: Namespace = "default"
    """Kubernetes namespace."""
    address: Address
    """Host name or address at which pods reach the controller."""
    service_account: str | None = None
    """Service account of the pods."""
    secret: Word | None = None
    """Secret with which the image is pulled."""
    user_id: UserId | None = None
    """User that the pods run as; needs `group_id`."""
    group_id: UserId | None = None
    """Group that the pods run as; needs `user_id`."""
    persistent_volumes: tuple[Volume, ...] = ()
    """Volumes of the pods. One of them must hold the run's folder."""


ParslCard: TypeAlias = LocalCard | SlurmCard | PBSCard | KubernetesCard
AnyCard: TypeAlias = LocalCard | InlineCard | SlurmCard | PBSCard | KubernetesCard
Card = Annotated[AnyCard, Field(discriminator="type")]
