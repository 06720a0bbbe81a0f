"""What a study file (`config/optuna/*.yaml`) may say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from lambda_hat.config.base import Expected, Frozen, as_tuple
from lambda_hat.config.methods import Method
from lambda_hat.config.problems import PosteriorSpec, ProblemEntry

__all__ = [
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
    "SearchAlgorithm",
    "Store",
    "Study",
]

FolderName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$"), Expected("a name of letters, digits, `-` and `_`")
]


class Objective(Frozen):
    """What a trial is judged by: the distance of llc_hat from llc_ref, plus rhat_penalty · max(0, R̂ − 1.05)."""

    type: Literal["abs", "huber", "relative"] = "abs"
    """Distance of λ̂ from the reference."""
    delta: PositiveFloat = 0.1
    """huber only: where quadratic turns linear."""
    rhat_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Times max(0, R̂ − 1.05), added."""


class Concurrency(Frozen):
    """How many trials are in flight: per (problem, method), and per executor label over the whole run."""

    batch_size: PositiveInt = 16
    """Trials in flight per problem and method."""
    per_executor: dict[str, PositiveInt] = {}
    """Tasks in flight by label, over the whole run."""
    pack: PositiveInt | None = None
    """Trials that a worker runs at once, as one program; null: 1. For GPUs that one small network leaves idle."""


class SearchAlgorithm(Frozen):
    """Optuna's sampler; `options` are its own keyword arguments."""

    type: Literal["tpe", "random", "qmc", "cmaes"] = "tpe"
    """Optuna's sampler."""
    seed: int = 42
    """Of the search and of its trials."""
    n_startup_trials: Annotated[int, Field(ge=0)] = 20
    """Random ones at the start."""
    options: dict[str, object] = {}
    """Keyword arguments of Optuna's."""


class PrunerSpec(Frozen):
    """Optuna's pruner; a step is one tenth of a trial's work."""

    type: Literal["median", "hyperband", "none"] = "median"
    """Optuna's pruner."""
    n_startup_trials: Annotated[int, Field(ge=0)] = 10
    """That are never stopped."""
    n_warmup_steps: Annotated[int, Field(ge=0)] = 1
    """Tenths of a trial before it may be stopped."""


KnownSettings = Literal["preset"] | dict[str, bool | int | float | str | None]


class OptunaSection(Frozen):
    """How each study searches. `enqueue` has, by method, settings to try before the search's own; default [preset]."""

    objective: Objective = Objective()
    """What a trial is judged by."""
    max_trials_per_method: PositiveInt = 100
    """The total per problem and method, also after a resume."""
    concurrency: Concurrency = Concurrency()
    """How many trials at once."""
    sampler: SearchAlgorithm = SearchAlgorithm()
    """Optuna's search, not the posterior's."""
    pruner: PrunerSpec = PrunerSpec()
    """Which trials are stopped early."""
    max_failed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Of the trials, beyond which a study ends."""
    enqueue: dict[Method, Annotated[tuple[KnownSettings, ...], BeforeValidator(as_tuple)]] = {}
    """By method, settings tried before the search's own."""


class Confirm(Frozen):
    """How the best settings of each study are run again after its search: `top_k` of them under `num_seeds` new seeds.

    `top_k: 0` leaves it out.
    """

    top_k: Annotated[int, Field(ge=0)] = 3
    """Settings of each study; 0: none."""
    num_seeds: Annotated[int, Field(ge=2)] = 4
    """Of each; two at least, for an uncertainty."""


