"""Removes files that nothing refers to. It never touches a run that another command holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lambda_hat.artifacts.files import read_bytes
from lambda_hat.artifacts.inventory import ID, RunFolder, measure
from lambda_hat.artifacts.paths import RunContext
from lambda_hat.errors import RunStateError

__all__ = ["Garbage", "Skipped", "collect"]

_DAYS_OF_TEMPORARY_FILES = 1.0  # of a writer that was killed; a living one needs them for less than a second


@dataclass(frozen=True)
class Garbage:
    """A file or folder that can be removed, or was: its path, the reason, and its size in bytes."""

    path: Path
    reason: str
    num_bytes: int


@dataclass(frozen=True)
class Skipped:
    """A run that was left alone, and the reason."""

    run: str
    reason: str


def collect(
    run: RunFolder,
    *,
    older_than: float | None,
    with_whole_runs: bool,
    is_finished: bool,
    borrowers: tuple[str, ...] = (),
    is_dry: bool,
) -> Iterator[Garbage | Skipped]:
    """Remove what is older than `older_than` days and not needed; with `is_dry`, only name it.

    `older_than` defaults to the run's own `ttl_days`. Removed are: trials and problems that neither the run's journal
    nor one of its tables mentions; logs of executors; compiled programs; temporary files of killed writers. With
    `with_whole_runs`, a finished run of that age goes as a whole. If other runs take references from it (`borrowers`),
    it stays with all its problems. The run's lock is held meanwhile, so that no study can begin to need what is being
    removed.
    """
    can_go_whole = with_whole_runs and is_finished
    days = run.ttl_days if older_than is None else older_than
    if days is None:
        yield Skipped(run.name, "its configuration does not say `store.ttl_days`: give `--older-than DAYS`")
        return
    if run.holder is not None:
        yield Skipped(run.name, f"in use by {run.holder}")
        return
    try:
        if is_dry:
            yield from _garbage(run, days, can_go_whole, borrowers)
            return
        with RunContext(run.paths):
            for item in list(_garbage(run, days, can_go_whole, borrowers)):
                if isinstance(item, Garbage):
                    _remove(item.path)
                yield item
    except RunStateError as error:  # another command came first
        yield Skipped(run.name, str(error))


def _garbage(
    run: RunFolder, days: float, can_go_whole: bool, borrowers: tuple[str, ...]
) -> Iterator[Garbage | Skipped]:
    whole = measure(run.folder)
    if can_go_whole and whole.age_days >= days:
        if not borrowers:
            yield Garbage(run.folder, f"a finished run, unchanged for {whole.age_days:.0f} days", whole.num_bytes)
            return
        yield Skipped(run.name, f"but for what nobody needs: its references serve {', '.join(borrowers)}")
    mentioned = _mentioned(run)
    for folder in (*run.trial_dirs(), *(() if borrowers else run.problem_dirs())):
        kind = "trial" if folder.name.startswith("r_") else "problem"
        if folder.name not in mentioned and not (kind == "problem" and _has_trials(run, folder.name)):
            yield from _if_old(folder, days, f"no study or table mentions this {kind}")
    for folder in _logs(run):
        yield from _if_old(folder, days, "logs of executors that have ended")
    if (cache := run.folder / "cache").is_dir():
        yield from _if_old(cache, days, "compiled programs, made again where needed")
    for path in _files_below(run.folder):
        if path.name.startswith(".") and path.name.endswith(".tmp"):
            yield from _if_old(path, _DAYS_OF_TEMPORARY_FILES, "left by a writer that was killed")


def _if_old(path: Path, days: float, reason: str) -> Iterator[Garbage]:
    size = measure(path)
    if size.age_days >= days:
        yield Garbage(path, reason, size.num_bytes)


def _mentioned(run: RunFolder) -> set[str]:
    """Every id in the run's journal, in the record of the last command, and in a column of its tables."""
    ids: set[str] = set()
    for path in (run.paths.journal, run.paths.begun, run.paths.confirmations):
        ids |= set(ID.findall((read_bytes(path) or b"").decode(errors="replace")))
    for path in run.folder.glob("tables/*.parquet"):
        ids |= _ids_of_table(path)
    for path in run.folder.glob("recommended/*.yaml"):
        ids |= set(ID.findall((read_bytes(path) or b"").decode(errors="replace")))
    return ids


def _ids_of_table(path: Path) -> set[str]:
    import pyarrow as pa  # whose import is slow
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise RunStateError(f"{path} cannot be read: {error}. What it refers to is not known.") from error
    columns = [table.column(name) for name in table.column_names if pa.types.is_string(table.schema.field(name).type)]
    columns += [
        table.column(name) for name in table.column_names if pa.types.is_large_string(table.schema.field(name).type)
    ]
    return {found for column in columns for value in column.to_pylist() if value for found in ID.findall(value)}


def _has_trials(run: RunFolder, pid: str) -> bool:
    folder = run.folder / "trials" / pid
    return folder.is_dir() and any(path.is_dir() for path in folder.glob("*/r_*"))


def _logs(run: RunFolder) -> list[Path]:
    """Numbered folders in which Parsl logs, one per start of an executor."""
    return sorted(path for path in run.folder.glob("*/*/[0-9][0-9][0-9]") if path.is_dir() and not path.is_symlink())


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise RunStateError(f"{path} cannot be removed: {error.strerror or error}.") from error
