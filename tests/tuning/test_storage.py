"""A full disk ends a study with its own error, and whatever was whole before is there when it goes on."""

from __future__ import annotations

import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lambda_hat.artifacts.files import append_json_line
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, PROGRESS_JSONL, Paths, RunContext
from lambda_hat.config.study import Concurrency, FloatDist, IntDist, OptunaSection, PrunerSpec, SearchAlgorithm
from lambda_hat.errors import RunStateError, StorageError
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import TrialRow
from lambda_hat.records.state import State
from lambda_hat.records.tables import read_frame, write_table
from lambda_hat.scheduling.scheduler import Scheduler
from lambda_hat.tuning.journal import ControllerJournal
from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.tuning.study import StudyStore
from lambda_hat.tuning.trials import TrialLane

NUM_TRIALS = 5
SPACE = {
    "eta0": FloatDist(dist="float", low=1e-6, high=1e-1, log=True),
    "steps": IntDist(dist="int", low=100, high=1000, step=50),
}
SPEC = OptunaSection(
    max_trials_per_method=NUM_TRIALS,
    concurrency=Concurrency(batch_size=2),
    sampler=SearchAlgorithm(type="random"),
    pruner=PrunerSpec(type="none"),
)
REFERENCE = ReferenceRecord(method="hmc", llc=2.0, se=0.01, is_certified=True)
RECORDS = [{"op_code": 0, "worker_id": "w", "number": number} for number in range(3)]


def build_paths(folder):
    paths = Paths(folder)
    paths.make_folders()
    return paths


def run_study(paths, started):
    """A whole study and its table; the folder of every trial that a worker begins is added to `started`."""

    def estimate(trial_dir, problem_dir):
        folder = Path(trial_dir)
        started.append(folder.name)
        settings = Manifest.read(folder / MANIFEST_JSON).settings
        append_json_line(folder / PROGRESS_JSONL, {"step": 50, "llc_hat": 3.0, "fraction": 0.5})
        metrics = Metrics(state=State.COMPLETE, llc_hat=2.0 + settings["eta0"], se_hat=0.1, rhat=1.0)
        metrics.write(folder / METRICS_JSON)
        return metrics

    plan = StudyPlan(
        pid="p_1", method="sgld", label="htex32", settings={}, reference=REFERENCE, seed=3, trial_sec=60.0,
        num_trials=NUM_TRIALS, function=estimate,
    )  # fmt: skip
    with StudyStore(paths, SPEC) as store, ThreadPoolExecutor(2) as pool:
        lane = TrialLane(store.open("p_1", "sgld", SPACE), plan, SPEC, paths)
        lane.settle_interrupted()
        # Never polled, so that every run makes the same number of writes.
        scheduler = Scheduler(lambda task, label: pool.submit(task.function, *task.args), {}, 0, poll_interval=600)
        scheduler.add(lane)
        scheduler.run()
        write_table(paths.trials_table, lane.rows(), TrialRow)
        return lane.study.num_asked


def whole_trials(paths):
    return {path.parent.name for path in paths.study_dir("p_1", "sgld").glob(f"*/{METRICS_JSON}")}


@pytest.mark.nightly
@pytest.mark.parametrize("is_torn", [False, True])
def test_a_study_goes_on_after_a_disk_that_was_full_from_any_write_on(tmp_path, failing_writes, is_torn):
    paths = build_paths(tmp_path / "spared")
    with failing_writes() as writes:
        assert run_study(paths, []) == NUM_TRIALS
    assert writes.count > 10 * NUM_TRIALS
    for number in range(1, writes.count + 1):
        paths = build_paths(tmp_path / str(number))
        with failing_writes(number, is_torn=is_torn), pytest.raises(StorageError, match="could not be written"):
            run_study(paths, [])
        before, started = whole_trials(paths), []
        assert run_study(paths, started) == NUM_TRIALS
        assert before.isdisjoint(started)
        table = read_frame(paths.trials_table)
        assert (len(table), set(table["state"])) == (NUM_TRIALS, {"COMPLETE"})
        assert table["run_id"].is_unique
        assert before <= set(table["run_id"])


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_everything_in_a_run_has_the_permissions_that_the_umask_leaves(tmp_path, umask):
    paths = Paths(tmp_path / "run")
    old = os.umask(umask)
    try:
        with RunContext(paths) as context:
            context.save_config(json.dumps({"methods": ["sgld"]}))
            run_study(paths, [])
            found = {path.relative_to(paths.root): path.stat().st_mode for path in paths.root.rglob("*")}
    finally:
        os.umask(old)
    assert {path.suffix for path in found} == {"", ".json", ".jsonl", ".journal", ".parquet", ".pkl", ".yaml"}
    for path, mode in found.items():
        assert stat.S_IMODE(mode) == (0o777 if stat.S_ISDIR(mode) else 0o666) & ~umask, path


