"""Reads what lies under a store's root: runs, and in each its problems, studies and trials."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambda_hat.artifacts.files import read_json, read_yaml
from lambda_hat.artifacts.paths import (
    CONFIRMING,
    MANIFEST_JSON,
    METRICS_JSON,
    PROBLEM_YAML,
    REFERENCE_JSON,
    Paths,
    shared_references,
)
from lambda_hat.errors import InputError, RunStateError

__all__ = [
    "Found",
    "ProblemFigures",
    "RunFigures",
    "RunFolder",
    "StudyFigures",
    "borrowers",
    "find",
    "holder_of",
    "measure",
    "runs_under",
]

ID = re.compile(r"[pr]_[0-9a-f]{12}")
_SECONDS_PER_DAY = 86_400.0
_OF_THE_LOCK = ("lock", "lock.json")  # which whoever looks for what is old writes himself


@dataclass(frozen=True)
class Measure:
    """Bytes on disk of everything in a folder, and the time of its last change (seconds since 1970)."""

    num_bytes: int
    changed: float

    @property
    def age_days(self) -> float:
        """Days since the last change."""
        return max(0.0, time.time() - self.changed) / _SECONDS_PER_DAY


def measure(folder: Path) -> Measure:
    """Size and age of a file or folder. Links are not followed; a file that vanishes meanwhile does not count."""
    num_bytes, changed = 0, 0.0
    for path in (folder, *_below(folder)):
        try:
            status = path.lstat()
        except OSError:
            continue
        if (not path.is_dir() or path.is_symlink()) and path.name not in _OF_THE_LOCK:
            num_bytes += status.st_size
            changed = max(changed, status.st_mtime)
    return Measure(num_bytes, changed or _mtime(folder))


def _below(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in names)


def _mtime(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """A run in figures."""

    run: str
    path: str
    num_problems: int
    num_trials: int
    num_ended: int
    bytes: int
    age_days: float
    ttl_days: float | None
    in_use_by: str | None


@dataclass(frozen=True, kw_only=True)
class ProblemFigures:
    """A problem in figures; those of its reference are None where there is none."""

    pid: str
    run: str
    path: str
    llc: float | None
    se: float | None
    is_certified: bool | None
    dim: int | None
    bytes: int
    age_days: float


@dataclass(frozen=True, kw_only=True)
class StudyFigures:
    """The trials of one problem and method, or of one target and sampler, in figures."""

    study: str
    run: str
    path: str
    num_trials: int
    num_ended: int
    bytes: int
    age_days: float


def holder_of(paths: Paths) -> str | None:
    """The command that holds the run at `paths`, in words; None if no command is known to."""
    holder = read_json(paths.lock.with_name("lock.json")) or {}
    pid, host = holder.get("pid"), holder.get("host")
    if not isinstance(pid, int) or (host == socket.gethostname() and not _is_alive(pid)):
        return None
    return f"process {pid} on {host}"


class RunFolder:
    """One run, in the folder `root/namespace/layout_version`."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.name = folder.relative_to(root).as_posix()
        self.paths = Paths(folder)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.paths.root

    @property
    def ttl_days(self) -> float | None:
        """`store.ttl_days` of the run's last command; None if that cannot be read."""
        try:
            return float((read_yaml(self.paths.resolved_config) or {})["store"]["ttl_days"])
        except (RunStateError, ValueError, TypeError, KeyError):
            return None

    @property
    def references(self) -> Path | None:
        """`store.references` of the run's last command: a folder of problems that several runs share."""
        return shared_references(read_yaml(self.paths.resolved_config))

    @property
    def holder(self) -> str | None:
        """The command that holds the run, in words; None if no command is known to."""
        return holder_of(self.paths)

    def problem_dirs(self) -> list[Path]:
        """Folders of the run's own problems, sorted by id."""
        return sorted(path for path in self.paths.root.glob("problems/p_*") if ID.fullmatch(path.name))

    def study_dirs(self) -> list[Path]:
        """Folders of trials: one per (problem, method), or per (target, sampler)."""
        return sorted(path for path in self.paths.root.glob("trials/p_*/*") if path.is_dir())

    def trial_dirs(self) -> list[Path]:
        """Folders of all trials of the run."""
        return sorted(path for path in self.paths.root.glob("trials/p_*/*/r_*") if ID.fullmatch(path.name))

    def figures(self) -> RunFigures:
        """The run in figures."""
        size = measure(self.folder)
        trials = [path for path in self.trial_dirs() if not path.parent.name.startswith(CONFIRMING)]
        return RunFigures(
            run=self.name,
            path=str(self.folder),
            num_problems=len(self.problem_dirs()),
            num_trials=len(trials),
            num_ended=_num_ended(trials),
            bytes=size.num_bytes,
            age_days=size.age_days,
            ttl_days=self.ttl_days,
            in_use_by=self.holder,
        )

    def problems(self) -> Iterator[ProblemFigures]:
        """Its problems in figures."""
        for folder in self.problem_dirs():
            size, reference = measure(folder), read_json(folder / REFERENCE_JSON) or {}
            yield ProblemFigures(
                pid=folder.name,
                run=self.name,
                path=str(folder),
                llc=reference.get("llc"),
                se=reference.get("se"),
                is_certified=reference.get("is_certified"),
                dim=reference.get("dim"),
                bytes=size.num_bytes,
                age_days=size.age_days,
            )

    def studies(self) -> Iterator[StudyFigures]:
        """Its studies in figures; what confirms one is none."""
        for folder in self.study_dirs():
            if folder.name.startswith(CONFIRMING):
                continue
            size = measure(folder)
            trials = [path for path in folder.glob("r_*") if ID.fullmatch(path.name)]
            yield StudyFigures(
                study=f"{folder.parent.name}:{folder.name}",
                run=self.name,
                path=str(folder),
                num_trials=len(trials),
                num_ended=_num_ended(trials),
                bytes=size.num_bytes,
                age_days=size.age_days,
            )


