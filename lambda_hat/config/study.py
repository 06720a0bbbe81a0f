"""What a study file (`config/optuna/*.yaml`) may say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from lambda_hat.config.base import Frozen, as_tuple
from lambda_hat.config.problems import PosteriorSpec, Problem, ProblemEntry

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
    "Method",
    "Objective",
    "OptunaSection",
    "PrunerSpec",
    "ReferenceSpec",
    "SearchAlgorithm",
    "Store",
    "Study",
]

FolderName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="a name of letters, digits, `-` and `_`")
]
Method = Literal["sgld", "vi", "mclmc", "hmc"]


class Objective(Frozen):
    """What a trial is judged by: the distance of llc_hat from llc_ref, plus rhat_penalty · max(0, R̂ − 1.05)."""

    type: Literal["abs", "huber", "relative"] = "abs"  # distance of λ̂ from the reference
    delta: PositiveFloat = 0.1  # huber only: where quadratic turns linear
    rhat_penalty: Annotated[float, Field(ge=0)] = 0.0  # times max(0, R̂ − 1.05), added


class Concurrency(Frozen):
    """How many trials are in flight: per (problem, method), and per executor label over the whole run."""

    batch_size: PositiveInt = 16  # trials in flight per problem and method
    per_executor: dict[str, PositiveInt] = {}  # tasks in flight by label, over the whole run
    # trials that a worker runs at once, as one program; null: 1, or on GPUs up to 16 of those in flight
    pack: PositiveInt | None = None


class SearchAlgorithm(Frozen):
    """Optuna's sampler; `options` are its own keyword arguments."""

    type: Literal["tpe", "random", "qmc", "cmaes"] = "tpe"  # Optuna's sampler
    seed: int = 42  # of the search and of its trials
    n_startup_trials: Annotated[int, Field(ge=0)] = 20  # random ones at the start
    options: dict[str, object] = {}  # keyword arguments of Optuna's


class PrunerSpec(Frozen):
    """Optuna's pruner; a step is one tenth of a trial's work."""

    type: Literal["median", "hyperband", "none"] = "median"  # Optuna's pruner
    n_startup_trials: Annotated[int, Field(ge=0)] = 10  # that are never stopped
    n_warmup_steps: Annotated[int, Field(ge=0)] = 1  # tenths of a trial before it may be stopped


KnownSettings = Literal["preset"] | dict[str, bool | int | float | str | None]


class OptunaSection(Frozen):
    """How each study searches. `enqueue` has, by method, settings to try before the search's own; default [preset]."""

    objective: Objective = Objective()  # what a trial is judged by
    max_trials_per_method: PositiveInt = 100  # the total per problem and method, also after a resume
    concurrency: Concurrency = Concurrency()  # how many trials at once
    sampler: SearchAlgorithm = SearchAlgorithm()  # Optuna's search, not the posterior's
    pruner: PrunerSpec = PrunerSpec()  # which trials are stopped early
    max_failed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2  # of the trials, beyond which a study ends
    # by method, settings tried before the search's own
    enqueue: dict[Method, Annotated[tuple[KnownSettings, ...], BeforeValidator(as_tuple)]] = {}


class Confirm(Frozen):
    """How the best settings of each study are run again after its search: `top_k` of them under `num_seeds` new seeds.

    `top_k: 0` leaves it out.
    """

    top_k: Annotated[int, Field(ge=0)] = 3  # settings of each study; 0: none
    num_seeds: Annotated[int, Field(ge=2)] = 4  # of each; two at least, for an uncertainty


class FloatDist(Frozen):
    """A real number between `low` and `high`."""

    dist: Literal["float"]  # kind of distribution
    low: float  # smallest value
    high: float  # largest value
    log: bool = False  # whether evenly in the logarithm


class IntDist(Frozen):
    """A whole number between `low` and `high`, in steps of `step`."""

    dist: Literal["int"]  # kind of distribution
    low: int  # smallest value
    high: int  # largest value
    step: PositiveInt = 1  # between neighbours
    log: bool = False  # whether evenly in the logarithm


