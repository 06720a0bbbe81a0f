"""References that are exact: nothing is sampled, and trials use them like any other."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from lambda_hat.artifacts.files import read_json, read_json_lines
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.problems import (
    LinearRegressionProblem,
    MLPProblem,
    PosteriorSpec,
    PotentialProblem,
    TrainingSpec,
)
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.targets import build_target
from lambda_hat.tasks import reference_task, trial_task
from tests.conftest import HANGING

REGRESSION = LinearRegressionProblem(dim=4, num_data=100)
POTENTIAL = PotentialProblem(num_data=100, posterior=PosteriorSpec(localization=10.0))
EXACT = ReferenceSpec(method="exact")


def write_problem(folder, problem):
    (folder / "problem.yaml").write_text(to_yaml(problem.to_dict()), encoding="utf-8")
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem", [pytest.param(POTENTIAL, marks=pytest.mark.nightly), REGRESSION], ids=lambda problem: problem.target
)
def test_a_trial_agrees_with_an_exact_reference(tmp_path, problem, is_within):
    reference = reference_task(write_problem(tmp_path, problem), EXACT, HANGING).to_json()
    assert reference == read_json(tmp_path / "ref.json")
    with jax.enable_x64(True):
        target = build_target(problem)
    nbeta = problem.posterior.nbeta(100)
    assert reference["llc"] == reference["exact_llc"]
    assert reference["llc"] == pytest.approx(target.exact_llc(nbeta, reference["localization"]))
    assert (reference["state"], reference["method"], reference["se"]) == ("COMPLETE", "exact", 0.0)
    assert (reference["is_certified"], reference["reasons"], reference["num_draws"]) == (True, [], 0)
    assert reference["spec"]["method"] == "exact"
    assert reference["nbeta"] == pytest.approx(nbeta)
    if problem is REGRESSION:
        assert reference["laplace_llc"] == pytest.approx(reference["llc"])
    with np.load(tmp_path / "ref.npz", allow_pickle=False) as arrays:
        assert any(name.startswith("at_w0.") for name in arrays.files)
        assert any(name.startswith("averaged.") for name in arrays.files)
    lines = read_json_lines(tmp_path / "progress.jsonl")[0]
    assert [line.get("event", line.get("stage")) for line in lines] == ["started", "training", "ended"]

    trial = tmp_path / "trial"
    trial.mkdir()
    settings = {"steps": 800, "step_size": 0.3, "L": 1.5}
    manifest = {
        "pid": "p_0",
        "method": "mclmc",
        "hyperparams": {},
        "settings": settings,
        "seed": 1,
        "budget": {"trial_sec": HANGING},
    }
    (trial / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    metrics = trial_task(str(trial), str(tmp_path)).to_json()
    assert metrics["state"] == "COMPLETE", metrics["reason"]
    assert is_within(metrics["llc_hat"], metrics["se_hat"], reference["llc"])
    assert not is_within(metrics["llc_hat"], metrics["se_hat"], 1.3 * reference["llc"])
    assert metrics["se_hat"] < 0.07 * reference["llc"]


@pytest.mark.slow
def test_a_reference_whose_value_is_not_known_fails_and_says_so(tmp_path):
    problem = MLPProblem(training=TrainingSpec(num_steps=1, max_polish_steps=0))
    result = reference_task(write_problem(tmp_path, problem), EXACT, HANGING).to_json()
    assert result["state"] == "FAIL"
    assert result["reason"] == "InputError: the exact value of target `mlp` is not known"
    assert result == read_json(tmp_path / "failure.json")
