"""Reads `--set key=value`, finds the file that each belongs to, and writes it over that file's data."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from lambda_hat.config.card import AnyCard
from lambda_hat.config.describe import fields_of, is_text, names_at, scalar_types, type_at
from lambda_hat.config.locate import Document, Finding, KeyPath, dotted, parse_argument
from lambda_hat.config.suggest import did_you_mean, one_of
from lambda_hat.config.validation import found
from lambda_hat.errors import Fault

__all__ = ["Override", "apply", "misdirected", "parse_overrides"]

_CARDS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(AnyCard)
}


@dataclass(frozen=True)
class Override:
    """One `--set`: the argument as typed, the parts of its key, and the text behind its `=`."""

    argument: str
    parts: tuple[str, ...]
    text: str

    def fault(self, message: str, hint: str = "", key: str | None = None) -> Fault:
        """A fault of this argument."""
        key = ".".join(self.parts) if key is None else key
        return Fault(key=key, message=message, hint=hint, source=f'--set "{self.argument}"')


def parse_overrides(
    dotlist: Sequence[str], model: type[BaseModel]
) -> tuple[list[Override], list[Override], list[Fault]]:
    """Overrides for the file that `model` describes, overrides that may be for the card, and faults.

    Faulty are arguments that are no `key=value`.
    """
    sections, other, faults = [], [], []
    for argument in dotlist:
        key, equals, text = argument.partition("=")
        override = Override(argument, tuple(key.strip().split(".")), text)
        if not equals or not all(override.parts):
            faults.append(override.fault("expected `key=value`, the key's parts joined by dots", key=""))
            continue
        (sections if override.parts[0] in fields_of(model) else other).append(override)
    return sections, other, faults


def apply(document: Document, overrides: Iterable[Override], annotation: Any) -> tuple[Document, list[Fault]]:
    """The document with the values written over its data and a note of which argument wrote what; what did not fit.

    `annotation` is the type of the data. A value is YAML, or the text as it stands where that type takes any text.
    """
    data, arguments, faults = copy.deepcopy(document.data), dict(document.arguments), []
    for override in overrides:
        outcome = _write(data, override, annotation)
        if isinstance(outcome, Finding):
            faults.append(override.fault(outcome.message, outcome.hint, dotted(outcome.path)))
        else:
            arguments[outcome] = override.argument
    return replace(document, data=data, arguments=arguments), faults


def _write(data: Any, override: Override, annotation: Any) -> KeyPath | Finding:
    part: Any
    whole, path = data, ()
    rest = override.parts
    while True:
        if isinstance(data, list):
            if not rest[0].isdecimal() or int(rest[0]) >= len(data):
                message = f"found `{rest[0]}`, expected the place of an entry, 0 to {len(data) - 1}"
                return Finding((*path, rest[0]), message if data else "the list is empty")
            part, rest = int(rest[0]), rest[1:]
        elif isinstance(data, dict):
            part, rest = _split(data, rest)
            if rest:
                data.setdefault(part, {})
        else:
            return Finding(path, f"found {found(data)}, expected a mapping that could hold `{'.'.join(rest)}`")
        path = (*path, part)
        if not rest:
            break
        data = data[part]
    kind = type_at(annotation, whole, path)
    try:
        data[part] = parse_argument(override.text, is_text=is_text(kind), may_be_null=NoneType in scalar_types(kind))
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        return Finding(path, f"the value is not valid YAML: {problem}", "Put quotes around the value.")
    return path


def _split(data: dict[str, Any], parts: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The longest key of `data` that the parts begin with, and the other parts.

    Keys may have dots, as in `overrides: {data.noise_scale: 1}`.
    """
    for end in range(len(parts), 1, -1):
        if ".".join(parts[:end]) in data:
            return ".".join(parts[:end]), parts[end:]
    return parts[0], parts[1:]


def _card_fields(card_type: str | None) -> tuple[str, ...]:
    """The fields of a card of this type; if the type does not exist, the fields of every type."""
    models = [_CARDS[card_type]] if card_type in _CARDS else list(_CARDS.values())
    return tuple(dict.fromkeys(name for model in models for name in fields_of(model)))


def misdirected(
    override: Override, card_type: str | None, card_source: str, model: type[BaseModel], file: str
) -> Fault | None:
    """The fault of an argument that belongs neither to the `file` of `model` nor to a card of this type; else None."""
    first = override.parts[0]
    if first in _card_fields(card_type):
        return None
    others = " or ".join(f"`{other}`" for other, model in _CARDS.items() if first in fields_of(model))
    if others:
        message = f"cards of type {others} have this field, but {card_source} is of type `{card_type}`"
        return override.fault(message, f"Fields of `{card_type}` cards: {', '.join(_card_fields(card_type))}.")
    key = ".".join(override.parts)
    names = _dotted_names(model)
    ends = [name for name in names if name.endswith(f".{key}")]
    sections = [*fields_of(model), *_card_fields(card_type)]
    hint = f"Did you mean {one_of(ends)}?" if ends else did_you_mean(key, names) or did_you_mean(first, sections)
    return override.fault(f"neither a section of the {file} nor a field of the Parsl card", hint)


def _dotted_names(annotation: Any, prefix: str = "") -> list[str]:
    names = []
    for name in names_at(annotation, None):
        names.append(prefix + name)
        names += _dotted_names(type_at(annotation, {}, (name,)), f"{prefix}{name}.")
    return names
