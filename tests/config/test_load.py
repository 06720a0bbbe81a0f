from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lambda_hat.config.card import InlineCard, LocalCard, SlurmCard
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.load import load_cfg
from lambda_hat.config.problems import LocalizationRadius, QuadraticProblem
from lambda_hat.config.study import CategoricalDist, ExecutorMap, FloatDist, IntDist, ReferenceSpec
from lambda_hat.errors import UsageError

Write = Callable[..., str]
DEFAULT = "config/optuna/default.yaml"


def test_the_plans_file_has_the_plans_values_and_types(repository: Path) -> None:
    loaded = load_cfg(DEFAULT)
    study = loaded.study
    assert study.methods == loaded.methods == ("sgld", "vi", "mclmc")
    assert study.search_space["sgld"]["eta0"] == FloatDist(dist="float", low=1e-6, high=1e-1, log=True)
    assert study.search_space["sgld"]["steps"] == IntDist(dist="int", low=5000, high=20000, step=1000)
    choices = study.search_space["vi"]["whitening_mode"]
    assert choices == CategoricalDist(dist="categorical", choices=("none", "rmsprop", "adam", "hessian"))
    batch = study.search_space["sgld"]["batch"]
    assert isinstance(batch, CategoricalDist)
    assert [type(choice) for choice in batch.choices] == [int] * 4
    assert study.optuna.concurrency.per_executor == {}, "a card of any other labels would be refused"
    assert (study.execution.budget.hmc_sec, study.execution.budget.trial_sec) == (7200, 600)
    assert study.execution.executor_map == ExecutorMap(), "AUTO, which on the local card comes to the plan's map"
    (problem,) = loaded.problems
    assert problem.target == "mlp"
    assert (problem.data.num_data, problem.data.num_test, problem.data.noise_scale) == (20_000, 2_000, 0.05)
    assert loaded.samplers.keys() == {"sgld", "vi", "mclmc"}


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("config/optuna/*.yaml")), ids=lambda p: p.stem)
@pytest.mark.parametrize("card", ["local", "local-gpu", "slurm/cpu", "slurm/gpu-a100", "pbs", "kubernetes"])
def test_every_shipped_study_loads_with_every_shipped_card(repository: Path, path: Path, card: str) -> None:
    loaded = load_cfg(path, parsl_card=f"config/parsl/{card}.yaml")
    assert loaded.card.type == re.split("[-/]", card)[0]
    assert loaded.card_path == Path(f"config/parsl/{card}.yaml")


def test_the_resolved_study_is_a_study_file_for_the_same_runs(study_file: Write) -> None:
    tail = """\
posterior: {inverse_temperature: 0.5}
samplers: {sgld: {steps: 1_000}}
"""
    quadratic = "  - {target: quadratic, overrides: {dim: 5}}\nmethods"
    first = load_cfg(study_file(("methods", quadratic), tail=tail), ["optuna.sampler.options.label='1e-3'"])
    second = load_cfg(study_file(text=to_yaml(first.resolved)))
    assert second.resolved == first.resolved
    assert second.problems == first.problems
    assert second.samplers == first.samplers
    assert second.card == first.card
    assert first.study.optuna.sampler.options == {"label": "1e-3"}
    assert isinstance(first.problems[1], QuadraticProblem)
    assert first.problems[1].posterior.localization == 1.0
    assert first.problems[1].posterior.inverse_temperature == 0.5
    assert first.problems[0].posterior.localization == LocalizationRadius()


def test_numbers_and_text_as_yaml_1_2_has_them(study_file: Write) -> None:
    tail = "optuna: {max_trials_per_method: 5e2, sampler: {options: {a: 1e-6, b: 5_000, c: 12:00:00, d: no, e: 010}}}\n"
    optuna = load_cfg(study_file(tail=tail)).study.optuna
    assert optuna.max_trials_per_method == 500
    assert type(optuna.max_trials_per_method) is int
    assert optuna.sampler.options == {"a": 1e-6, "b": 5000, "c": "12:00:00", "d": "no", "e": 10}


def test_a_reference_by_one_word_is_its_method(study_file: Write) -> None:
    study = study_file(("{model: small}", "{target: potential, overrides: {k: 2}}"))
    assert load_cfg(study).study.reference.method == "hmc"
    exact = load_cfg(study, ["reference=exact"])
    assert exact.study.reference == ReferenceSpec(method="exact")
    assert load_cfg(study_file(text=to_yaml(exact.resolved))).resolved == exact.resolved


def test_interpolation(study_file: Write) -> None:
    tail = """\
store: {root: "${oc.env:LAMBDA_HAT_TEST_ROOT,somewhere}/${store.namespace}", namespace: mine}
samplers: {vi: "${samplers.sgld}", sgld: {steps: 7}}
"""
    study = load_cfg(study_file(tail=tail)).study
    assert study.store.root == "somewhere/mine"
    assert study.samplers == {"vi": {"steps": 7}, "sgld": {"steps": 7}}


