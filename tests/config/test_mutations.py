from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_hat.config.load import load_cfg
from lambda_hat.config.locate import YamlLoader, dotted, parse_value
from lambda_hat.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
DEFAULT = REPOSITORY / "config/optuna/default.yaml"
TEXT = DEFAULT.read_text(encoding="utf-8")
LINES = TEXT.splitlines()


def _keys(node: yaml.Node, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], yaml.Node]]:
    found = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            found += [((*path, key.value), key), *_keys(value, (*path, key.value))]
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found += _keys(value, (*path, index))
    return found


KEYS = [(path, node) for path, node in _keys(YamlLoader(TEXT).get_single_node()) if "per_executor" not in path[:-1]]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=50)
@given(place=st.sampled_from(KEYS), name=st.from_regex(r"[a-z_]{1,12}", fullmatch=True))
def test_a_key_renamed_to_an_unknown_one_is_found_in_its_line(place: tuple, name: str) -> None:
    _, key = place
    name += "_x"  # no name ends like this
    lines = list(LINES)
    row, start, end = key.start_mark.line, key.start_mark.column, key.end_mark.column
    lines[row] = lines[row][:start] + name + lines[row][end:]
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study.yaml"
        study.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_cfg(study)
    assert row + 1 in [fault.line for fault in caught.value.faults], str(caught.value)


@pytest.mark.slow
@settings(max_examples=50)
@given(place=st.sampled_from(KEYS), value=PLAIN)
def test_any_value_loads_or_is_a_config_error(place: tuple, value: object) -> None:
    argument = f"{dotted(place[0])}={json.dumps(value)}"
    with contextlib.suppress(ConfigError):
        load_cfg(DEFAULT, [argument])


@settings(max_examples=50)
@given(text=st.text(alphabet="ab:{}[]&*<>|!-?#%@,'\"\n \t0.1e_~$", max_size=30))
def test_any_text_is_read_or_is_a_yaml_error(text: str) -> None:
    with contextlib.suppress(yaml.YAMLError):
        parse_value(text)
