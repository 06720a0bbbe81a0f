"""Kinds of targets that an installed package adds, from the configuration to a posterior."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.config.explain import json_schema
from lambda_hat.config.load import load_cfg
from lambda_hat.config.origins import part_of
from lambda_hat.config.problems import PosteriorSpec, ProblemSpec, parse_problem
from lambda_hat.errors import ConfigError, TargetError
from lambda_hat.posterior import posterior_of
from lambda_hat.targets import Model, TargetKind, build_target, load_target
from lambda_hat.workflows.plan import problem_titles

STUDY = """\
problems:
  - target: quartic
    overrides: {{dim: 3, posterior.localization: 2.0}}
  - target: {other}
methods: [sgld]
search_space:
  sgld: {{eta0: {{dist: float, low: 1e-6, high: 1e-3, log: true}}}}
reference: exact
"""


class QuarticProblem(ProblemSpec):
    """L_n(w) = |w|⁴."""

    built_by: ClassVar[str] = "quartic_package:KIND"
    has_exact_llc: ClassVar[bool] = True

    target: Literal["quartic"] = "quartic"
    dim: int = 2
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    seed: int = 0


class NamelessProblem(ProblemSpec):
    """A schema that lacks what a kind needs."""

    built_by: ClassVar[str] = "quartic_package:KIND"

    target: Literal["nameless"] = "nameless"


@dataclass(frozen=True)
class QuarticLoss:
    """|w|⁴ in every row."""

    def __call__(self, position, batch):
        return jnp.sum(position**2) ** 2 + 0.0 * batch[0]


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a package with kinds of targets look installed; each call replaces the one before."""
    module = ModuleType("quartic_package")
    module.QuarticProblem, module.NamelessProblem = QuarticProblem, NamelessProblem
    module.KIND = TargetKind(
        build=lambda problem: Model(np.zeros(problem.dim), (np.zeros(10),), QuarticLoss(), {"is_minimum": True}),
        loss_of=lambda problem: QuarticLoss(),
        exact_llc_of=lambda problem, data: lambda nbeta, localization: 0.25 * problem.dim,
    )
    monkeypatch.setitem(sys.modules, "quartic_package", module)

    def install(*declared: str) -> None:
        points = [EntryPoint(*map(str.strip, line.split("=")), "lambda_hat.targets") for line in declared]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points * (group == "lambda_hat.targets"))

    install("quartic = quartic_package:QuarticProblem")
    return install


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], object]:
    """Loads a study of a quartic and of another problem."""

    def load(other: str = "quadratic"):
        path = tmp_path / "study.yaml"
        path.write_text(STUDY.format(other=other), encoding="utf-8")
        return load_cfg(path, local=True)

    return load


def test_a_kind_that_a_package_adds_goes_all_the_way(install, load, tmp_path):
    loaded = load()
    problem = loaded.problems[0]
    assert problem == QuarticProblem(dim=3, posterior=PosteriorSpec(localization=2.0))
    assert parse_problem(problem.to_dict()) == problem
    pid = problem_id(problem.to_dict())
    assert problem_titles(loaded)[pid] == "quartic, seed 0, dim=3, posterior.localization=2.0"
    values, origin = part_of(loaded, "problems", problem_id)
    assert values[pid] == problem.to_dict()
    assert origin((pid, "dim")) == f"{tmp_path / 'study.yaml'}:3"
    with jax.enable_x64(True):
        target = build_target(problem)
        target.save(tmp_path / "target.npz")
        stored = load_target(tmp_path / "target.npz", problem)
        posterior = posterior_of(stored, problem.posterior, "float64")
        assert float(posterior.excess_loss(jnp.ones(3))) == pytest.approx(9.0)
    assert (stored.problem_id, stored.loss_fn, stored.info) == (pid, QuarticLoss(), {"is_minimum": True})
    assert (stored.exact_llc(1.0, 1.0), posterior.dim, float(posterior.localization)) == (0.75, 3, 2.0)


