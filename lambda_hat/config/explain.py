"""Configuration for readers: as YAML for people, as JSON Schema for editors."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml
from pydantic import TypeAdapter

from lambda_hat.config.card import Card
from lambda_hat.config.experiments import Experiments
from lambda_hat.config.locate import KeyPath, YamlLoader
from lambda_hat.config.methods import METHODS, hyperparameter_names
from lambda_hat.config.resolve import PRESET_KINDS, preset_names
from lambda_hat.config.study import REFERENCE_METHODS, ReferenceSpec, Study

__all__ = ["json_schema", "schema_names", "to_explained_yaml", "to_yaml"]

_COMMENT_COLUMN = 60  # of the comments, where no line before them is longer


class _Dumper(yaml.SafeDumper):
    """Quotes text that either YAML 1.1 or `YamlLoader` would read as something else."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Text; with line breaks and the like as escapes, since other quotes fold them."""
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)

for _first, _resolvers in YamlLoader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, re.compile(_pattern), [_first])


def to_yaml(values: Mapping[str, Any]) -> str:
    """YAML text of plain data, which reads back as the same data. Lists and mappings of scalars are on one line."""
    return yaml.dump(
        dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )


def to_explained_yaml(values: Mapping[str, Any], origin: Callable[[KeyPath], str]) -> str:
    """YAML text of plain data, one line per value. A comment behind each value says where it came from."""
    lines = list(_explained(values, (), origin))
    width = min(max((len(text) for text, _ in lines), default=0), _COMMENT_COLUMN)
    return "".join(f"{text:<{width}}  # {_one_line(comment)}\n" if comment else f"{text}\n" for text, comment in lines)


def _one_line(comment: str) -> str:
    """The comment with its line breaks and other characters that YAML does not take in comments as escapes."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in comment)


def _explained(values: Mapping[str, Any], path: KeyPath, origin: Callable[[KeyPath], str]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        here, name = (*path, key), _inline(key)
        if isinstance(value, Mapping) and value:
            yield f"{name}:", ""
            yield from ((f"  {text}", comment) for text, comment in _explained(value, here, origin))
        elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
            yield f"{name}:", ""
            for index, entry in enumerate(value):
                yield from _explained_entry(entry, (*here, index), origin)
        else:
            yield f"{name}: {_inline(value)}", origin(here)


def _explained_entry(entry: Any, path: KeyPath, origin: Callable[[KeyPath], str]) -> Iterator[tuple[str, str]]:
    if not isinstance(entry, Mapping) or not entry:
        yield f"  - {_inline(entry)}", origin(path)
        return
    for number, (text, comment) in enumerate(_explained(entry, path, origin)):
        yield f"  {'-' if number == 0 else ' '} {text}", comment


def _inline(value: Any) -> str:
    text = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, width=sys.maxsize, default_flow_style=True)
    return text.removesuffix("...\n").strip()


def schema_names() -> tuple[str, ...]:
    """The names that `json_schema` takes: the three kinds of file, and every method."""
    return ("study", "experiments", "card", *METHODS)


def json_schema(name: str) -> dict[str, Any]:
    """JSON Schema of one of `schema_names()`, with a description of every key.

    Raises:
        KeyError: `name` is not one of `schema_names()`.
    """
    if name == "card":
        return TypeAdapter(Card).json_schema() | {"title": "lambda-hat Parsl card"}
    if name == "experiments":
        return _experiments_schema()
    if name == "study":
        return _study_schema()
    return METHODS[name].model_json_schema()


def _study_schema() -> dict[str, Any]:
    schema = _file_schema(Study)
    properties, definitions = schema["properties"], schema["$defs"]
    definitions["Distribution"] = properties["search_space"]["additionalProperties"]["additionalProperties"]
    distribution = {"$ref": "#/$defs/Distribution"}
    properties["search_space"] |= {
        "additionalProperties": False,
        "properties": {
            method: {
                "type": "object",
                "additionalProperties": False,
                "properties": dict.fromkeys(hyperparameter_names(method), distribution),
            }
            for method in METHODS
        },
    }
    properties["search_space"].pop("propertyNames", None)
    properties["samplers"] |= {
        "additionalProperties": False,
        "properties": {method: _fixed_settings_schema(method) for method in METHODS},
    }
    properties["samplers"].pop("propertyNames", None)
    return schema | {"title": "lambda-hat study"}


def _experiments_schema() -> dict[str, Any]:
    schema = _file_schema(Experiments)
    unnamed = {"anyOf": [{"properties": {"method": {"const": None}}}, {"not": {"required": ["method"]}}]}
    schema["$defs"]["SamplerEntry"]["allOf"] = [
        {
            "if": {
                "anyOf": [
                    {"properties": {"method": {"const": method}}, "required": ["method"]},
                    {"properties": {"name": {"const": method}}, "allOf": [unnamed]},
                ]
            },
            "then": {"properties": {"overrides": _fixed_settings_schema(method)}},
        }
        for method in METHODS
    ]
    return schema | {"title": "lambda-hat experiments"}


def _file_schema(model: type[Study] | type[Experiments]) -> dict[str, Any]:
    """The schema with the words that a reference and presets may be."""
    schema = model.model_json_schema()
    properties = schema["properties"]
    names = [name for name in REFERENCE_METHODS if model is Experiments or ReferenceSpec(method=name).is_certifiable]
    properties["reference"] = {"anyOf": [{"enum": names}, properties["reference"]]}
    for kind in PRESET_KINDS:
        schema["$defs"]["ProblemEntry"]["properties"][kind]["enum"] = list(preset_names(kind))
    return schema


def _fixed_settings_schema(method: str) -> dict[str, Any]:
    settings = METHODS[method].model_json_schema()
    return settings | {"properties": {"preset": {"enum": list(preset_names("sampler"))}, **settings["properties"]}}