class FloatDist(Frozen):
    """A real number between `low` and `high`."""

    dist: Literal["float"]
    """Kind of distribution."""
    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Whether evenly in the logarithm."""


class IntDist(Frozen):
    """A whole number between `low` and `high`, in steps of `step`."""

    dist: Literal["int"]
    """Kind of distribution."""
    low: int
    """Smallest value."""
    high: int
    """Largest value."""
    step: PositiveInt = 1
    """Between neighbours."""
    log: bool = False
    """Whether evenly in the logarithm."""


class CategoricalDist(Frozen):
    """One of `choices`."""

    dist: Literal["categorical"]
    """Kind of distribution."""
    choices: Annotated[tuple[bool | int | float | str | None, ...], Field(min_length=1)]
    """That one is taken of."""


Distribution = Annotated[FloatDist | IntDist | CategoricalDist, Field(discriminator="dist")]


class Budget(Frozen):
    """Wall seconds of one reference and of one trial."""

    hmc_sec: PositiveFloat = 7200.0
    """Of one reference."""
    trial_sec: PositiveFloat = 600.0
    """Of one trial."""


class ExecutorMap(Frozen):
    """Executor labels; what is omitted falls to AUTO."""

    hmc: str | None = None
    """Label for references; null: chosen by precision."""
    methods: dict[Method, str] = {}
    """Label by method."""


class Execution(Frozen):
    """Where and how long tasks run."""

    parsl_card: str = "config/parsl/local.yaml"
    """File that says where tasks run; taken from here, the study's folder or one above it."""
    budget: Budget = Budget()
    """Wall seconds."""
    executor_map: ExecutorMap = ExecutorMap()
    """Which executor takes what."""


class Store(Frozen):
    """Where a run lies: `root/namespace/layout_version`."""

    root: str = "runs"
    """Folder of all runs."""
    references: str | None = None
    """Folder of problems and references that several runs share; null: each has its own."""
    layout_version: FolderName = "v1"
    """Last part of the run's folder."""
    namespace: FolderName = "optuna"
    """Of this study: another one is another run."""
    ttl_days: Annotated[float, Field(ge=0)] = 30
    """After which `artifacts gc` may remove what nothing refers to."""


class ReferenceSpec(Frozen):
    """The reference of each problem: certified HMC, or the exact value where it is known; `exact` alone will do."""

    method: Literal["hmc", "exact"] = "hmc"
    """`exact` only where the value is known."""
    num_chains: Annotated[int, Field(ge=4)] = 4
    """At least 4, for R̂."""
    draws_per_round: Annotated[int, Field(ge=50)] = 250
    """Per chain."""
    target_accept: Annotated[float, Field(gt=0, lt=1)] = 0.85
    """That the step size is adapted to."""
    num_integration_steps: PositiveInt = 3
    """Mean of a trajectory."""
    max_relative_mcse: PositiveFloat = 0.01
    """Standard error over λ̂ that a certificate asks for."""
    cross_check: Literal["mclmc"] | None = None
    """Another sampler that has to agree."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of its chains."""
    on_uncertified: Literal["fail", "warn"] = "fail"
    """`warn` tunes against it all the same."""

    @model_validator(mode="before")
    @classmethod
    def _read_shorthand(cls, data: Any) -> Any:
        return {"method": data} if data in ("hmc", "exact") else data


class Study(Frozen):
    """A whole study: problems, methods, how they are searched, where tasks run and results lie."""

    problems: Annotated[tuple[ProblemEntry, ...], Field(min_length=1)]
    """What is studied: one reference, and one study per method, of each."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1)]
    """What is tuned; each needs a search space."""
    optuna: OptunaSection = OptunaSection()
    """How to search."""
    search_space: dict[Method, dict[str, Distribution]] = {}
    """By method, what may be tried."""
    confirm: Confirm = Confirm()
    """What is run again after the search, under new seeds."""
    execution: Execution = Execution()
    """Where and how long."""
    store: Store = Store()
    """Where results lie."""
    posterior: PosteriorSpec | None = None
    """null: each target's own default."""
    reference: Annotated[ReferenceSpec, Expected("`hmc`, `exact` or a mapping")] = ReferenceSpec()
    """What methods are judged against."""
    samplers: dict[Method, dict[str, object]] = {}
    """Fixed settings per method; `preset` names one of presets/sampler."""

    @property
    def entries(self) -> tuple[ProblemEntry, ...]:
        """The problems as the file has them."""
        return self.problems

    @property
    def per_executor(self) -> dict[str, int]:
        """Bounds on the tasks in flight, by label."""
        return self.optuna.concurrency.per_executor
