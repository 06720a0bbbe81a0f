"""The base class of every configuration object, and the words by which a field says what it expects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import core_schema

__all__ = ["IN_OWN_WORDS", "Expected", "Frozen", "OneOf", "as_tuple"]

IN_OWN_WORDS = "in_own_words"  # the type of a validation error whose `message` says all


@dataclass(frozen=True)
class Expected:
    """What a value has to be, in the words of an error message: `Annotated[str, Expected("a name of letters")]`."""

    phrase: str
    hint: str = ""
    """What helps whoever wrote another value."""


@dataclass(frozen=True)
class OneOf:
    """A name of a set that installed packages can add to: `Annotated[str, OneOf(("mlp", "quadratic"), look_up)]`.

    What is installed is looked up for a name that is not known, and where all names are listed.
    """

    known: tuple[str, ...]
    installed: Callable[[], tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, those that are known first."""
        return (*self.known, *self.installed())

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) | {"enum": list(self.names)}

    def _checked(self, name: str) -> str:
        if name not in self.known and name not in self.installed():
            raise ValueError(f"{name!r} is none of the names")
        return name


@cache
def _is_whole(annotation: Any) -> bool:
    parts, depth = {annotation}, 3  # Annotated in a union in Annotated
    for _ in range(depth):
        parts |= {inner for part in parts for inner in get_args(part)}
    return int in parts and float not in parts


def as_tuple(value: Any) -> Any:
    """A list as a tuple, which cannot change; any other value unchanged. For lists that no field holds directly."""
    return tuple(value) if isinstance(value, list) else value


class Frozen(BaseModel):
    """Frozen, typed data that refuses unknown keys and silent conversions between numbers and text."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        populate_by_name=True,
        use_attribute_docstrings=True,  # the text below a field is its description, for editors and the documentation
        defer_build=True,  # most commands use few of the models, and nested ones need no validator of their own
    )

    @model_validator(mode="before")
    @classmethod
    def _read_as_yaml_means(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        values = dict(data)
        for name, field in cls.model_fields.items():
            key = field.alias if field.alias in values else name
            value = values.get(key)
            if isinstance(value, list):
                values[key] = tuple(value)
            elif isinstance(value, float) and value.is_integer() and _is_whole(field.annotation):
                values[key] = int(value)  # 5e3 is how people write a large whole number
        return values

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings, under the names that YAML uses."""
        return self.model_dump(mode="json", by_alias=True)
