from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lambda_hat.config.methods import METHODS


def test_validate_says_so(invoke):
    result = invoke("config", "validate", "study.yaml", "--local")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("study.yaml and ")


def test_validate_checks_study_and_card_together(invoke):
    result = invoke("config", "validate", "study.yaml", "--parsl-card", "slurm.yaml")
    assert result.exit_code == 2
    assert "raise the card's `walltime`" in result.stderr


def test_show_prints_a_study_file_for_the_same_study(invoke):
    result = invoke("config", "show", "study.yaml", "--set", "optuna.max_trials_per_method=9")
    assert yaml.safe_load(result.stdout)["optuna"]["max_trials_per_method"] == 9
    Path("again.yaml").write_text(result.stdout, encoding="utf-8")
    assert invoke("config", "show", "again.yaml").stdout == result.stdout


def test_show_prints_the_card_and_the_problems(invoke):
    card = invoke("config", "show", "study.yaml", "--part", "card", "--set", "retries=3")
    assert yaml.safe_load(card.stdout)["retries"] == 3
    problems = yaml.safe_load(invoke("config", "show", "study.yaml", "--part", "problems").stdout)
    (pid,) = problems
    assert pid.startswith("p_")
    assert problems[pid]["model"]["depth"] == 2


def test_validate_and_show_take_experiments_too(invoke):
    Path("experiments.yaml").write_text("targets: [{target: quadratic}]\nsamplers: [{name: vi}]\n", encoding="utf-8")
    validated = invoke("config", "validate", "experiments.yaml", "--local")
    assert validated.stderr.startswith("experiments.yaml and ")
    shown = yaml.safe_load(invoke("config", "show", "experiments.yaml", "--set", "samplers.0.seed=4").stdout)
    assert (shown["samplers"][0]["seed"], shown["store"]["namespace"]) == (4, "llc")
    problems = yaml.safe_load(invoke("config", "show", "experiments.yaml", "--part", "problems").stdout)
    assert [problem["target"] for problem in problems.values()] == ["quadratic"]
    wrong = invoke("config", "validate", "experiments.yaml", "--parsl-card", "slurm.yaml")
    assert "raise the card's `walltime`" in wrong.stderr


@pytest.mark.parametrize("name", ["study", "experiments", "card", *METHODS])
def test_schemas_are_json(invoke, name):
    assert json.loads(invoke("config", "schema", name).stdout)["title"]


def test_an_unknown_schema_is_a_usage_error(invoke):
    result = invoke("config", "schema", "sgd")
    assert result.exit_code == 2
    assert "Did you mean `sgld`?" in result.stderr
