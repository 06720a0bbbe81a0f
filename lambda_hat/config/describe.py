"""What a field of the schema expects, in words, and which field belongs to a path."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from lambda_hat.config.base import Expected, OneOf
from lambda_hat.config.locate import KeyPath
from lambda_hat.config.numbers import SMALLEST
from lambda_hat.config.suggest import one_of

__all__ = [
    "TECHNICAL",
    "accepts",
    "closed_set",
    "expected",
    "fields_of",
    "hint_of",
    "is_text",
    "names_at",
    "range_of",
    "scalar_types",
    "tags_of",
    "type_at",
]

TECHNICAL = 1000
"""From here on a bound is what a computer can do; it is told to those who exceed it."""
_SCALARS = {int: "a whole number", float: "a number", str: "text", bool: "`true` or `false`", NoneType: "null"}


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields that a file may set, by YAML's names."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _unwrap(annotation: Any) -> tuple[Any, list[Any]]:
    """The bare type, and its constraints as annotated-types objects."""
    if isinstance(annotation, FieldInfo):
        inner, constraints = _unwrap(annotation.annotation)
        return inner, [*constraints, *annotation.metadata, annotation]
    if get_origin(annotation) is not Annotated:
        return annotation, []
    inner, constraints = _unwrap(get_args(annotation)[0])
    for item in get_args(annotation)[1:]:
        constraints += [*item.metadata, item] if isinstance(item, FieldInfo) else [item]
    return inner, constraints


def _members(annotation: Any) -> list[Any]:
    bare, _ = _unwrap(annotation)
    if get_origin(bare) in (Union, UnionType):
        return [leaf for member in get_args(bare) for leaf in _members(member)]
    return [annotation]


def _models(annotation: Any) -> list[type[BaseModel]]:
    bare = [_unwrap(member)[0] for member in _members(annotation)]
    return [item for item in bare if isinstance(item, type) and issubclass(item, BaseModel)]


def _is_tagged(model: type[BaseModel], data: Mapping[str, Any]) -> bool:
    """Whether `data` agrees with every field that has a single possible value. A missing field agrees."""
    bare = {name: _unwrap(field)[0] for name, field in fields_of(model).items() if name in data}
    tags = {name: get_args(item) for name, item in bare.items() if get_origin(item) is Literal}
    return all(data[name] == values[0] for name, values in tags.items() if len(values) == 1)


def type_at(annotation: Any, data: Any, path: KeyPath) -> Any:
    """The annotation of the value at `path` of `data`; None if the schema has nothing there."""
    for part in path:
        following = None
        for member in _members(annotation):
            bare, _ = _unwrap(member)
            if get_origin(bare) is dict:
                following = get_args(bare)[1]
            elif get_origin(bare) is tuple:
                following = get_args(bare)[0]
            elif bare in _models(member) and isinstance(data, Mapping) and _is_tagged(bare, data):
                following = fields_of(bare).get(str(part), following)
        annotation = following
        if annotation is None:
            return None
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            data = None
    return annotation


def names_at(annotation: Any, data: Any) -> tuple[str, ...]:
    """The keys that a mapping of this type may have; empty if any text is one."""
    for member in _members(annotation):
        bare, _ = _unwrap(member)
        if get_origin(bare) is dict:
            return tuple(map(str, closed_set(get_args(bare)[0])))
    models = [model for model in _models(annotation) if not isinstance(data, Mapping) or _is_tagged(model, data)]
    return tuple(dict.fromkeys(name for model in models for name in fields_of(model)))


def tags_of(annotation: Any, name: str) -> tuple[str, ...]:
    """The values of the field `name` that tell the members of a tagged union apart."""
    return tuple(str(value) for model in _models(annotation) for value in closed_set(fields_of(model)[name]))


def closed_set(annotation: Any) -> tuple[object, ...]:
    """All values of a literal type, or names of a `OneOf`; empty for every other type."""
    values: list[object] = []
    for bare, constraints in map(_unwrap, _members(annotation)):
        if get_origin(bare) is Literal:
            values += get_args(bare)
        values += [name for item in constraints if isinstance(item, OneOf) for name in item.names]
    return tuple(values)


def scalar_types(annotation: Any) -> set[type]:
    """The plain Python types that a field takes: for `PositiveInt | None`, whole numbers and null."""
    bare = [_unwrap(member)[0] for member in _members(annotation)]
    return {item for item in bare if item in _SCALARS} | {type(value) for value in closed_set(annotation)}


def is_text(annotation: Any) -> bool:
    """Whether every value of the field is any text, or null."""
    bare = {_unwrap(member)[0] for member in _members(annotation)}
    return str in bare and bare <= {str, NoneType}


def expected(annotation: Any) -> str:
    """What a value of this type has to be: "a whole number greater than 0"."""
    _, outer = _unwrap(annotation)
    phrases = [_phrase(member) for member in _members(annotation)]
    for constraint in outer:
        if tag := getattr(constraint, "discriminator", None):
            return f"a mapping with `{tag}`"
    return " or ".join(dict.fromkeys(phrases))


def _phrase(annotation: Any) -> str:
    bare, constraints = _unwrap(annotation)
    for constraint in constraints:
        if isinstance(constraint, Expected):
            return constraint.phrase
        if isinstance(constraint, OneOf):
            return one_of(constraint.names)
    origin = get_origin(bare)
    if origin is Literal:
        return one_of(get_args(bare))
    if origin is tuple:
        return "a list with at least one entry" if _bounds(constraints) else "a list"
    if bare in _models(annotation) or origin is dict or bare is dict:
        return "a mapping"
    return " ".join([_SCALARS.get(bare, "a value"), *filter(None, [_bounds(constraints)])])


def _bounds(constraints: list[Any]) -> str:
    words = {
        "gt": "greater than",
        "ge": "of at least",
        "lt": "less than",
        "le": "of at most",
        "min_length": "with at least",
    }
    found = _constraints(constraints, tuple(words))
    if found.get("ge") == SMALLEST:
        found = {"gt": 0} | {name: bound for name, bound in found.items() if name != "ge"}
    shown = {name: bound for name, bound in found.items() if abs(bound) < TECHNICAL}
    return " and ".join(f"{words[name]} {bound}" for name, bound in shown.items()).replace(" and of ", " and ")


def _constraints(constraints: list[Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The bounds of these names; of two the outer one."""
    return {
        name: getattr(item, name) for item in constraints for name in names if getattr(item, name, None) is not None
    }


def range_of(annotation: Any) -> tuple[float, float]:
    """The least and the largest number that a type takes, as far as it says so."""
    found = [_constraints(_unwrap(member)[1], ("ge", "le")) for member in _members(annotation)]
    lows, highs = ([bounds[name] for bounds in found if name in bounds] for name in ("ge", "le"))
    return min(lows, default=-math.inf), max(highs, default=math.inf)


def hint_of(annotation: Any) -> str:
    """What helps with any wrong value of this type; empty for most types."""
    found = [item for member in _members(annotation) for item in _unwrap(member)[1] if isinstance(item, Expected)]
    return next((item.hint for item in found if item.hint), "")


def accepts(annotation: Any, value: Any) -> bool:
    """Whether a value is one of this type."""
    bare, constraints = _unwrap(annotation)
    constraints = [item for item in constraints if not isinstance(item, FieldInfo)]
    whole: Any = Annotated[bare, *constraints] if constraints else bare
    try:
        TypeAdapter(whole).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
