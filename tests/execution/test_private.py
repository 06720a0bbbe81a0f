"""A Parsl that is another than the one lambda-hat was tested with is refused by the name of the part."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import sys
import threading
from pathlib import Path

import pytest
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput import executor as high_throughput
from parsl.providers import KubernetesProvider, LocalProvider, PBSProProvider, SlurmProvider
from parsl.providers.errors import SubmitException

import lambda_hat
from lambda_hat.config.card import InlineCard, LocalCard, LocalExecutor
from lambda_hat.errors import ExecutionError
from lambda_hat.execution.parsl import private
from lambda_hat.execution.parsl.cards import load_parsl_config_from_card
from lambda_hat.execution.parsl.cluster import Cluster
from lambda_hat.execution.port import open_executors
from tests.conftest import wait_until

CARD = LocalCard(executors=(LocalExecutor(label="only", max_workers=1),))


@pytest.fixture(autouse=True)
def no_executor_listens():
    """What is taken from Parsl's classes here is missing to executors of other tests, too."""
    wait_until(lambda: not any(thread.name.startswith("HTEX") for thread in threading.enumerate()))


def refused(part):
    """What the error says of a part."""
    version = importlib.metadata.version("parsl")
    return (
        rf"^Parsl {re.escape(version)} is not as lambda-hat needs it: .*{part}.* Tested with 2026\.10\.26: `pip install"
    )


def test_the_tested_parsl_has_every_part():
    assert importlib.metadata.version("parsl") in private.TESTED_VERSIONS
    private.check_parsl()


METHODS = {
    HighThroughputExecutor: (
        "scale_out_facade", "scale_in_facade", "set_bad_state_and_fail_all", "bad_state_is_set", "executor_exception",
        "status_facade",
    ),
    DataFlowKernel: ("submit",),
    SlurmProvider: ("status_polling_interval", "execute_wait"),
    PBSProProvider: ("status_polling_interval",),
    KubernetesProvider: ("status_polling_interval",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in METHODS.items() for name in names], ids=str
)
@pytest.mark.parametrize("change", [None, lambda self, other, number, of, arguments: None], ids=["gone", "another"])
def test_a_method_that_is_gone_or_takes_something_else(monkeypatch, owner, name, change):
    holder = next(base for base in owner.__mro__ if name in vars(base))
    monkeypatch.delattr(holder, name)
    if change is not None:
        monkeypatch.setattr(holder, name, change, raising=False)
    elif hasattr(owner, name):  # a base has it, too
        monkeypatch.setattr(owner, name, None)
    with pytest.raises(ExecutionError, match=refused(rf"{owner.__name__}\.{name}")):
        private.check_parsl()


@pytest.mark.parametrize(
    "command",
    ["worker_pool.py -a {addresses} --hb_threshold={heartbeat_threshold}", "process_worker_pool.py -a {addresses}"],
)
def test_another_launch_command_would_lose_the_lifeline(monkeypatch, tmp_path, command):
    monkeypatch.setattr(high_throughput, "DEFAULT_LAUNCH_CMD", command)
    with (
        pytest.raises(ExecutionError, match=refused("DEFAULT_LAUNCH_CMD with `process_worker_pool.py`")),
        open_executors(CARD, tmp_path / "parsl_runinfo"),
    ):
        pass
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_the_launch_command_is_replaced_or_refused(monkeypatch):
    assert private.manager_command().startswith("python -P -m lambda_hat.execution.parsl.manager {debug}")
    assert private.silence_allowed(["-a", "127.0.0.1", "--hb_threshold=6"]) == 6
    monkeypatch.delattr(high_throughput, "DEFAULT_LAUNCH_CMD")
    with pytest.raises(ExecutionError, match=refused("DEFAULT_LAUNCH_CMD")):
        private.check_parsl()
    monkeypatch.setattr(high_throughput, "DEFAULT_LAUNCH_CMD", "other.py", raising=False)
    with pytest.raises(ExecutionError, match=refused("DEFAULT_LAUNCH_CMD")):
        private.manager_command()
    with pytest.raises(ExecutionError, match=refused("--hb_threshold=")):
        private.silence_allowed(["-a", "127.0.0.1"])


