"""The examples run as they are printed, and are short enough to be read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from lambda_hat.cli.app import cli
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


@pytest.mark.slow
def test_an_example_with_smaller_numbers(tmp_path, monkeypatch, capsys):
    """In this process; at night all of them run as they are printed."""
    source = (EXAMPLES / "lambda_along_training.py").read_text(encoding="utf-8")
    smaller = {"steps=(0, 100, 300, 1000, 3000, 10_000)": "steps=(0, 100)", '"steps": 1000': '"steps": 20'}
    for number, small in smaller.items():
        assert source.count(number) == 1, number
        source = source.replace(number, small)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lambda_along_training.py", "figure.png"])
    exec(compile(source, "lambda_along_training.py", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    *_, header, index, first, second, last = capsys.readouterr().out.splitlines()
    assert header.split()[-1] == "is_minimum"
    assert index.strip() == "step"
    assert [line.split()[0] for line in (first, second)] == ["0", "100"]
    assert last == "figure: figure.png"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workflow", "file", "num_problems"),
    [("optuna", "study/study.yaml", 1), ("llc", "study/experiments.yaml", 2), ("llc", "grokking/experiments.yaml", 10)],
)
def test_studies_are_valid_and_planned(workflow, file, num_problems):
    config = str(EXAMPLES / file)
    assert CliRunner().invoke(cli, ["config", "validate", config]).exit_code == 0
    result = CliRunner().invoke(cli, ["workflow", workflow, "--config", config, "--inline", "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["problems"]) == num_problems


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


@pytest.mark.nightly
def test_lambda_along_grokking(tmp_path):
    folder = tmp_path / "grokking"
    shutil.copytree(EXAMPLES / "grokking", folder, ignore=shutil.ignore_patterns("*.npz", "*.json", "runs"))
    first, *_, last = run("train.py", folder=folder).splitlines()
    assert float(first.split()[-1]) < 0.2, "at first it guesses"
    assert float(last.split()[-1]) > 0.9, "it has found the rule, and kept it down to the minimum"
    run("lambda_along_grokking.py", "figure.png", folder=folder)
    assert (folder / "figure.png").stat().st_size > 10_000
    words = ("-m", "lambda_hat", "workflow", "llc", "--config", "experiments.yaml", "--inline")
    run(*words, folder=folder)
    table = read_frame(folder / "runs" / "llc" / "v1" / "tables" / "llc_runs.parquet")
    assert list(table["is_minimum"]) == 9 * [False] + [True]


@pytest.mark.skipif(find_spec("torchax") is None, reason="PyTorch is not installed: `.ci/nightly` installs it")
@pytest.mark.nightly
def test_a_pytorch_classifier(tmp_path):
    output = run(EXAMPLES / "pytorch_classifier.py", folder=tmp_path)
    assert "restricted to params['params']['3.bias'], params['params']['3.weight']" in output
