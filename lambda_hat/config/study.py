"""What a study file (`config/optuna/*.yaml`) may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lambda_hat.config.base import Expected, Frozen, as_tuple
from lambda_hat.config.methods import Method
from lambda_hat.config.numbers import (
    AnyFloat,
    AnyInt,
    NaturalInt,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Seconds,
    Seed,
)
from lambda_hat.config.problems import PosteriorSpec, ProblemEntry

__all__ = [
    "REFERENCE_METHODS",
    "Budget",
    "CategoricalDist",
    "Concurrency",
    "Confirm",
    "Distribution",
    "Execution",
    "ExecutorMap",
    "FloatDist",
    "FolderName",
    "IntDist",
    "Objective",
    "OptunaSection",
    "PrunerSpec",
    "ReferenceSpec",
    "RelativeTo",
    "SearchAlgorithm",
    "Store",
    "Study",
]

RelativeTo = Literal["cwd", "file"]
FolderName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$"), Expected("a name of letters, digits, `-` and `_`")
]


class Objective(Frozen):
    """How a trial is judged: the distance of `llc_hat` from `llc_ref`, plus rhat_penalty · max(0, R̂ − 1.05)."""

    type: Literal["abs", "huber", "relative"] = "abs"
    """Distance of λ̂ from the reference: `abs` is |error|, `relative` is |error|/|llc_ref|, `huber` is quadratic up to
    `delta` and linear beyond.
    """
    delta: PositiveFloat = 0.1
    """Error at which `huber` turns from quadratic to linear."""
    rhat_penalty: NonNegativeFloat = 0.0
    """Factor of max(0, R̂ − 1.05), which is added to the distance."""
    gates: bool = False
    """Whether R̂ ≤ 1.05, k̂ ≤ 0.7, a bias by the identities ≤ 5 % and a stationary law are constraints of the search: a
    trial that breaks one is worse than all that keep them, however close it came to the reference.
    """


class Concurrency(Frozen):
    """How many trials are in flight."""

    batch_size: PositiveInt = 16
    """Trials in flight for each problem and method."""
    per_executor: dict[str, PositiveInt] = {}
    """Largest number of tasks in flight for each executor label, over the whole run."""
    pack: PositiveInt | None = None
    """Trials that a worker runs at once, as one program. null means 1. More may help on GPUs that a small network
    leaves idle.
    """


class SearchAlgorithm(Frozen):
    """The algorithm by which Optuna searches (Optuna calls it a sampler)."""

    type: Literal["tpe", "random", "qmc", "cmaes", "grid"] = "tpe"
    """Name of Optuna's sampler, or `grid`: every point of a grid, for maps of settings. Its option `points` (5) is how
    many values each number takes; beyond the last point it begins anew, under other seeds.
    """
    seed: AnyInt = 42
    """Seed of the search and of its trials."""
    n_startup_trials: NaturalInt = 20
    """Number of random trials at the start."""
    options: dict[str, object] = {}
    """Further keyword arguments for Optuna's sampler, or for the grid."""


class PrunerSpec(Frozen):
    """Optuna's pruner, which stops hopeless trials early. Its step is one tenth of a trial's work."""

    type: Literal["median", "hyperband", "none"] = "median"
    """Name of Optuna's pruner; `none` stops no trial."""
    n_startup_trials: NaturalInt = 10
    """Number of trials at the start that are never stopped."""
    n_warmup_steps: Annotated[int, Field(ge=0, le=9)] = 1
    """Tenths of a trial's work before it may be stopped."""


KnownSettings = Literal["preset"] | dict[str, bool | int | float | str | None]


class OptunaSection(Frozen):
    """How each study searches."""

    objective: Objective = Objective()
    """How a trial is judged."""
    max_trials_per_method: PositiveInt = 100
    """Total number of trials for each problem and method, over all resumes."""
    concurrency: Concurrency = Concurrency()
    """How many trials run at once."""
    sampler: SearchAlgorithm = SearchAlgorithm()
    """The algorithm that searches, not the one that samples the posterior."""
    pruner: PrunerSpec = PrunerSpec()
    """Which trials are stopped early."""
    max_failed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2
    """A study ends early if a larger fraction of its trials fails."""
    enqueue: dict[Method, Annotated[tuple[KnownSettings, ...], BeforeValidator(as_tuple)]] = {}
    """Settings to try before the search's own, for each method. The default is `preset`, the method's preset."""
    log_to: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Programs that hear of each trial as it ends, offline, in the run's folder."""


class Confirm(Frozen):
    """How the best settings of each study run again after its search, under seeds that it never saw."""

    top_k: NaturalInt = 3
    """Number of settings of each study; 0 confirms nothing."""
    num_seeds: Annotated[NaturalInt, Field(ge=2)] = 4
    """Number of seeds for each setting. Two is the least that gives an uncertainty."""


class FloatDist(Frozen):
    """A real number between `low` and `high`."""

    dist: Literal["float"]
    """Kind of distribution."""
    low: AnyFloat
    """Smallest value."""
    high: AnyFloat
    """Largest value."""
    log: bool = False
    """Spread values evenly in the logarithm."""


class IntDist(Frozen):
    """A whole number between `low` and `high`, in steps of `step`."""

    dist: Literal["int"]
    """Kind of distribution."""
    low: AnyInt
    """Smallest value."""
    high: AnyInt
    """Largest value."""
    step: PositiveInt = 1
    """Distance between neighbouring values."""
    log: bool = False
    """Spread values evenly in the logarithm."""


class CategoricalDist(Frozen):
    """One of `choices`."""

    dist: Literal["categorical"]
    """Kind of distribution."""
    choices: Annotated[tuple[bool | int | float | str | None, ...], Field(min_length=1)]
    """Values to choose from."""


