"""The wheel has all that a user without a checkout needs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import metadata
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, unpacked: a folder to import from, as an installer would leave it."""
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(REPOSITORY)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_it_has_every_file_of_the_package_and_every_shipped_one(wheel):
    package = {f"lambda_hat/{name}" for name in _files(REPOSITORY / "lambda_hat")}
    shipped = {f"lambda_hat/shipped/config/{name}" for name in _files(REPOSITORY / "config")}
    example = {f"lambda_hat/shipped/examples/study/{name}" for name in _files(REPOSITORY / "examples/study")}
    folder = "examples/notebooks"
    notebooks = {f"lambda_hat/shipped/{folder}/{name}" for name in _files(REPOSITORY / folder)}
    assert {name for name in _files(wheel) if not name.startswith("lambda_hat-")} == (
        package | shipped | example | notebooks
    )


@pytest.mark.slow
def test_the_quick_start_is_planned_by_the_wheel_alone(wheel, tmp_path):
    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(wheel)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("lambda_hat", "init", "quickstart", "x")
    plan = run("lambda_hat", "workflow", "optuna", "--config", "x/quickstart.yaml", "--local", "--dry-run")
    assert f"Executors ({wheel}/lambda_hat/shipped/config/parsl/local.yaml)" in plan
    assert "24 to run" in plan


def test_it_says_what_it_is():
    said = metadata("lambda-hat")
    assert said["License-Expression"] == "MIT"
    assert {"Author", "Keywords", "Classifier", "Summary", "Requires-Python"} <= set(said)


def _files(folder: Path) -> set[str]:
    kept = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".npz"))
    return {path.relative_to(folder).as_posix() for path in kept}