@pytest.mark.parametrize(
    ("script", "source"),
    [
        ("process_worker_pool", 'if __name__ == "__main__": curvezmq.OtherContext(); "--hb_threshold"'),
        ("process_worker_pool", "curvezmq.ClientContext(); '--hb_threshold'"),
        ("interchange", "def main(): ..."),
    ],
)
def test_scripts_that_would_run_otherwise(monkeypatch, tmp_path, script, source):
    (tmp_path / "script.py").write_text(source)
    real = private._path_of
    monkeypatch.setattr(private, "_path_of", lambda name: tmp_path / "script.py" if name == script else real(name))
    with pytest.raises(ExecutionError, match=refused(rf"{script}\.py")):
        private.check_parsl()
    if script == "process_worker_pool":
        with pytest.raises(ExecutionError, match=refused("curvezmq.ClientContext")):
            private.bound_silence(1)


def test_a_context_of_clients_that_is_gone(monkeypatch):
    monkeypatch.delattr(private.curvezmq, "ClientContext")
    with pytest.raises(ExecutionError, match=refused("curvezmq.ClientContext")):
        private.bound_silence(1)


def test_refusals_that_do_not_quote_the_scheduler(monkeypatch):
    monkeypatch.setattr(SubmitException, "__str__", lambda self: "no")
    with pytest.raises(ExecutionError, match=refused("SubmitException that quotes `stderr=`")):
        private.check_parsl()


def test_blocks_that_are_kept_otherwise(monkeypatch):
    real = inspect.getsource
    monkeypatch.setattr(private.inspect, "getsource", lambda f: "pass" if f is LocalProvider.submit else real(f))
    with pytest.raises(ExecutionError, match=refused("LocalProvider.resources with `remote_pid` and `script_path`")):
        private.check_parsl()


@pytest.mark.parametrize("name", ["all_addresses", "blocks_to_job_id", "interchange_proc", "_result_queue_thread_exit"])
def test_attributes_that_an_executor_does_not_have(monkeypatch, tmp_path, name):
    real = HighThroughputExecutor.__init__

    def without(self, *args, **kwargs):
        real(self, *args, **kwargs)
        delattr(self, name)

    monkeypatch.setattr(HighThroughputExecutor, "__init__", without)
    with pytest.raises(ExecutionError, match=refused(rf"HighThroughputExecutor\.{name}")):
        load_parsl_config_from_card(CARD, tmp_path)


def test_a_provider_that_does_not_keep_its_blocks(monkeypatch, tmp_path):
    real = LocalProvider.__init__

    def without(self, *args, **kwargs):
        real(self, *args, **kwargs)
        del self.resources

    monkeypatch.setattr(LocalProvider, "__init__", without)
    with pytest.raises(ExecutionError, match=refused(r"LocalProvider\.resources")):
        load_parsl_config_from_card(CARD, tmp_path)


def test_a_parsl_that_cannot_be_imported_is_an_error_of_executors(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lambda_hat.execution.parsl.cluster", None)
    with pytest.raises(ExecutionError, match="Parsl cannot be imported as lambda-hat needs it"):
        open_executors(CARD, tmp_path)


def test_a_card_chooses_its_executors(tmp_path):
    assert isinstance(open_executors(CARD, tmp_path), Cluster)
    assert not isinstance(open_executors(InlineCard(), tmp_path), Cluster)


PARTS = (
    "DEFAULT_LAUNCH_CMD", "all_addresses", "status_polling_interval", "execute_wait", "scale_out_facade",
    "bad_state_is_set", "blocks_to_job_id", "scale_in_facade", "set_bad_state_and_fail_all", "stderr=", "ClientContext",
    "process_worker_pool", "hb_threshold", "runpy", "executor_exception", "status_facade", "app_args",
    "interchange_proc", "remote_pid", "_result_queue_thread_exit", "script_path", "provider.resources",
)  # fmt: skip


def test_no_other_module_touches_a_private_part():
    for path in (Path(lambda_hat.__file__).parent / "execution").rglob("*.py"):
        if path != Path(private.__file__):
            text = path.read_text(encoding="utf-8")
            assert [part for part in PARTS if part in text] == [], path
