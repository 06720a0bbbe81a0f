"""What a study file (`config/optuna/*.yaml`) may say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from lambda_hat.config.base import Frozen
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

    type: Literal["abs", "huber", "relative"] = "abs"
    delta: PositiveFloat = 0.1  # huber only: where quadratic turns linear
    rhat_penalty: Annotated[float, Field(ge=0)] = 0.0


class Concurrency(Frozen):
    """How many trials are in flight: per (problem, method), and per executor label over the whole run."""

    batch_size: PositiveInt = 16
    per_executor: dict[str, PositiveInt] = {}


class SearchAlgorithm(Frozen):
    """Optuna's sampler; `options` are its own keyword arguments."""

    type: Literal["tpe", "random", "qmc", "cmaes"] = "tpe"
    seed: int = 42
    n_startup_trials: Annotated[int, Field(ge=0)] = 20
    options: dict[str, object] = {}


class PrunerSpec(Frozen):
    """Optuna's pruner; a step is one tenth of a trial's work."""

    type: Literal["median", "hyperband", "none"] = "median"
    n_startup_trials: Annotated[int, Field(ge=0)] = 10
    n_warmup_steps: Annotated[int, Field(ge=0)] = 1


class OptunaSection(Frozen):
    """How each study searches."""

    objective: Objective = Objective()
    max_trials_per_method: PositiveInt = 100
    concurrency: Concurrency = Concurrency()
    sampler: SearchAlgorithm = SearchAlgorithm()
    pruner: PrunerSpec = PrunerSpec()
    max_failed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2


class Confirm(Frozen):
    """How the best settings of each study are run again after its search: `top_k` of them under `num_seeds` new seeds.

    `top_k: 0` leaves it out.
    """

    top_k: Annotated[int, Field(ge=0)] = 3
    num_seeds: Annotated[int, Field(ge=2)] = 4  # two at least, for an uncertainty


class FloatDist(Frozen):
    """A real number between `low` and `high`."""

    dist: Literal["float"]
    low: float
    high: float
    log: bool = False


class IntDist(Frozen):
    """A whole number between `low` and `high`, in steps of `step`."""

    dist: Literal["int"]
    low: int
    high: int
    step: PositiveInt = 1
    log: bool = False


class CategoricalDist(Frozen):
    """One of `choices`."""

    dist: Literal["categorical"]
    choices: Annotated[tuple[bool | int | float | str | None, ...], Field(min_length=1)]


Distribution = Annotated[FloatDist | IntDist | CategoricalDist, Field(discriminator="dist")]


class Budget(Frozen):
    """Wall seconds of one reference and of one trial."""

    hmc_sec: PositiveFloat = 7200.0
    trial_sec: PositiveFloat = 600.0


class ExecutorMap(Frozen):
    """Executor labels; what is omitted falls to AUTO."""

    hmc: str | None = None
    methods: dict[Method, str] = {}


class Execution(Frozen):
    """Where and how long tasks run."""

    parsl_card: str = "config/parsl/local.yaml"
    budget: Budget = Budget()
    executor_map: ExecutorMap = ExecutorMap()


class Store(Frozen):
    """Where a run lies: `root/namespace/layout_version`."""

    root: str = "runs"
    references: str | None = None  # folder of problems and references that several runs share; null: each has its own
    layout_version: FolderName = "v1"
    namespace: FolderName = "optuna"
    ttl_days: Annotated[float, Field(ge=0)] = 30


class ReferenceSpec(Frozen):
    """The reference of each problem: certified HMC, or the exact value where it is known; `exact` alone will do."""

    method: Literal["hmc", "exact"] = "hmc"
    num_chains: Annotated[int, Field(ge=4)] = 4
    draws_per_round: Annotated[int, Field(ge=50)] = 250  # per chain
    target_accept: Annotated[float, Field(gt=0, lt=1)] = 0.85
    num_integration_steps: PositiveInt = 3
    max_relative_mcse: PositiveFloat = 0.01
    cross_check: Literal["mclmc"] | None = None  # another sampler that has to agree
    seed: Annotated[int, Field(ge=0)] = 0
    on_uncertified: Literal["fail", "warn"] = "fail"

    @model_validator(mode="before")
    @classmethod
    def _read_shorthand(cls, data: Any) -> Any:
        return {"method": data} if data in ("hmc", "exact") else data


class Study(Frozen):
    """A whole study: `problems` are its entries, `resolved_problems` what presets and overrides make of them."""

    problems: Annotated[tuple[ProblemEntry, ...], Field(min_length=1)]
    methods: Annotated[tuple[Method, ...], Field(min_length=1)]
    optuna: OptunaSection = OptunaSection()
    search_space: dict[Method, dict[str, Distribution]] = {}
    confirm: Confirm = Confirm()
    execution: Execution = Execution()
    store: Store = Store()
    posterior: PosteriorSpec | None = None  # null: each target's own default
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
