"""Nothing leaves the run's folder, and one command at a time works in it."""

import json
import os
import subprocess
import sys

import pytest

from lambda_hat.artifacts.files import read_yaml
from lambda_hat.artifacts.paths import Paths, RunContext
from lambda_hat.config.study import Store
from lambda_hat.errors import InputError, RunStateError, StorageError


def test_layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = Paths.from_store(Store())
    root = tmp_path / "runs" / "optuna" / "v1"
    assert paths.root == root
    assert paths.problem_dir("p_1") == root / "problems/p_1"
    assert paths.trial_dir("p_1", "sgld", "r_2") == root / "trials/p_1/sgld/r_2"
    assert paths.study_pickle("p_1", "sgld") == root / "studies/p_1:sgld.pkl"
    assert paths.journal == root / "studies/optuna.journal"
    assert paths.trials_table == root / "tables/optuna_trials.parquet"
    assert paths.resolved_config == root / "meta/resolved_config.yaml"
    assert paths.parsl_dir == root / "parsl_runinfo"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\\b", "..\\a", "-a", "a\n", "p_1:x", "a\0b", "~"])
def test_names_that_are_no_names_are_refused(tmp_path, name):
    paths = Paths(tmp_path)
    for make in (
        paths.problem_dir,
        lambda part: paths.trial_dir(part, "sgld", "r_1"),
        lambda part: paths.trial_dir("p_1", part, "r_1"),
        lambda part: paths.trial_dir("p_1", "sgld", part),
        lambda part: paths.study_pickle("p_1", part),
    ):
        with pytest.raises(InputError, match="cannot name a part of a run"):
            make(name)


@pytest.mark.parametrize("is_dangling", [False, True])
@pytest.mark.parametrize(
    ("link", "find"),
    [
        ("trials", lambda paths: paths.trial_dir("p_1", "sgld", "r_1")),
        ("trials/p_1", lambda paths: paths.trial_dir("p_1", "sgld", "r_1")),
        ("trials/p_1/sgld", lambda paths: paths.trial_dir("p_1", "sgld", "r_1")),
        ("trials/p_1/sgld/r_1", lambda paths: paths.trial_dir("p_1", "sgld", "r_1")),
        ("trials/p_1/sgld", lambda paths: paths.study_dir("p_1", "sgld")),
        ("problems/p_1", lambda paths: paths.problem_dir("p_1")),
        ("studies/p_1:sgld.pkl", lambda paths: paths.study_pickle("p_1", "sgld")),
        ("studies/optuna.journal", lambda paths: paths.journal),
        ("tables", lambda paths: paths.trials_table),
        ("meta/resolved_config.yaml", lambda paths: paths.resolved_config),
        ("meta/lock", lambda paths: paths.lock),
        ("parsl_runinfo", lambda paths: paths.parsl_dir),
        ("cache", lambda paths: paths.cache_dir),
        ("cache/jax", lambda paths: paths.cache_dir),
    ],
)
def test_a_link_out_of_the_run_is_refused_by_name(tmp_path, link, find, is_dangling):
    paths = Paths(tmp_path / "run")
    if not is_dangling:
        (tmp_path / "elsewhere").mkdir()
    (paths.root / link).parent.mkdir(parents=True)
    (paths.root / link).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunStateError) as caught:
        find(paths)
    assert str(caught.value) == (
        f"{paths.root / link} is a symbolic link that leads out of the run's folder {paths.root}. Remove the link."
    )


@pytest.mark.parametrize(
    "link", ["problems", "trials", "studies", "tables", "meta", "meta/lock", "parsl_runinfo", "cache", "cache/jax"]
)
def test_a_run_with_a_link_out_of_it_is_not_begun(tmp_path, link):
    paths = Paths(tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (paths.root / link).parent.mkdir(parents=True)
    (paths.root / link).symlink_to(elsewhere)
    with pytest.raises(RunStateError, match="is a symbolic link that leads out"), RunContext(paths):
        pass
    assert list(elsewhere.iterdir()) == []


def test_the_lock_does_not_empty_a_file_that_a_link_puts_in_its_place(tmp_path):
    paths = Paths(tmp_path / "run")
    paths.make_folders()
    paths.journal.write_text("precious")
    paths.lock.symlink_to(paths.journal)
    with pytest.raises(RunStateError, match=r"meta/lock cannot be written: it is a symbolic link\."), RunContext(paths):
        pass
    assert paths.journal.read_text() == "precious"


@pytest.mark.parametrize("root", ["circle", "~nobody-has-this-name", "zero\0byte"])
def test_a_root_that_cannot_be_followed_is_an_error_and_no_traceback(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(RunStateError, match=r"cannot be (followed|written): "):
        Paths.from_store(Store(root=root)).make_folders()


def test_a_root_reached_by_a_link_is_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "scratch")
    assert Paths.from_store(Store()).problem_dir("p_1").is_relative_to(tmp_path / "scratch")


def test_context_makes_folders_and_keeps_the_configuration(tmp_path):
    paths = Paths(tmp_path / "run")
    with RunContext(paths) as context:
        assert not paths.resolved_config.exists()
        context.save_config(json.dumps({"methods": ["sgld"], "x": 0.5}))
    assert read_yaml(paths.resolved_config) == {"methods": ["sgld"], "x": 0.5}
    assert (paths.root / "studies").is_dir()


def test_a_full_disk_does_not_leave_the_run_locked(tmp_path, failing_writes):
    paths = Paths(tmp_path / "run")
    context = RunContext(paths)
    with failing_writes(1), pytest.raises(StorageError, match=r"lock\.json could not be written"), context:
        pass
    with RunContext(paths):
        pass


def test_a_run_in_use_is_told_even_where_nobody_can_say_by_whom(tmp_path):
    paths = Paths(tmp_path / "run")
    with RunContext(paths):
        for content in ("", "{}", '{"pid": 1}', "[]"):
            (paths.root / "meta/lock.json").write_text(content)
            with pytest.raises(RunStateError, match="is in use by another lambda-hat"), RunContext(paths):
                pass


def test_a_second_controller_is_told_who_holds_the_run(tmp_path):
    paths = Paths(tmp_path / "run")
    code = f"""
from pathlib import Path
from lambda_hat.artifacts.files import read_yaml
from lambda_hat.artifacts.paths import Paths, RunContext
from lambda_hat.errors import RunStateError
try:
    with RunContext(Paths(Path({str(paths.root)!r}))):
        print("entered")
except RunStateError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    with RunContext(paths):
        refused = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    allowed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert refused.startswith(f"{paths.root} is in use by lambda-hat with process id {os.getpid()} on ")
    assert "choose another `store.namespace`" in refused
    assert allowed == "entered\n"


def test_the_lock_ends_with_a_killed_process(tmp_path):
    paths = Paths(tmp_path / "run")
    code = f"""
import os
from pathlib import Path
from lambda_hat.artifacts.files import read_yaml
from lambda_hat.artifacts.paths import Paths, RunContext
context = RunContext(Paths(Path({str(paths.root)!r}))).__enter__()
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with RunContext(paths):
        pass