def _num_ended(trials: Iterable[Path]) -> int:
    return sum((trial / METRICS_JSON).is_file() for trial in trials)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def runs_under(root: Path) -> list[RunFolder]:
    """Every run under a store's root.

    Raises:
        InputError: there is no such folder.
    """
    root = root.resolve()
    if not root.is_dir():
        raise InputError(f"There is no folder {root}. `--root` is the `store.root` of a study.")
    return [RunFolder(root, meta.parent) for meta in sorted(root.glob("*/*/meta")) if meta.is_dir()]


def borrowers(lender: RunFolder, runs: Iterable[RunFolder]) -> tuple[str, ...]:
    """Names of the runs that take references from the lender's folder."""
    folder = lender.folder.resolve()
    return tuple(run.name for run in runs if run.references is not None and run.references.is_relative_to(folder))


@dataclass(frozen=True)
class Found:
    """One artifact that an id names."""

    id: str
    kind: str  # problem, study or trial
    run: str
    path: Path
    root: Path  # the run's folder

    def to_dict(self) -> dict[str, Any]:
        """Definition, result and files of the artifact, as plain data."""
        facts: dict[str, Any] = {"id": self.id, "kind": self.kind, "run": self.run, "path": str(self.path)}
        if self.kind == "problem":
            facts["problem"] = read_yaml(self.path / PROBLEM_YAML)
            facts["reference"] = read_json(self.path / REFERENCE_JSON)
        elif self.kind == "trial":
            facts["manifest"] = read_json(self.path / MANIFEST_JSON)
            facts["metrics"] = read_json(self.path / METRICS_JSON)
        else:
            trials = {path.name: read_json(path / METRICS_JSON) or {} for path in sorted(self.path.glob("r_*"))}
            facts["trials"] = {
                rid: {name: metrics.get(name) for name in ("state", "llc_hat", "se_hat")}
                for rid, metrics in trials.items()
            }
        size = measure(self.path)
        return {**facts, "bytes": size.num_bytes, "age_days": size.age_days, "files": sorted(_names(self.path))}


def _names(folder: Path) -> Iterator[str]:
    return (path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())


def find(root: Path, name: str) -> list[Found]:
    """Every artifact whose id is `name` or begins with it: `p_…`, `r_…`, `p_…:method`. Whole ids win over prefixes."""
    found: list[Found] = []
    for run in runs_under(root):
        found += [Found(path.name, "problem", run.name, path, run.folder) for path in run.problem_dirs()]
        found += [
            Found(f"{path.parent.name}:{path.name}", "study", run.name, path, run.folder) for path in run.study_dirs()
        ]
        found += [Found(path.name, "trial", run.name, path, run.folder) for path in run.trial_dirs()]
    exact = [item for item in found if item.id == name]
    if exact or not name:
        return exact
    wants_study = ":" in name
    return [item for item in found if item.id.startswith(name) and (item.kind == "study") == wants_study]
