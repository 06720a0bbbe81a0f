"""The search of one (problem, method) pair: ask for hyperparameters, report, tell, and keep every trial."""

from __future__ import annotations

import json
import math
import pickle
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import optuna
from optuna.trial import FrozenTrial, TrialState

from lambda_hat.artifacts.files import write_bytes_atomic
from lambda_hat.artifacts.ids import canonical_json
from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.study import Distribution, OptunaSection
from lambda_hat.records.base import Value
from lambda_hat.records.manifest import TrialBudget
from lambda_hat.records.state import State
from lambda_hat.tuning.algorithms import NUM_REPORT_STEPS, build_pruner, build_search_algorithm
from lambda_hat.tuning.journal import ControllerJournal
from lambda_hat.tuning.objective import clipped
from lambda_hat.tuning.plan import definition
from lambda_hat.tuning.space import suggest_params_from_yaml
from lambda_hat.tuning.stored import refuse_another_definition, short_of_time, superseded

__all__ = [
    "AskedTrial",
    "StudyStore",
    "StudyTrial",
    "TuningStudy",
]

_SECONDS_BETWEEN_PICKLES = 5.0  # of one study
_LARGEST_PICKLE_SHARE = 0.05  # of the controller's time, all studies together


@dataclass(frozen=True)
class AskedTrial:
    """Hyperparameters to try, under the names that YAML uses."""

    number: int
    params: Mapping[str, Value]


@dataclass(frozen=True)
class StudyTrial:
    """One trial as the journal has it."""

    number: int
    state: State
    params: Mapping[str, Value]
    value: float | None  # what was told, or last reported before pruning
    run_id: str | None = None  # name of the trial's folder; None for a trial that never got one
    seed: int | None = None
    origin: str = "search"  # or "preset", "enqueued"
    reason: str | None = None  # why it is not complete
    llc_hat: float | None = None
    se_hat: float | None = None
    rhat: float | None = None
    again: int | None = None  # number of the trial that this one repeats with more time
    short_of: str | None = None  # budget for want of which it failed
    short_sec: float | None = None  # what that was
    violation: float = 0.0  # by how much it breaks constraints, in shares of their bounds

    @classmethod
    def of(cls, trial: FrozenTrial) -> StudyTrial:
        """The trial that Optuna gives."""
        attrs = trial.user_attrs
        return cls(
            number=trial.number,
            state=State[trial.state.name],
            params=trial.params,
            value=trial.value,
            run_id=attrs.get("run_id"),
            seed=attrs.get("seed"),
            origin=attrs.get("origin", cls.origin),
            reason=attrs.get("reason"),
            violation=sum(max(0.0, value) for value in trial.constraints.values()),
            **{name: attrs.get(name) for name in ("llc_hat", "se_hat", "rhat", "again", "short_of", "short_sec")},
        )

    @property
    def rank(self) -> tuple[bool, float, int]:
        """The smaller, the better, for completed trials: first those that keep all constraints, then by value."""
        return self.violation > 0, math.inf if self.value is None else self.value, self.number


class _Throttle:
    """Keeps something that all studies do within a share of the controller's time."""

    def __init__(self) -> None:
        self._next = self._started = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._next

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        now = time.monotonic()
        self._next = now + (now - self._started) / _LARGEST_PICKLE_SHARE


