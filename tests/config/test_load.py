from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_hat.config.card import InlineCard, LocalCard, SlurmCard
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.load import load_cfg
from lambda_hat.config.locate import parse_argument
from lambda_hat.config.problems import LocalizationRadius, QuadraticProblem
from lambda_hat.config.study import CategoricalDist, ExecutorMap, FloatDist, IntDist, ReferenceSpec
from lambda_hat.errors import ConfigError, UsageError

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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("/tmp/run #3", "/tmp/run #3"),
        ("# 3", "# 3"),
        ("a: b", "a: b"),
        ("[0.1]", "[0.1]"),
        ("5_000", "5_000"),
        ("yes", "yes"),
        ("~", "~"),
        ("'tis", "'tis"),
        ("  spaced  ", "spaced"),
        ('"a\\tb #3"', "a\tb #3"),
        ("' spaced '", " spaced "),
        (r"a\b\${c}", r"a\b${c}"),
    ],
)
def test_text_is_taken_as_it_stands(study_file: Write, text: str, root: str) -> None:
    loaded = load_cfg(study_file(), [f"store.root={text}"], inline=True)
    assert loaded.study.store.root == root


@given(st.text(min_size=1))
def test_any_text_is_taken_as_it_stands(text: str) -> None:
    value = parse_argument(text, is_text=True, may_be_null=False)
    stripped = text.strip()
    assert value == (stripped or None) or stripped[0] in "\"'"


@pytest.mark.parametrize("text", ["null", "~", ""])
def test_text_that_may_be_missing_has_words_for_that(study_file: Write, text: str) -> None:
    assert load_cfg(study_file(), [f"store.references={text}"], inline=True).study.store.references is None


def test_the_comment_of_a_number_is_refused(study_file: Write) -> None:
    with pytest.raises(ConfigError, match=r"the value is not valid YAML: `#` begins a comment"):
        load_cfg(study_file(), ["optuna.max_trials_per_method=24 # a day"], inline=True)


def test_a_home_is_a_home_everywhere(study_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = "type: local\nexecutors: [{label: at-home}]\n"
    for name in ("card.yaml", "study.yaml"):
        (tmp_path / "home").mkdir(exist_ok=True)
        (tmp_path / "home" / name).write_text(card if name == "card.yaml" else Path(study_file()).read_text())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for arguments in ({"parsl_card": "~/card.yaml"}, {"dotlist": ["execution.parsl_card=~/card.yaml"]}):
        card_of = load_cfg("~/study.yaml", **arguments).card
        assert isinstance(card_of, LocalCard)
        assert card_of.executors[0].label == "at-home"


@pytest.mark.slow
def test_a_file_may_be_a_pipe(study_file: Write, repository: Path, tmp_path: Path) -> None:
    for name in (DEFAULT, "config/experiments.yaml"):
        command = f'{sys.executable} -m lambda_hat config validate <(cat "$1") --parsl-card <(cat "$2")'
        words = ["bash", "-c", command, "bash", name, "config/parsl/local.yaml"]
        done = subprocess.run(words, cwd=repository, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


class TestRelativeToFile:
    """Paths of a file that says `relative_to: file`."""

    TAIL = "relative_to: file\nstore: {root: ../runs, references: refs}\nexecution: {parsl_card: card.yaml}\n"

    @pytest.fixture
    def file(self, study_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = tmp_path / "of the file"
        (folder / "refs").mkdir(parents=True)
        (folder / "card.yaml").write_text("type: inline\n")
        (folder / "study.yaml").write_text(Path(study_file(tail=self.TAIL)).read_text())
        (tmp_path / "card.yaml").write_text("type: local\nexecutors: [{label: a}]\n")
        return folder / "study.yaml"

    def test_begin_in_its_folder(self, file: Path, tmp_path: Path) -> None:
        loaded = load_cfg(file)
        store = loaded.study.store
        assert (store.root, store.references) == (str(tmp_path / "runs"), str(tmp_path / "of the file" / "refs"))
        assert isinstance(loaded.card, InlineCard), "the card beside it, not the one in this folder"
        assert load_cfg(file, ["store.root=here"]).study.store.root == "here", "the command line's begin here"

    def test_are_shown_so_that_they_can_be_read_anywhere(self, file: Path) -> None:
        first = load_cfg(file)
        Path("shown.yaml").write_text(to_yaml(first.resolved))
        assert load_cfg("shown.yaml").resolved == first.resolved

    def test_a_folder_that_is_gone_is_said(self, file: Path) -> None:
        (file.parent / "refs").rmdir()
        with pytest.raises(ConfigError, match=r"found 'refs', but there is no folder .*of the file.*\n +Create it"):
            load_cfg(file)

    def test_default_root(self, file: Path) -> None:
        file.write_text(file.read_text().replace("root: ../runs, ", ""))
        assert load_cfg(file).study.store.root == str(file.parent / "runs")
