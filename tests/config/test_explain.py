from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lambda_hat.config.explain import json_schema, schema_names, to_yaml
from lambda_hat.config.load import load_cfg
from lambda_hat.config.locate import parse_value

AWKWARD = ["1e-3", "yes", "12:00:00", "0o17", "null", "~", "5_000", "2026-01-01", "<<", "", "a: b", "λ̂"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(AWKWARD)


@given(st.dictionaries(st.sampled_from(["a", "b", *AWKWARD]), SCALARS | st.lists(SCALARS, max_size=3), max_size=4))
def test_yaml_reads_back_as_the_same_data(values: dict[str, object]) -> None:
    assert parse_value(to_yaml(values)) == values


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
        "hmc", "mclmc", "sghmc", "sgld", "vi",
    ]  # fmt: skip
    assert schema["$defs"]["ProblemEntry"]["properties"]["model"]["enum"] == ["base", "small"]
