"""The examples run as they are printed, and are short enough to be read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from lambda_hat.cli.app import cli
from lambda_hat.records.tables import read_frame
from lambda_hat.targets import read_model

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


def load(file: str) -> ModuleType:
    """A file of the examples as a module, in this process."""
    spec = spec_from_file_location(Path(file).stem, EXAMPLES / file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_network_of_the_study_is_trained_and_read(tmp_path, monkeypatch):
    """With fewer steps; at night all examples run as they are printed."""
    networks = load("study/networks.py")
    monkeypatch.setattr(networks, "FOLDER", tmp_path)
    networks.train(steps=(3, 5))
    losses = []
    for step in (3, 5):
        model = read_model(*networks.tanh_network(tmp_path / f"step-{step}.npz"))
        assert (model.dim, model.num_data) == (12, 300)
        losses.append(float(np.mean(networks.loss_fn(dict(np.load(tmp_path / f"step-{step}.npz")), networks.rows()))))
    assert losses[1] < losses[0]


@pytest.mark.slow
def test_the_transformer_is_read(tmp_path, monkeypatch):
    network = load("grokking/transformer.py")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "step-7.npz", **{name: rng.standard_normal(shape) for name, shape in network.SHAPES.items()})
    monkeypatch.setattr(network, "FOLDER", tmp_path)
    model = read_model(*network.modular_addition(7))
    assert (model.dim, model.num_data) == (1824, 424)
    tokens, sums = network.rows(is_training=False)
    assert network.logits(np.load(tmp_path / "step-7.npz"), tokens).shape == (105, 23)
    assert set(map(tuple, tokens[:, :2])).isdisjoint(map(tuple, network.rows()[0][:, :2]))
    np.testing.assert_array_equal(tokens[:, :2].sum(axis=1) % 23, sums)


@pytest.mark.slow
def test_experiments_along_grokking_are_planned():
    config = str(EXAMPLES / "grokking" / "experiments.yaml")
    result = CliRunner().invoke(cli, ["workflow", "llc", "--config", config, "--inline", "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["problems"]) == 10


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
    assert set(table["state"]) == {"COMPLETE"}
    assert list(table["is_minimum"])[::9] == [False, True]


@pytest.mark.skipif(find_spec("torchax") is None, reason="PyTorch is not installed: `.ci/nightly` installs it")
@pytest.mark.nightly
def test_a_pytorch_classifier(tmp_path):
    output = run(EXAMPLES / "pytorch_classifier.py", folder=tmp_path)
    assert "restricted to params['params']['3.bias'], params['params']['3.weight']" in output
