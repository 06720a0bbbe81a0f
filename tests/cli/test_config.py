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


@pytest.mark.parametrize("name", ["study", "card", *METHODS])
def test_schemas_are_json(invoke, name):
    assert json.loads(invoke("config", "schema", name).stdout)["title"]


def test_an_unknown_schema_is_a_usage_error(invoke):
    result = invoke("config", "schema", "sgd")
    assert result.exit_code == 2
    assert "Did you mean `sgld`?" in result.stderr
