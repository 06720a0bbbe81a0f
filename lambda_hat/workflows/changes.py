"""What an earlier command of the same run worked on, and what of it is another thing now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lambda_hat.artifacts.paths import METRICS_JSON, PROBLEM_YAML, Paths
from lambda_hat.config.study import Confirm
from lambda_hat.errors import RunStateError
from lambda_hat.records.begun import Begun, Confirmations
from lambda_hat.records.manifest import TrialBudget
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.state import ENDS, State
from lambda_hat.scheduling.folders import lacks_time, metrics_in
from lambda_hat.tuning.stored import StoredStudy, read_journal, short_of_time, superseded

__all__ = [
    "begun_runs",
    "begun_studies",
    "num_finished",
    "num_unconfirmed",
    "refuse_changed_problems",
    "refuse_other_workflow",
    "save_begun_runs",
    "save_begun_studies",
    "save_confirmations",
    "without_metrics",
]


def save_begun_studies(paths: Paths, pids: Sequence[str], num_trials: Mapping[str, int]) -> None:
    """Keep what this command works on, and by method how many trials it wants, for those that come after it."""
    Begun(pids=tuple(pids), methods=tuple(num_trials), num_trials=dict(num_trials)).write(paths.begun)


def save_begun_runs(paths: Paths, pids: Sequence[str], samplers: Sequence[str], run_ids: Sequence[str]) -> None:
    """Keep which runs of fixed settings this command works on; each sampler has one on each problem."""
    once = dict.fromkeys(samplers, 1)
    Begun(pids=tuple(pids), methods=tuple(samplers), num_trials=once, run_ids=tuple(run_ids)).write(paths.begun)


def save_confirmations(paths: Paths, spec: Confirm, folders: Mapping[str, Sequence[Path]]) -> None:
    """Keep which runs, by lane and in folders of the run, confirm what is through; `spec` says how many were wanted."""
    lanes = {name: tuple(map(str, of_lane)) for name, of_lane in folders.items()}
    Confirmations(spec=spec, lanes={**_confirming(paths, spec), **lanes}).write(paths.confirmations)


def num_unconfirmed(paths: Paths, spec: Confirm, lane: str) -> int | None:
    """Runs of this lane of confirmations that have not ended; None where it was not begun, or with another `spec`."""
    folders = _confirming(paths, spec).get(lane)
    if folders is None:
        return None
    return sum(Metrics.read(paths.root / folder / METRICS_JSON) is None for folder in folders)


def _confirming(paths: Paths, spec: Confirm) -> Mapping[str, tuple[str, ...]]:
    """Folders by lane of the confirmations that were begun with this `spec`."""
    begun = Confirmations.read(paths.confirmations)
    return begun.lanes if begun is not None and begun.spec == spec else {}


def begun_runs(paths: Paths) -> set[str]:
    """Ids of the runs that the last command worked on."""
    return set(_begun(paths).run_ids)


def begun_studies(paths: Paths) -> dict[str, list[str]]:
    """By problem, the methods or samplers that the last command had begun and that had not all their trials."""
    begun, journal = _begun(paths), read_journal(paths.journal)
    unfinished: dict[str, list[str]] = {}
    for pid in begun.pids:
        for method in begun.methods:
            if num_finished(paths, pid, method, journal) < begun.wanted(method):
                unfinished.setdefault(pid, []).append(method)
    return unfinished


def num_finished(
    paths: Paths, pid: str, method: str, journal: Mapping[str, StoredStudy], budget: TrialBudget | None = None
) -> int:
    """Trials that have ended and count, by the journal and, where it has no end, by the files.

    One that failed for want of time does not count where `budget` has more of it, nor where another repeats it.
    """
    folder = paths.study_dir(pid, method)
    if (study := journal.get(f"{pid}:{method}")) is None:
        return sum(_has_ended(path.parent, budget) for path in folder.glob(f"*/{METRICS_JSON}"))
    left_out = superseded(study.trials)
    if budget is not None:
        left_out |= {trial.number for trial in short_of_time(study.trials, budget)}
    return sum(
        trial.number not in left_out
        and trial.state is not State.WAITING
        and (
            trial.state is not State.RUNNING or (trial.run_id is not None and _has_ended(folder / trial.run_id, budget))
        )
        for trial in study.trials
    )


def _has_ended(folder: Path, budget: TrialBudget | None) -> bool:
    metrics = metrics_in(folder)
    if metrics is None:
        return False
    return budget is None or metrics.state is not State.FAIL or not lacks_time(folder, metrics, budget)


def without_metrics(paths: Paths, journal: Mapping[str, StoredStudy], name: str) -> list[str]:
    """Ids of the trials of a study that have an end in the journal, but no file that says what they found."""
    pid, _, method = name.partition(":")
    trials = journal[name].trials if name in journal else []
    found = [trial.run_id for trial in trials if trial.state in ENDS and trial.run_id is not None]
    return [run_id for run_id in found if metrics_in(paths.trial_dir(pid, method, run_id)) is None]


def refuse_other_workflow(paths: Paths, *, is_search: bool) -> None:
    """Keep trials of a search and runs of fixed settings apart: both lie in `trials/<pid>/<name>`.

    Raises:
        RunStateError: the folder is the other workflow's.
    """
    other = "workflow llc" if is_search else "workflow optuna"
    if paths.journal.exists() if not is_search else bool(begun_runs(paths)):
        raise RunStateError(f"{paths.root} belongs to `lambda-hat {other}`. Choose another `store.namespace`.")


def refuse_changed_problems(paths: Paths, problems: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to leave an unfinished problem for a new one that differs from it in a few values.

    `problems` are those of this command, resolved, by id. Adding problems, and leaving some out, is allowed.

    Raises:
        RunStateError: naming the values.
    """
    known = set(_begun(paths).pids)
    new = {pid: _flat(problem) for pid, problem in problems.items() if pid not in known}
    lost = {pid: _stored(paths, pid) for pid in begun_studies(paths) if pid not in problems}
    messages = []
    for pid, before in lost.items():
        changes = min((_changes(before, now) for now in new.values()), key=len, default=[])
        if before and changes:
            messages.append(f"The problem {pid} was begun with another " + ", ".join(changes) + ".")
    if messages:
        messages.append(f"It is not finished in {paths.root}. Restore it, or choose another `store.namespace`.")
        raise RunStateError("\n".join(messages))


def _begun(paths: Paths) -> Begun:
    return Begun.read(paths.begun) or Begun()


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Values that differ, in words. `content` stands for what a function of the user gave; `sketch` goes with it."""
    keys = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if "content" in keys:
        keys.remove("content")
        network = "network (what its function or a file that it reads gives has changed)"
        return [network, *(_change(key, before, now) for key in keys if key != "sketch")]
    return [_change(key, before, now) for key in keys]


def _change(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"`{key}` ({before.get(key, 'none')}, now {now.get(key, 'none')})"


def _stored(paths: Paths, pid: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load((paths.problem_dir(pid) / PROBLEM_YAML).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return _flat(content) if isinstance(content, dict) else {}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted keys."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(item) if isinstance(item, tuple) else item
    return flat
