"""Budgets are kept: soft where Python has control, hard where it has not, and only the worker pays for that."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np
import pytest

from lambda_hat.artifacts.files import read_json, read_json_lines
from lambda_hat.artifacts.ids import problem_id
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.problems import DataSpec, MLPProblem, ModelSpec, QuadraticProblem, TrainingSpec
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.progress import Alive, read_progress
from lambda_hat.samplers.pace import OutOfTime
from lambda_hat.samplers.stopwatch import Stopwatch
from lambda_hat.targets import Model
from lambda_hat.targets.datasets import Stream, build_dataset, random_stream
from lambda_hat.targets.losses import build_network_loss
from lambda_hat.tasks import budget
from lambda_hat.tasks.budget import EXIT_SEC, Limits, alarm, watchdog
from lambda_hat.tasks.provenance import provenance
from tests.conftest import HANGING, wait_until

needs_alarm = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there are no alarms on Windows")


@jax.tree_util.register_static
class Endless:
    """A pytree without leaves that no comparison comes to an end with."""

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        threading.Event().wait(HANGING)
        return True


def seconds_until(seconds: float) -> Callable[[], float]:
    """What is left of so many seconds from now on."""
    at = time.monotonic() + seconds
    return lambda: at - time.monotonic()


@needs_alarm
def test_an_alarm_interrupts_what_waits_and_leaves_the_handler_as_it_was():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(OutOfTime), alarm(seconds_until(0.05)):
        threading.Event().wait(HANGING)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@needs_alarm
def test_an_alarm_whose_time_has_passed_rings_at_once():
    with pytest.raises(OutOfTime), alarm(lambda: 0.0):
        threading.Event().wait(HANGING)


@needs_alarm
def test_no_exception_handler_on_the_way_keeps_an_alarm():
    def handle() -> None:
        try:
            threading.Event().wait(HANGING)
        except Exception:
            pytest.fail("taken for a failure of the code")

    with pytest.raises(OutOfTime), alarm(seconds_until(0.05)):
        handle()


@needs_alarm
def test_an_alarm_that_becomes_another_error_on_its_way_is_still_one():
    """As in JAX, which compares what programs are filed under and reports whatever is raised there as a ValueError."""

    run = jax.jit(lambda tree: tree)
    run(Endless())
    with pytest.raises(OutOfTime) as caught, alarm(seconds_until(0.05)):
        run(Endless())
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(ValueError, match="of its own"), alarm(lambda: HANGING):
        raise ValueError("of its own")


@needs_alarm
def test_an_alarm_is_not_heard_after_its_block():
    with alarm(lambda: HANGING):
        ring = signal.getsignal(signal.SIGALRM)
    assert callable(ring)
    ring(signal.SIGALRM, None)  # as a signal that was on its way


def test_an_alarm_in_another_thread_is_silent():
    outcome = []

    def work() -> None:
        with alarm(lambda: 0.0):
            outcome.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcome == ["done"]


@pytest.fixture
def ended(monkeypatch):
    """Set when a watchdog ends this process, which then lives on."""
    event = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: event.set())
    return event


def watchdogs() -> list[threading.Thread]:
    """The threads of this process that watch a task."""
    return [thread for thread in threading.enumerate() if thread.name == "watchdog"]


THEN = datetime(2026, 1, 2, tzinfo=UTC)


def limits_at(clock: list[float], setup: float = 100.0) -> tuple[Limits, Stopwatch]:
    """Limits of a trial of three seconds by a clock that is set by hand."""
    watch = Stopwatch(lambda: clock[0])
    return Limits("trial_sec", 3.0, 0.3, setup, now=lambda: clock[0], watch=watch), watch


def passed() -> Limits:
    """Limits whose end was long ago."""
    clock = [0.0]
    limits, _ = limits_at(clock)
    clock[0] = 10.0
    return limits


def test_what_sets_up_puts_the_deadline_off_and_has_a_bound_of_its_own():
    clock = [5.0]
    limits, watch = limits_at(clock, setup=50.0)
    with watch.running():
        clock[0] += 20.0
        assert (limits.setup_seconds, limits.counted_seconds) == (20.0, 0.0), "while it runs, too"
    clock[0] += 1.0
    watch.begin()  # a compilation, which will say how long it was
    clock[0] += 4.0
    assert limits.counted_seconds == 1.0
    watch.add(4.0)
    assert (limits.setup_seconds, limits.counted_seconds) == (24.0, 1.0)
    assert limits.deadline() == pytest.approx(5.0 + 24.0 + 3.0 - 0.3)
    assert limits.short_of == "trial_sec"
    with watch.running():
        clock[0] += 25.5
        assert limits.short_of == "setup_sec"
        assert limits.seconds_to_end == pytest.approx(3.0 * 1.1 + 2.0 - 1.0 - EXIT_SEC)
        clock[0] += 6.0
        assert limits.seconds_to_end == pytest.approx(50.0 * 1.1 + 2.0 - 55.5 - EXIT_SEC)


def test_spans_that_lie_within_each_other_count_once():
    clock = [0.0]
    watch = Stopwatch(lambda: clock[0])
    for now, seconds, total in ((2.0, 1.0, 1.0), (5.0, 2.0, 3.0), (6.0, 5.5, 5.5), (9.0, 4.0, 8.5)):
        clock[0] = now
        watch.add(seconds)
        assert watch.seconds == total
    watch.begin()
    watch.forget()
    clock[0] = 20.0
    assert watch.seconds == 8.5
    with contextlib.suppress(KeyError), watch.running():
        clock[0] = 21.0
        raise KeyError
    assert watch.seconds == 9.5


@needs_alarm
def test_an_alarm_waits_while_something_is_set_up():
    rings = iter([1e-6, 0.01, 0.01, 0.0])
    with pytest.raises(OutOfTime), alarm(lambda: next(rings)):
        threading.Event().wait(HANGING)
    assert next(rings, None) is None


def stuck(reason: str) -> Metrics:
    return Metrics.failed(reason, provenance=provenance(may_wait=False).between(THEN, THEN))


def test_a_watchdog_says_why_it_ends_a_worker(tmp_path, monkeypatch, ended):
    monkeypatch.setenv("LAMBDA_HAT_EXECUTOR", "htex")
    lines = [{"event": "started", "format": 1}, {"step": 40, "fraction": 0.4, "llc_hat": 1.0}]
    (tmp_path / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with watchdog(passed(), tmp_path / "metrics.json", stuck):
        assert ended.wait(HANGING)
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["state"] == "FAIL"
    assert "the worker was ended; execution.budget.trial_sec is 3 s. Steps done: 40 (40.0%)." in metrics["reason"]
    assert (metrics["started"], metrics["executor_label"]) == ("2026-01-02T00:00:00.000+00:00", "htex")
    assert metrics["pid"] == os.getpid()
    assert read_json_lines(tmp_path / "progress.jsonl")[0][-1]["event"] == "ended"


def test_a_watchdog_leaves_the_end_that_another_worker_found(tmp_path, monkeypatch, ended):
    monkeypatch.setenv("LAMBDA_HAT_EXECUTOR", "htex")
    (tmp_path / "metrics.json").write_text('{"state": "COMPLETE"}', encoding="utf-8")
    with watchdog(passed(), tmp_path / "metrics.json", Metrics.failed):
        assert ended.wait(HANGING)
    assert read_json(tmp_path / "metrics.json") == {"state": "COMPLETE"}
    assert not (tmp_path / "progress.jsonl").exists()


def test_a_watchdog_does_not_fire_after_its_block(tmp_path, monkeypatch, ended):
    monkeypatch.setenv("LAMBDA_HAT_EXECUTOR", "htex")
    limits = Limits("trial_sec", 2 * HANGING, 0.0, HANGING)
    with watchdog(limits, tmp_path / "metrics.json", Metrics.failed):
        assert watchdogs()
    assert not watchdogs()
    assert not ended.is_set()
    assert not list(tmp_path.iterdir())


def test_a_task_that_writes_nothing_gives_signs_of_life_until_its_block_is_over(tmp_path, monkeypatch, ended):
    monkeypatch.setenv("LAMBDA_HAT_EXECUTOR", "htex")
    monkeypatch.setattr(budget, "BEAT_SEC", 0.01)
    path = tmp_path / "progress.jsonl"
    path.write_text('{"event":"started","format":1}\n', encoding="utf-8")
    limits = Limits("trial_sec", HANGING, 0.0, HANGING)
    with watchdog(limits, tmp_path / "metrics.json", Metrics.failed):
        wait_until(lambda: sum(isinstance(line, Alive) for line in read_progress(path)[0]) >= 2)
    assert not watchdogs()
    assert not ended.is_set()


def test_only_workers_are_watched(tmp_path, monkeypatch, ended):
    monkeypatch.delenv("LAMBDA_HAT_EXECUTOR", raising=False)
    with watchdog(passed(), tmp_path / "metrics.json", Metrics.failed):
        assert not watchdogs()
    assert not ended.is_set()


WORKER = """
import json, os, signal, sys
if "WITHOUT_ALARM" in os.environ:
    del signal.SIGALRM
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.tasks import reference, trial
warm_up, (function, args) = json.loads(sys.argv[1]), json.loads(sys.argv[2])
if warm_up:
    trial.run_trial(*warm_up)
