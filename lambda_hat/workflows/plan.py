"""What a study would do, from the configuration and the files that are there: nothing is started, nothing written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lambda_hat.artifacts.files import read_json
from lambda_hat.artifacts.ids import problem_id
from lambda_hat.artifacts.paths import REFERENCE_JSON, TARGET_NPZ, Paths
from lambda_hat.config.load import LoadedStudy
from lambda_hat.config.problems import ProblemEntry
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.errors import ConfigError, Fault
from lambda_hat.execution.resources import capacity, check_budget, check_card
from lambda_hat.execution.routing import Route, check_labels, effective_map, labels_of, single_executor_warning
from lambda_hat.workflows.changes import begun_studies, num_finished
from lambda_hat.workflows.references import stored_reference

__all__ = ["Plan", "PlannedProblem", "PlannedStudy", "TimeBound", "build_plan", "check_execution", "problem_titles"]


@dataclass(frozen=True)
class PlannedProblem:
    """One problem, and what of it is there already."""

    pid: str
    title: str
    has_target: bool
    has_reference: bool
    is_usable: bool  # as it is: certified, or what its trials were judged by

    @property
    def needs_reference(self) -> bool:
        """Whether its reference would be sampled, or sampled on."""
        return not self.is_usable


@dataclass(frozen=True)
class PlannedStudy:
    """One (problem, method) pair: trials that have ended and trials in all."""

    pid: str
    method: str
    label: str
    num_finished: int
    num_trials: int

    @property
    def num_to_run(self) -> int:
        """Trials that are missing."""
        return max(0, self.num_trials - self.num_finished)


@dataclass(frozen=True)
class TimeBound:
    """Seconds that tasks of one kind can take at most on one executor: `num_rounds` times their budget."""

    what: str  # "references" | "trials"
    label: str
    num_tasks: int
    num_parallel: int
    num_rounds: int
    budget_sec: float

    @property
    def seconds(self) -> float:
        """The bound itself."""
        return self.num_rounds * self.budget_sec


@dataclass(frozen=True)
class Plan:
    """Everything that `--dry-run` tells."""

    loaded: LoadedStudy
    paths: Paths
    capacity: dict[str, int]
    routes: dict[str, Route]
    warnings: tuple[str, ...]
    problems: tuple[PlannedProblem, ...]
    studies: tuple[PlannedStudy, ...]
    bounds: tuple[TimeBound, ...]
    begun: dict[str, list[str]]  # by problem, the methods that an earlier command did not finish

    @property
    def max_seconds(self) -> float:
        """References, which come first, and then the slowest executor's trials.

        Waiting for Slurm, starting workers and repeating what lost workers did come on top.
        """
        kinds = ("references", "trials")
        return sum(max((bound.seconds for bound in self.bounds if bound.what == kind), default=0.0) for kind in kinds)

    @property
    def needs_resume(self) -> bool:
        """Whether `--resume` is needed: a study of these was begun here and is not finished."""
        return any(
            study.num_to_run and (study.num_finished or study.method in self.begun.get(study.pid, ()))
            for study in self.studies
        )


def check_execution(loaded: LoadedStudy) -> list[Fault]:
    """Faults of study and card together: labels that do not exist, budgets that outlast the walltime, and the like."""
    study = loaded.study
    faults = [loaded.locate(fault, is_in_card=True) for fault in check_card(loaded.card)]
    per_executor = study.optuna.concurrency.per_executor
    joint = check_labels(study.execution.executor_map, per_executor, study.methods, labels_of(loaded.card))
    joint += check_budget(loaded.card, study.execution.budget)
    return faults + [loaded.locate(fault) for fault in joint]


def problem_titles(loaded: LoadedStudy) -> dict[str, str]:
    """By id, what the study file says of each problem, in one line."""
    pairs = zip(loaded.study.problems, loaded.study.resolved_problems, strict=True)
    return {problem_id(problem.to_dict()): _title(entry) for entry, problem in pairs}


def build_plan(loaded: LoadedStudy) -> Plan:
    """What `workflow optuna` would do now.

    Raises:
        ConfigError: with everything that `check_execution` finds.
    """
    if faults := check_execution(loaded):
        raise ConfigError(faults)
    study, labels = loaded.study, labels_of(loaded.card)
    paths = Paths.from_store(study.store)
    routes = effective_map(study.execution.executor_map, study.methods, labels)
    warning = single_executor_warning(routes, labels)
    problems = tuple(
        _planned_problem(paths, pid, title, study.reference) for pid, title in problem_titles(loaded).items()
    )
    num_trials = study.optuna.max_trials_per_method
    studies = tuple(
        PlannedStudy(
            problem.pid,
            method,
            routes[f"methods.{method}"].label,
            num_finished(paths, problem.pid, method),
            num_trials,
        )
        for problem in problems
        for method in study.methods
    )
    workers = capacity(loaded.card)
    return Plan(
        loaded=loaded,
        paths=paths,
        capacity=workers,
        routes=routes,
        warnings=(warning,) if warning else (),
        problems=problems,
        studies=studies,
        bounds=tuple(_bounds(loaded, routes["hmc"].label, workers, problems, studies)),
        begun=begun_studies(paths),
    )


def _title(entry: ProblemEntry) -> str:
    parts = [entry.target]
    if entry.target == "mlp":
        parts += [f"{kind} {getattr(entry, kind)}" for kind in ("model", "data", "teacher")]
    parts += [f"seed {entry.seed}", *(f"{key}={value}" for key, value in entry.overrides.items())]
    return ", ".join(parts)


def _planned_problem(paths: Paths, pid: str, title: str, spec: ReferenceSpec) -> PlannedProblem:
    folder = paths.problem_dir(pid)
    has_reference = read_json(folder / REFERENCE_JSON) is not None
    is_usable = stored_reference(paths, pid, spec) is not None
    return PlannedProblem(pid, title, (folder / TARGET_NPZ).is_file(), has_reference, is_usable)


def _bounds(
    loaded: LoadedStudy,
    reference_label: str,
    workers: Mapping[str, int],
    problems: Sequence[PlannedProblem],
    studies: Sequence[PlannedStudy],
) -> Iterable[TimeBound]:
    budget, concurrency = loaded.study.execution.budget, loaded.study.optuna.concurrency
    caps = {label: min(number, concurrency.per_executor.get(label, number)) for label, number in workers.items()}
    if num_references := sum(problem.needs_reference for problem in problems):
        cap = caps[reference_label]
        rounds = math.ceil(num_references / cap)
        yield TimeBound("references", reference_label, num_references, min(cap, num_references), rounds, budget.hmc_sec)
    for label, cap in caps.items():
        counts = [study.num_to_run for study in studies if study.label == label and study.num_to_run]
        if counts:
            rounds = _num_rounds(counts, cap, concurrency.batch_size)
            num_parallel = min(cap, sum(min(count, concurrency.batch_size) for count in counts))
            yield TimeBound("trials", label, sum(counts), num_parallel, rounds, budget.trial_sec)


def _num_rounds(counts: Sequence[int], cap: int, batch_size: int) -> int:
    """Rounds of equally long tasks until every study is through, of each of which `batch_size` run at once.

    While the last study runs fewer than it may, all workers are busy; when it runs alone, it has only its own batch.
    """
    if batch_size >= cap:
        return math.ceil(sum(counts) / cap)
    longest = max(counts)
    return math.ceil((sum(counts) - longest) / cap + longest / batch_size)
