"""Folders of any name, runs that were moved, and commands that are refused: what is there stays as it is."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from filelock import FileLock
from hypothesis import given, settings

from lambda_hat.cli.app import cli
from lambda_hat.records.tables import read_frame
from tests.names import FOLDER_NAMES, HOSTILE
from tests.workflows.conftest import SmallStudy


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def run(folder: Path, *arguments: object) -> tuple[int, str]:
    """Exit code and output of a command in `folder`, in this process."""
    with contextlib.chdir(folder):
        result = CliRunner().invoke(cli, [*map(str, arguments)], prog_name="lambda-hat")
    return result.exit_code, result.output


@pytest.mark.nightly
def test_workers_run_wherever_the_run_its_home_and_its_temporary_files_lie(tmp_path, monkeypatch):
    folder = tmp_path / HOSTILE
    for name, variable in (("home", "HOME"), ("t" * 120, "TMPDIR")):
        (folder / f"{name} {HOSTILE}").mkdir(parents=True)
        monkeypatch.setenv(variable, str(folder / f"{name} {HOSTILE}"))
    study = SmallStudy(folder)
    study.run_with_workers()
    assert list(study.table["state"]) == ["COMPLETE"] * 3
    assert [path.name for path in tmp_path.iterdir()] == [HOSTILE]
    assert not list(folder.rglob("MARK"))
    links = Path("/tmp").glob(".lambda-hat-*")
    assert not [link for link in links if link.readlink().is_relative_to(tmp_path)]


@pytest.mark.nightly
@settings(max_examples=5)
@given(FOLDER_NAMES)
def test_workers_run_in_a_folder_of_any_name(name):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / name
        folder.mkdir()
        study = SmallStudy(folder)
        study.run_with_workers()
        assert list(study.table["state"]) == ["COMPLETE"] * 3
        assert [path.name for path in Path(place).iterdir()] == [name]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished study with its recommended settings; the folder of the command is gone from its paths when copied."""
    study = SmallStudy(tmp_path_factory.mktemp("finished"))
    study.study["confirm"] = {"top_k": 1, "num_seeds": 2}
    (study.folder / "study.yaml").write_text(yaml.safe_dump(study.study), encoding="utf-8")
    study.run()
    return study


REFUSED = {
    "changed search space": (
        ["--set", "search_space.sgld.eta0.high=0.5"],
        "was begun with another `search_space.sgld.eta0`",
    ),
    "changed objective": (["--set", "optuna.objective.type=relative"], "was begun with another `optuna.objective`"),
    "changed settings": (["--set", "samplers.sgld.num_chains=3"], "was begun with another `samplers.sgld.num_chains`"),
    "references that are gone": (["--set", "store.references=/gone/away"], "there is no folder /gone"),
    "unknown label": (["--set", "execution.executor_map.hmc=nowhere"], "`nowhere` is no executor"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("card", ["--inline", "--local"])
def test_a_refused_command_changes_nothing(finished, name, card):
    arguments, reason = REFUSED[name]
    before = contents(finished.folder)
    words = ["workflow", "optuna", "--config", "study.yaml", card, "--resume", *arguments]
    code, output = run(finished.folder, *words, "--set", "optuna.max_trials_per_method=30")
    assert (code, reason in output) == (2, True), output
    assert contents(finished.folder) == before


@pytest.mark.slow
def test_other_refusals_change_nothing_either(finished, tmp_path):
    """Another workflow, a command that holds the run, a link that leads out, a damaged journal, `--resume` missing."""
    folder = shutil.copytree(finished.folder, tmp_path / "copy")
    root = folder / "runs/optuna/v1"
    more = ["workflow", "optuna", "--config", "study.yaml", "--resume", "--set", "optuna.max_trials_per_method=30"]

    def refuse(reason: str, *words: object) -> None:
        before = contents(folder)
        code, output = run(folder, *words)
        assert (code, reason in output) == (2, True), output
        assert contents(folder) == before

    with FileLock(root / "meta/lock"):
        refuse("is in use by another lambda-hat", *more, "--inline")
        refuse("is in use by another lambda-hat", *more, "--inline", "--dry-run")
    recommended = (root / "recommended/sgld.yaml").read_text(encoding="utf-8").replace("optuna-recommended", "optuna")
    (root / "recommended/mine.yaml").write_text(recommended, encoding="utf-8")
    refuse("belongs to `lambda-hat workflow optuna`", "workflow", "llc", "--config", root / "recommended/mine.yaml")
    (root / "logs").symlink_to(tmp_path)
    refuse("is a symbolic link that leads out of the run's folder", *more, "--local", "--set", "run_dir=logs")
    journal = root / "studies/optuna.journal"
    whole = journal.read_bytes()
    journal.write_bytes(b"no record\n" + whole)
    refuse("optuna.journal is damaged", *more, "--inline")
    journal.write_bytes(whole)
    refuse("Pass `--resume`", *(word for word in more if word != "--resume"), "--inline")


@pytest.mark.slow
def test_the_snapshot_goes_on_with_its_run_from_any_folder(finished, tmp_path):
    code, output = run(tmp_path, "workflow", "optuna", "--config", finished.root / "meta/resolved_config.yaml")
    assert code == 0, output
    assert "Nothing is left to run" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("v1", marks=pytest.mark.nightly), "of another name, $(and) [what] not"])
def test_a_run_that_was_moved_is_whole(finished, tmp_path, name):
    moved = shutil.copytree(finished.root, tmp_path / "there" / name)
    snapshot = moved / "meta/resolved_config.yaml"
    code, output = run(tmp_path, "workflow", "optuna", "--config", snapshot)
    assert code == 0, output
    assert "Nothing is left to run" in output
    code, output = run(tmp_path, "workflow", "optuna", "--config", snapshot, "--resume", "--set",
                       "optuna.max_trials_per_method=4", "--set", "confirm.top_k=0")  # fmt: skip
    assert code == 0, output
    assert len(read_frame(moved / "tables/optuna_trials.parquet")) == 4
    code, output = run(tmp_path, "workflow", "llc", "--config", moved / "recommended/sgld.yaml", "--dry-run")
    assert code == 0, output
    assert "to train" not in output
    assert "to sample" not in output
    assert {path.name for path in tmp_path.iterdir()} == {"there"}


@pytest.mark.slow
def test_another_name_makes_another_run_of_a_snapshot(finished, tmp_path):
    snapshot = finished.root / "meta/resolved_config.yaml"
    words = ["config", "show", snapshot, "--set", "store.namespace=other", "--set", "store.root=here"]
    code, output = run(tmp_path, *words)
    assert code == 0, output
    assert yaml.safe_load(output)["store"] | {"ttl_days": 30} == {
        "root": "here",
        "run": None,
        "references": None,
        "layout_version": "v1",
        "namespace": "other",
        "ttl_days": 30,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "key", "reason"),
    [("meta/resolved_config.yaml", "store.run", "there is no run in"), ("recommended/sgld.yaml", "store.references",
     "but there is no folder")],
)  # fmt: skip
def test_a_file_of_a_run_that_lies_elsewhere_says_what_it_misses(finished, tmp_path, name, key, reason):
    (tmp_path / "study").mkdir()
    shutil.copy(finished.root / name, tmp_path / "study" / "mine.yaml")
    code, output = run(tmp_path, "config", "validate", "study/mine.yaml", "--inline")
    assert code == 2
    assert f"{key}: found " in output
    assert reason in output
