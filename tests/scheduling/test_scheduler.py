"""Every task ends once, no bound is exceeded, turns are fair, and lost workers are tried again."""

import itertools
import math
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_hat.errors import ExecutionError, ExecutorLostError, StorageError, WorkerLostError
from lambda_hat.records.event import TaskEvent
from lambda_hat.report.timeline import spans_of, use_of
from lambda_hat.scheduling.scheduler import SILENT_POLLS, Scheduler, Task
from tests.conftest import HANGING


class CountingLane:
    """Hands out `num_tasks` tasks and remembers what became of them."""

    def __init__(self, name, num_tasks, label="a", max_in_flight=4, opens=(), function=dict):
        self.name, self.label, self.max_in_flight = name, label, max_in_flight
        self.num_left, self.opens, self.function = num_tasks, list(opens), function
        self.ends, self.progress, self.retries, self.num_closed = [], [], [], 0
        self.left = {}  # on disk, by task

    def next_task(self):
        if self.num_left == 0:
            return None
        self.num_left -= 1
        return Task(f"{self.name}{self.num_left}", self.function)

    def on_progress(self, task):
        self.progress.append(task.name)
        return False

    def stored_result(self, task):
        return self.left.get(task.name)

    def on_retry(self, task):
        self.retries.append(task.name)

    def on_done(self, task, result):
        self.ends.append((task.name, "done"))
        return self.opens

    def on_error(self, task, error):
        self.ends.append((task.name, type(error).__name__))
        return ()

    def close(self):
        self.num_closed += 1


class ManualPool:
    """Futures that end when `step` says so, in an order drawn by hypothesis or first come, first served."""

    def __init__(self, choose=lambda size: 0, outcome=lambda task: None):
        self.choose, self.outcome = choose, outcome
        self.pending, self.started = [], []
        self.most_by_label, self.most_by_lane = Counter(), Counter()

    def submit(self, task, label):
        future = Future()
        self.pending.append((task, label, future))
        self.started.append(task.name)
        for most, key in ((self.most_by_label, 1), (self.most_by_lane, 0)):
            for name, count in Counter((t.name[0], lab)[key] for t, lab, _ in self.pending).items():
                most[name] = max(most[name], count)
        return future

    def step(self):
        task, _, future = self.pending.pop(self.choose(len(self.pending)))
        error = self.outcome(task)
        if error is None:
            future.set_result({})
        else:
            future.set_exception(error)


def run_by_hand(pool, lanes, caps, monkeypatch, max_retries=0):
    """Run the scheduler so that it lets one task end, each second, when nothing more can start; the log of events."""
    wait, clock, events = Scheduler._wait, SimpleNamespace(now=0.0), []

    def wait_by_hand(scheduler, timeout):
        if timeout > 0:
            clock.now += 1.0
            pool.step()
        return wait(scheduler, 0.0)

    monkeypatch.setattr(Scheduler, "_wait", wait_by_hand)
    monkeypatch.setattr("lambda_hat.scheduling.scheduler.time", SimpleNamespace(monotonic=lambda: clock.now))
    scheduler = Scheduler(pool.submit, caps, max_retries=max_retries, poll_interval=1e6, on_event=events.append)
    for lane in lanes:
        scheduler.add(lane)
    scheduler.run()
    return [TaskEvent(**asdict(event)) for event in events]


@pytest.mark.slow
@given(data=st.data())
def test_bounds_hold_and_every_task_ends_once(data):
    lanes = [
        CountingLane(name, data.draw(st.integers(0, 8)), data.draw(st.sampled_from("xy")), data.draw(st.integers(1, 4)))
        for name in "abc"
    ]
    caps = data.draw(st.dictionaries(st.sampled_from("xy"), st.integers(1, 3)))
    num_tasks = sum(lane.num_left for lane in lanes)
    errors = st.sampled_from([None, None, WorkerLostError("gone"), ValueError("bad")])
    pool = ManualPool(lambda size: data.draw(st.integers(0, size - 1)), lambda task: data.draw(errors))
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_by_hand(pool, lanes, caps, monkeypatch, max_retries=2)
    assert sum(len(lane.ends) for lane in lanes) == num_tasks
    assert len({name for lane in lanes for name, _ in lane.ends}) == num_tasks
    assert len(pool.started) == num_tasks + sum(len(lane.retries) for lane in lanes)
    assert all(pool.most_by_label[label] <= cap for label, cap in caps.items())
    assert all(pool.most_by_lane[lane.name] <= lane.max_in_flight for lane in lanes)
    assert all(lane.num_closed == 1 for lane in lanes)


