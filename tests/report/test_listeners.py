"""Trials told to other programs as they end."""

from __future__ import annotations

import struct
from importlib.util import find_spec

import pytest

from lambda_hat.records.state import State
from lambda_hat.report import listeners as module
from lambda_hat.report.listeners import Listening, MLflow, TensorBoard, WeightsAndBiases, figures_of_trial
from tests.report.conftest import trial_row

ROWS = [
    trial_row(
        number=number, objective=0.1, llc_hat=8.0 + number, error=0.2, rhat=1.01, reports={"predicted_bias": 0.03},
        hyperparameters={"eta0": 0.5, "precond_type": "none"},
    )
    for number in range(3)
] + [trial_row(number=3, state=State.FAIL, reason="no luck")]  # fmt: skip


class Remembers:
    """A listener that is told of in `heard`, and fails where it is told to."""

    heard: list[object]
    fails_at: int | None = None

    def __init__(self, folder):
        type(self).heard = [folder]

    def on_trial(self, row, study):
        if row.number == self.fails_at:
            raise OSError("no room")
        self.heard.append((row.number, study))

    def close(self):
        self.heard.append("closed")


def tell(names, folder):
    listening = Listening(names, folder)
    with listening:
        for row in ROWS:
            listening.hear(row, "sgld on a problem")
    return list(listening.failures())


def test_every_trial_is_heard_once_and_in_order(monkeypatch, tmp_path):
    monkeypatch.setitem(module.LISTENERS, "one", ("sys", Remembers))
    assert tell(["one", "one"], tmp_path) == []
    assert Remembers.heard == [tmp_path, *((number, "sgld on a problem") for number in range(4)), "closed"]


def test_a_listener_that_fails_hears_no_more_and_holds_nothing_up(monkeypatch, tmp_path):
    class Fails(Remembers):
        fails_at = 1

    def no_package(_):
        raise ModuleNotFoundError("No module named 'x'")

    for name, listener in {"good": Remembers, "bad": Fails, "none": no_package}.items():
        monkeypatch.setitem(module.LISTENERS, name, ("sys", listener))
    assert tell(["good", "bad", "none"], tmp_path) == [
        "none hears of no more trials: ModuleNotFoundError: No module named 'x'",
        "bad hears of no more trials: OSError: no room",
    ]
    assert len(Remembers.heard) == 6
    assert Fails.heard == [tmp_path, (0, "sgld on a problem")]


def test_nobody_listens_unless_asked_for(tmp_path):
    assert tell([], tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_what_is_not_known_is_not_told():
    assert figures_of_trial(ROWS[3]) == {}
    assert figures_of_trial(ROWS[1]) == {
        "objective": 0.1, "llc_hat": 9.0, "error": 0.2, "rhat": 1.01, "predicted_bias": 0.03,
    }  # fmt: skip


def events(path):
    """Values of an event file: the step, the tag and the value."""
    from tensorboardX.proto.event_pb2 import Event

    content, place = path.read_bytes(), 0
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        event = Event.FromString(content[place + 12 : place + 12 + length])
        place += length + 16
        yield from ((event.step, value.tag, value.simple_value) for value in event.summary.value)


def test_tensorboard_gets_scalars_by_the_number_of_the_trial(tmp_path):
    listener = TensorBoard(tmp_path)
    for row in ROWS:
        listener.on_trial(row, "sgld on a/b")
    listener.close()
    (path,) = (tmp_path / "tensorboard" / "sgld on a_b").iterdir()
    found = list(events(path))
    assert [(step, value) for step, tag, value in found if tag == "llc_hat"] == [(0, 8.0), (1, 9.0), (2, 10.0)]
    assert (0, "hyperparameters/eta0", 0.5) in found
    assert sum(tag.startswith("state") for _, tag, _ in found) == 4


@pytest.mark.nightly  # makes a database
@pytest.mark.filterwarnings("ignore")  # of what MLflow uses
@pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed: the extra `mlflow` brings it")
def test_mlflow_gets_a_run_for_each_trial(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    listener = MLflow(tmp_path)
    for row in ROWS:
        listener.on_trial(row, "sgld on a problem")
    listener.close()
    client = MLflow(tmp_path)._client
    runs = client.search_runs([client.get_experiment_by_name("sgld on a problem").experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert by_name["trial 1"].data.metrics["llc_hat"] == 9.0
    assert by_name["trial 1"].data.params == {"eta0": "0.5", "precond_type": "none"}
    assert by_name["trial 3"].info.status == "FAILED"


@pytest.mark.slow  # starts a process
def test_weights_and_biases_writes_offline(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    listener = WeightsAndBiases(tmp_path)
    for row in ROWS:
        listener.on_trial(row, "sgld on a problem")
    listener.close()
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert next(run.glob("*.wandb")).stat().st_size > 0


def test_a_package_that_is_missing_is_told_before_anything_runs(monkeypatch, tmp_path):
    from lambda_hat.config.load import load_cfg
    from lambda_hat.workflows.plan import check_execution

    monkeypatch.setattr("lambda_hat.workflows.plan.find_spec", lambda _: None)
    loaded = load_cfg("config/optuna/quickstart.yaml", ["optuna.log_to=[wandb]"], local=True)
    (fault,) = check_execution(loaded)
    assert str(fault).endswith(
        "optuna.log_to.0: found 'wandb', which needs the package wandb, which is not installed\n"
        "    `pip install 'lambda-hat[wandb]'`."
    )
