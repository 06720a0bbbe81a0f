"""Configuration for readers: as YAML for people, as JSON Schema for editors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import TypeAdapter

from lambda_hat.config.card import Card
from lambda_hat.config.experiments import Experiments
from lambda_hat.config.locate import YamlLoader
from lambda_hat.config.methods import METHODS, hyperparameter_names
from lambda_hat.config.resolve import preset_names
from lambda_hat.config.study import Study

__all__ = ["json_schema", "schema_names", "to_yaml"]


class _Dumper(yaml.SafeDumper):
    """Quotes text that either YAML 1.1 or `YamlLoader` would read as something else."""


for _first, _resolvers in YamlLoader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, re.compile(_pattern), [_first])


def to_yaml(values: Mapping[str, Any]) -> str:
    """YAML text that reads back as the same plain data; lists and mappings of scalars stand in one line."""
    return yaml.dump(
        dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )


def schema_names() -> tuple[str, ...]:
    """What `json_schema` describes: the three files, and the settings of every method."""
    return ("study", "experiments", "card", *METHODS)


def json_schema(name: str) -> dict[str, Any]:
    """JSON Schema of the study file, the experiments file, the Parsl card, or one method's settings.

    Raises:
        KeyError: `name` is not one of `schema_names()`.
    """
    if name == "card":
        return TypeAdapter(Card).json_schema() | {"title": "lambda-hat Parsl card"}
    if name == "experiments":
        return _experiments_schema()
    return _study_schema() if name == "study" else METHODS[name].model_json_schema()


def _study_schema() -> dict[str, Any]:
    schema = _file_schema(Study)
    properties = schema["properties"]
    distribution = properties["search_space"]["additionalProperties"]["additionalProperties"]
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
    """The schema without what resolving fills in, and with the words that a reference and presets may be."""
    schema = model.model_json_schema()
    properties = schema["properties"]
    for field, info in model.model_fields.items():
        if info.exclude:
            del properties[field]
    properties["reference"] = {"anyOf": [{"enum": ["hmc", "exact"]}, properties["reference"]]}
    for kind in ("model", "data", "teacher"):
        schema["$defs"]["ProblemEntry"]["properties"][kind]["enum"] = list(preset_names(kind))
    return schema


def _fixed_settings_schema(method: str) -> dict[str, Any]:
    settings = METHODS[method].model_json_schema()
    return settings | {"properties": {"preset": {"enum": list(preset_names("sampler"))}, **settings["properties"]}}
