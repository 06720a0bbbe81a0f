"""Nothing leaves the run's folder, and one command at a time works in it."""

import os
import subprocess
import sys

import pytest

from lambda_hat.artifacts.paths import Paths, RunContext
from lambda_hat.config.study import Store
from lambda_hat.errors import InputError, RunStateError


def test_layout(tmp_path):
    paths = Paths.from_store(Store(), tmp_path)
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


def test_a_link_out_of_the_root_is_refused(tmp_path):
    paths = Paths(tmp_path / "root")
    (tmp_path / "elsewhere").mkdir()
    (paths.root / "trials").mkdir(parents=True)
    (paths.root / "trials" / "p_1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunStateError, match="leads out of the run's folder"):
        paths.trial_dir("p_1", "sgld", "r_1")


def test_a_root_reached_by_a_link_is_fine(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "scratch")
    assert Paths.from_store(Store(), tmp_path).problem_dir("p_1").is_relative_to(tmp_path / "scratch")


def test_context_makes_folders_and_keeps_the_configuration(tmp_path):
    paths = Paths(tmp_path / "run")
    with RunContext(paths) as context:
        assert context.load_config() is None
        context.save_config({"methods": ["sgld"], "x": 1e-06})
    with RunContext(paths) as context:
        assert context.load_config() == {"methods": ["sgld"], "x": 1e-06}
        paths.resolved_config.write_text("- a list")
        with pytest.raises(RunStateError, match="is no YAML mapping"):
            context.load_config()
    assert (paths.root / "studies").is_dir()


def test_a_second_controller_is_told_who_holds_the_run(tmp_path):
    paths = Paths(tmp_path / "run")
    code = f"""
from pathlib import Path
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
from lambda_hat.artifacts.paths import Paths, RunContext
context = RunContext(Paths(Path({str(paths.root)!r}))).__enter__()
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with RunContext(paths):
        pass
