"""What a command would do, from the configuration and the files that are there: nothing is started or written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Literal

from lambda_hat.artifacts.files import read_json
from lambda_hat.artifacts.ids import derive_seed, problem_id
from lambda_hat.artifacts.paths import PARTIAL_NPZ, REFERENCE_JSON, TARGET_NPZ, Paths
from lambda_hat.config.batches import oversized_batches
from lambda_hat.config.card import AnyCard, InlineCard
from lambda_hat.config.experiments import Experiments, FixedSampler
from lambda_hat.config.load import LoadedCard, LoadedExperiments, LoadedFile, LoadedStudy
from lambda_hat.config.problems import ProblemSpec, PythonProblem
from lambda_hat.config.study import Confirm, ReferenceSpec, Store, Study
from lambda_hat.errors import ConfigError, Fault
from lambda_hat.execution.plain import check_folder
from lambda_hat.execution.resources import capacity, check_budget, check_card
from lambda_hat.execution.routing import Route, check_labels, effective_map, labels_of, single_executor_warning
from lambda_hat.records.manifest import TrialBudget
from lambda_hat.report.listeners import LISTENERS
from lambda_hat.scheduling.fixed import FixedTrial, fixed_trial
from lambda_hat.tuning.stored import read_journal
from lambda_hat.workflows.builds import check_builds, known_builds
from lambda_hat.workflows.changes import begun_runs, begun_studies, num_finished, num_unconfirmed, without_metrics
from lambda_hat.workflows.estimates import reference_seconds, trial_seconds
from lambda_hat.workflows.references import judge_stored_reference

__all__ = [
    "Plan",
    "PlannedConfirmation",
    "PlannedProblem",
    "PlannedRun",
    "PlannedStudy",
    "TimeBound",
    "build_llc_plan",
    "build_plan",
    "check_execution",
    "problem_titles",
    "run_of",
    "warnings_of",
]


@dataclass(frozen=True)
class PlannedProblem:
    """One problem, and what of it is there already."""

    pid: str
    title: str
    has_target: bool
    has_reference: bool
    is_usable: bool  # as it is: certified, or what its trials were judged by
    why_not: str  # certified or usable, in words; empty where it is both
    is_built: bool = True  # else its content, and with it its id, is not known yet
    is_begun: bool = False  # its sampling was interrupted, and goes on from its last round
    arguments: Mapping[str, object] = field(default_factory=dict)  # of the function that builds it, if one does

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
class PlannedConfirmation:
    """Runs of the best settings of a method: its own on this problem, or (`across`) those of the other problems."""

    kind: Literal["confirm", "across"]
    pid: str
    method: str
    label: str
    num_to_run: int  # at most: a search may find fewer settings than are wanted
    is_begun: bool


@dataclass(frozen=True)
class PlannedRun:
    """One sampler on one target."""

    pid: str
    sampler: str
    method: str
    label: str
    run_id: str
    is_finished: bool

    @property
    def num_to_run(self) -> int:
        """1 if it is missing or failed."""
        return int(not self.is_finished)


@dataclass(frozen=True)
class TimeBound:
    """Seconds that tasks of one kind can sample at most on one executor: `num_rounds` times their budget.

    In packs they take less, but how much less depends on what is searched.
    """

    what: str  # "references" | "trials" | "confirmations" | "runs on other problems" | "runs"
    label: str
    num_tasks: int
    num_parallel: int
    num_rounds: int
    budget_sec: float
    pack: int = 1  # trials that are one task
    usual_sec: float | None = None  # that one takes, as far as such tasks have ended before

    @property
    def seconds(self) -> float:
        """The bound itself."""
        return self.num_rounds * self.budget_sec

    @property
    def usual_seconds(self) -> float | None:
        """What they take if they are like those that have ended; None where none has."""
        return None if self.usual_sec is None else self.num_tasks * self.usual_sec / self.num_parallel


@dataclass(frozen=True)
class Plan:
    """Everything that `--dry-run` tells. Searches have `studies`, fixed settings have `runs`."""

    loaded: LoadedFile
    paths: Paths
    capacity: dict[str, int]
    caps: dict[str, int]  # how many tasks may be in flight, by label
    routes: dict[str, Route]
    warnings: tuple[str, ...]
    problems: tuple[PlannedProblem, ...]
    bounds: tuple[TimeBound, ...]
    studies: tuple[PlannedStudy, ...] = ()
    confirmations: tuple[PlannedConfirmation, ...] = ()
    runs: tuple[PlannedRun, ...] = ()
    packs: dict[str, int] = field(default_factory=dict)  # how many trials a worker runs at once, by label
    needs_resume: bool = False  # something of this was begun here and is not finished

    @property
    def is_inline(self) -> bool:
        """Whether there is no other process than the command's, which runs all tasks one after the other."""
        return isinstance(self.loaded.card, InlineCard)

    @property
    def max_seconds(self) -> float:
        """One kind of task after the other, of each the slowest executor's; inline, all tasks one after the other.

        Waiting for Slurm, starting workers and repeating what lost workers did come on top.
        """
        return self._total({bound: bound.seconds for bound in self.bounds})

    @property
    def usual_seconds(self) -> float | None:
        """The same if tasks take as long as those that have ended before; None where some kind is not known."""
        seconds = {bound: bound.usual_seconds for bound in self.bounds}
        known = {bound: value for bound, value in seconds.items() if value is not None}
        return self._total(known) if len(known) == len(seconds) else None

    def _total(self, seconds: Mapping[TimeBound, float]) -> float:
        if self.is_inline:
            return sum(seconds.values())
        kinds = dict.fromkeys(bound.what for bound in seconds)
        return sum(max(value for bound, value in seconds.items() if bound.what == kind) for kind in kinds)


