from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from lambda_hat.config.explain import json_schema, schema_names, to_explained_yaml, to_yaml
from lambda_hat.config.interpolate import resolve_interpolations
from lambda_hat.config.load import load_cfg
from lambda_hat.config.locate import parse_value
from lambda_hat.config.origins import part_of
from lambda_hat.formatting import escaped, unescaped

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
TEXT |= st.text(st.sampled_from("${}\\'\"# :\n\t\x7f\u2028[]-a"))
AWKWARD = ["1e-3", "yes", "12:00:00", "0o17", "null", "~", "5_000", "2026-01-01", "<<", "", "a: b", "λ̂"]
SPACE = {"dist": "float", "low": 0.1, "high": 1.0}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(AWKWARD)


@given(st.dictionaries(st.sampled_from(["a", "b", *AWKWARD]), SCALARS | st.lists(SCALARS, max_size=3), max_size=4))
def test_yaml_reads_back_as_the_same_data(values: dict[str, object]) -> None:
    assert parse_value(to_yaml(values)) == values


@pytest.mark.slow
@given(TEXT)
@example("a\nb #c" + " d" * 6000)
def test_what_is_explained_reads_back_as_the_same_data(text: str) -> None:
    values = {"a": text, "b": [text, {"c": text}], text[:20]: {"d": [text]}, "none": {}}  # keys are short in YAML
    assert parse_value(to_explained_yaml(values, lambda _: text)) == values
    assert parse_value(to_yaml(values)) == values
    assert parse_value(json.dumps(values)) == values, "JSON is YAML, its pairs of surrogates too"


@pytest.mark.parametrize("text", [r"/tmp/\${x}", "a\nb #c", "${", "\x7f\u2028\U0001f600", "~", "5_000", "null"])
def test_what_is_shown_is_the_same_file_whatever_it_holds(text: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    study = {"methods": ["sgld"], "problems": [{}], "search_space": {"sgld": {"eta0": SPACE}}}
    file.write_text(to_yaml(study | {"store": {"root": escaped(text)}}), encoding="utf-8")
    first = load_cfg(file, [f"store.references={json.dumps(escaped(text))}"], inline=True)
    assert (first.study.store.root, first.study.store.references) == (text, text)
    file.write_text(to_explained_yaml(*part_of(first, "study", str)), encoding="utf-8")
    assert load_cfg(file, inline=True).resolved == first.resolved


@given(TEXT)
def test_what_is_escaped_is_no_interpolation(text: str) -> None:
    assert unescaped(escaped(text)) == text
    assert resolve_interpolations({"a": escaped(text)}) == ({"a": text}, [])


def test_other_readers_understand_the_yaml_too() -> None:
    values = {"text": AWKWARD, "number": 0.5}
    assert yaml.safe_load(to_yaml(values)) == values


@pytest.mark.parametrize("name", schema_names())
def test_schemas_are_json(name: str) -> None:
    schema = json_schema(name)
    assert json.loads(json.dumps(schema)) == schema
    assert schema["title"]


def test_the_studys_schema_knows_hyperparameters_and_presets(repository: Path) -> None:
    schema = json_schema("study")
    assert schema["properties"].keys() == load_cfg("config/optuna/default.yaml").resolved.keys()
    space = schema["properties"]["search_space"]["properties"]
    assert {"eta0", "batch", "steps"} <= space["sgld"]["properties"].keys()
    assert schema["properties"]["samplers"]["properties"]["vi"]["properties"]["preset"]["enum"] == [
        "auto", "hmc", "mclmc", "sghmc", "sgld", "vi",
    ]  # fmt: skip
    assert schema["$defs"]["ProblemEntry"]["properties"]["model"]["enum"] == ["base", "small"]
