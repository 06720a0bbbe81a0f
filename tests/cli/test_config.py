from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lambda_hat.config.locate import parse_value
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
    shown = [invoke("config", "show", name, "--json").stdout for name in ("again.yaml", "study.yaml")]
    assert shown[0] == shown[1].replace('"max_trials_per_method": 5', '"max_trials_per_method": 9')


def test_show_says_where_every_value_came_from(invoke):
    Path("other.yaml").write_text(
        "problems:\n  - {model: small, overrides: {data: {noise_scale: 0.2}}}\nmethods: [sgld]\n"
        "posterior:\n  localization: 5.0\n"
        "search_space: {sgld: {eta0: {dist: float, low: 1e-6, high: 0.1}}}\nsamplers: {sgld: {num_chains: 3}}\n",
        encoding="utf-8",
    )
    arguments = (
        "--config",
        "other.yaml",
        "--local",
        "--set",
        "optuna.sampler.seed=7",
        "--set",
        "executors.1.max_workers=1",
    )

    def origins(part):
        lines = invoke("config", "show", *arguments, "--part", part).stdout.splitlines()
        pairs = [line.partition("  # ") for line in lines]
        return {" ".join(text.split()): origin for text, _, origin in pairs if origin}

    study = origins("study")
    assert study["seed: 7"] == '--set "optuna.sampler.seed=7"'
    assert study["data: {noise_scale: 0.2}".removesuffix("}").removeprefix("data: {")] == "other.yaml:2"
    assert study["methods: [sgld]"] == "other.yaml:3"
    assert study["type: tpe"] == "default"
    assert [origin for text, origin in study.items() if text.startswith("parsl_card")] == ["--local"]
    problems = origins("problems")
    assert problems["noise_scale: 0.2"] == "other.yaml:2"
    assert problems["depth: 2"] == "preset model/small"
    assert problems["localization: 5.0"] == "other.yaml:5"
    assert problems["inverse_temperature: null"] == "default of target mlp"
    assert problems["weight_scale: 1.0"] == "default"
    assert origins("card")["max_workers: 1"] == '--set "executors.1.max_workers=1"'
    samplers = origins("samplers")
    assert (samplers["num_chains: 3"], samplers["steps: 10000"]) == ("other.yaml:7", "preset sampler/sgld")


@pytest.mark.parametrize("part", ["study", "card", "problems", "samplers"])
def test_show_prints_the_same_data_as_yaml_and_as_json(invoke, part):
    text = invoke("config", "show", "study.yaml", "--part", part).stdout
    assert parse_value(text) == json.loads(invoke("config", "show", "study.yaml", "--part", part, "--json").stdout)


@pytest.mark.parametrize("arguments", [(), ("study.yaml", "--config", "study.yaml")])
def test_show_wants_one_file(invoke, arguments):
    result = invoke("config", "show", *arguments)
    assert (result.exit_code, "Give one file" in result.stderr) == (2, True)


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