@pytest.mark.slow
@given(data=st.data())
def test_the_log_alone_shows_bounds_that_hold_and_no_label_idle_beside_a_task(data):
    lanes = [
        CountingLane(name, data.draw(st.integers(0, 8)), data.draw(st.sampled_from("xy")), data.draw(st.integers(1, 4)))
        for name in "abcd"
    ]
    caps = data.draw(st.dictionaries(st.sampled_from("xy"), st.integers(1, 5)))
    num_tasks = {lane.name: lane.num_left for lane in lanes}
    errors = st.sampled_from([None, None, WorkerLostError("gone"), ValueError("bad")])
    pool = ManualPool(lambda size: data.draw(st.integers(0, size - 1)), lambda task: data.draw(errors))
    with pytest.MonkeyPatch.context() as monkeypatch:
        spans = spans_of(run_by_hand(pool, lanes, caps, monkeypatch, max_retries=2))
    assert Counter(span.lane for span in spans if span.how != "retried") == Counter(num_tasks)
    for lane in lanes:
        own = [span for span in spans if span.lane == lane.name]
        assert use_of(own, lane.label, lane.max_in_flight).max_in_flight <= lane.max_in_flight
    for label in "xy":
        use = use_of(spans, label, caps.get(label, math.inf))
        assert use.max_in_flight <= use.cap
        for since, to, _ in use.idle:
            for lane in (lane for lane in lanes if lane.label == label):
                own = [span for span in spans if span.lane == lane.name]
                num_in_flight = sum(span.start <= since and span.end >= to for span in own)
                num_ended = sum(span.end <= since and span.how != "retried" for span in own)
                num_waiting = num_tasks[lane.name] - num_ended - num_in_flight
                assert num_waiting == 0 or num_in_flight == lane.max_in_flight


def test_a_task_ends_when_its_executor_is_free_again_whatever_is_done_with_its_result(monkeypatch):
    lane = CountingLane("a", 2, max_in_flight=1)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("lambda_hat.scheduling.scheduler.time", SimpleNamespace(monotonic=lambda: clock.now))

    def submit(task, label):
        future = Future()
        clock.now += 3.0
        future.set_result({})
        return future

    def on_done(task, result):
        clock.now += 1.0
        return ()

    lane.on_done, events = on_done, []
    scheduler = Scheduler(submit, {}, 0, poll_interval=1e6, on_event=events.append)
    scheduler.add(lane)
    scheduler.run()
    assert [(event.kind, event.at, event.seconds) for event in events] == [
        ("started", 0.0, 0.0), ("done", 3.0, 3.0), ("started", 4.0, 0.0), ("done", 7.0, 3.0),
    ]  # fmt: skip


def test_a_label_is_filled_to_its_cap_and_lanes_take_turns(monkeypatch):
    lanes = [CountingLane(name, 6, max_in_flight=6) for name in "abc"]
    pool = ManualPool()
    run_by_hand(pool, lanes, {"a": 3}, monkeypatch)
    assert pool.most_by_label == {"a": 3}
    assert "".join(name[0] for name in pool.started) == "abc" * 6


def test_a_label_does_not_wait_for_a_lane_that_is_at_its_bound(monkeypatch):
    pool = ManualPool()
    run_by_hand(pool, [CountingLane("a", 9, max_in_flight=1), CountingLane("b", 9, max_in_flight=9)], {}, monkeypatch)
    assert pool.most_by_label == {"a": 10}


def test_a_full_label_does_not_hold_up_another(monkeypatch):
    pool = ManualPool()
    run_by_hand(pool, [CountingLane("a", 9, "x"), CountingLane("b", 9, "y")], {"x": 1, "y": 2}, monkeypatch)
    assert pool.most_by_label == {"x": 1, "y": 2}


def test_a_finished_task_may_open_lanes(monkeypatch):
    studies = [CountingLane(name, 3) for name in "bc"]
    reference = CountingLane("a", 1, opens=studies)
    run_by_hand(ManualPool(), [reference], {}, monkeypatch)
    assert [len(lane.ends) for lane in (reference, *studies)] == [1, 3, 3]
    assert [lane.num_closed for lane in (reference, *studies)] == [1, 1, 1]


def test_a_lost_worker_is_retried_so_often_and_an_error_never(monkeypatch):
    lost, wrong = CountingLane("a", 1), CountingLane("b", 1)
    pool = ManualPool(outcome=lambda task: WorkerLostError("gone") if task.name[0] == "a" else KeyError("bad"))
    run_by_hand(pool, [lost, wrong], {}, monkeypatch, max_retries=2)
    assert pool.started == ["a0", "b0", "a0", "a0"]
    assert (lost.ends, lost.retries) == ([("a0", "WorkerLostError")], ["a0", "a0"])
    assert (wrong.ends, wrong.retries) == ([("b0", "KeyError")], [])


