"""Optuna's dashboard on a run's journal, live and unable to change it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from lambda_hat.errors import RunStateError, UsageError

__all__ = ["JournalReader", "build_app", "build_server"]

HOST = "127.0.0.1"
_HOSTS = (HOST, "localhost")  # as browsers name it; a page elsewhere that reaches this port names itself

Environ = dict[str, Any]
Respond = Callable[..., Any]
App = Callable[[Environ, Respond], Iterable[bytes]]


class JournalReader(BaseJournalBackend):
    """The whole records of a journal that another process may be writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0  # of the first byte that was not read
        self._num_read = 0
        self._records: list[dict[str, Any]] = []  # the last ones that were read

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Records from number `log_number_from` on; earlier ones are forgotten."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        whole = content.rfind(b"\n") + 1
        records = [json.loads(line) for line in content[:whole].splitlines()]
        del self._records[: max(0, len(self._records) - (self._num_read - log_number_from))]
        self._records += records
        self._offset += whole
        self._num_read += len(records)
        return list(self._records)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refuse.

        Raises:
            RunStateError: always.
        """
        raise RunStateError(f"{self._path} is only being looked at.")


def build_app(journal: Path) -> App:
    """The dashboard as a WSGI application that answers reading requests from this machine only.

    Raises:
        UsageError: optuna-dashboard is not installed.
        RunStateError: there is no journal, or it is damaged.
    """
    try:
        wsgi = import_module("optuna_dashboard").wsgi
    except ImportError as error:
        raise UsageError(
            "`dashboard` needs optuna-dashboard, which is not installed: `pip install 'lambda-hat[dashboard]'`."
        ) from error
    if not journal.is_file():
        raise RunStateError(f"There is no journal to look at: {journal} is made when the first study of a run begins.")
    try:
        storage = JournalStorage(JournalReader(journal))
    except (ValueError, KeyError, TypeError) as error:
        raise RunStateError(f"{journal} is damaged ({error}).") from error
    inner: App = wsgi(storage)

    def app(environ: Environ, respond: Respond) -> Iterable[bytes]:
        if environ.get("HTTP_HOST", "").partition(":")[0] not in _HOSTS:
            return _refuse(respond, "403 Forbidden", "Only this machine is answered.")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refuse(respond, "405 Method Not Allowed", "The studies of a run can be looked at, not changed.")
        return inner(environ, respond)

    return app


def build_server(app: App, port: int) -> WSGIServer:
    """A server of `app` at `port` of 127.0.0.1; 0 takes any that is free.

    Raises:
        UsageError: the port cannot be had.
    """
    try:
        return make_server(HOST, port, app, _Server, _QuietHandler)
    except OSError as error:
        raise UsageError(f"Port {port} of {HOST}: {error.strerror}. Give another one by `--port`.") from error


def _refuse(respond: Respond, status: str, reason: str) -> Iterable[bytes]:
    respond(status, [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line per request would bury the address."""
