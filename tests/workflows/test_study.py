"""Whole studies by the command line: in this process, and one of them with Parsl's workers, which find the same."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from click.testing import Result

from lambda_hat.records.tables import read_frame
from tests.conftest import HANGING
from tests.names import HOSTILE

STUDY = {
    "problems": [{"target": "quadratic", "seed": 3, "overrides": {"dim": 4, "num_data": 200}}],
    "methods": ["sgld", "vi", "mclmc"],
    "optuna": {
        "max_trials_per_method": 4,
        "concurrency": {"batch_size": 2},
        "sampler": {"n_startup_trials": 3},
        "pruner": {"type": "none"},
    },
    "search_space": {
        "sgld": {
            "eta0": {"dist": "float", "low": 1e-4, "high": 1e-3, "log": True},
            "gamma": {"dist": "float", "low": 0.0, "high": 0.3},
            "batch": {"dist": "categorical", "choices": [50]},
            "precond_type": {"dist": "categorical", "choices": ["none", "rmsprop"]},
            "steps": {"dist": "int", "low": 4000, "high": 8000, "step": 1000},
        },
        "vi": {
            "lr": {"dist": "float", "low": 5e-3, "high": 5e-2, "log": True},
            "M": {"dist": "categorical", "choices": [1, 2]},
            "r": {"dist": "categorical", "choices": [1, 3]},
            "steps": {"dist": "int", "low": 500, "high": 2000, "step": 500},
        },
        "mclmc": {
            "step_size": {"dist": "float", "low": 0.05, "high": 0.5, "log": True},
            "L": {"dist": "float", "low": 1.0, "high": 2.0},
            "steps": {"dist": "int", "low": 300, "high": 600, "step": 100},
        },
    },
    "confirm": {"top_k": 0},
    "reference": {"max_relative_mcse": 0.03},
    "samplers": {"vi": {"batch_size": 200}},
    "execution": {"budget": {"hmc_sec": 600, "trial_sec": 60}},
}

POOL = {"max_workers": 1, "cores_per_worker": 1}
TWO_POOLS = {
    "type": "local",
    "executors": [
        {"label": "htex64", "worker_init": "export JAX_ENABLE_X64=true", **POOL},
        {"label": "htex32", "worker_init": "export JAX_ENABLE_X64=false", **POOL},
    ],
}
TIMES_AND_PLACES = {
    *("start_sec", "load_sec", "compile_sec", "sample_sec", "total_sec", "started", "finished", "pid_worker"),
    *("versions", "git_commit"),  # of the folder that the process ran in when it first looked
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, run_study: Callable[..., Result]) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("study")
    return folder, run_study(folder, STUDY)


def table_of(folder: Path) -> pd.DataFrame:
    return read_frame(folder / "runs/optuna/v1/tables/optuna_trials.parquet")


@pytest.mark.slow(seconds=30)
def test_a_study_ends_well_and_tells_what_it_found(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    assert result.exit_code == 0, result.stderr
    assert "certified" in result.stdout
    (reference_path,) = (folder / "runs/optuna/v1/problems").glob("p_*/ref.json")
    reference = json.loads(reference_path.read_text())
    assert reference["is_certified"]
    assert abs(reference["llc"] - reference["exact_llc"]) < 4 * reference["se"]


@pytest.mark.slow
def test_every_trial_has_its_row_executor_precision_and_files(
    finished: tuple[Path, Result],
) -> None:
    folder, _ = finished
    table = table_of(folder)
    assert table.groupby("method").size().to_dict() == {"mclmc": 4, "sgld": 4, "vi": 4}
    assert set(table["state"]) == {"COMPLETE"}
    by_method = table.groupby("method")[["executor", "dtype", "x64"]].agg(["unique"])
    assert {method: [cell[0] for cell in by_method.loc[method]] for method in by_method.index} == {
        "mclmc": ["htex64", "float64", True],
        "sgld": ["htex32", "float32", False],
        "vi": ["htex32", "float32", False],
    }
    assert table["device"].notna().all()
    assert set(table["pid_worker"]) == {os.getpid()}
    assert table["run_id"].is_unique
    assert table["seed"].is_unique
    assert (table["total_sec"] >= table["sample_sec"]).all()
    assert (table["sample_sec"] > 0).all()
    root = folder / "runs/optuna/v1"
    for row in table.itertuples():
        trial = root / "trials" / row.pid / row.method / row.run_id
        metrics = json.loads((trial / "metrics.json").read_text())
        assert metrics["executor_label"] == row.executor  # said by the task itself
        assert json.loads((trial / "manifest.json").read_text())["hyperparams"] == json.loads(row.hyperparameters)
    assert (root / "meta/resolved_config.yaml").is_file()


@pytest.mark.slow
def test_estimates_are_right(finished: tuple[Path, Result]) -> None:
    folder, _ = finished
    table = table_of(folder)
    mclmc = table[table["method"] == "mclmc"]
    assert (mclmc["z"].abs() < 4).all()
    best = table.loc[table.groupby("method")["objective"].idxmin()]
    assert (best["relative_error"].abs() < 0.1).all()


@pytest.mark.slow
def test_pickles_hold_all_trials_and_searches_go_on(finished: tuple[Path, Result]) -> None:
    folder, _ = finished
    pickles = sorted((folder / "runs/optuna/v1/studies").glob("*.pkl"))
    assert len(pickles) == 3
    for path in pickles:
        study = pickle.loads(path.read_bytes())
        assert len(study.trials) == 4
        trial = study.ask()
        assert trial.number == 4


@pytest.mark.slow
def test_a_finished_study_is_not_run_again(finished: tuple[Path, Result], run_study: Callable[..., Result]) -> None:
    folder, _ = finished
    before = table_of(folder)
    result = run_study(folder, STUDY)
    assert result.exit_code == 0, result.stderr
    pd.testing.assert_frame_equal(table_of(folder), before)


@pytest.mark.slow(seconds=20)
def test_workers_find_what_this_process_finds(
    finished: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one worker per executor a search knows as much when it asks: the tables differ in times and places alone.

    The places, those of the home and of temporary files too, have names that a shell or a pattern would stumble over.
    """
    folder = tmp_path / HOSTILE
    for name, variable in ((f"home {HOSTILE}", "HOME"), ("t" * 120, "TMPDIR")):
        (folder / name).mkdir(parents=True)
        monkeypatch.setenv(variable, str(folder / name))
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    (folder / "card.yaml").write_text(yaml.safe_dump(TWO_POOLS))
    command = [sys.executable, "-m", "lambda_hat", "workflow", "optuna", "--config", "study.yaml"]
    words = [*command, "--parsl-card", "card.yaml"]
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=HANGING, check=False)
    assert result.returncode == 0, result.stderr
    assert not [line for line in map(words_of, psutil.process_iter(["cmdline"])) if str(tmp_path) in line]
    assert [path.name for path in tmp_path.iterdir()] == [HOSTILE]
    assert not list(folder.rglob("MARK"))
    assert (folder / "runs/optuna/v1/parsl_runinfo/selected_parsl_card.yaml").is_file()
    here, there = table_of(finished[0]), table_of(folder)
    assert there["pid_worker"].nunique() == 2
    same = [name for name in here if name not in TIMES_AND_PLACES]
    assert len(same) > 30
    pd.testing.assert_frame_equal(here[same], there[same], check_exact=True)


