"""A study's trials from manifest to told value, with workers that only write files."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Semaphore

import pytest

from lambda_hat.artifacts.files import append_json_line
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, PROGRESS_JSONL, STOP_FLAG, Paths
from lambda_hat.config.study import Concurrency, FloatDist, IntDist, OptunaSection, PrunerSpec, SearchAlgorithm
from lambda_hat.errors import WorkerLostError
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.provenance import Provenance, Timings
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.state import State
from lambda_hat.scheduling.scheduler import Scheduler
from lambda_hat.tuning.confirmation import best_candidates
from lambda_hat.tuning.objective import WORST_VALUE
from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.tuning.stored import StoredStudy, read_journal, short_of_time
from lambda_hat.tuning.study import StudyStore
from lambda_hat.tuning.trials import TrialLane
from lambda_hat.workflows.changes import num_finished, without_metrics
from tests.conftest import HANGING

SPACE = {
    "eta0": FloatDist(dist="float", low=1e-6, high=1e-1, log=True),
    "steps": IntDist(dist="int", low=100, high=1000, step=50),
}
REFERENCE = ReferenceRecord(method="hmc", llc=2.0, se=0.01, is_certified=True)
SPEC = OptunaSection(
    max_trials_per_method=12,
    concurrency=Concurrency(batch_size=3),
    sampler=SearchAlgorithm(n_startup_trials=5),
    pruner=PrunerSpec(n_startup_trials=2, n_warmup_steps=0),
)


def estimate(trial_dir, problem_dir):
    """A trial that completes with λ̂ = 2 + eta0."""
    settings = Manifest.read(Path(trial_dir) / MANIFEST_JSON).settings
    append_json_line(Path(trial_dir) / PROGRESS_JSONL, {"step": 50, "llc_hat": 3.0, "fraction": 0.5})
    metrics = Metrics(
        state=State.COMPLETE, llc_hat=2.0 + settings["eta0"], se_hat=0.1, rhat=1.0, num_gradient_evaluations=10,
        reports={"predicted_bias": 0.02}, timings=Timings(load=0.1, sample=0.5),
        provenance=Provenance(host="here", pid=1),
    )  # fmt: skip
    metrics.write(Path(trial_dir) / METRICS_JSON)
    return metrics


def failing(trial_dir, problem_dir):
    return Metrics.failed("no draw before the deadline")


def diverging(trial_dir, problem_dir):
    return Metrics(state=State.PRUNED, reason="diverged", is_diverged=True)


def not_searched(trial_dir, problem_dir):
    return Metrics(state=State.COMPLETE, llc_hat=2.0, se_hat=0.1)


def not_a_number(trial_dir, problem_dir):
    return Metrics(state=State.COMPLETE)


def raising(trial_dir, problem_dir):
    raise ValueError("a bug")


def lost(trial_dir, problem_dir):
    append_json_line(Path(trial_dir) / PROGRESS_JSONL, {"step": 50, "llc_hat": 3.0, "fraction": 0.5})
    raise WorkerLostError("worker is gone")


def lost_after_its_end(trial_dir, problem_dir):
    estimate(trial_dir, problem_dir)
    raise WorkerLostError("worker is gone")


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "studies").mkdir()
    return Paths(tmp_path)


def build_lane(store, paths, function=estimate, spec=SPEC, trial_sec=60.0):
    plan = StudyPlan(
        pid="p_1", method="sgld", label="htex32", settings={"num_chains": 2, "steps": 7}, reference=REFERENCE, seed=3,
        num_trials=spec.max_trials_per_method, trial_sec=trial_sec, function=function,
    )  # fmt: skip
    return TrialLane(store.open("p_1", "sgld", SPACE), plan, spec, paths)


def run(lane, max_retries=0, poll_interval=0.05):
    with ThreadPoolExecutor(3) as pool:
        scheduler = Scheduler(
            lambda task, label: pool.submit(task.function, *task.args), {}, max_retries, poll_interval=poll_interval
        )
        scheduler.add(lane)
        scheduler.run()


def test_a_study_from_manifests_to_rows(paths):
    with StudyStore(paths, SPEC) as store:
        lane = build_lane(store, paths)
        run(lane)
        rows = lane.rows()
    assert len(rows) == 12
    for row in rows:
        folder = paths.trial_dir("p_1", "sgld", row.run_id)
        manifest = Manifest.read(folder / MANIFEST_JSON)
        assert manifest.run_id == row.run_id
        assert manifest.hyperparams == row.hyperparameters
        assert manifest.settings == {"num_chains": 2, **manifest.hyperparams}
        assert manifest.seed == row.seed
        assert manifest.budget.trial_sec == 60.0
        assert row.state is State.COMPLETE
        assert row.llc_hat == 2.0 + row.hyperparameters["eta0"]
        assert row.objective == pytest.approx(row.hyperparameters["eta0"])
        assert row.relative_error == pytest.approx(row.hyperparameters["eta0"] / 2)
        assert (row.sample_sec, row.compile_sec, row.executor) == (0.5, None, "htex32")
        assert (row.host, row.pid_worker, row.reports) == ("here", 1, {"predicted_bias": 0.02})
    assert len({row.seed for row in rows}) == 12
    assert len(pickle.loads(paths.study_pickle("p_1", "sgld").read_bytes()).trials) == 12


@pytest.mark.parametrize(
    ("function", "state", "value", "reason"),
    [
        (failing, "FAIL", None, "no draw before the deadline"),
        (not_a_number, "FAIL", None, "the estimate is not a finite number"),
        (diverging, "PRUNED", WORST_VALUE, "diverged"),
        (raising, "FAIL", None, "ValueError: a bug"),
        (lost, "FAIL", None, "WorkerLostError: worker is gone"),
    ],
)
def test_how_a_trial_may_end_otherwise(paths, function, state, value, reason):
    spec = SPEC.model_copy(update={"max_trials_per_method": 1})
    with StudyStore(paths, spec) as store:
        lane = build_lane(store, paths, function, spec)
        run(lane, max_retries=1)
        (row,) = lane.rows()
    assert (row.state, row.objective, row.reason, row.llc_hat) == (state, value, reason, None)
    if function is raising:
        metrics = Metrics.read(paths.trial_dir("p_1", "sgld", row.run_id) / METRICS_JSON)
        assert "in raising" in metrics.traceback


def test_a_trial_that_ended_before_its_worker_was_lost_counts(paths):
    spec = SPEC.model_copy(update={"max_trials_per_method": 1})
    with StudyStore(paths, spec) as store:
        lane = build_lane(store, paths, lost_after_its_end, spec)
        run(lane)
        assert [row.state for row in lane.rows()] == ["COMPLETE"]


def test_too_many_failures_end_the_study(paths):
    with StudyStore(paths, SPEC) as store:
        lane = build_lane(store, paths, failing)
        run(lane)
        assert lane.has_too_many_failed
        assert 5 <= lane.study.num_asked <= 5 + SPEC.concurrency.batch_size
        assert lane.study.num_finished == lane.study.num_asked


def test_a_method_without_a_search_space_runs_once_and_is_confirmed(paths):
    with StudyStore(paths, SPEC) as store:
        plan = replace(build_lane(store, paths, not_searched).plan, method="auto", num_trials=1)
        lane = TrialLane(store.open("p_1", "auto", {}), plan, SPEC, paths)
        lane.enqueue_known()
        run(lane)
        (row,) = lane.rows()
        assert (row.state, row.hyperparameters, lane.is_through) == (State.COMPLETE, {}, True)
        (candidate,) = best_candidates("p_1", lane.study.trials, 2)
    assert candidate.params == {}


@pytest.mark.parametrize(("is_diverged", "value"), [(False, 7.0), (True, WORST_VALUE)])
def test_a_hopeless_trial_is_asked_to_stop_and_keeps_its_last_value_unless_it_diverges(paths, is_diverged, value):
    looks = Semaphore(0)  # of the scheduler at the one trial that runs

    def slow(trial_dir, problem_dir):
        folder = Path(trial_dir)
        is_hopeless = Manifest.read(folder / MANIFEST_JSON).hyperparams == {"eta0": 1e-1, "steps": 1000}
        for tenth in range(1, 4):
            llc_hat = 9.0 if is_hopeless else 2.1
            append_json_line(folder / PROGRESS_JSONL, {"step": tenth, "llc_hat": llc_hat, "fraction": tenth / 10})
            while looks.acquire(blocking=False):
                pass
            for _ in range(2):  # the first look may have been under way when the line was written
                assert looks.acquire(timeout=HANGING)
            if (folder / STOP_FLAG).exists():
                return Metrics(state=State.PRUNED, reason="an end", is_diverged=is_diverged, llc_hat=9.0)
        return Metrics(state=State.COMPLETE, llc_hat=2.1)

    spec = SPEC.model_copy(update={"max_trials_per_method": 4, "concurrency": Concurrency(batch_size=1)})
    with StudyStore(paths, spec) as store:
        lane = build_lane(store, paths, slow, spec)
        for params in ({"steps": 100}, {"steps": 150}, {"steps": 200}, {"eta0": 1e-1, "steps": 1000}):
            lane.study.enqueue(params)
        on_progress = lane.on_progress
        lane.on_progress = lambda task: (on_progress(task), looks.release())[0]
        run(lane, poll_interval=0.02)
        trials = lane.study.trials
    assert [trial.state for trial in trials] == ["COMPLETE"] * 3 + ["PRUNED"]
    assert trials[3].value == value


def test_an_interrupted_command_is_settled_and_finished(paths):
    with StudyStore(paths, SPEC) as store:
        lane = build_lane(store, paths)
        tasks = [lane.next_task() for _ in range(4)]
        lane.on_done(tasks[0], estimate(*tasks[0].args))
        estimate(*tasks[1].args)  # ended, but nobody was there to tell it
    with StudyStore(paths, SPEC) as store:
        lane = build_lane(store, paths)
        lane.settle_interrupted()
        assert lane.study.counts == {"COMPLETE": 2, "RUNNING": 2}
        assert not lane.is_through
        run(lane)
        assert lane.is_through
        rows = lane.rows()
    assert [row.state for row in rows] == ["COMPLETE"] * 12
    assert [row.run_id for row in rows[:4]] == [task.name for task in tasks], "run again under their own ids"
    assert len({row.run_id for row in rows}) == 12


def test_known_settings_are_tried_first_and_marked(paths):
    spec = SPEC.model_copy(update={"enqueue": {"sgld": ("preset", {"eta0": 1e-3})}})
    with StudyStore(paths, spec) as store:
        lane = build_lane(store, paths, spec=spec)
        lane.enqueue_known()
        run(lane)
        rows = lane.rows()
    assert [row.origin for row in rows[:3]] == ["preset", "enqueued", "search"]
    assert rows[0].hyperparameters["steps"] == 100, "the nearest to 7"
    assert rows[1].hyperparameters["eta0"] == 1e-3
    assert len(rows) == spec.max_trials_per_method


@pytest.mark.parametrize("short_of", ["trial_sec", "setup_sec"])
def test_trials_that_failed_for_want_of_time_run_again_when_there_is_more(paths, short_of):
    def hasty(trial_dir, problem_dir):
        folder = Path(trial_dir)
        manifest = Manifest.read(folder / MANIFEST_JSON)
        if getattr(manifest.budget, short_of) > 100.0 or manifest.hyperparams["steps"] > 300:
            return estimate(trial_dir, problem_dir)
        metrics = Metrics.failed("out of time", short_of=short_of)
        metrics.write(folder / METRICS_JSON)
        return metrics

    spec = SPEC.model_copy(update={"max_failed_fraction": 1.0})

    def command(seconds):
        """One command with so much of the budget, and what a dry run says before it."""
        budgets = {"trial_sec": 50.0, "setup_sec": 50.0} | {short_of: seconds}
        told = read_journal(paths.journal).get("p_1:sgld", StoredStudy()).trials
        with StudyStore(paths, spec) as store:
            plan = replace(build_lane(store, paths, hasty).plan, **budgets)
            lane = TrialLane(store.open("p_1", "sgld", SPACE), plan, spec, paths)
            lane.settle_interrupted()
            lane.study.repeat(plan.budget)
            again = short_of_time(told, plan.budget)
            num_before = lane.study.num_finished
            run(lane)
            assert lane.study.num_finished == 12
            return lane.rows(), [trial.number for trial in again], 12 - num_before

    first, again, num_run = command(50.0)
    failed = [row for row in first if row.state is State.FAIL]
    assert failed
    assert (len(first), again, num_run) == (12, [], 12)
    assert {row.short_of for row in failed} == {short_of}
    same, again, num_run = command(50.0)
    assert (len(same), again, num_run) == (12, [], 0), "no more time, no other end"
    more, again, num_run = command(200.0)
    assert (again, num_run) == ([row.number for row in failed], len(failed))
    assert len(more) == 12 + len(failed)
    for row, later in zip(failed, more[12:], strict=True):
        assert (later.hyperparameters, later.origin, later.state) == (row.hyperparameters, row.origin, "COMPLETE")
        assert more[row.number].reason == f"out of time; run again as trial {later.number}"
    assert command(400.0)[1:] == ([], 0), "once is enough"


def test_the_journal_is_read_without_optuna_as_with_it(paths):
    with StudyStore(paths, SPEC) as store:
        lane = build_lane(store, paths, failing, SPEC.model_copy(update={"max_failed_fraction": 1.0}))
        lane.study.enqueue({"steps": 100, "eta0": 1e-3})
        run(lane)
        store.open("p_2", "sgld", SPACE).ask()
        for name in ("p_1", "p_2"):
            trials = store.open(name, "sgld", SPACE).trials
            told = read_journal(paths.journal)[f"{name}:sgld"].trials
            facts = ("number", "state", "run_id", "again", "short_of", "short_sec")
            assert [[getattr(trial, fact) for fact in facts] for trial in told] == [
                [getattr(trial, fact) for fact in facts] for trial in trials
            ]
    assert read_journal(paths.journal.with_name("none")) == {}


def test_a_trial_whose_file_is_lost_keeps_what_the_journal_knows(paths):
    with StudyStore(paths, SPEC) as store:
        lane = build_lane(store, paths)
        run(lane)
        before = lane.rows()
    lost = [paths.trial_dir("p_1", "sgld", before[number].run_id) / METRICS_JSON for number in (3, 5)]
    lost[0].unlink()
    lost[1].write_text('{"state": "COMP')
    journal = read_journal(paths.journal)
    assert without_metrics(paths, journal, "p_1:sgld") == [before[3].run_id, before[5].run_id]
    assert num_finished(paths, "p_1", "sgld", journal) == 12
    with StudyStore(paths, SPEC) as store:
        lane = build_lane(store, paths, raising)
        assert lane.is_through
        rows = lane.rows()
    for row, was in zip(rows, before, strict=True):
        facts = ("state", "llc_hat", "se_hat", "rhat", "objective", "error")
        assert [getattr(row, fact) for fact in facts] == [getattr(was, fact) for fact in facts]


def test_a_larger_budget_serves_the_trials_that_were_interrupted(paths):
    with StudyStore(paths, SPEC) as store:
        (task,) = (build_lane(store, paths).next_task(),)
    with StudyStore(paths, SPEC) as store:
        lane = build_lane(store, paths, trial_sec=120.0)
        lane.settle_interrupted()
        again = lane.next_task()
        assert again.name == task.name
        assert Manifest.read(Path(again.args[0]) / MANIFEST_JSON).budget.trial_sec == 120.0
        assert lane.study.num_asked == 1


def test_a_finished_trial_is_not_run_again_when_the_journal_is_lost(paths):
    with StudyStore(paths, SPEC) as store:
        run(build_lane(store, paths, spec=SPEC.model_copy(update={"concurrency": Concurrency(batch_size=1)})))
    paths.journal.unlink()
    with StudyStore(paths, SPEC) as store:
        followed = []
        plan = build_lane(store, paths, raising).plan
        lane = TrialLane(store.open("p_1", "sgld", SPACE), plan, SPEC, paths, lambda lane: followed.append(lane) or ())
        assert lane.next_task() is None
        assert lane.study.counts["COMPLETE"] == 12
        lane.follow()
        assert followed == [lane], "what follows can still be asked for"


@pytest.mark.slow
@pytest.mark.parametrize(("function", "expected"), [(estimate, [12]), (failing, [])])
def test_what_follows_a_study_is_opened_once_unless_too_many_trials_failed(paths, function, expected):
    opened = []
    with StudyStore(paths, SPEC) as store:
        plan = build_lane(store, paths, function).plan
        study = store.open("p_1", "sgld", SPACE)
        lane = TrialLane(study, plan, SPEC, paths, lambda lane: opened.append(lane.study.num_finished) or ())
        assert lane.follow() == ()
        run(lane)
        assert opened == expected
        assert lane.follow() == ()
    assert opened == expected