def check_execution(loaded: LoadedFile | LoadedCard) -> list[Fault]:
    """Faults of file and card together: labels that do not exist, budgets that outlast the walltime, and the like."""
    if isinstance(loaded, LoadedCard):
        found = [*check_card(loaded.card), *check_folder(Paths.from_store(loaded.store).root, loaded.card)]
        return [loaded.locate(fault) for fault in found]
    sections = loaded.sections
    faults = [loaded.locate(fault, is_in_card=True) for fault in check_card(loaded.card)]
    execution, labels = sections.execution, labels_of(loaded.card)
    joint = check_labels(execution.executor_map, sections.per_executor, loaded.methods, labels)
    joint += check_budget(loaded.card, execution.budget)
    joint += _check_store(sections.store, loaded.card)
    faults += check_builds(loaded)
    if isinstance(loaded, LoadedStudy):
        joint += [*_check_search(loaded.study), *_check_listeners(loaded.study)]
    return faults + [loaded.locate(fault) for fault in joint]


def _check_store(store: Store, card: AnyCard) -> list[Fault]:
    paths = Paths.from_store(store)
    faults = check_folder(paths.root, card)
    if store.run is not None and not paths.begun.is_file():
        message, hint = f"there is no run in {paths.root}", "Remove `store.run`: without it a new run begins."
        faults.append(Fault(key="store.run", message=f"found {store.run!r}, but {message}", hint=hint))
    if paths.references is not None and not (paths.references.is_dir() or paths.references.parent.is_dir()):
        message = f"found {store.references!r}, but there is no folder {paths.references.parent}"
        faults.append(Fault(key="store.references", message=message, hint="Create it, or name one that is there."))
    return faults


def _check_search(study: Study) -> list[Fault]:
    """Faults of the search. Without options there are none, unless a package is missing."""
    if not study.optuna.sampler.options and study.optuna.sampler.type != "cmaes":
        return []
    from lambda_hat.tuning.algorithms import check_search  # here, since it imports Optuna, which takes a second

    return check_search(study)


def _check_listeners(study: Study) -> Iterator[Fault]:
    """Listeners whose package is not installed."""
    for index, name in enumerate(study.optuna.log_to):
        module, _ = LISTENERS[name]
        if find_spec(module) is None:
            message = f"found {name!r}, which needs the package {module}, which is not installed"
            yield Fault(key=f"optuna.log_to.{index}", message=message, hint=f"`pip install 'lambda-hat[{name}]'`.")


def warnings_of(loaded: LoadedFile) -> tuple[str, ...]:
    """What is allowed and may surprise, in a sentence each. The file has no faults."""
    labels = labels_of(loaded.card)
    routes = effective_map(loaded.sections.execution.executor_map, loaded.methods, labels)
    return tuple(filter(None, (single_executor_warning(routes, labels), oversized_batches(loaded))))