def words_of(process: psutil.Process) -> str:
    return " ".join(process.info["cmdline"] or ())


@pytest.mark.slow
def test_one_executor_runs_everything_in_its_own_precision(tmp_path: Path, run_study: Callable[..., Result]) -> None:
    study = {**STUDY, "methods": ["sgld", "mclmc"], "reference": "exact"}
    result = run_study(tmp_path, study, "--set", "labels=[only]", "--set", "optuna.max_trials_per_method=2")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("Warning:") == 1
    assert "The card has one executor, `only`" in result.stderr
    table = table_of(tmp_path)
    assert set(table["executor"]) == {"only"}
    assert table.groupby("method")["dtype"].unique().map(list).to_dict() == {"mclmc": ["float64"], "sgld": ["float32"]}


@pytest.mark.slow
def test_trials_that_diverge_or_crash_do_not_stop_the_study(tmp_path: Path, run_study: Callable[..., Result]) -> None:
    space = {
        "sgld": {
            "eta0": {"dist": "categorical", "choices": [1e3, 5e-4]},  # the first runs away
            "gamma": {"dist": "float", "low": 0.0, "high": 0.1},
        }
    }
    study = {**STUDY, "methods": ["sgld"], "search_space": space, "reference": "exact"}
    result = run_study(tmp_path, study, "--set", "optuna.max_trials_per_method=6")
    assert result.exit_code == 0, result.stderr
    table = table_of(tmp_path)
    diverged = table["param_eta0"] == 1e3
    assert diverged.any()
    assert set(table.loc[diverged, "state"]) == {"PRUNED"}
    assert table.loc[diverged, "reason"].str.len().gt(0).all()
    assert (table.loc[diverged, "objective"] < float("inf")).all()
    assert set(table.loc[~diverged, "state"]) == {"COMPLETE"}


@pytest.mark.slow
def test_an_uncertified_reference_ends_with_exit_code_4_and_advice(
    tmp_path: Path, run_study: Callable[..., Result]
) -> None:
    result = run_study(tmp_path, STUDY, "--set", "execution.budget.hmc_sec=0.1")
    assert result.exit_code == 4
    assert "execution.budget.hmc_sec" in result.stderr
    assert not list((tmp_path / "runs/optuna/v1/trials").iterdir())
