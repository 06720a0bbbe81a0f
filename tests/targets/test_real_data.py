"""Networks on scikit-learn's data sets, here with small stand-ins for the data, which need no scikit-learn."""

from __future__ import annotations

import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.problems import ProblemEntry, RealDataProblem, TrainingSpec
from lambda_hat.config.resolve import resolve_problem
from lambda_hat.errors import ConfigError, TargetError
from lambda_hat.targets import build_target, load_target
from lambda_hat.targets.losses import cross_entropy

RNG = np.random.default_rng(0)
TRAINING = TrainingSpec(num_steps=20, max_polish_steps=2)


@pytest.fixture
def scikit_learn(monkeypatch):
    """A package with as much of the data sets' shapes as the targets see."""
    datasets = types.ModuleType("sklearn.datasets")
    labels = np.arange(50) % 10
    datasets.load_digits = lambda return_X_y: (RNG.integers(0, 17, (50, 64)).astype(float), labels)
    datasets.load_diabetes = lambda return_X_y: (RNG.standard_normal((40, 10)) * 3 + 1, np.arange(40.0))
    package = types.ModuleType("sklearn")
    package.__spec__ = ModuleSpec("sklearn", None)
    package.datasets = datasets
    monkeypatch.setitem(sys.modules, "sklearn", package)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", datasets)


@pytest.fixture
def no_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setattr("lambda_hat.config.problems.kinds.real_data.find_spec", lambda name: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "dim", "num_data"),
    [
        ({"dataset": "diabetes", "width": 4}, 49, 40),
        pytest.param({"width": 2}, 160, 50, marks=pytest.mark.nightly),
        ({"network": "cnn", "width": 2}, 3 * 3 * 2 + 2 + 3 * 3 * 4 + 2 + 80 + 10, 50),
    ],
)
def test_networks_are_trained_stored_and_loaded(scikit_learn, float64, tmp_path, settings, dim, num_data):
    problem = RealDataProblem(training=TRAINING, **settings)
    model = build_target(problem)
    assert (model.dim, model.num_data) == (dim, num_data)
    model.save(tmp_path / "target.npz")
    loaded = load_target(tmp_path / "target.npz", problem)
    np.testing.assert_array_equal(loaded.w0, model.w0)
    assert loaded.loss_fn == model.loss_fn
    assert np.all(model.w0), "all biases have left their starts"
    losses = np.asarray(loaded.loss_fn(jnp.asarray(loaded.w0), tuple(map(jnp.asarray, loaded.data))))
    assert losses.shape == (num_data,)
    assert np.mean(losses) == pytest.approx(model.info["loss"])
    if problem.dataset == "diabetes":
        np.testing.assert_allclose(np.std(np.hstack(model.data), axis=0), 1.0)


@pytest.mark.slow
def test_smoothed_cross_entropy_is_the_mean_over_classes(float64):
    outputs, labels = jnp.asarray(RNG.standard_normal((7, 4))), jnp.asarray(np.arange(7) % 4)
    by_class = -jax.nn.log_softmax(outputs)
    names = np.where(np.eye(4)[np.asarray(labels)] > 0, 0.7, 0.1)
    np.testing.assert_allclose(cross_entropy(outputs, labels, 0.3), jnp.sum(names * by_class, axis=1), rtol=1e-12)
    np.testing.assert_allclose(cross_entropy(outputs, labels), cross_entropy(outputs, labels, 1e-15), rtol=1e-12)


def faults(**overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve_problem(ProblemEntry(target="real_data", overrides=overrides))
    return str(caught.value)


def test_settings_without_effect_are_refused(scikit_learn):
    assert resolve_problem(ProblemEntry(target="real_data")) == RealDataProblem()
    assert "network: found 'cnn' with dataset `diabetes`" in faults(dataset="diabetes", network="cnn")
    assert "label_smoothing: it has no effect with `dataset: diabetes`" in faults(
        dataset="diabetes", label_smoothing=0.2
    )
    assert "noise_scale: it has no effect with `dataset: digits`" in faults(noise_scale=0.2)


@pytest.mark.slow
def test_a_missing_scikit_learn_is_told_before_anything_runs(no_scikit_learn, float64):
    assert "Install the extra: `pip install 'lambda-hat[datasets]'`" in faults()
    with pytest.raises(TargetError, match="scikit-learn, which has it, is not installed here"):
        build_target(RealDataProblem())


@pytest.mark.nightly
@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="the extra `datasets` is not installed")
@pytest.mark.parametrize("settings", [{"dataset": "diabetes", "width": 4}, {}])
def test_the_data_themselves(float64, settings):
    problem = RealDataProblem(**settings)
    model = build_target(problem)
    assert model.num_data == problem.num_rows
    assert model.info["is_minimum"]
