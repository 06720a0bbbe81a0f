"""What nothing refers to goes when it is old; nothing that is needed ever does."""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import suppress

import pytest

from lambda_hat.artifacts.collection import Garbage, Skipped, collect
from lambda_hat.artifacts.files import append_json_line
from lambda_hat.artifacts.inventory import borrowers, runs_under
from lambda_hat.artifacts.paths import Paths, RunContext
from lambda_hat.errors import RunStateError
from tests.conftest import HANGING

NEEDED, STRAY, STRAY_PROBLEM = ("r_aaaaaaaaaaaa", "r_bbbbbbbbbbbb"), "r_cccccccccccc", "p_0123456789cc"


def gc(store, *, is_dry=False, **options):
    options = {"older_than": None, "with_whole_runs": False, "is_finished": True} | options
    runs = runs_under(store.root)
    return [item for run in runs for item in collect(run, borrowers=borrowers(run, runs), is_dry=is_dry, **options)]


def paths_of(items, store):
    return {item.path.relative_to(store.paths.root).as_posix() for item in items if isinstance(item, Garbage)}


STRAYS = {
    f"trials/p_0123456789ab/sgld/{STRAY}",
    f"problems/{STRAY_PROBLEM}",
    "parsl_runinfo/htex64/000",
    "cache",
    "tables/.x.parquet.1.ab.tmp",
}


def test_a_young_run_keeps_everything(store):
    before = store.names()
    assert gc(store) == []
    assert store.names() == before


def test_an_old_run_keeps_what_its_journal_and_its_tables_mention(store):
    store.grow_old(31)
    before = store.names()
    assert paths_of(gc(store, is_dry=True), store) == STRAYS
    assert store.names() == before, "a dry run removes nothing"
    removed = gc(store)
    assert paths_of(removed, store) == STRAYS
    assert all(item.num_bytes > 0 for item in removed)
    left = store.names()
    assert all(f"trials/p_0123456789ab/sgld/{rid}/metrics.json" in left for rid in NEEDED)
    assert "problems/p_0123456789ab/ref.json" in left
    assert not left & STRAYS - {"cache"}
    assert gc(store) == []


def test_days_can_be_given(store):
    store.grow_old(5)
    assert paths_of(gc(store, is_dry=True), store) == {"tables/.x.parquet.1.ab.tmp"}
    assert paths_of(gc(store, is_dry=True, older_than=4), store) == STRAYS


def test_a_whole_run_goes_only_if_asked_for_old_and_finished(store):
    store.grow_old(31)
    assert "." not in paths_of(gc(store, is_dry=True), store)
    assert "." not in paths_of(gc(store, is_dry=True, with_whole_runs=True, is_finished=False), store)
    assert "." not in paths_of(gc(store, is_dry=True, with_whole_runs=True, older_than=32), store)
    assert paths_of(gc(store, with_whole_runs=True), store) == {"."}
    assert not store.paths.root.exists()


@pytest.mark.parametrize("is_relative", [False, True])
def test_a_run_whose_references_another_one_takes_stays_with_all_its_problems(store, monkeypatch, is_relative):
    monkeypatch.chdir(store.root.parent)
    folder = store.paths.root / "problems"
    other = Paths(store.root / "recommended" / "v1")
    with RunContext(other) as context:
        references = folder.relative_to(store.root.parent) if is_relative else folder
        context.save_config(json.dumps({"store": {"ttl_days": 90, "references": str(references)}}))
    store.grow_old(31)
    items = gc(store, with_whole_runs=True)
    assert [item.reason for item in items if isinstance(item, Skipped)] == [
        "but for what nobody needs: its references serve recommended/v1"
    ]
    assert paths_of(items, store) == STRAYS - {f"problems/{STRAY_PROBLEM}"}
    assert (folder / STRAY_PROBLEM).is_dir()
    shutil.rmtree(other.root)
    store.grow_old(31)
    assert paths_of(gc(store, with_whole_runs=True), store) == {"."}


def test_a_run_that_is_in_use_is_left_alone(store):
    store.grow_old(31)
    with RunContext(store.paths):
        (skipped,) = gc(store)
        assert isinstance(skipped, Skipped)
        assert "in use by process" in skipped.reason
        store.paths.lock.with_name("lock.json").unlink()  # what says so is no more than a hint: the lock decides
        (skipped,) = gc(store)
        assert "is in use by another lambda-hat" in skipped.reason
    assert store.names() >= STRAYS


def test_a_study_that_starts_meanwhile_is_told_to_wait(store):
    store.grow_old(31)
    (run,) = runs_under(store.root)
    items = collect(run, older_than=None, with_whole_runs=False, is_finished=True, is_dry=False)
    next(items)
    with pytest.raises(RunStateError, match="is in use by lambda-hat with process id"), RunContext(store.paths):
        pass
    list(items)
    with RunContext(store.paths):
        pass


def test_a_table_that_cannot_be_read_keeps_everything(store):
    store.grow_old(31)
    store.paths.trials_table.write_bytes(b"torn")
    (skipped,) = gc(store)
    assert "What it refers to is not known" in skipped.reason


def test_no_trial_of_a_running_study_is_lost_to_a_race(store):
    """A study begins trials while another thread collects everything of any age, until each had its turn often."""
    begun: list[str] = []
    lost: list[str] = []
    num_collections, deadline = 0, time.monotonic() + HANGING

    def begin(rid: str) -> None:
        with RunContext(store.paths):
            folder = store.add_trial(rid)  # between the two it is old enough, and nothing mentions it
            append_json_line(store.paths.journal, {"run_id": rid})
            if not (folder / "metrics.json").is_file():
                lost.append(rid)

    def study() -> None:
        while (len(begun) < 20 or num_collections < 5) and time.monotonic() < deadline:
            with suppress(RunStateError):  # the collection has the lock
                begin(rid := f"r_{len(begun):012x}")
                begun.append(rid)
            time.sleep(0.001)

    thread = threading.Thread(target=study, daemon=True)
    thread.start()
    while thread.is_alive():
        num_collections += not any(isinstance(item, Skipped) for item in gc(store, older_than=0.0))
        time.sleep(0.001)
    kept = {path.name for path in store.paths.study_dir("p_0123456789ab", "sgld").iterdir()}
    assert lost == []
    assert kept == {*begun, "r_aaaaaaaaaaaa", "r_bbbbbbbbbbbb"}
    assert len(begun) >= 20
    assert num_collections >= 5
