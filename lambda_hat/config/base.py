"""The base class of every configuration object, and the words by which a field says what it expects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["Expected", "Frozen", "as_tuple"]


@dataclass(frozen=True)
class Expected:
    """What a value has to be, in the words of an error message: `Annotated[str, Expected("a name of letters")]`."""

    phrase: str


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
