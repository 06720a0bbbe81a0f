"""What an Optuna journal says of trials, read without Optuna: a dry run has to know it, and must not take a second."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lambda_hat.artifacts.files import read_bytes
from lambda_hat.records.manifest import TrialBudget
from lambda_hat.records.state import State

__all__ = ["Told", "read_journal", "short_of_time", "superseded"]

# Optuna's `JournalOperation` and `TrialState`, which are the format of its files.
_CREATE_STUDY, _CREATE_TRIAL, _SET_STATE, _SET_ATTR = 0, 4, 6, 8
_STATES = (State.RUNNING, State.COMPLETE, State.PRUNED, State.FAIL, State.WAITING)


class _Trial(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def state(self) -> State: ...
    @property
    def again(self) -> int | None: ...
    @property
    def short_of(self) -> str | None: ...
    @property
    def short_sec(self) -> float | None: ...


T = TypeVar("T", bound=_Trial)


@dataclass
class Told:
    """One trial of a study."""

    number: int
    state: State
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str | None:
        """Name of its folder; None for a trial that never got one."""
        return self.attrs.get("run_id")

    @property
    def again(self) -> int | None:
        """Number of the trial that it repeats with more time."""
        return self.attrs.get("again")

    @property
    def short_of(self) -> str | None:
        """The budget for want of which it failed."""
        return self.attrs.get("short_of")

    @property
    def short_sec(self) -> float | None:
        """What that budget was, in seconds."""
        return self.attrs.get("short_sec")


def superseded(trials: Iterable[_Trial]) -> set[int]:
    """Numbers of trials that others repeat with more time."""
    return {trial.again for trial in trials if trial.again is not None}


def short_of_time(trials: Sequence[T], budget: TrialBudget) -> list[T]:
    """Trials that failed for want of time of which `budget` has more, and that no other one repeats."""
    repeated = superseded(trials)
    return [
        trial
        for trial in trials
        if trial.state is State.FAIL
        and trial.number not in repeated
        and trial.short_of is not None
        and getattr(budget, trial.short_of, 0.0) > (trial.short_sec or 0.0)
    ]


def read_journal(path: Path) -> dict[str, list[Told]]:
    """The trials of every study, by its name; nothing where there is no journal. Damaged lines are passed over."""
    studies: list[list[Told]] = []
    names: dict[str, list[Told]] = {}
    trials: list[Told] = []
    content = read_bytes(path) or b""
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        try:
            record = json.loads(line)
            _apply(record, studies, names, trials)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            continue
    return names


def _apply(
    record: Mapping[str, Any], studies: list[list[Told]], names: dict[str, list[Told]], trials: list[Told]
) -> None:
    match record["op_code"]:
        case op if op == _CREATE_STUDY:
            if record["study_name"] not in names:
                studies.append(names.setdefault(record["study_name"], []))
        case op if op == _CREATE_TRIAL:
            study = studies[record["study_id"]]
            state = _STATES[record.get("state", 0)]
            study.append(Told(len(study), state, dict(record.get("user_attrs") or {})))
            trials.append(study[-1])
        case op if op == _SET_STATE:
            trials[record["trial_id"]].state = _STATES[record["state"]]
        case op if op == _SET_ATTR:
            trials[record["trial_id"]].attrs |= record["user_attr"]
        case _:
            pass