def problem_titles(loaded: LoadedFile) -> dict[str, str]:
    """By id, what the file says of each problem, in one line."""
    pairs = zip(loaded.sections.entries, loaded.problems, strict=True)
    return {problem_id(problem.identity()): entry.title for entry, problem in pairs}


def build_plan(loaded: LoadedStudy) -> Plan:
    """What `workflow optuna` would do now.

    Raises:
        ConfigError: with everything that `check_execution` finds.
    """
    plan, optuna = _plan_of_references(loaded), loaded.study.optuna
    journal, budget = read_journal(plan.paths.journal), loaded.study.execution.budget
    of_trial = TrialBudget(trial_sec=budget.trial_sec, setup_sec=budget.setup_sec)
    labels = [plan.routes[f"methods.{method}"].label for method in loaded.study.methods]
    pack = min(optuna.concurrency.pack or 1, optuna.concurrency.batch_size)
    plan = replace(plan, packs=dict.fromkeys(labels, pack))
    studies = tuple(
        PlannedStudy(
            problem.pid,
            method,
            plan.routes[f"methods.{method}"].label,
            num_finished(plan.paths, problem.pid, method, journal, of_trial),
            loaded.study.num_trials(method),
        )
        for problem in plan.problems
        for method in loaded.study.methods
    )
    begun = begun_studies(plan.paths)
    confirmations = tuple(_planned_confirmations(plan.paths, loaded.study.confirm, studies))
    own, across = ([item for item in confirmations if item.kind == kind] for kind in ("confirm", "across"))
    bounds = [
        bound
        for what, groups in (("trials", studies), ("confirmations", own), ("runs on other problems", across))
        for bound in _bounds(what, plan, groups, optuna.concurrency.batch_size)
    ]
    is_search_begun = any(
        study.num_to_run and (study.num_finished or study.method in begun.get(study.pid, ())) for study in studies
    )
    names = [f"{study.pid}:{study.method}" for study in studies]
    lost = {name: without_metrics(plan.paths, journal, name) for name in names}
    warnings = (
        f"metrics.json of {', '.join(ids)} in {name} is missing or torn: its row has what the journal knows."
        for name, ids in lost.items()
        if ids
    )
    return replace(
        plan,
        warnings=(*plan.warnings, *warnings),
        studies=studies,
        confirmations=confirmations,
        bounds=(*plan.bounds, *bounds),
        needs_resume=is_search_begun or any(item.is_begun and item.num_to_run for item in confirmations),
    )


def _planned_confirmations(
    paths: Paths, spec: Confirm, studies: Sequence[PlannedStudy]
) -> Iterable[PlannedConfirmation]:
    if not spec.top_k:
        return
    num_others = len({study.pid for study in studies}) - 1
    most: dict[Literal["confirm", "across"], int] = {"confirm": spec.top_k, "across": num_others}
    for study in studies:
        for kind, wanted in most.items():
            num_settings = min(wanted, study.num_trials if kind == "confirm" else wanted)
            left = None
            if not study.num_to_run:  # else its best settings may become others
                left = num_unconfirmed(paths, spec, f"{study.pid}:{study.method}:{kind}")
            num_to_run = num_settings * spec.num_seeds if left is None else left
            if num_to_run:
                yield PlannedConfirmation(kind, study.pid, study.method, study.label, num_to_run, left is not None)


def build_llc_plan(loaded: LoadedExperiments) -> Plan:
    """What `workflow llc` would do now; raises as `build_plan`."""
    plan, experiments = _plan_of_references(loaded), loaded.experiments
    runs = []
    for problem in plan.problems:
        for sampler in loaded.samplers:
            run = run_of(plan.paths, problem.pid, sampler, experiments)
            label = plan.routes[f"methods.{sampler.method}"].label
            is_finished = run.ended() is not None
            runs.append(PlannedRun(problem.pid, sampler.name, sampler.method, label, run.run_id, is_finished))
    begun = begun_runs(plan.paths)
    return replace(
        plan,
        runs=tuple(runs),
        bounds=(*plan.bounds, *_bounds("runs", plan, runs, batch_size=len(runs))),
        needs_resume=any(run.num_to_run and run.run_id in begun for run in runs),
    )


def run_of(paths: Paths, pid: str, sampler: FixedSampler, experiments: Experiments) -> FixedTrial:
    """The run of a sampler on a target."""
    return fixed_trial(
        paths,
        pid,
        sampler.name,
        method=sampler.method,
        hyperparams=sampler.overrides,
        settings=sampler.settings,
        seed=derive_seed("run", sampler.seed, pid, sampler.method),
        trial_sec=experiments.execution.budget.trial_sec,
        setup_sec=experiments.execution.budget.setup_sec,
    )


