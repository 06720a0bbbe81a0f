"""Paths of a run's files, and the lock by which one command holds the run."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from lambda_hat.artifacts.files import (
    make_dir,
    read_json,
    touch,
    write_json_atomic,
    write_text_atomic,
    writing,
)
from lambda_hat.errors import InputError, RunStateError
from lambda_hat.formatting import unescaped

try:
    import fcntl
except ImportError:  # Windows, where a dry run does not tell
    fcntl = None

__all__ = [
    "CONFIRMING",
    "FAILURE_JSON",
    "MANIFEST_JSON",
    "METRICS_JSON",
    "PARTIAL_NPZ",
    "PROBLEM_YAML",
    "PROGRESS_JSONL",
    "REFERENCE_JSON",
    "REFERENCE_NPZ",
    "STOP_FLAG",
    "TARGET_NPZ",
    "TRACES_NPZ",
    "Paths",
    "RunContext",
    "refuse_held",
    "shared_references",
    "within",
]

PROBLEM_YAML = "problem.yaml"
TARGET_NPZ = "target.npz"
REFERENCE_JSON = "ref.json"
REFERENCE_NPZ = "ref.npz"
PARTIAL_NPZ = "ref.partial.npz"  # of a reference that is still sampled, or was interrupted
FAILURE_JSON = "failure.json"  # beside a problem: why there is no reference
MANIFEST_JSON = "manifest.json"
METRICS_JSON = "metrics.json"
PROGRESS_JSONL = "progress.jsonl"
TRACES_NPZ = "traces.npz"
CONFIRMING = "confirm-"  # before a method: the folder of runs that confirm what its trials found
STOP_FLAG = "stop"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class StoreLike(Protocol):
    """The fields of the study file's `store` section that `Paths` needs."""

    @property
    def root(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def layout_version(self) -> str: ...
    @property
    def references(self) -> str | None: ...
    @property
    def run(self) -> str | None: ...


@dataclass(frozen=True)
class Paths:
    """The files and folders of the run in `root`.

    Every method that takes a name raises `InputError` for one that is no plain name. It raises `RunStateError` if a
    symbolic link leads out of the root.
    """

    root: Path
    references: Path | None = None  # of problems that several runs share

    @classmethod
    def from_store(cls, store: StoreLike) -> Self:
        """Paths under `root/namespace/layout_version`, or in the folder `run` where the store names one.

        A relative path is taken from the working directory.
        """
        references = None if store.references is None else _resolved(Path(store.references))
        if store.run is not None:
            return cls(_resolved(Path(store.run)), references)
        root = _resolved(Path(store.root))
        return cls(root / _checked(store.namespace) / _checked(store.layout_version), references)

    def problem_dir(self, pid: str) -> Path:
        """Folder of one problem: its definition, target and reference."""
        if self.references is not None:
            return within(self.references, "the shared references'", _checked(pid))
        return self._inside("problems", _checked(pid))

    @property
    def problems_dir(self) -> Path:
        """Folder of the problems; shared problems of other runs are in it too."""
        return self.references or self._inside("problems")

    @property
    def trials_dir(self) -> Path:
        """Folder that holds the trials of all problems."""
        return self._inside("trials")

    def problem_trials_dir(self, pid: str) -> Path:
        """Folder that holds the trials of one problem, of every method."""
        return self._inside("trials", _checked(pid))

    def study_dir(self, pid: str, method: str) -> Path:
        """Folder that holds the trials of one problem and method."""
        return self._inside("trials", _checked(pid), _checked(method))

    def trial_dir(self, pid: str, method: str, rid: str) -> Path:
        """Folder of one trial: its manifest, progress and metrics."""
        return self._inside("trials", _checked(pid), _checked(method), _checked(rid))

    def study_pickle(self, pid: str, method: str) -> Path:
        """Pickle of the study of one problem and method, for `pickle.load`."""
        return self._inside("studies", f"{_checked(pid)}:{_checked(method)}.pkl")

    @property
    def journal(self) -> Path:
        """Optuna's append-only journal of every study of the run."""
        return self._inside("studies", "optuna.journal")

    @property
    def trials_table(self) -> Path:
        """Table with one row per trial of every study."""
        return self._inside("tables", "optuna_trials.parquet")

    @property
    def runs_table(self) -> Path:
        """Table with one row per run of fixed settings."""
        return self._inside("tables", "llc_runs.parquet")

    @property
    def confirmed_table(self) -> Path:
        """Table with one row per setting that ran again under new seeds."""
        return self._inside("tables", "confirmed.parquet")

    @property
    def report(self) -> Path:
        """Report of the run, one HTML page."""
        return self._inside("report.html")

    @property
    def diagnostics(self) -> Path:
        """Folder of what `diagnose` draws."""
        return self._inside("diagnostics")

    @property
    def diagnostics_index(self) -> Path:
        """Page of what `diagnose` has drawn."""
        return self._inside("diagnostics", "index.html")

    def diagnostics_dir(self, name: str) -> Path:
        """Folder for figures and InferenceData of one reference or trial."""
        return self._inside("diagnostics", _checked(name))

    @property
    def across_table(self) -> Path:
        """Table with one row for each pair of a winner's problem and another problem."""
        return self._inside("tables", "across_problems.parquet")

    @property
    def recommended_dir(self) -> Path:
        """Folder with one experiments file per method, which holds its confirmed settings."""
        return self._inside("recommended")

    def recommended(self, method: str) -> Path:
        """Experiments file with the confirmed settings of one method."""
        return self._inside("recommended", f"{_checked(method)}.yaml")

    @property
    def confirmations(self) -> Path:
        """Record of which runs confirm which study."""
        return self._inside("meta", "confirmations.json")

    @property
    def resolved_config(self) -> Path:
        """Configuration of the last command, with all defaults."""
        return self._inside("meta", "resolved_config.yaml")

    @property
    def card(self) -> Path:
        """Card of the last command, with all defaults and overrides."""
        return self._inside("meta", "card.yaml")

    @property
    def begun(self) -> Path:
        """Record of what the last command began: problems, methods or samplers, and number of trials."""
        return self._inside("meta", "begun.json")

    @property
    def built(self) -> Path:
        """Record of what the networks of one's own were when the last command built them."""
        return self._inside("meta", "built.json")

    @property
    def events(self) -> Path:
        """Log of the scheduler, one line per event."""
        return self._inside("meta", "events.jsonl")

    @property
    def lock(self) -> Path:
        """Lock file of the one command that may write to the run."""
        return self._inside("meta", "lock")

    @property
    def parsl_dir(self) -> Path:
        """Folder of Parsl's own files and of the card that was used."""
        return self._inside("parsl_runinfo")

    @property
    def cache_dir(self) -> Path:
        """Folder of XLA's compiled programs."""
        return self._inside("cache", "jax")

    def make_folders(self) -> None:
        """Make the folders that every run has, after checking that none leads out of the run."""
        folders = [self._inside(name) for name in ("problems", "trials", "studies", "tables", "meta")]
        for folder in (*folders, self.parsl_dir, self.cache_dir):
            make_dir(folder)

    def _inside(self, *parts: str) -> Path:
        return within(self.root, "the run's", *parts)


class RunContext:
    """One command's hold on a run: its folders, its lock and its resolved configuration.

    Entering makes the folders and takes the lock. It raises `RunStateError` with the name of the command that holds the
    lock, if one does. The lock ends with its process, however the process ends.
    """

    def __init__(self, paths: Paths) -> None:
        from filelock import FileLock  # here, since its import is slow and `--dry-run` needs `Paths` alone

        self.paths = paths
        self._lock = FileLock(paths.lock, timeout=0)
        self._holder = paths.lock.with_name("lock.json")  # FileLock empties its own file on every attempt

    def __enter__(self) -> Self:
        self.paths.make_folders()
        touch(self.paths.lock)  # which refuses a link; the lock itself would empty the file it leads to
        with writing(self.paths.lock):
            try:
                self._lock.acquire()
            except TimeoutError:
                raise RunStateError(_held_message(self.paths)) from None
        since = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            write_json_atomic(self._holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # on a disk that has become read-only; the lock alone decides
            self._holder.unlink(missing_ok=True)
        self._lock.release()

    def save_config(self, text: str) -> None:
        """Replace `meta/resolved_config.yaml` by this text."""
        write_text_atomic(self.paths.resolved_config, text)


def refuse_held(paths: Paths) -> None:
    """Do nothing, unless a command holds the run. The lock is looked at without being touched.

    Raises:
        RunStateError: that says which command.
    """
    if fcntl is None or not paths.lock.is_file():
        return
    with paths.lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunStateError(_held_message(paths)) from None


def _held_message(paths: Paths) -> str:
    holder = read_json(paths.lock.with_name("lock.json"))
    who = (
        f"lambda-hat with process id {holder['pid']} on {holder['host']} (since {holder['since']})"
        if holder and holder.keys() >= {"pid", "host", "since"}
        else "another lambda-hat"
    )
    return (
        f"{paths.root} is in use by {who}. "
        "Wait for it to end, end it, or choose another `store.namespace` for this run."
    )


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a part of a run: letters, digits, `_` and `-` can, starting with a letter or digit."
        )
    return name


def within(folder: Path, whose: str, *parts: str) -> Path:
    """The path `folder/part/…`; raises `RunStateError` if a symbolic link on the way leads out of `folder`."""
    resolved, path = _resolved(folder), folder
    for part in parts:
        path /= part
        if not _resolved(path).is_relative_to(resolved):
            raise RunStateError(
                f"{path} is a symbolic link that leads out of {whose} folder {folder}. Remove the link."
            )
    return path


def shared_references(config: Mapping[str, Any] | None) -> Path | None:
    """Folder of problems that the run of a resolved configuration shares with other runs; None if it has its own."""
    folder = ((config or {}).get("store") or {}).get("references")
    return None if folder is None else _resolved(Path(unescaped(folder)))


def _resolved(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, an unknown `~name`, a zero byte
        raise RunStateError(f"{path} cannot be followed: {error}.") from error