class CategoricalDist(Frozen):
    """One of `choices`."""

    dist: Literal["categorical"]  # kind of distribution
    choices: Annotated[tuple[bool | int | float | str | None, ...], Field(min_length=1)]  # that one is taken of


Distribution = Annotated[FloatDist | IntDist | CategoricalDist, Field(discriminator="dist")]


class Budget(Frozen):
    """Wall seconds of one reference and of one trial."""

    hmc_sec: PositiveFloat = 7200.0  # of one reference
    trial_sec: PositiveFloat = 600.0  # of one trial


class ExecutorMap(Frozen):
    """Executor labels; what is omitted falls to AUTO."""

    hmc: str | None = None  # label for references; null: chosen by precision
    methods: dict[Method, str] = {}  # label by method


class Execution(Frozen):
    """Where and how long tasks run."""

    # file that says where tasks run; taken from here, the study's folder or one above it
    parsl_card: str = "config/parsl/local.yaml"
    budget: Budget = Budget()  # wall seconds
    executor_map: ExecutorMap = ExecutorMap()  # which executor takes what


class Store(Frozen):
    """Where a run lies: `root/namespace/layout_version`."""

    root: str = "runs"  # folder of all runs
    references: str | None = None  # folder of problems and references that several runs share; null: each has its own
    layout_version: FolderName = "v1"  # last part of the run's folder
    namespace: FolderName = "optuna"  # of this study: another one is another run
    ttl_days: Annotated[float, Field(ge=0)] = 30  # after which `artifacts gc` may remove what nothing refers to


class ReferenceSpec(Frozen):
    """The reference of each problem: certified HMC, or the exact value where it is known; `exact` alone will do."""

    method: Literal["hmc", "exact"] = "hmc"  # `exact` only where the value is known
    num_chains: Annotated[int, Field(ge=4)] = 4  # at least 4, for R̂
    draws_per_round: Annotated[int, Field(ge=50)] = 250  # per chain
    target_accept: Annotated[float, Field(gt=0, lt=1)] = 0.85  # that the step size is adapted to
    num_integration_steps: PositiveInt = 3  # mean of a trajectory
    max_relative_mcse: PositiveFloat = 0.01  # standard error over λ̂ that a certificate asks for
    cross_check: Literal["mclmc"] | None = None  # another sampler that has to agree
    seed: Annotated[int, Field(ge=0)] = 0  # of its chains
    on_uncertified: Literal["fail", "warn"] = "fail"  # `warn` tunes against it all the same

    @model_validator(mode="before")
    @classmethod
    def _read_shorthand(cls, data: Any) -> Any:
        return {"method": data} if data in ("hmc", "exact") else data


class Study(Frozen):
    """A whole study: `problems` are its entries, `resolved_problems` what presets and overrides make of them."""

    # what is studied: one reference, and one study per method, of each
    problems: Annotated[tuple[ProblemEntry, ...], Field(min_length=1)]
    methods: Annotated[tuple[Method, ...], Field(min_length=1)]  # what is tuned; each needs a search space
    optuna: OptunaSection = OptunaSection()  # how to search
    search_space: dict[Method, dict[str, Distribution]] = {}  # by method, what may be tried
    confirm: Confirm = Confirm()  # what is run again after the search, under new seeds
    execution: Execution = Execution()  # where and how long
    store: Store = Store()  # where results lie
    posterior: PosteriorSpec | None = None  # null: each target's own default
    # what methods are judged against
    reference: Annotated[ReferenceSpec, Field(description="`hmc`, `exact` or a mapping")] = ReferenceSpec()
    samplers: dict[Method, dict[str, object]] = {}  # fixed settings per method; `preset` names one of presets/sampler
    resolved_problems: tuple[Problem, ...] = Field(default=(), exclude=True)
    resolved_samplers: dict[Method, dict[str, object]] = Field(default={}, exclude=True)

    @property
    def entries(self) -> tuple[ProblemEntry, ...]:
        """The problems as the file has them."""
        return self.problems

    @property
    def per_executor(self) -> dict[str, int]:
        """Bounds on the tasks in flight, by label."""
        return self.optuna.concurrency.per_executor
