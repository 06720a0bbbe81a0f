"""Nothing that lies in a run's folder is executed, and nothing in it or in a study file makes a run write elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from click.testing import Result

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.config.load import load_cfg
from lambda_hat.records.tables import read_frame
from tests.workflows.test_study import STUDY

RunStudy = Callable[..., Result]

RUN = Path("runs/optuna/v1")
TINY = {**STUDY, "methods": ["sgld"], "search_space": {"sgld": STUDY["search_space"]["sgld"]}}
ONE_TRIAL = ("--resume", "--set", "optuna.max_trials_per_method=1")
TWO_TRIALS = ("--resume", "--set", "optuna.max_trials_per_method=2")


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def plant_pickle(path: Path, trace: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(Bomb(trace)))


def plant_archive(path: Path, trace: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=True, **{name: np.array([Bomb(trace)], dtype=object) for name in names})


def pid_of(folder: Path) -> str:
    (folder / "tiny.json").write_text(json.dumps(TINY))  # JSON is YAML, too
    (problem,) = load_cfg(str(folder / "tiny.json"), (), local=True).problems
    return problem_id(problem.to_dict())


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder beside the run's that nothing may change."""
    folder = tmp_path / "elsewhere"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "precious").write_text("precious")
    return folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, run_study: RunStudy) -> Path:
    """A finished study in whose folder lay, before it began, files that others had prepared."""
    folder = tmp_path_factory.mktemp("planted")
    pid = pid_of(folder)
    trace, problem = folder / "executed", folder / RUN / "problems" / pid
    plant_pickle(folder / RUN / "studies" / "evil.pkl", trace)
    plant_pickle(folder / RUN / "studies" / f"{pid}:sgld.pkl", trace)
    plant_archive(problem / "target.npz", trace, "header", "w0", "data_0", "data_1")
    plant_archive(problem / "ref.npz", trace, "mean", "scale")
    (folder / "precious").write_text("precious")
    (problem / "progress.jsonl").symlink_to(folder / "precious")
    result = run_study(folder, TINY, *ONE_TRIAL)
    assert result.exit_code == 0, result.stderr
    return folder


def test_the_planted_files_would_do_harm_to_whoever_trusts_them(tmp_path: Path) -> None:
    plant_pickle(tmp_path / "a.pkl", tmp_path / "by_pickle")
    pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert (tmp_path / "by_pickle").exists()
    plant_archive(tmp_path / "a.npz", tmp_path / "by_archive", "w0")
    with np.load(tmp_path / "a.npz", allow_pickle=True) as archive:
        archive["w0"]
    assert (tmp_path / "by_archive").exists()


@pytest.mark.slow
def test_planted_files_are_not_executed_but_made_anew(planted: Path) -> None:
    run = planted / RUN
    pid = pid_of(planted)
    assert not (planted / "executed").exists()
    assert len(pickle.loads((run / "studies" / f"{pid}:sgld.pkl").read_bytes()).trials) == 1
    for name in ("target.npz", "ref.npz"):
        with np.load(run / "problems" / pid / name, allow_pickle=False) as archive:
            assert all(archive[array].dtype != object for array in archive.files)
    assert (planted / "precious").read_text() == "precious"
    assert not (run / "problems" / pid / "progress.jsonl").is_symlink()
    assert read_frame(run / "tables/optuna_trials.parquet")["state"].tolist() == ["COMPLETE"]


@pytest.mark.slow
def test_files_planted_into_a_finished_study_are_not_executed_but_reported(
    planted: Path, tmp_path: Path, run_study: RunStudy
) -> None:
    folder = shutil.copytree(planted, tmp_path / "copy")
    run, pid, trace = folder / RUN, pid_of(folder), tmp_path / "executed"
    plant_pickle(run / "studies" / "evil.pkl", trace)
    plant_pickle(run / "studies" / f"{pid}:sgld.pkl", trace)
    plant_archive(run / "problems" / pid / "ref.npz", trace, "mean", "scale")
    result = run_study(folder, TINY, *TWO_TRIALS)
    assert not trace.exists()
    assert result.exit_code == 0, result.stderr
    study = pickle.loads((run / "studies" / f"{pid}:sgld.pkl").read_bytes())
    assert isinstance(study, optuna.Study)
    assert len(study.trials) == 2
    table = read_frame(run / "tables/optuna_trials.parquet")
    assert table["state"].tolist() == ["COMPLETE", "FAIL"]
    assert "allow_pickle=False" in table["reason"][1]


@pytest.mark.slow
def test_a_trial_whose_journal_puts_it_elsewhere_is_refused(
    planted: Path, tmp_path: Path, elsewhere: Path, run_study: RunStudy
) -> None:
    folder = shutil.copytree(planted, tmp_path / "copy")
    journal = folder / RUN / "studies" / "optuna.journal"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    (attached,) = [record for record in records if "run_id" in record.get("user_attr", {})]
    attached["user_attr"]["run_id"] = "../../../../../../../elsewhere/sub"
    journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    before = contents(elsewhere)
    result = run_study(folder, TINY, *ONE_TRIAL)
    assert result.exit_code == 2
    assert "'../../../../../../../elsewhere/sub' cannot name a part of a run" in result.stderr
    assert "Traceback" not in result.stderr
    assert contents(elsewhere) == before


@pytest.mark.slow
@pytest.mark.parametrize("link", ["trials", "trials/{pid}", "trials/{pid}/sgld"])
def test_a_folder_of_trials_that_leads_elsewhere_is_refused_by_name(
    tmp_path: Path, elsewhere: Path, link: str, run_study: RunStudy
) -> None:
    path = tmp_path / RUN / link.format(pid=pid_of(tmp_path))
    path.parent.mkdir(parents=True)
    path.symlink_to(elsewhere)
    before = contents(elsewhere)
    result = run_study(tmp_path, TINY, *ONE_TRIAL)
    assert result.exit_code == 2
    assert result.stderr.endswith(
        f"Error: {path} is a symbolic link that leads out of the run's folder {tmp_path / RUN}. Remove the link.\n"
    )
    assert contents(elsewhere) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../x", "/abs", "a/b", "..", "~"])
@pytest.mark.parametrize("key", ["namespace", "layout_version"])
def test_a_name_that_is_a_path_is_refused_where_it_stands(
    tmp_path: Path, key: str, name: str, run_study: RunStudy
) -> None:
    result = run_study(tmp_path, {**TINY, "store": {key: name}})
    assert result.exit_code == 2
    assert f"store.{key}: found '{name}', expected a name of letters, digits, `-` and `_`" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"study.yaml"}
