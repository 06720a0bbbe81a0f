"""No setting takes a number that what it is used for cannot hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lambda_hat.config.explain import json_schema, schema_names
from lambda_hat.config.numbers import LARGEST, LARGEST_WHOLE
from lambda_hat.config.problems import TARGETS

OPEN = {"choices", "enqueue"}  # values of other settings, which are checked as such
SCHEMAS = {name: json_schema(name) for name in schema_names()}
SCHEMAS |= {name: problem.model_json_schema() for name, problem in TARGETS.items()}


def unbounded(schema: Any, path: str) -> Iterator[str]:
    if isinstance(schema, dict):
        bound = {"integer": LARGEST_WHOLE, "number": LARGEST}.get(str(schema.get("type")))
        if bound is not None and min(schema.get(key, bound + 1) for key in ("maximum", "exclusiveMaximum")) > bound:
            yield path
    pairs = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    for key, value in pairs:
        if key not in OPEN:
            yield from unbounded(value, f"{path}.{key}")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_number_has_a_largest_value(name: str) -> None:
    assert list(unbounded(SCHEMAS[name], name)) == []
