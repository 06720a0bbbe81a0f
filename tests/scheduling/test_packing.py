"""Tasks go out in packs that keep every bound; each ends once, and none for the fault of another."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_hat.artifacts.files import append_json_line
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, PROGRESS_JSONL, Paths
from lambda_hat.config.study import CategoricalDist, Concurrency, FloatDist, OptunaSection
from lambda_hat.errors import ExecutorLostError, WorkerLostError
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.state import State
from lambda_hat.scheduling.packing import PackedLane, packed
from lambda_hat.scheduling.scheduler import Scheduler, Task
from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.tuning.study import StudyStore
from lambda_hat.tuning.trials import TrialLane


def alone(folder, shared):
    return {"of": folder}


def together(folders, shared):
    return {folder: alone(folder, shared) for folder in folders}


class ListLane:
    """Hands out a task for each letter of `programs`, `-` for none, and remembers what became of them."""

    def __init__(self, programs, max_in_flight=8, name="lane", opens=()):
        self.name, self.label, self.max_in_flight, self.opens = name, "a", max_in_flight, list(opens)
        tasks = [f"{name}{index}{program}" for index, program in enumerate(programs)]
        self.waiting = [Task(task, alone, (task, "shared"), None if task[-1] == "-" else task[-1]) for task in tasks]
        self.ends, self.retries, self.asked, self.num_closed = [], [], [], 0
        self.left, self.alive = {}, set()  # on disk, by task; with progress since

    def next_task(self):
        return self.waiting.pop(0) if self.waiting else None

    def on_progress(self, task):
        self.asked.append(task.name)
        return task.name in self.alive

    def stored_result(self, task):
        return self.left.get(task.name)

    def on_retry(self, task):
        self.retries.append(task.name)

    def on_done(self, task, result):
        self.ends.append((task.name, result["of"]))
        return self.opens if not self.waiting else ()

    def on_error(self, task, error):
        self.ends.append((task.name, type(error).__name__))
        return ()

    def close(self):
        self.num_closed += 1


def members(task):
    """Names of the tasks in a pack."""
    return list(task.args[0]) if task.function is together else [task.args[0]]


def packs_of(lane):
    """All that it hands out at once."""
    packs = []
    while (task := lane.next_task()) is not None:
        packs.append(members(task))
    return packs


def test_a_pack_of_one_is_the_lane_itself():
    lane = ListLane("aa")
    assert packed(lane, 1, together) is lane
    assert isinstance(packed(lane, 2, together), PackedLane)


def test_a_pack_is_full_before_more_is_asked_for():
    lane = ListLane("aaaaaa")
    pack = packed(lane, 3, together).next_task()
    assert members(pack) == ["lane0a", "lane1a", "lane2a"]
    assert (pack.name, pack.args) == ("lane0a+2", (["lane0a", "lane1a", "lane2a"], "shared"))
    assert len(lane.waiting) == 3


def test_only_tasks_of_one_program_go_together_and_the_largest_pack_goes_first():
    assert packs_of(packed(ListLane("abbab"), 4, together)) == [
        ["lane1b", "lane2b", "lane4b"],
        ["lane0a", "lane3a"],
    ]
    assert packs_of(packed(ListLane("--a"), 4, together)) == [["lane0-"], ["lane1-"], ["lane2a"]]


def test_a_task_that_goes_alone_is_what_it_was():
    lane = ListLane("ab")
    expected = list(lane.waiting)
    packs = packed(lane, 4, together)
    assert [packs.next_task(), packs.next_task(), packs.next_task()] == [*expected, None]


def test_tasks_in_flight_are_counted_one_by_one():
    lane = ListLane("aaaaaaa", max_in_flight=5)
    packs = packed(lane, 2, together)
    tasks = [packs.next_task() for _ in range(3)]
    assert [len(members(task)) for task in tasks] == [2, 2, 1]
    assert packs.next_task() is None
    packs.on_done(tasks[0], together(*tasks[0].args))
    assert members(packs.next_task()) == ["lane5a", "lane6a"]


def test_a_pack_is_never_larger_than_what_may_be_in_flight():
    assert [len(pack) for pack in packs_of(packed(ListLane("aaaaa", max_in_flight=3), 16, together))] == [3]


def test_a_pack_lives_while_one_of_its_tasks_does():
    lane = ListLane("aaa")
    packs = packed(lane, 3, together)
    pack = packs.next_task()
    assert not packs.on_progress(pack)
    lane.alive = {"lane0a"}
    assert packs.on_progress(pack)
    assert lane.asked == ["lane0a", "lane1a", "lane2a"] * 2, "the others are looked at all the same"


def test_where_a_worker_is_lost_those_that_ended_are_kept():
    lane = ListLane("aaa")
    packs = packed(lane, 3, together)
    pack = packs.next_task()
    lane.left["lane1a"] = {"of": "before the loss"}
    assert packs.stored_result(pack) is None
    packs.on_retry(pack)
    assert lane.retries == ["lane0a", "lane2a"]
    lane.left |= {name: {"of": "later"} for name in ("lane0a", "lane2a")}
    stored = packs.stored_result(pack)
    assert stored == lane.left
    packs.on_done(pack, stored)
    assert lane.ends == [("lane0a", "later"), ("lane1a", "before the loss"), ("lane2a", "later")]


def test_an_error_of_a_pack_is_not_that_of_tasks_that_ended():
    lane = ListLane("aaa")
    packs = packed(lane, 3, together)
    pack = packs.next_task()
    lane.left["lane1a"] = {"of": "before"}
    packs.on_error(pack, ValueError("bad"))
    assert lane.ends == [("lane0a", "ValueError"), ("lane1a", "before"), ("lane2a", "ValueError")]
    assert packs.next_task() is None


def test_lanes_that_are_opened_are_packed_as_well():
    following = ListLane("aaaa", name="next")
    for finish in (
        lambda packs, pack: packs.on_done(pack, together(*pack.args)),
        lambda packs, pack: packs.on_error(pack, ValueError("bad")),
    ):
        lane = ListLane("aa", opens=[following])
        lane.on_error = lambda task, error, lane=lane: lane.on_done(task, {"of": error})
        packs = packed(lane, 2, together)
        opened = finish(packs, packs.next_task())
        assert [type(one) for one in opened] == [PackedLane, PackedLane]
        assert opened[0].name == "next"


class Pool:
    """Ends a task whenever the scheduler waits: `choose` says which, `lose` by what error, if any."""

    def __init__(self, lane, lose=lambda task: None, choose=lambda size: 0):
        self.lane, self.lose, self.choose = lane, lose, choose
        self.pending, self.started, self.most = [], [], 0

    def submit(self, task, label):
        future = Future()
        self.pending.append((task, future))
        self.started.append(members(task))
        self.most = max(self.most, sum(len(members(task)) for task, _ in self.pending))
        return future

    def step(self):
        task, future = self.pending.pop(self.choose(len(self.pending)))
        error = self.lose(task)
        if error is None:
            future.set_result(task.function(*task.args))
        else:
            future.set_exception(error)

    def run(self, size, monkeypatch, max_retries=1, caps=None):
        wait = Scheduler._wait

        def wait_by_hand(scheduler, timeout):
            if timeout > 0:
                self.step()
            return wait(scheduler, 0.0)

        monkeypatch.setattr(Scheduler, "_wait", wait_by_hand)
        scheduler = Scheduler(self.submit, caps or {}, max_retries, poll_interval=1e6)
        scheduler.add(packed(self.lane, size, together))
        scheduler.run()


@pytest.mark.slow
@given(data=st.data())
def test_bounds_hold_and_every_task_ends_once_whatever_is_lost(data):
    lane = ListLane(data.draw(st.text("ab-", max_size=12)), data.draw(st.integers(1, 6)))
    names = [task.name for task in lane.waiting]
    size = data.draw(st.integers(2, 5))

    def lose(task):
        error = data.draw(
            st.sampled_from([None, None, WorkerLostError("gone"), ExecutorLostError("down"), ValueError("bad")])
        )
        if isinstance(error, ExecutorLostError) and len(pool.started) > 60:  # for ever, if it does not stop
            return None
        for name in members(task) if error is not None else ():
            if data.draw(st.booleans()):
                lane.left[name] = {"of": "left"}
        return error

    pool = Pool(lane, lose, lambda size: data.draw(st.integers(0, size - 1)))
    with pytest.MonkeyPatch.context() as monkeypatch:
        pool.run(size, monkeypatch)
    assert Counter(name for name, _ in lane.ends) == Counter(names)
    assert all(how in ("left", name) for name, how in lane.ends if name in lane.left)
    assert pool.most <= lane.max_in_flight
    for pack in pool.started:
        assert len(pack) <= size
        assert len({name[-1] for name in pack}) == 1
        assert len(pack) == 1 or pack[0][-1] != "-"
    assert lane.num_closed == 1


def test_a_worker_is_filled_by_the_next_pack_until_the_last_which_is_not_full(monkeypatch):
    pool = Pool(ListLane("aaaaaaa", max_in_flight=6))
    pool.run(3, monkeypatch, caps={"a": 1})
    assert [len(pack) for pack in pool.started] == [3, 3, 1]
    assert [how for _, how in pool.lane.ends] == [name for name, _ in pool.lane.ends]


def test_only_the_task_that_loses_its_worker_is_blamed(monkeypatch):
    pool = Pool(ListLane("aaaa"), lambda task: WorkerLostError("gone") if "lane2a" in members(task) else None)
    pool.run(4, monkeypatch, max_retries=1)
    pack = ["lane0a", "lane1a", "lane2a", "lane3a"]
    assert pool.started[:2] == [pack, pack]
    assert Counter(map(tuple, pool.started[2:])) == Counter(
        [("lane0a",), ("lane1a",), ("lane2a",), ("lane2a",), ("lane3a",)]
    )
    assert dict(pool.lane.ends) == {name: "WorkerLostError" if name == "lane2a" else name for name in pack}


def test_a_worker_that_ends_itself_for_one_task_costs_the_others_a_retry(monkeypatch):
    """A watchdog leaves why in the files of the one, and the next worker finds it there."""
    lane = ListLane("aaa")

    def lose(task):
        if lane.left:
            return None
        lane.left["lane1a"] = {"of": "out of time"}
        return WorkerLostError("gone")

    Pool(lane, lose).run(3, monkeypatch, max_retries=1)
    assert lane.retries == ["lane0a", "lane2a"]
    assert len(lane.ends) == 3


SPACE = {
    "eta0": FloatDist(dist="float", low=1e-6, high=1e-1, log=True),
    "precond_type": CategoricalDist(dist="categorical", choices=("none", "adam")),
}


def complete(trial_dir, problem_dir):
    folder = Path(trial_dir)
    append_json_line(folder / PROGRESS_JSONL, {"step": 50, "llc_hat": 2.0, "fraction": 0.5})
    metrics = Metrics(state=State.COMPLETE, llc_hat=2.0, se_hat=0.1, rhat=1.0)
    metrics.write(folder / METRICS_JSON)
    return metrics


def build_lane(store, spec, paths, open_next=None):
    plan = StudyPlan(
        pid="p_1", method="sgld", label="htex32", settings={"steps": 100},
        reference=ReferenceRecord(method="hmc", llc=2.0, se=0.01, is_certified=True), seed=3, trial_sec=60.0,
        num_trials=spec.max_trials_per_method, function=complete,
    )  # fmt: skip
    return TrialLane(store.open("p_1", "sgld", SPACE), plan, spec, paths, open_next)


@pytest.mark.parametrize("is_worker_lost", [False, True])
def test_a_study_in_packs_has_all_its_trials_each_in_its_folder(tmp_path, is_worker_lost):
    paths, packs = Paths(tmp_path), []
    (tmp_path / "studies").mkdir()
    spec = OptunaSection(max_trials_per_method=11, concurrency=Concurrency(batch_size=6, pack=3))

    def complete_together(folders, problem_dir):
        packs.append([Manifest.read(Path(folder) / MANIFEST_JSON).settings["precond_type"] for folder in folders])
        if is_worker_lost and len(packs) == 1:
            complete(folders[0], problem_dir)
            raise WorkerLostError("gone")
        return {Path(folder).name: complete(folder, problem_dir) for folder in folders}

    with StudyStore(paths, spec) as store, ThreadPoolExecutor(1) as pool:
        opened = []
        lane = build_lane(store, spec, paths, lambda lane: opened.append(lane.study.num_finished) or ())
        scheduler = Scheduler(lambda task, _: pool.submit(task.function, *task.args), {"htex32": 1}, max_retries=1)
        scheduler.add(packed(lane, 3, complete_together))
        scheduler.run()
        rows = lane.rows()
    assert [row.state for row in rows] == ["COMPLETE"] * 11
    assert len({row.run_id for row in rows}) == 11
    assert opened == [11]
    assert all(len(set(kinds)) == 1 and 2 <= len(kinds) <= 3 for kinds in packs)
    assert any(len(kinds) == 3 for kinds in packs)


def test_trials_that_waited_for_their_pack_are_run_when_the_study_goes_on(tmp_path):
    paths = Paths(tmp_path)
    (tmp_path / "studies").mkdir()
    spec = OptunaSection(max_trials_per_method=6, concurrency=Concurrency(batch_size=6, pack=4))

    with StudyStore(paths, spec) as store:
        packs = packed(build_lane(store, spec, paths), 4, together)
        pack = packs.next_task()
        asked = [trial.run_id for trial in store.open("p_1", "sgld", SPACE).trials]
        packs.close()
    assert len(asked) > len(members(pack))
    with StudyStore(paths, spec) as store:
        lane = build_lane(store, spec, paths)
        lane.settle_interrupted()
        assert lane.study.counts == {"RUNNING": len(asked)}
        tasks = [lane.next_task() for _ in asked]
    assert [task.name for task in tasks] == asked, "those in flight and those that waited, under their own ids"