if function == "trial":
    trial.run_trial(*args)
else:
    folder, spec, seconds = args
    reference.run_reference(folder, ReferenceSpec.model_validate(spec), seconds, float(os.environ.get("SETUP", 3600)))
os._exit(0)  # a compilation that was interrupted goes on in a thread of its own: no end of a process waits for it
"""


def in_worker(function: str, args: list, warm_up: list | None = None) -> int:
    """Exit code of a process that runs one task."""
    environment = os.environ | {"LAMBDA_HAT_EXECUTOR": "htex"}
    command = [sys.executable, "-c", WORKER, json.dumps(warm_up), json.dumps([function, args])]
    return subprocess.run(command, env=environment, check=False, timeout=HANGING).returncode


def events_of(folder: Path) -> list[str]:
    """Beginnings and ends, without signs of life, whose number is a matter of time."""
    events = [line["event"] for line in read_json_lines(folder / "progress.jsonl")[0] if "event" in line]
    return [event for event in events if event != "alive"]


def write_trial(folder: Path, method: str, settings: dict, trial_sec: float) -> list[str]:
    folder.mkdir()
    manifest = {
        "pid": "p_0",
        "method": method,
        "hyperparams": {},
        "settings": settings,
        "seed": 1,
        "budget": {"trial_sec": trial_sec, "setup_sec": float(os.environ.get("SETUP", "3600"))},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return [str(folder), str(folder.parent)]


def run_trial_in_worker(folder: Path, method: str, settings: dict, *, is_warm: bool = True) -> tuple[int, dict]:
    """Exit code and metrics of a trial that has `SECONDS`, in a worker that has compiled its kernels or not."""
    few = {name: value for name, value in settings.items() if name != "num_integration_steps"} | {"steps": 20}
    warm_up = write_trial(folder / "warm-up", method, few, HANGING) if is_warm else None
    code = in_worker("trial", write_trial(folder / "trial", method, settings, SECONDS), warm_up)
    return code, read_json(folder / "trial" / "metrics.json") or {}


# For what is interrupted. Long enough to reach it where six other processes take most of the machine; it is always
# spent to its end.
SECONDS = 10.0
LONG_TRAINING = MLPProblem(training=TrainingSpec(num_steps=10**8))


def write_problem(folder: Path, problem) -> Path:
    """The problem; of a network also an untrained target and coordinates that no reference found."""
    (folder / "problem.yaml").write_text(to_yaml(problem.to_dict()), encoding="utf-8")
    if isinstance(problem, MLPProblem) and problem is not LONG_TRAINING:
        loss_fn = build_network_loss(problem)
        w0 = loss_fn.network.init(random_stream(0, Stream.INIT))
        target = Model(w0, build_dataset(problem).data, loss_fn, {}, problem_id(problem.to_dict()))
        target.save(folder / "target.npz")
        arrays = {f"{name}.diagonal": np.full(w0.size, 1e-3) for name in ("at_w0", "averaged")}
        np.savez(folder / "ref.npz", **arrays)  # pyright: ignore[reportArgumentType]
    return folder


@pytest.fixture
def small(quadratic_dir, tmp_path) -> Path:
    """A small problem with its reference, to be written to."""
    return shutil.copytree(quadratic_dir, tmp_path / "problem")


# Each of what follows would take hours, or for ever: that it has ended within `HANGING` shows that its budget ended it.
ENDLESS = 10**8  # leapfrog steps, or trajectories


@pytest.mark.nightly  # `test_a_truncated_trial_keeps_its_estimate_and_says_so` is its short form
def test_a_trial_of_a_billion_steps_ends_with_its_estimate(small):
    code, metrics = run_trial_in_worker(small, "sgld", {"eta0": 2e-3, "steps": 10 * ENDLESS, "batch": 64})
    assert (code, metrics["state"]) == (0, "COMPLETE")
    assert metrics["is_truncated"]
    assert metrics["reason"].startswith(f"out of time after {metrics['num_steps_done']} of {10 * ENDLESS} steps")
    assert metrics["num_steps_done"] > 1000
    exact = read_json(small / "ref.json")["exact_llc"]
    assert metrics["llc_hat"] == pytest.approx(exact, rel=0.3)


@pytest.mark.nightly
def test_a_trial_whose_steps_are_long_ends_with_its_estimate(tmp_path):
    """A step of four chains takes about half a second."""
    folder = write_problem(
        tmp_path, MLPProblem(model=ModelSpec(in_dim=10, width=100, depth=3), data=DataSpec(num_data=2500))
    )
    code, metrics = run_trial_in_worker(folder, "hmc", {"steps": ENDLESS})
    assert code == 0
    assert metrics["num_steps_done"] >= 1
    assert metrics["is_truncated"]
    assert metrics["llc_hat"] is not None


@pytest.mark.nightly
@needs_alarm
def test_a_compilation_is_interrupted_at_its_own_bound(tmp_path, monkeypatch):
    monkeypatch.setenv("SETUP", f"{SECONDS:g}")
    folder = write_problem(tmp_path, MLPProblem(model=ModelSpec(depth=150), data=DataSpec(num_data=200)))
    code, metrics = run_trial_in_worker(folder, "hmc", {"steps": ENDLESS}, is_warm=False)
    assert (metrics["state"], metrics["short_of"]) == ("FAIL", "setup_sec")
    if code == 70:  # it was in the part of the compilation that hears no alarm, and ended with its worker
        return
    assert code == 0
    assert metrics["reason"] == f"out of time while it was set up: execution.budget.setup_sec is {SECONDS:g} s"
    assert "OutOfTime" in metrics["traceback"]


@pytest.mark.nightly
@needs_alarm
def test_a_chunk_that_never_ends_costs_the_worker_and_not_the_estimate(small):
    """The second trajectory has 10⁸ leapfrog steps; what the device is at cannot be interrupted."""
    code, metrics = run_trial_in_worker(small, "hmc", {"steps": 1000, "num_integration_steps": ENDLESS})
    assert code == 70
    assert (metrics["state"], metrics["is_truncated"]) == ("COMPLETE", True)
    assert metrics["reason"] == "out of time after 1 of 1000 steps"
    assert metrics["llc_hat"] is not None
    assert events_of(small / "trial") == ["started", "ended"]


@pytest.mark.nightly
def test_a_call_that_never_comes_back_costs_the_worker(small, monkeypatch):
    """Without an alarm to hear, as on Windows, the watchdog ends what the device never ends."""
    monkeypatch.setenv("WITHOUT_ALARM", "1")
    code, metrics = run_trial_in_worker(small, "hmc", {"steps": 1000, "num_integration_steps": ENDLESS})
    assert code == 70
    assert metrics["state"] == "FAIL"
    lost = f"so the worker was ended; execution.budget.trial_sec is {SECONDS:g} s. Steps done: 1 (0.1%)."
    assert lost in metrics["reason"]
    assert (metrics["executor_label"], metrics["timings"]["total"] > SECONDS) == ("htex", True)
    assert {"host", "device", "versions", "started", "finished"} <= metrics.keys()
    assert events_of(small / "trial") == ["started", "ended"]


@pytest.mark.nightly
@pytest.mark.parametrize("num_data", [200, 20_000])
def test_a_reference_ends_in_time_and_says_what_it_lacks(tmp_path, num_data):
    folder = write_problem(tmp_path, QuadraticProblem(dim=40, num_data=num_data))
    code = in_worker("reference", [str(folder), ReferenceSpec(max_relative_mcse=1e-9).to_dict(), SECONDS])
    assert code == 0
    reference = read_json(folder / "ref.json")
    assert (reference["state"], reference["is_certified"]) == ("COMPLETE", False)
    assert reference["reasons"]
    assert not (folder / "failure.json").exists()


@pytest.mark.nightly
@needs_alarm
def test_a_training_of_minutes_is_interrupted_and_there_is_no_reference(tmp_path, monkeypatch):
    monkeypatch.setenv("SETUP", f"{SECONDS:g}")
    folder = write_problem(tmp_path, LONG_TRAINING)
    code = in_worker("reference", [str(folder), ReferenceSpec().to_dict(), SECONDS])
    assert code == 70  # Adam goes on in the device
    failure = read_json(folder / "failure.json")
    assert failure["state"] == "FAIL"
    budget = f"raise execution.budget.setup_sec, which is {SECONDS:g} s"
    assert failure["reason"] == f"out of time before there was a reference: {budget}"
    assert not (folder / "ref.json").exists()


@pytest.mark.nightly
@pytest.mark.parametrize(
    "has_alarm",
    [
        pytest.param(True, marks=needs_alarm),
        False,
    ],
    ids=["alarm", "watchdog"],
)
def test_a_reference_that_never_comes_back_costs_the_worker(tmp_path, monkeypatch, has_alarm):
    if not has_alarm:
        monkeypatch.setenv("WITHOUT_ALARM", "1")
    folder = write_problem(tmp_path, QuadraticProblem(dim=4, num_data=200))
    spec = ReferenceSpec(num_integration_steps=ENDLESS)
    code = in_worker("reference", [str(folder), spec.to_dict(), SECONDS])
    assert code == 70
    assert events_of(folder) == ["started", "ended"]
    if has_alarm:
        reference = read_json(folder / "ref.json")
        assert (reference["state"], reference["is_certified"]) == ("COMPLETE", False)
        return
    failure = read_json(folder / "failure.json")
    assert failure["state"] == "FAIL"
    assert f"execution.budget.hmc_sec is {SECONDS:g} s. The last stage it told of was: " in failure["reason"]
    assert failure["reason"].endswith(("hessian.", "pilot 1.")), "where it hangs, or what it compiled for that"
    assert {"host", "device", "versions", "started", "finished"} <= failure.keys()
    assert not (folder / "ref.json").exists()
