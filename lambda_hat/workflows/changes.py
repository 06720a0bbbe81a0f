"""What an earlier command of the same run worked on, and what of it is another thing now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lambda_hat.artifacts.files import read_json, write_json_atomic
from lambda_hat.artifacts.paths import METRICS_JSON, PROBLEM_YAML, Paths
from lambda_hat.errors import RunStateError

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
]


def save_begun_studies(paths: Paths, pids: list[str], methods: list[str], num_trials: int) -> None:
    """Keep what this command works on for those that come after it."""
    write_json_atomic(paths.begun, {"pids": pids, "methods": methods, "num_trials": num_trials})


def save_begun_runs(paths: Paths, pids: list[str], samplers: list[str], run_ids: list[str]) -> None:
    """The same of runs of fixed settings, of which each sampler has one on each problem."""
    write_json_atomic(paths.begun, {"pids": pids, "methods": samplers, "num_trials": 1, "run_ids": run_ids})


def save_confirmations(paths: Paths, spec: Mapping[str, Any], folders: Mapping[str, list[Path]]) -> None:
    """Keep which runs, by lane and in folders of the run, confirm what is through; `spec` says how many were wanted."""
    lanes = {name: list(map(str, of_lane)) for name, of_lane in folders.items()}
    before = read_json(paths.confirmations) or {}
    kept = before.get("lanes", {}) if before.get("spec") == spec else {}
    write_json_atomic(paths.confirmations, {"spec": dict(spec), "lanes": {**kept, **lanes}})


def num_unconfirmed(paths: Paths, spec: Mapping[str, Any], lane: str) -> int | None:
    """Runs of this lane of confirmations that have not ended; None where it was not begun, or with another `spec`."""
    begun = read_json(paths.confirmations) or {}
    folders = begun.get("lanes", {}).get(lane) if begun.get("spec") == spec else None
    if folders is None:
        return None
    return sum(read_json(paths.root / folder / METRICS_JSON) is None for folder in folders)


def begun_runs(paths: Paths) -> set[str]:
    """Ids of the runs that the last command worked on."""
    return set((read_json(paths.begun) or {}).get("run_ids", ()))


def begun_studies(paths: Paths) -> dict[str, list[str]]:
    """By problem, the methods or samplers that the last command had begun and that had not all their trials."""
    begun = read_json(paths.begun) or {}
    unfinished: dict[str, list[str]] = {}
    for pid in begun.get("pids", ()):
        for method in begun["methods"]:
            if num_finished(paths, pid, method) < begun["num_trials"]:
                unfinished.setdefault(pid, []).append(method)
    return unfinished


def num_finished(paths: Paths, pid: str, method: str) -> int:
    """Trials that have ended, from the files alone."""
    metrics = paths.study_dir(pid, method).glob(f"*/{METRICS_JSON}")
    return sum(read_json(path) is not None for path in metrics)


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
    known = set((read_json(paths.begun) or {}).get("pids", ()))
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


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = sorted(before.keys() | now.keys())
    return [
        f"`{key}` ({before.get(key, 'none')}, now {now.get(key, 'none')})"
        for key in keys
        if before.get(key) != now.get(key)
    ]


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
