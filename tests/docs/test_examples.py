"""The examples run as they are printed, and are short enough to be read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lambda_hat.records.tables import read_frame

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(path for path in EXAMPLES.rglob("*") if path.is_file() and path.suffix in (".py", ".yaml"))


def run(*words: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder, capture_output=True, text=True, check=False, env=os.environ | {"MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_example_is_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.nightly
def test_lambda_along_training(tmp_path):
    output = run(EXAMPLES / "lambda_along_training.py", "figure.png", folder=tmp_path)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert "is_minimum" in output
    assert "False" in output
    assert "True" in output


@pytest.mark.nightly
def test_one_layer_against_the_whole(tmp_path):
    output = run(EXAMPLES / "one_layer.py", folder=tmp_path)
    dims = [line.split("d = ")[1].split()[0] for line in output.splitlines()]
    assert dims == ["12", "9", "6", "3"]


@pytest.mark.nightly  # draws of three runs, each with a look at all the data
def test_influence_of_rows(tmp_path):
    output = run(EXAMPLES / "influence.py", "figure.png", folder=tmp_path)
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert "hmc, reliable" in output
    assert "largest variance of the loss: [7, 23] wrong labels: [7, 23]" in output


@pytest.mark.nightly  # two samplers at two checkpoints, by workers
def test_a_network_of_ones_own_in_experiments(tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(EXAMPLES / "study", folder)
    run("networks.py", folder=folder)
    words = ("-m", "lambda_hat", "workflow", "llc", "--config", "experiments.yaml", "--local")
    output = run(*words, folder=folder)
    assert "networks.py:tanh_network, checkpoint=step-200.npz" in output
    table = read_frame(folder / "runs" / "llc" / "v1" / "tables" / "llc_runs.parquet")
    assert list(table["is_minimum"]) == [False, False, True, True]
    assert set(table["state"]) == {"COMPLETE"}


@pytest.mark.skipif(find_spec("torchax") is None, reason="PyTorch is not installed: `.ci/nightly` installs it")
@pytest.mark.nightly
def test_a_pytorch_classifier(tmp_path):
    output = run(EXAMPLES / "pytorch_classifier.py", folder=tmp_path)
    assert "restricted to params['params']['3.bias'], params['params']['3.weight']" in output