@pytest.fixture
def journal_path(tmp_path):
    return tmp_path / "optuna.journal"


def stored(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_journal_whose_write_failed_ends_with_its_last_whole_record_and_takes_no_other(
    journal_path, failing_writes, is_torn
):
    journal = ControllerJournal(journal_path)
    journal.append_logs(RECORDS[:2])
    with failing_writes(1, is_torn=is_torn), pytest.raises(StorageError) as caught:
        journal.append_logs(RECORDS[2:])
    assert str(caught.value) == (
        f"{journal_path} could not be written: No space left on device. "
        "Once there is room and it can be written, the same command does; `--resume` goes on with a run."
    )
    for go_on in (lambda: journal.append_logs(RECORDS[2:]), journal.sync):
        with pytest.raises(StorageError) as again:
            go_on()
        assert str(again.value) == str(caught.value)
    assert list(journal.read_logs(0)) == RECORDS[:2]
    journal.close()
    assert stored(journal_path) == RECORDS[:2]
    journal = ControllerJournal(journal_path)
    journal.append_logs(RECORDS[2:])
    journal.close()
    assert stored(journal_path) == RECORDS


def test_an_interruption_in_the_middle_of_a_record_leaves_whole_ones(journal_path, monkeypatch):
    def interrupt(descriptor, content):
        os.write(descriptor, content[:10])
        raise KeyboardInterrupt

    journal = ControllerJournal(journal_path)
    journal.append_logs(RECORDS[:1])
    with monkeypatch.context() as patch:
        patch.setattr("lambda_hat.tuning.journal.write_all", interrupt)
        with pytest.raises(KeyboardInterrupt):
            journal.append_logs(RECORDS[1:])
    with pytest.raises(StorageError, match=r"optuna\.journal was interrupted while it was written"):
        journal.append_logs(RECORDS[1:])
    journal.close()
    assert stored(journal_path) == RECORDS[:1]


def test_a_disk_that_breaks_while_syncing_is_told_once(journal_path, monkeypatch):
    def break_down(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = ControllerJournal(journal_path)
    journal.append_logs(RECORDS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", break_down)
        with pytest.raises(StorageError, match=r"optuna\.journal could not be written: Input/output error"):
            journal.sync()
        journal.close()
    assert stored(journal_path) == RECORDS


def test_a_disk_that_breaks_at_the_end_is_told_by_close(journal_path, monkeypatch):
    def break_down(descriptor):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    journal = ControllerJournal(journal_path)
    monkeypatch.setattr(os, "fsync", break_down)
    with pytest.raises(StorageError, match="quota exceeded"):
        journal.close()


def test_a_journal_that_is_a_link_is_refused_and_what_it_leads_to_is_left_alone(journal_path):
    other = journal_path.with_name("precious")
    other.write_text("half a line")
    journal_path.symlink_to(other)
    with pytest.raises(RunStateError, match=r"optuna\.journal cannot be written: it is a symbolic link\.$"):
        ControllerJournal(journal_path)
    assert other.read_text() == "half a line"


@pytest.mark.parametrize("content", [b"{}\n", b"[]\n", b"1\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_lines_that_are_no_records_are_an_error_that_names_the_journal(journal_path, content):
    journal_path.write_bytes(content)
    with pytest.raises(RunStateError, match=r"optuna\.journal is damaged"):
        ControllerJournal(journal_path)
    assert journal_path.read_bytes() == content