class StudyStore:
    """All studies of a run, in one journal. Whoever opens it holds the run's lock."""

    def __init__(self, paths: Paths, spec: OptunaSection) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line on stderr for each study
        self._paths = paths
        self._spec = spec
        self._journal = ControllerJournal(paths.journal)
        self._pickling = _Throttle()
        self._storage = optuna.storages.JournalStorage(self._journal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._journal.close()

    def open(
        self, pid: str, method: str, space: Mapping[str, Distribution], conditions: Mapping[str, object] | None = None
    ) -> TuningStudy:
        """The study of one problem and method, new or with the trials it has.

        `conditions` are what else its trials have in common, under the YAML's names.

        Raises:
            RunStateError: its trials are of another search space, objective or other conditions.
            ConfigError: the search algorithm cannot be built.
        """
        return TuningStudy(
            name=f"{pid}:{method}",
            space=space,
            definition=definition(method, self._spec.objective, space, conditions or {}),
            spec=self._spec,
            storage=self._storage,
            journal=self._journal,
            pickling=self._pickling,
            pickle_path=self._paths.study_pickle(pid, method),
        )


class TuningStudy:
    """One Optuna study behind the few operations a search needs. Smaller is better; no infinity is ever told."""

    def __init__(
        self,
        *,
        name: str,
        space: Mapping[str, Distribution],
        definition: Mapping[str, object],
        spec: OptunaSection,
        storage: optuna.storages.JournalStorage,
        journal: ControllerJournal,
        pickling: _Throttle,
        pickle_path: Path,
    ) -> None:
        self.name = name
        self.space = space
        self._spec = spec
        self._storage = storage
        self._journal = journal
        self._pickling = pickling
        self._next_pickle = 0.0
        self._pickle_path = pickle_path
        self._study = optuna.create_study(study_name=name, storage=storage, direction="minimize", load_if_exists=True)
        self._check_definition(definition)
        trials = self.trials
        num_asked = sum(trial.state is not State.WAITING for trial in trials)
        self._study.sampler = build_search_algorithm(spec.sampler, num_asked, space)
        self._study.pruner = build_pruner(spec.pruner)
        self._counts: Counter[State] = Counter(trial.state for trial in trials)
        self._superseded = superseded(trials)
        self._best: StudyTrial | None = None  # kept, since whoever watches asks every second
        for trial in trials:
            self._note_best(trial)

    def ask(self) -> AskedTrial:
        """Hyperparameters of the next trial: enqueued ones first, then what the search proposes."""
        trial = self._study.ask()
        params = suggest_params_from_yaml(trial, self.space)
        self._counts[State.WAITING] = max(0, self._counts[State.WAITING] - 1)
        self._counts[State.RUNNING] += 1
        return AskedTrial(trial.number, params)

    def ask_again(self, number: int) -> AskedTrial:
        """A trial that an interrupted command left running, with its hyperparameters; what it lacks is drawn."""
        trial = optuna.trial.Trial(self._study, self._trial_id(number))
        return AskedTrial(number, suggest_params_from_yaml(trial, self.space))

    def attach_run(self, number: int, run_id: str, seed: int) -> None:
        """Record the trial's folder and seed; on disk when this returns, so that the trial can be found again."""
        self.annotate(number, {"run_id": run_id, "seed": seed})
        self._journal.sync()

    def annotate(self, number: int, attrs: Mapping[str, Value]) -> None:
        """Keep facts about a trial that is still running with it."""
        for key, value in attrs.items():
            self._storage.set_trial_user_attr(self._trial_id(number), key, value)

    def constrain(self, number: int, gates: Mapping[str, float]) -> None:
        """Keep how a trial that is still running meets constraints: it does where no value is above 0."""
        trial = optuna.trial.Trial(self._study, self._trial_id(number))
        for name, value in gates.items():
            trial.set_constraint(name, value)

    def report(self, number: int, step: int, value: float) -> None:
        """Record an intermediate value; a second one at the same step replaces the first."""
        self._storage.set_trial_intermediate_value(self._trial_id(number), step, clipped(value))

    def should_prune(self, number: int) -> bool:
        """Whether the pruner finds what the trial has reported hopeless."""
        return bool(self._study.pruner.prune(self._study, self._frozen(number)))

    def tell_complete(self, number: int, value: float) -> None:
        """Finish a trial with its objective."""
        self._finish(number, TrialState.COMPLETE, clipped(value))

    def tell_pruned(self, number: int, value: float | None = None) -> None:
        """Finish a trial that was stopped or diverged; its value is `value`, or the last one reported."""
        if value is not None:
            self.report(number, NUM_REPORT_STEPS, value)
        self._finish(number, TrialState.PRUNED)

    def tell_failed(self, number: int, reason: str, short_of: str | None = None, short_sec: float = 0.0) -> None:
        """Finish a trial that says nothing about its hyperparameters, or for want of a budget of so many seconds."""
        wanted = {} if short_of is None else {"short_of": short_of, "short_sec": short_sec}
        self.annotate(number, {"reason": reason, **wanted})
        self._finish(number, TrialState.FAIL)

    def enqueue(self, params: Mapping[str, Value], origin: str = "enqueued") -> None:
        """Have hyperparameters tried before the search's own, once; what they leave out is sampled."""
        num_before = len(self._study.get_trials(deepcopy=False))
        self._study.enqueue_trial(dict(params), user_attrs={"origin": origin}, skip_if_exists=True)
        self._counts[State.WAITING] += len(self._study.get_trials(deepcopy=False)) - num_before

    def repeat(self, budget: TrialBudget) -> None:
        """Have the trials that failed for want of time run once more, as new ones, if `budget` has more of it."""
        for trial in short_of_time(self.trials, budget):
            attrs = {"origin": trial.origin, "again": trial.number}
            self._study.enqueue_trial(dict(trial.params), user_attrs=attrs)
            self._counts[State.WAITING] += 1
            self._superseded.add(trial.number)

    @property
    def trials(self) -> list[StudyTrial]:
        """Every trial, by number."""
        return [StudyTrial.of(trial) for trial in self._study.get_trials(deepcopy=False)]

    @property
    def running(self) -> list[StudyTrial]:
        """Trials without an end; right after opening, what an interrupted command left."""
        return [trial for trial in self.trials if trial.state is State.RUNNING]

    @property
    def counts(self) -> dict[State, int]:
        """Number of trials by state; those that were repeated with more time are not counted."""
        counts = self._counts.copy()
        counts[State.FAIL] -= len(self._superseded)
        return dict(+counts)

    @property
    def num_asked(self) -> int:
        """Trials that count towards those that are wanted, whatever their end."""
        return self._counts.total() - self._counts[State.WAITING] - len(self._superseded)

    @property
    def num_finished(self) -> int:
        """Trials with an end of their own."""
        return self.num_asked - self._counts[State.RUNNING]

    @property
    def best(self) -> StudyTrial | None:
        """The completed trial with the smallest value, among those that keep all constraints where there are any."""
        return self._best

    def save_pickle_now_and_then(self) -> None:
        """Replace the pickle if it is some seconds old, and pickles have not taken too much of the time so far."""
        if time.monotonic() >= self._next_pickle and self._pickling.is_due:
            with self._pickling:
                self.save_pickle()
            self._next_pickle = time.monotonic() + _SECONDS_BETWEEN_PICKLES

    def save_pickle(self) -> None:
        """Replace the study's pickle: an Optuna study with all trials in memory, on which ask and tell go on."""
        trials = self._study.get_trials(deepcopy=False)
        copy = optuna.create_study(
            study_name=self.name,
            direction="minimize",
            sampler=build_search_algorithm(self._spec.sampler, len(trials), self.space),
            pruner=build_pruner(self._spec.pruner),
        )
        copy.add_trials(trials)
        write_bytes_atomic(self._pickle_path, pickle.dumps(copy))

    def trial(self, number: int) -> StudyTrial:
        """One trial, by its number."""
        return StudyTrial.of(self._frozen(number))

    def _finish(self, number: int, state: TrialState, value: float | None = None) -> None:
        told = StudyTrial.of(self._study.tell(number, value, state=state))
        self._counts[State.RUNNING] -= 1
        self._counts[told.state] += 1
        self._note_best(told)

    def _note_best(self, trial: StudyTrial) -> None:
        if trial.state is not State.COMPLETE or trial.value is None:
            return
        if self._best is None or trial.rank < self._best.rank:
            self._best = trial

    def _trial_id(self, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(self.name)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def _frozen(self, number: int) -> FrozenTrial:
        return self._storage.get_trial(self._trial_id(number))

    def _check_definition(self, definition: Mapping[str, object]) -> None:
        stored = self._study.user_attrs.get("definition")
        if stored is None:
            self._study.set_user_attr("definition", json.loads(canonical_json(definition)))
            return
        refuse_another_definition(self.name, stored, definition)