Distribution = Annotated[FloatDist | IntDist | CategoricalDist, Field(discriminator="dist")]


class Budget(Frozen):
    """How long tasks may take, in seconds. Time for setting up counts apart from time for sampling."""

    hmc_sec: Seconds = 7200.0
    """Seconds that one reference may sample."""
    trial_sec: Seconds = 600.0
    """Seconds that one trial may sample."""
    setup_sec: Seconds = 3600.0
    """Seconds that each of them may train, load, build and compile."""


class ExecutorMap(Frozen):
    """Which executor runs what. What is left out is chosen by precision (AUTO)."""

    hmc: str | None = None
    """Label of the executor for references; null chooses it by precision."""
    methods: dict[Method, str] = {}
    """Label of the executor for each method's trials."""


class Execution(Frozen):
    """Where tasks run and how long they may take."""

    parsl_card: str = "config/parsl/local.yaml"
    """File of the card, which says where tasks run. A relative path is looked for in the current folder, in the study's
    folder and in those above it.
    """
    budget: Budget = Budget()
    """How long tasks may take, in seconds."""
    executor_map: ExecutorMap = ExecutorMap()
    """Which executor runs what."""


class Store(Frozen):
    """Where a run lies: in `root/namespace/layout_version`."""

    root: str = "runs"
    """Folder of all runs. `~` is your home."""
    run: str | None = None
    """Folder of a run that is there already, whatever `root`, `namespace` and `layout_version` say. The configuration
    that a run keeps names its own.
    """
    references: str | None = None
    """Folder of problems and references that several runs share. With null each run has its own."""
    layout_version: FolderName = "v1"
    """Last part of the path of the run's folder."""
    namespace: FolderName = "optuna"
    """Name of this study's run. Another name is another run."""
    ttl_days: Annotated[float, Field(ge=0, le=1_000_000)] = 30
    """Age in days after which `artifacts gc` may remove what nothing refers to."""


REFERENCE_METHODS = ("hmc", "exact", "laplace", "none")


class ReferenceSpec(Frozen):
    """The reference of each problem: certified HMC, or the exact value. `reference: exact` is short for `method:
    exact`.
    """

    method: Literal["hmc", "exact", "laplace", "none"] = "hmc"
    """`hmc` samples; `exact` needs a target whose value is known. Experiments may do without, by
    `laplace`, which measures by the Laplace value whether a network is at a minimum, or by `none`.
    """
    num_chains: Annotated[NaturalInt, Field(ge=4, le=1_000_000)] = 4
    """Number of chains; R̂ needs at least 4."""
    draws_per_round: Annotated[NaturalInt, Field(ge=50)] = 250
    """Draws of each chain in a round."""
    target_accept: Annotated[float, Field(gt=0, lt=1)] = 0.85
    """Acceptance rate that the step size is adapted to."""
    num_integration_steps: PositiveInt = 3
    """Mean number of leapfrog steps in a trajectory."""
    max_relative_mcse: PositiveFloat = 0.01
    """Largest standard error over λ̂ that a certificate accepts."""
    cross_check: Literal["mclmc"] | None = None
    """Another sampler that has to give the same λ̂."""
    seed: Seed = 0
    """Seed of the chains."""
    on_uncertified: Literal["fail", "warn"] = "fail"
    """`fail` ends the command; `warn` tunes against the uncertified reference."""

    @model_validator(mode="before")
    @classmethod
    def _read_shorthand(cls, data: Any) -> Any:
        return {"method": data} if data in REFERENCE_METHODS else data

    @property
    def is_certifiable(self) -> bool:
        """Whether it is a λ̂ that a certificate can be asked of."""
        return self.method in ("hmc", "exact")


class Study(Frozen):
    """A whole study: problems, methods, how they are searched, where tasks run and results lie."""

    problems: Annotated[tuple[ProblemEntry, ...], Field(min_length=1)]
    """Problems to study. Each gets one reference, and one study per method."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1)]
    """Methods to tune. Each needs a search space; `auto`, which tunes itself, has none and runs once."""
    optuna: OptunaSection = OptunaSection()
    """How to search."""
    search_space: dict[Method, dict[str, Distribution]] = {}
    """Hyperparameters to search for each method, with their distributions."""
    confirm: Confirm = Confirm()
    """How the best settings run again after the search, under new seeds."""
    execution: Execution = Execution()
    """Where tasks run and how long they may take."""
    store: Store = Store()
    """Where results lie."""
    posterior: PosteriorSpec | None = None
    """Posterior of every problem; null keeps each target's own default."""
    reference: Annotated[ReferenceSpec, Expected("`hmc`, `exact` or a mapping")] = ReferenceSpec()
    """What methods are judged against."""
    samplers: dict[Method, dict[str, object]] = {}
    """Fixed settings per method; `preset` names one of presets/sampler."""
    relative_to: RelativeTo = "cwd"
    """Where relative paths of this file begin: in the folder where the command runs (`cwd`), or in its own (`file`)."""

    @property
    def entries(self) -> tuple[ProblemEntry, ...]:
        """The problems, one for every value of a sweep."""
        return tuple(entry for written in self.problems for entry in written.expanded())

    @property
    def per_executor(self) -> dict[str, int]:
        """Bounds on the tasks in flight, by label."""
        return self.optuna.concurrency.per_executor

    def space(self, method: Method) -> Mapping[str, Distribution]:
        """What is searched for a method; nothing for one that chooses its settings by itself."""
        return self.search_space.get(method, {})

    def num_trials(self, method: Method) -> int:
        """Trials of a method on each problem: a single one where nothing is searched."""
        return self.optuna.max_trials_per_method if self.space(method) else 1
