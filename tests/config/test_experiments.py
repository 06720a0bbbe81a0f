"""The experiments file: what it means, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lambda_hat.config.explain import json_schema, to_yaml
from lambda_hat.config.load import LoadedExperiments, LoadedStudy, load_cfg, load_experiments, load_file
from lambda_hat.config.methods import METHODS, hyperparameter_names
from lambda_hat.errors import ConfigError
from tests.sites import filled_in

Write = Callable[..., str]
EXPERIMENTS = """\
targets:
  - {target: quadratic, overrides: {dim: 5}}
samplers:
  - {name: sgld, overrides: {steps: 1_000}}
  - {name: fine, method: sgld, overrides: {preset: sgld, eta0: 1e-5}, seed: 3}
"""


def message(text: str) -> str:
    Path("experiments.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_experiments("experiments.yaml", local=True)
    return str(caught.value)


def test_a_sampler_is_its_preset_with_its_overrides(study_file: Write) -> None:
    loaded = load_experiments(study_file(text=EXPERIMENTS))
    plain, fine = loaded.samplers
    assert (plain.name, plain.method, plain.seed) == ("sgld", "sgld", 0)
    assert (fine.name, fine.method, fine.seed) == ("fine", "sgld", 3)
    assert (plain.settings["steps"], plain.settings["eta0"]) == (1000, 1e-4)
    assert (fine.settings["steps"], fine.settings["eta0"]) == (10_000, 1e-5)
    assert "preset" not in fine.settings
    assert loaded.methods == ("sgld",)
    assert loaded.experiments.store.namespace == "llc"


def test_part_of_a_store_keeps_the_namespace_of_experiments(study_file: Write) -> None:
    experiments = load_experiments(study_file(text=EXPERIMENTS), ["store.root=here"]).experiments
    assert (experiments.store.root, experiments.store.namespace) == ("here", "llc")


def test_what_it_resolves_to_is_a_file_for_the_same_runs(study_file: Write) -> None:
    first = load_experiments(study_file(text=EXPERIMENTS, tail="posterior: {localization: 3.0}\n"))
    second = load_experiments(study_file(text=to_yaml(first.resolved)))
    assert second.resolved == first.resolved
    assert second.samplers == first.samplers
    assert second.problems == first.problems


def test_the_shipped_file_loads_with_every_shipped_card(repository: Path) -> None:
    for card in Path("config/parsl").rglob("*.yaml"):
        loaded = load_experiments("config/experiments.yaml", filled_in(card), parsl_card=str(card))
        assert len(loaded.experiments.targets) * len(loaded.experiments.samplers) == 6


def test_the_kind_of_a_file_is_told_by_its_keys(repository: Path) -> None:
    assert isinstance(load_file("config/experiments.yaml"), LoadedExperiments)
    assert isinstance(load_file("config/optuna/default.yaml"), LoadedStudy)


def test_the_other_kind_of_file_is_refused_by_the_command_to_use(repository: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_cfg("config/experiments.yaml", ["optuna.max_trials_per_method=3"])
    assert str(caught.value) == (
        "config/experiments.yaml  found the keys of an experiments file, expected a study file\n"
        "    Run it with `lambda-hat workflow llc`."
    )
    with pytest.raises(ConfigError, match="Run it with `lambda-hat workflow optuna`"):
        load_experiments("config/optuna/default.yaml")


def test_the_same_run_under_two_names_is_refused(study_file: Write) -> None:
    study_file()
    text = (
        "targets: [{target: quadratic}]\nsamplers: [{name: sgld}, {name: again, method: sgld}, {name: hmc, seed: 1}]\n"
    )
    assert message(text) == (
        "experiments.yaml:2:26  samplers.1: the same run as `samplers.0`: method, overrides and seed agree\n"
        "    Remove one of the two, or give it another `seed`."
    )


def test_everything_wrong_is_found_at_once(study_file: Write) -> None:
    text = """\
targets: [{target: mlp}, {target: quadratic}, {target: quadratic}]
reference: exact
samplers:
  - {name: sgdl}
  - {name: vi, overrides: {eta0: 1, steps: x, M: 2}}
  - {name: vi, methd: vi}
  - {name: a b, method: mclmc}
  - {name: x, method: hmc, seed: -1, overrides: {preset: hmmc}}
"""
    study_file()
    assert message(text) == (
        "experiments.yaml:1:20  targets.0.target: found `mlp`, whose exact value is not known, with "
        "`reference: exact`\n"
        "    Exact values are known of `quadratic`, `linear_regression`, `potential`; others need `reference: hmc`.\n"
        "experiments.yaml:1:47  targets.2: resolves to the same problem as `targets.1`\n"
        "    Remove one of the two.\n"
        "experiments.yaml:4:5  samplers.0.method: missing, and the name 'sgdl' is no method; expected one of `sgld`, "
        "`vi`, `mclmc`, `hmc`, `auto`, `sghmc`\n"
        "    Did you mean `sgld`?\n"
        "experiments.yaml:5:28  samplers.1.overrides.eta0: unknown hyperparameter of vi.\n"
        "    `lambda-hat config schema vi` lists them all.\n"
        "experiments.yaml:5:44  samplers.1.overrides.steps: found 'x' (text), expected a whole number greater than 0\n"
        "experiments.yaml:6:12  samplers.2.name: found 'vi' again, expected names that differ\n"
        "    `samplers.1` has it already.\n"
        "experiments.yaml:6:16  samplers.2.methd: unknown key; expected one of `name`, `method`, `overrides`, `seed`\n"
        "    Did you mean `method`?\n"
        "experiments.yaml:7:12  samplers.3.name: found 'a b', expected a name of letters, digits, `-` and `_`\n"
        "experiments.yaml:8:34  samplers.4.seed: found -1, expected a whole number of at least 0\n"
        "experiments.yaml:8:58  samplers.4.overrides.preset: found 'hmmc', expected a sampler preset: one of `auto`, "
        "`hmc`, `mclmc`, `sghmc`, `sgld`, `vi`\n"
        "    Did you mean `hmc`?"
    )


def test_arguments_are_located_and_suggested(study_file: Write) -> None:
    path = study_file(text=EXPERIMENTS)
    with pytest.raises(ConfigError) as caught:
        load_experiments(path, ["samplers.0.nam=1", "sampler.0=3", "optuna.x=1"], local=True)
    assert str(caught.value) == (
        '--set "samplers.0.nam=1"  samplers.0.nam: unknown key; expected one of `name`, `method`, `overrides`, `seed`\n'
        "    Did you mean `name`?\n"
        '--set "sampler.0=3"  sampler.0: neither a section of the experiments file nor a field of the Parsl card\n'
        "    Did you mean `samplers`?\n"
        '--set "optuna.x=1"  optuna.x: neither a section of the experiments file nor a field of the Parsl card'
    )


def test_missing_sections(study_file: Write) -> None:
    study_file()
    assert message("targets: []\n") == (
        "experiments.yaml  samplers: missing; expected a list with at least one entry\n"
        "experiments.yaml:1:10  targets: found an empty list, expected a list with at least one entry"
    )


def test_the_schema_knows_what_each_method_takes(repository: Path) -> None:
    schema = json_schema("experiments")
    assert schema["properties"].keys() == load_experiments("config/experiments.yaml").resolved.keys()
    rules = schema["$defs"]["SamplerEntry"]["allOf"]
    known = [rule["then"]["properties"]["overrides"]["properties"].keys() for rule in rules]
    assert len(known) == len(METHODS)
    for method, names in zip(METHODS, known, strict=True):
        assert {"preset", *hyperparameter_names(method)} == set(names)