def test_the_package_in_the_documentation_works(install, load, monkeypatch, float64):
    page = (Path(__file__).parents[2] / "docs/targets.md").read_text(encoding="utf-8")
    for name, text in re.findall(r'^```python title="quartic/(\w+)\.py"\n(.*?)^```', page, re.DOTALL | re.MULTILINE):
        module = ModuleType(f"quartic.{name}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(text, vars(module))
    monkeypatch.setitem(sys.modules, "quartic", ModuleType("quartic"))
    (declared,) = re.findall(r"^\[project\.entry-points\.\"lambda_hat\.targets\"\]\n(.*)", page, re.MULTILINE)
    install(declared.replace('"', ""))
    problem = parse_problem({"target": "quartic", "dim": 3})
    posterior = posterior_of(build_target(problem), problem.posterior, "float64")
    assert float(posterior.excess_loss(jnp.ones(3))) == pytest.approx(9.0)


def test_it_is_listed_beside_those_that_ship(install, load):
    kinds = json_schema("study")["$defs"]["ProblemEntry"]["properties"]["target"]["enum"]
    assert kinds[-2:] == ["python", "quartic"]
    with pytest.raises(ConfigError, match=r"expected one of `mlp`, .*, `quartic`\n    Did you mean `quartic`\?"):
        load("quartik")


def test_packages_are_asked_only_for_what_does_not_ship(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: pytest.fail("packages were looked up"))
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("quartic", "potential").replace("dim: 3", "k: 3").format(other="quadratic"))
    assert len(load_cfg(path, local=True).problems) == 2


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            ["cubic = no_such_package:CubicProblem"],
            "target `cubic`: `no_such_package:CubicProblem` cannot be imported: ModuleNotFoundError: No module named "
            "'no_such_package'",
        ),
        (
            ["cubic = quartic_package:CubicProblem"],
            "target `cubic`: `quartic_package:CubicProblem` cannot be imported: AttributeError: module "
            "'quartic_package' has no attribute 'CubicProblem'",
        ),
        (
            ["cubic = quartic_package:QuarticProblem"],
            "target `cubic`: `quartic_package:QuarticProblem` is no subclass of ProblemSpec with `built_by` and the "
            "fields `posterior`, `seed` and `target: Literal['cubic'] = 'cubic'`.",
        ),
        (
            ["nameless = quartic_package:NamelessProblem"],
            "target `nameless`: `quartic_package:NamelessProblem` is no subclass of ProblemSpec with `built_by` and "
            "the fields `posterior`, `seed` and `target: Literal['nameless'] = 'nameless'`.",
        ),
        (
            ["cubic = a:Problem", "cubic = b:Problem"],
            "target `cubic` is declared more than once: `a:Problem`, `b:Problem`. Uninstall all but one.",
        ),
    ],
)
def test_a_package_that_cannot_be_used_is_named_where_it_is_asked_for(install, load, tmp_path, declared, message):
    install("quartic = quartic_package:QuarticProblem", *declared)
    name = declared[0].split()[0]
    with pytest.raises(ConfigError) as caught:
        load(name)
    assert str(caught.value) == f"{tmp_path / 'study.yaml'}:4:13  problems.1.target: {message}"
    with pytest.raises(TargetError) as caught:
        parse_problem({"target": name})
    assert str(caught.value) == message


def test_a_kind_that_cannot_be_built_says_so(install, monkeypatch, float64):
    monkeypatch.setattr(QuarticProblem, "built_by", "quartic_package:NOTHING")
    message = r"target `quartic`: `quartic_package:NOTHING` cannot be imported: AttributeError: .* 'NOTHING'"
    with pytest.raises(TargetError, match=message):
        build_target(QuarticProblem())
    monkeypatch.setattr(QuarticProblem, "built_by", "quartic_package:QuarticProblem")
    with pytest.raises(TargetError, match="`quartic_package:QuarticProblem` is a ModelMetaclass, expected"):
        build_target(QuarticProblem())


def test_a_stored_problem_whose_package_is_gone_names_its_kind(install):
    install()
    with pytest.raises(TargetError, match=r"target `quartic` is not known here; expected one of `mlp`, "):
        parse_problem(QuarticProblem().to_dict())
    with pytest.raises(TargetError, match="found data without a `target`, expected a problem"):
        parse_problem([])
