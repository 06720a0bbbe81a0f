"""Optuna's journal of every study of a run, as a file with one writer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from lambda_hat.errors import RunStateError

__all__ = ["ControllerJournal"]


class ControllerJournal(BaseJournalBackend):
    """A journal that only this process writes, in the format of Optuna's own file backend.

    The run's lock already keeps other writers out, so records need no lock of their own, nothing is read back, and
    `sync` says when they must be on disk: Optuna's backend locks and syncs for each of about ten records of a trial.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._file.truncate(_end_of_last_line(path))
        self._file.seek(0)
        try:
            self._unread: list[dict[str, Any]] = [json.loads(line) for line in self._file]
        except ValueError as error:
            self._file.close()
            raise RunStateError(
                f"{path} is damaged ({error}). Move it away to begin the studies of this run anew."
            ) from error
        self._num_read = 0

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Records from number `log_number_from` on; earlier ones are forgotten."""
        del self._unread[: log_number_from - self._num_read]
        self._num_read = log_number_from
        return list(self._unread)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records to the file, where other processes can see them."""
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        self._file.write("".join(f"{line}\n" for line in lines).encode())
        self._file.flush()
        self._unread.extend(json.loads(line) for line in lines)

    def sync(self) -> None:
        """Wait until everything written so far would survive the machine."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close the file."""
        self.sync()
        self._file.close()


def _end_of_last_line(path: Path) -> int:
    # A controller that was killed can leave half a record; the next one would be glued to it and both be lost.
    return path.read_bytes().rfind(b"\n") + 1
