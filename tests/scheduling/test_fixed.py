"""Runs of fixed settings: each once, whatever interrupted the command before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, STOP_FLAG, Paths
from lambda_hat.errors import WorkerLostError
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.state import State
from lambda_hat.scheduling.fixed import FixedLane, fixed_trial
from lambda_hat.scheduling.scheduler import Scheduler


def build_run(paths, seed=1):
    return fixed_trial(
        paths, "p_1", "fine", method="sgld", hyperparams={"eta0": 1e-3}, settings={"eta0": 1e-3, "steps": 500},
        seed=seed, trial_sec=60.0,
    )  # fmt: skip


def completing(trial_dir, problem_dir):
    settings = Manifest.read(Path(trial_dir) / MANIFEST_JSON).settings
    metrics = Metrics(state=State.COMPLETE, llc_hat=2.0 + settings["eta0"], se_hat=0.1, rhat=1.0)
    metrics.write(Path(trial_dir) / METRICS_JSON)
    return metrics


def raising(trial_dir, problem_dir):
    raise ValueError("a bug")


def build_lane(paths, runs, function=completing, **others):
    return FixedLane("p_1:fine", "a", runs, problem_dir=paths.problem_dir("p_1"), function=function, **others)


def run(*lanes, max_retries=0):
    with ThreadPoolExecutor(2) as pool:
        scheduler = Scheduler(
            lambda task, label: pool.submit(task.function, *task.args), {}, max_retries, poll_interval=0.05
        )
        for lane in lanes:
            scheduler.add(lane)
        scheduler.run()


def test_a_run_is_a_trial_by_its_manifest(tmp_path):
    paths = Paths(tmp_path)
    item = build_run(paths)
    lane = build_lane(paths, [item])
    run(lane)
    manifest = Manifest.read(item.folder / MANIFEST_JSON)
    assert manifest == item.manifest
    assert item.folder == paths.trial_dir("p_1", "fine", manifest.run_id)
    assert (manifest.method, manifest.hyperparams, manifest.seed) == ("sgld", {"eta0": 1e-3}, 1)
    assert lane.metrics_of(item).llc_hat == 2.001


def test_what_has_ended_is_not_run_again(tmp_path):
    paths = Paths(tmp_path)
    runs = [build_run(paths, seed) for seed in range(3)]
    run(build_lane(paths, runs[:2]))
    lane = build_lane(paths, runs)
    assert (lane.counts[State.COMPLETE], lane.is_through) == (2, False)
    assert lane.next_task().name == runs[2].run_id
    assert lane.next_task() is None
    assert lane.num_running == 1


def test_a_run_that_failed_is_run_again_and_leaves_nothing_of_its_failure(tmp_path):
    paths = Paths(tmp_path)
    item = build_run(paths)
    lane = build_lane(paths, [item], raising)
    run(lane)
    assert (lane.is_through, lane.counts[State.FAIL]) == (True, 1)
    metrics = Metrics.read(item.folder / METRICS_JSON)
    assert metrics == lane.metrics_of(item)
    assert (metrics.state, metrics.reason, metrics.llc_hat) == ("FAIL", "ValueError: a bug", None)
    assert "in raising" in metrics.traceback
    (item.folder / STOP_FLAG).touch()
    again = build_lane(paths, [item])
    assert not again.is_through
    again.next_task()
    assert not (item.folder / METRICS_JSON).exists()
    assert not (item.folder / STOP_FLAG).exists()


def test_an_estimate_that_is_no_number_is_a_failure(tmp_path):
    paths = Paths(tmp_path)
    item = build_run(paths)
    lane = build_lane(paths, [item], lambda *folders: Metrics(state=State.COMPLETE, llc_hat=float("nan")))
    run(lane)
    metrics = lane.metrics_of(item)
    assert (metrics.state, metrics.reason) == ("FAIL", "the estimate is not a finite number")


def test_a_run_that_has_not_ended_has_no_metrics(tmp_path):
    item = build_run(Paths(tmp_path))
    assert build_lane(Paths(tmp_path), [item]).metrics_of(item) is None


def test_a_lost_worker_is_retried_and_what_it_wrote_counts(tmp_path):
    paths = Paths(tmp_path)
    calls = []

    def lost_once(trial_dir, problem_dir):
        calls.append(trial_dir)
        if len(calls) == 1:
            raise WorkerLostError("gone")
        completing(trial_dir, problem_dir)
        raise WorkerLostError("gone after its end")

    lane = build_lane(paths, [build_run(paths)], lost_once)
    run(lane, max_retries=1)
    assert lane.counts == {"COMPLETE": 1}
    assert len(calls) == 2


def test_the_lanes_that_follow_are_opened_after_the_last_run(tmp_path):
    paths = Paths(tmp_path)
    last = build_lane(paths, [build_run(paths, 9)])
    opened = []

    def open_next():
        opened.append(first.counts[State.COMPLETE])
        return [last]

    first = build_lane(paths, [build_run(paths, seed) for seed in range(3)], max_in_flight=2, open_next=open_next)
    run(first)
    assert opened == [3]
    assert last.is_through