def test_a_lost_executor_is_not_the_fault_of_its_tasks(monkeypatch):
    lane = CountingLane("a", 1)
    ends = iter([ExecutorLostError("down")] * 5 + [WorkerLostError("gone"), None])
    pool = ManualPool(outcome=lambda task: next(ends))
    run_by_hand(pool, [lane], {}, monkeypatch, max_retries=1)
    assert len(lane.retries) == 6
    assert lane.ends == [("a0", "done")]


def test_a_task_that_had_ended_when_its_worker_was_lost_is_not_run_again(monkeypatch):
    lane = CountingLane("a", 1)
    lane.left["a0"] = {"state": "COMPLETE"}
    pool = ManualPool(outcome=lambda task: WorkerLostError("gone"))
    run_by_hand(pool, [lane], {}, monkeypatch, max_retries=2)
    assert pool.started == ["a0"]
    assert (lane.ends, lane.retries) == ([("a0", "done")], [])


def test_a_full_disk_ends_the_run(monkeypatch):
    lane = CountingLane("a", 2)
    pool = ManualPool(outcome=lambda task: StorageError("no space left"))
    with pytest.raises(StorageError):
        run_by_hand(pool, [lane], {}, monkeypatch)
    assert (lane.ends, lane.num_closed) == ([], 1)


class PolledByHand(Scheduler):
    """Polls whenever it would wait, and a `pool` lets nothing end by itself."""

    def _wait(self, timeout):
        if timeout > 0:
            self.poll()
        return super()._wait(0.0)


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_label_is_stalled_after_so_many_polls_without_a_sign_and_one_that_lives_is_not(monkeypatch, has_begun):
    """Polls are counted, so that time in which the controller was suspended or starved does not count."""
    stuck, alive = CountingLane("a", 1, "x"), CountingLane("b", 1, "y")
    alive.on_progress = lambda task: True
    looks, futures, stalls = itertools.count(1), {}, []
    stuck.on_progress = lambda task: next(looks) == 1 and has_begun
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("lambda_hat.scheduling.scheduler.time", SimpleNamespace(monotonic=lambda: clock.now))

    def submit(task, label):
        futures[label] = Future()
        return futures[label]

    def on_poll():
        clock.now += 3600.0  # the machine sleeps between two looks

    def on_stall(label, polls, begun):
        stalls.append((label, polls, begun, next(looks) - 1))
        if len(stalls) == 1:
            futures[label].set_exception(ExecutorLostError("given up"))
        else:
            for future in futures.values():
                future.set_result({})

    scheduler = PolledByHand(submit, {}, 0, poll_interval=0.05, on_stall=on_stall, on_poll=on_poll)
    scheduler.add(stuck)
    scheduler.add(alive)
    scheduler.run()
    assert [stall[:3] for stall in stalls] == [("x", SILENT_POLLS, has_begun), ("x", SILENT_POLLS, False)]
    assert stalls[0][3] == SILENT_POLLS + has_begun
    assert stuck.retries == ["a0"]
    assert stuck.ends == [("a0", "done")]
    assert alive.ends == [("b0", "done")]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), ExecutionError("all executors are gone")])
def test_whatever_ends_the_run_comes_out_after_the_lanes_are_closed(error):
    lane = CountingLane("a", 3)
    submitted = []

    def submit(task, label):
        if submitted:
            raise error
        submitted.append(task)
        return Future()

    scheduler = Scheduler(submit, {}, max_retries=0)
    scheduler.add(lane)
    with pytest.raises(type(error)):
        scheduler.run()
    assert lane.num_closed == 1


def test_it_wakes_for_ends_and_polls_and_sleeps_otherwise(monkeypatch):
    """Two tasks that end at the third poll: as many waits as there are starts, ends and polls, and no more."""
    wait, waits = Scheduler._wait, []

    def counting_wait(scheduler, timeout):
        waits.append(timeout)
        return wait(scheduler, timeout)

    monkeypatch.setattr(Scheduler, "_wait", counting_wait)
    is_free = threading.Event()
    lane = CountingLane("a", 2, max_in_flight=2, function=lambda: is_free.wait(HANGING) and {})
    events, polls = [], []

    def on_poll():
        polls.append(len(lane.progress))
        if len(polls) == 3:
            is_free.set()

    with ThreadPoolExecutor(2) as pool:
        scheduler = Scheduler(
            lambda task, label: pool.submit(task.function),
            *({}, 0),
            poll_interval=0.1,
            on_event=events.append,
            on_poll=on_poll,
        )
        scheduler.add(lane)
        scheduler.run()
    assert polls[:3] == [2, 4, 6], "each poll asks both tasks"
    assert len(waits) <= 2 + 2 + len(polls)
    assert [event.kind for event in events] == ["started", "started", "done", "done"]
    assert {event.task for event in events} == {"a0", "a1"}
