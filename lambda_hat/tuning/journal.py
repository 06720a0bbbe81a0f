"""Optuna's journal of every study of a run, as a file with one writer."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from lambda_hat.artifacts.files import open_to_append, sync_dir, write_all, writing
from lambda_hat.errors import RunStateError, StorageError

__all__ = ["ControllerJournal", "StoredJournal"]


class ControllerJournal(BaseJournalBackend):
    """A journal that only this process writes, in the format of Optuna's own file backend.

    The run's lock already keeps other writers out, so records need no lock of their own, nothing is read back, and
    `sync` says when they must be on disk: Optuna's backend locks and syncs for each of about ten records of a trial.
    After a write that failed, the file ends with its last whole record, and takes no other from this process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.fdopen(open_to_append(path), "a+b", buffering=0)
        self._failure = ""  # why nothing more is written
        try:
            self._unread: list[dict[str, Any]] = self._read()
        except BaseException:
            self._file.close()
            raise
        self._num_read = 0

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Records from number `log_number_from` on; earlier ones are forgotten."""
        del self._unread[: log_number_from - self._num_read]
        self._num_read = log_number_from
        return list(self._unread)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records to the file, where other processes can see them."""
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        records = [json.loads(line) for line in lines]
        with self._writing():
            write_all(self._file.fileno(), "".join(f"{line}\n" for line in lines).encode())
            self._unread.extend(records)

    def sync(self) -> None:
        """Wait until everything written so far would survive the machine."""
        with self._writing():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close the file; just close it after a failure, which has been told already."""
        try:
            if not self._failure:
                self.sync()
        finally:
            self._file.close()

    def _read(self) -> list[dict[str, Any]]:
        with writing(self._path):
            self._file.seek(0)
            content = self._file.read()
            # A controller that was killed can leave half a record; the next one would be glued to it and both be lost.
            whole = content.rfind(b"\n") + 1
            self._file.truncate(whole)
            sync_dir(self._path.parent)
        return _parsed(content[:whole], self._path)

    @contextmanager
    def _writing(self) -> Generator[None]:
        if self._failure:
            raise StorageError(self._failure)
        end = self._file.seek(0, os.SEEK_END)
        try:
            with writing(self._path):
                yield
        except BaseException as error:  # an interruption can leave half a record, too
            self._failure = str(error) or f"{self._path} was interrupted while it was written."
            with suppress(OSError):
                self._file.truncate(end)
            raise


class StoredJournal(BaseJournalBackend):
    """The whole records that a journal has now. It leaves the file as it is, and takes no others."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self._records = _parsed(content[: content.rfind(b"\n") + 1], path)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Records from number `log_number_from` on."""
        return self._records[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse."""
        raise RunStateError("A journal that is only being looked at takes no records.")


def _parsed(content: bytes, path: Path) -> list[dict[str, Any]]:
    try:
        records = [json.loads(line) for line in content.splitlines()]
        if not all(isinstance(record, dict) and {"op_code", "worker_id"} <= record.keys() for record in records):
            raise ValueError("a line is no record of Optuna's")
    except (ValueError, RecursionError) as error:
        raise RunStateError(
            f"{path} is damaged ({error}). Move it away to begin the studies of this run anew."
        ) from error
    return records
