"""`target: python` in a file: entries, sweeps, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.load import load_cfg
from lambda_hat.config.problems import PythonProblem
from lambda_hat.errors import ConfigError
from lambda_hat.workflows.plan import problem_titles
from lambda_hat.workflows.snapshot import portable

STUDY = {
    "methods": ["sgld"],
    "search_space": {"sgld": {"eta0": {"dist": "float", "low": 1e-6, "high": 1e-3, "log": True}}},
}
ENTRY = {"target": "python", "build": "networks.py:digits"}


def load(folder: Path, *entries: dict, name: str = "study.yaml"):
    (folder / name).write_text(yaml.safe_dump({"problems": list(entries), **STUDY}))
    return load_cfg(folder / name, local=True)


def test_a_sweep_is_a_problem_for_each_combination(tmp_path):
    entry = {
        **ENTRY,
        "arguments": {"depth": 2},
        "sampled": "layers/*",
        "sweep": {"step": [0, 10], "width": [4, 8]},
        "overrides": {"posterior": {"localization": 5}},
    }
    loaded = load(tmp_path, {"target": "quadratic"}, entry)
    swept = [problem for problem in loaded.problems if isinstance(problem, PythonProblem)]
    assert [problem.arguments for problem in swept] == [
        {"depth": 2, "step": step, "width": width} for step in (0, 10) for width in (4, 8)
    ]
    assert {problem.build for problem in swept} == {f"{tmp_path}/networks.py:digits"}
    assert {problem.sampled for problem in swept} == {("layers/*",)}
    assert {problem.posterior.localization for problem in swept} == {5}
    assert loaded.places == (0, 1, 1, 1, 1)
    title = "networks.py:digits, depth=2, step=0, width=4, sampled layers/*, posterior={'localization': 5}"
    assert list(problem_titles(loaded).values())[1] == title


def test_the_configuration_that_a_run_keeps_is_the_same_study(tmp_path):
    loaded = load(tmp_path, {**ENTRY, "sweep": {"step": [0, 10]}})
    paths = Paths.from_store(loaded.study.store)
    kept = portable(loaded, paths, tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept.yaml").write_text(yaml.safe_dump(kept))
    again = load_cfg(tmp_path / "elsewhere" / "kept.yaml", local=True)
    assert again.problems == loaded.problems


def test_paths_are_no_part_of_a_name_once_the_content_is_known():
    one, other = (PythonProblem(build=f"/{folder}/n.py:f", arguments={"p": folder}) for folder in ("a", "b"))
    assert problem_id(one.identity()) != problem_id(other.identity())
    named = [item.model_copy(update={"content": "c", "sources": {"n.py": "s"}}).identity() for item in (one, other)]
    assert named[0] == named[1]
    assert named[0] != one.model_copy(update={"content": "d", "sources": {"n.py": "s"}}).identity()


FAULTS = [
    ({"target": "python"}, "problems.0.build: missing; expected FILE.py:FUNCTION or package.module:FUNCTION"),
    (
        {"target": "python", "build": "networks"},
        "problems.0.build: found 'networks', expected FILE.py:FUNCTION or package.module:FUNCTION",
    ),
    ({**ENTRY, "seed": 1}, "problems.0.seed: target `python` takes no `seed`"),
    ({**ENTRY, "model": "small"}, "problems.0.model: target `python` takes no model preset"),
    ({"target": "mlp", "build": "n.py:f"}, "problems.0.build: target `mlp` takes no `build`"),
    ({"target": "quadratic", "sweep": {"dim": [1, 2]}}, "problems.0.sweep: target `quadratic` takes no `sweep`"),
    ({**ENTRY, "sweep": {"step": []}}, "problems.0.sweep.step: found an empty list, expected"),
    ({**ENTRY, "sweep": {"step": [0, 0]}}, "problems.0: resolves to the same problem as `problems.0`"),
    ({**ENTRY, "buildd": 1}, "problems.0.buildd: unknown key"),
]


@pytest.mark.parametrize(("entry", "message"), FAULTS, ids=range(len(FAULTS)))
def test_a_wrong_entry(tmp_path, entry, message):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, entry)
    assert message in str(caught.value)
