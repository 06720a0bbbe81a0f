"""The dashboard sees what a controller writes, and cannot write itself."""

from __future__ import annotations

import json
import sys
import threading
import urllib.error
import urllib.request

import optuna
import pytest
from optuna.storages import JournalStorage

from lambda_hat.errors import RunStateError, UsageError
from lambda_hat.tuning.dashboard import JournalReader, build_app, build_server
from lambda_hat.tuning.journal import ControllerJournal
from tests.conftest import HANGING


@pytest.fixture
def controller(tmp_path):
    """A study of two trials, and the journal of its controller."""
    journal = ControllerJournal(tmp_path / "optuna.journal")
    study = optuna.create_study(study_name="p_1:sgld", storage=JournalStorage(journal))
    for value in (0.3, 0.1):
        study.tell(study.ask(), value)
    yield study, tmp_path / "optuna.journal"
    journal.close()


@pytest.fixture
def address(controller):
    """Where the dashboard of that journal is served."""
    server = build_server(build_app(controller[1]), 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(url, method="GET", **headers):
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=HANGING) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_studies_are_shown_live(controller, address):
    study, journal = controller
    status, answer = fetch(f"{address}/api/studies")
    assert status == 200
    assert [summary["study_name"] for summary in answer["study_summaries"]] == ["p_1:sgld"]
    storage = JournalStorage(JournalReader(journal))
    assert len(storage.get_all_trials(0)) == 2
    study.tell(study.ask(), 0.05)
    assert [trial.value for trial in storage.get_all_trials(0)] == [0.3, 0.1, 0.05]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(controller, address, method):
    before = controller[1].read_bytes()
    assert fetch(f"{address}/api/studies/0", method)[0] == 405
    assert controller[1].read_bytes() == before


def test_pages_of_other_hosts_are_not_answered(address):
    status, answer = fetch(f"{address}/api/studies", Host="attacker.example:8080")
    assert (status, answer) == (403, {"reason": "Only this machine is answered."})


def test_a_record_that_is_being_written_is_left_for_later(controller):
    _, journal = controller
    whole = journal.read_bytes()
    reader = JournalReader(journal)
    num_records = len(whole.splitlines())
    with journal.open("ab") as file:
        file.write(b'{"op_code"')
    assert len(list(reader.read_logs(0))) == num_records
    assert list(reader.read_logs(num_records)) == []
    with journal.open("ab") as file:
        file.write(b": 3}\n")
    assert list(reader.read_logs(num_records)) == [{"op_code": 3}]
    assert list(reader.read_logs(num_records)) == [{"op_code": 3}]


def test_the_reader_never_writes(controller):
    with pytest.raises(RunStateError, match="is only being looked at"):
        JournalReader(controller[1]).append_logs([{"op_code": 0}])


def test_a_run_without_a_journal_says_so(tmp_path):
    with pytest.raises(RunStateError, match="There is no journal to look at"):
        build_app(tmp_path / "optuna.journal")


def test_a_damaged_journal_says_so(tmp_path):
    (tmp_path / "optuna.journal").write_bytes(b"nothing\n")
    with pytest.raises(RunStateError, match="is damaged"):
        build_app(tmp_path / "optuna.journal")


def test_the_dashboard_is_an_extra(controller, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(UsageError, match=r"not installed: `pip install 'lambda-hat\[dashboard\]'`"):
        build_app(controller[1])


def test_a_taken_port_is_named(controller, address):
    port = int(address.rpartition(":")[2])
    with pytest.raises(UsageError, match=f"Port {port} of 127.0.0.1: .*in use"):
        build_server(build_app(controller[1]), port)