def test_an_alias_repeats_a_value_and_merge_keys_merge(study_file: Write) -> None:
    replaced = ("{dist: float, low: 1e-6, high: 1e-1, log: true}", "&range {dist: float, low: 1, high: 2}")
    tail = "    t0: {<<: *range, high: 3}\n    eps: *range\n"
    space = load_cfg(study_file(replaced, tail=tail), ["search_space.sgld.eps.low=1.5"]).study.search_space["sgld"]
    assert space["t0"] == FloatDist(dist="float", low=1, high=3)
    assert space["eps"] == FloatDist(dist="float", low=1.5, high=2)
    assert space["eta0"] == FloatDist(dist="float", low=1, high=2)


def test_set_reaches_the_study_and_the_card(repository: Path) -> None:
    arguments = [
        "optuna.max_trials_per_method=24",
        "execution.budget.trial_sec=3e2",
        "search_space.sgld.eta0.low=1e-5",
        "problems.0.overrides.data.noise_scale=0.1",
        "problems.0.overrides.model.width=8",
        "methods=[sgld, vi]",
        "store.namespace=other",
        "executors.0.max_workers=4",
        "retries=3",
    ]
    loaded = load_cfg(DEFAULT, arguments, local=True)
    assert isinstance(loaded.card, LocalCard)
    assert (loaded.card.executors[0].max_workers, loaded.card.retries) == (4, 3)
    study = loaded.study
    assert study.optuna.max_trials_per_method == 24
    assert study.execution.budget.trial_sec == 300
    eta0 = study.search_space["sgld"]["eta0"]
    assert isinstance(eta0, FloatDist)
    assert eta0.low == 1e-5
    assert study.methods == ("sgld", "vi")
    assert study.store.namespace == "other"
    (problem,) = loaded.problems
    assert problem.target == "mlp"
    assert (problem.data.noise_scale, problem.model.width) == (0.1, 8)


def test_set_walltime_of_a_slurm_card_stays_text(repository: Path) -> None:
    card = load_cfg(DEFAULT, ["walltime=12:00:00"], parsl_card="config/parsl/slurm/cpu.yaml").card
    assert isinstance(card, SlurmCard)
    assert card.walltime == "12:00:00"


def test_set_can_choose_the_card(repository: Path) -> None:
    loaded = load_cfg(DEFAULT, ["execution.parsl_card=config/parsl/slurm/cpu.yaml", "partition=long"])
    assert isinstance(loaded.card, SlurmCard)
    assert loaded.card.partition == "long"


def test_local_and_parsl_card_exclude_each_other(repository: Path) -> None:
    with pytest.raises(UsageError, match=r"^`--local` and `--parsl-card` exclude each other: give one of the two$"):
        load_cfg(DEFAULT, parsl_card="config/parsl/local.yaml", local=True)


def test_a_card_is_found_here_then_by_the_study_then_above_it(study_file: Write, tmp_path: Path) -> None:
    card = "type: local\nexecutors: [{label: LABEL}]\n"
    (tmp_path / "project" / "studies").mkdir(parents=True)
    study = tmp_path / "project" / "studies" / "study.yaml"
    study.write_text(Path(study_file(tail="execution: {parsl_card: my/card.yaml}\n")).read_text())
    for folder in (tmp_path / "project", study.parent, tmp_path / "here"):
        (folder / "my").mkdir(parents=True)
        (folder / "my" / "card.yaml").write_text(card.replace("LABEL", folder.name))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path / "here" if folder.name == "here" else tmp_path)
            found = load_cfg(study).card
        assert isinstance(found, LocalCard)
        assert found.executors[0].label == folder.name


def test_inline_is_a_card_of_its_own_that_excludes_the_others(repository: Path) -> None:
    card = load_cfg(DEFAULT, inline=True).card
    assert isinstance(card, InlineCard)
    assert card.labels == ("htex64", "htex32")
    with pytest.raises(UsageError, match=r"^`--local` and `--inline` exclude each other: give one of the two$"):
        load_cfg(DEFAULT, local=True, inline=True)
    with pytest.raises(UsageError, match=r"^`--inline` and `--parsl-card` exclude each other: give one of the two$"):
        load_cfg(DEFAULT, parsl_card="config/parsl/local.yaml", inline=True)


@pytest.mark.parametrize("is_local", [True, False])
def test_the_shipped_card_serves_where_there_is_none(study_file: Write, is_local: bool) -> None:
    loaded = load_cfg(study_file(), local=is_local)
    assert isinstance(loaded.card, LocalCard)
    assert [executor.label for executor in loaded.card.executors] == ["htex64", "htex32"]


def test_the_shipped_inline_card_serves_where_there_is_none(study_file: Write) -> None:
    assert isinstance(load_cfg(study_file(), inline=True).card, InlineCard)


@pytest.mark.parametrize("name", ["local", "inline"])
def test_the_shipped_card_is_the_repositorys(repository: Path, name: str) -> None:
    shipped = repository / f"lambda_hat/config/presets/card/{name}.yaml"
    assert shipped.read_bytes() == (repository / f"config/parsl/{name}.yaml").read_bytes()


def test_loading_imports_nothing_slow(repository: Path) -> None:
    slow = ("jax", "numpy", "optuna", "parsl", "omegaconf")
    program = f"""
import sys
from lambda_hat.config.load import load_cfg
load_cfg({DEFAULT!r})
print(*sorted(set(sys.modules) & set({slow!r})))
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=repository)
    assert output.stdout == "\n"
