"""What the journal of a run's studies says, read without Optuna and without a change to it.

A dry run has to know it, and must not take the second that importing Optuna does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lambda_hat.artifacts.files import read_bytes
from lambda_hat.artifacts.ids import canonical_json
from lambda_hat.errors import RunStateError
from lambda_hat.records.manifest import TrialBudget
from lambda_hat.records.state import State

__all__ = [
    "StoredStudy",
    "StoredTrial",
    "parse_records",
    "read_journal",
    "refuse_another_definition",
    "short_of_time",
    "superseded",
]

# Optuna's `JournalOperation` and `TrialState`, which are the format of its files.
_CREATE_STUDY, _SET_STUDY_ATTR, _CREATE_TRIAL, _SET_STATE, _SET_TRIAL_ATTR = 0, 2, 4, 6, 8
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
class StoredTrial:
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


@dataclass
class StoredStudy:
    """One study: its trials by number, and what it was begun with (None until it has said so)."""

    trials: list[StoredTrial] = field(default_factory=list)
    definition: Mapping[str, object] | None = None


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


def parse_records(content: bytes, path: Path) -> list[dict[str, Any]]:
    """The records in whole lines of the journal at `path`.

    Raises:
        RunStateError: a line is no record of Optuna's.
    """
    try:
        records = [json.loads(line) for line in content.splitlines()]
        if not all(isinstance(record, dict) and {"op_code", "worker_id"} <= record.keys() for record in records):
            raise ValueError("a line is no record of Optuna's")
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    return records


def read_journal(path: Path) -> dict[str, StoredStudy]:
    """Every study by its name; none where there is no journal. A last line that is not whole is left out.

    Raises:
        RunStateError: the journal is damaged.
    """
    content = read_bytes(path) or b""
    studies: dict[str, StoredStudy] = {}
    trials: list[StoredTrial] = []
    for record in parse_records(content[: content.rfind(b"\n") + 1], path):
        try:
            _apply(record, studies, trials)
        except (KeyError, IndexError, TypeError) as error:
            raise _damaged(path, f"{type(error).__name__}: {error}") from error
    return studies


def _apply(record: Mapping[str, Any], studies: dict[str, StoredStudy], trials: list[StoredTrial]) -> None:
    in_order = list(studies.values())
    match record["op_code"]:
        case op if op == _CREATE_STUDY:
            studies.setdefault(record["study_name"], StoredStudy())
        case op if op == _SET_STUDY_ATTR and "definition" in record["user_attr"]:
            in_order[record["study_id"]].definition = record["user_attr"]["definition"]
        case op if op == _CREATE_TRIAL:
            known = in_order[record["study_id"]].trials
            state = _STATES[record.get("state", 0)]
            known.append(StoredTrial(len(known), state, dict(record.get("user_attrs") or {})))
            trials.append(known[-1])
        case op if op == _SET_STATE:
            trials[record["trial_id"]].state = _STATES[record["state"]]
        case op if op == _SET_TRIAL_ATTR:
            trials[record["trial_id"]].attrs |= record["user_attr"]
        case _:
            pass


def _damaged(path: Path, why: object) -> RunStateError:
    return RunStateError(f"{path} is damaged ({why}). Move it away to begin the studies of this run anew.")


def refuse_another_definition(name: str, stored: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Refuse to go on with the study `name` under another definition than its own.

    Raises:
        RunStateError: naming what differs.
    """
    keys = sorted(stored.keys() | wanted.keys())
    changed = [key for key in keys if canonical_json(stored.get(key)) != canonical_json(wanted.get(key))]
    if changed:
        raise RunStateError(
            f"The study {name} was begun with another {', '.join(f'`{key}`' for key in changed)}. "
            "Restore it, or choose another `store.namespace`."
        )