def _plan_of_references(loaded: LoadedFile) -> Plan:
    """Everything but the work that follows the references."""
    if faults := check_execution(loaded):
        raise ConfigError(faults)
    loaded = known_builds(loaded)
    sections, labels = loaded.sections, labels_of(loaded.card)
    paths, workers = Paths.from_store(sections.store), capacity(loaded.card)
    caps = {label: min(number, sections.per_executor.get(label, number)) for label, number in workers.items()}
    routes = effective_map(sections.execution.executor_map, loaded.methods, labels)
    titles = problem_titles(loaded)
    problems = tuple(
        _planned_problem(paths, pid, titles[pid], sections.reference, problem)
        for pid, problem in {problem_id(problem.identity()): problem for problem in loaded.problems}.items()
    )
    bounds: tuple[TimeBound, ...] = ()
    num_references = sum(problem.needs_reference for problem in problems)
    if num_references and sections.reference.method == "hmc":  # which takes no time of its own
        label = routes["hmc"].label
        rounds = math.ceil(num_references / caps[label])
        parallel = min(caps[label], num_references)
        budget = sections.execution.budget.hmc_sec
        known = [reference_seconds(paths, problem.pid) for problem in problems if problem.needs_reference]
        usual = _mean([(1, seconds) for seconds in known])
        bounds = (TimeBound("references", label, num_references, parallel, rounds, budget, usual_sec=usual),)
    return Plan(loaded, paths, workers, caps, routes, warnings_of(loaded), problems, bounds)


def _planned_problem(paths: Paths, pid: str, title: str, spec: ReferenceSpec, problem: ProblemSpec) -> PlannedProblem:
    folder = paths.problem_dir(pid)
    usable, why_not = judge_stored_reference(paths, pid, spec)
    own = problem if isinstance(problem, PythonProblem) else None
    return PlannedProblem(
        pid,
        title,
        has_target=(folder / TARGET_NPZ).is_file(),
        has_reference=read_json(folder / REFERENCE_JSON) is not None,
        is_usable=usable is not None,
        why_not=why_not,
        is_built=own is None or own.is_built,
        is_begun=(folder / PARTIAL_NPZ).is_file(),
        arguments={} if own is None else own.arguments,
    )


def _bounds(
    what: str, plan: Plan, groups: Sequence[PlannedStudy | PlannedConfirmation | PlannedRun], batch_size: int
) -> Iterable[TimeBound]:
    """Bounds on the time of tasks in groups, each of which has at most `batch_size` in flight."""
    for label, cap in plan.caps.items():
        here = [group for group in groups if group.label == label and group.num_to_run]
        counts = [group.num_to_run for group in here]
        if counts:
            rounds = _num_rounds(counts, cap, batch_size)
            num_parallel = min(cap, sum(min(count, batch_size) for count in counts))
            budget = plan.loaded.sections.execution.budget.trial_sec
            usual = _mean([(group.num_to_run, _usual_seconds(plan.paths, group)) for group in here])
            yield TimeBound(what, label, sum(counts), num_parallel, rounds, budget, plan.packs.get(label, 1), usual)


def _usual_seconds(paths: Paths, group: PlannedStudy | PlannedConfirmation | PlannedRun) -> float | None:
    return trial_seconds(paths, group.pid, group.sampler if isinstance(group, PlannedRun) else group.method)


def _mean(pairs: Sequence[tuple[int, float | None]]) -> float | None:
    """The mean of values with weights; None where one is not known."""
    known = [(weight, value) for weight, value in pairs if value is not None]
    if len(known) < len(pairs):
        return None
    return sum(weight * value for weight, value in known) / sum(weight for weight, _ in known)


def _num_rounds(counts: Sequence[int], cap: int, batch_size: int) -> int:
    """Rounds of equally long tasks until every study is through, of each of which `batch_size` run at once.

    While the last study runs fewer than it may, all workers are busy; when it runs alone, it has only its own batch.
    """
    if batch_size >= cap:
        return math.ceil(sum(counts) / cap)
    longest = max(counts)
    return math.ceil((sum(counts) - longest) / cap + longest / batch_size)
