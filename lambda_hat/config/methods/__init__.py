"""The methods, one module each: settings, what a method needs and reports, and what its runs are held to.

A method is found by its module here. Beside it belong `lambda_hat/samplers/<method>.py`, the kernel, and
`lambda_hat/config/presets/sampler/<method>.yaml`; nothing else names it.
"""

from __future__ import annotations

from collections.abc import Hashable
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import ValidationError

from lambda_hat.config.methods.base import MethodSettings, Report

__all__ = [
    "METHODS",
    "REPORTS",
    "Method",
    "MethodSettings",
    "Report",
    "hyperparameter_names",
    "parse_settings",
    "program_of",
]


def _settings_in(module: str) -> type[MethodSettings]:
    """The one class of settings that a module of this package defines."""
    name = f"{__name__}.{module}"
    (found,) = [
        value
        for value in vars(import_module(name)).values()
        if isinstance(value, type) and issubclass(value, MethodSettings) and value.__module__ == name
    ]
    return found


def _find_methods() -> dict[str, type[MethodSettings]]:
    found = [_settings_in(module.name) for module in iter_modules(__path__) if module.name != "base"]
    return {settings.method: settings for settings in sorted(found, key=lambda cls: (cls.place, cls.method))}


METHODS: dict[str, type[MethodSettings]] = _find_methods()
"""The settings of every method, by its name."""

if TYPE_CHECKING:
    Method: TypeAlias = str
else:
    Method = Literal[tuple(METHODS)]  # so that pydantic, messages and JSON Schema know the names

REPORTS: dict[str, Report] = {report.name: report for cls in METHODS.values() for report in cls.reports}
"""Everything that any method reports, by name."""


def hyperparameter_names(method: str) -> tuple[str, ...]:
    """Names, as YAML writes them, that `method` takes."""
    return tuple(field.alias or name for name, field in METHODS[method].model_fields.items())


def parse_settings(method: str, values: dict[str, object]) -> MethodSettings:
    """Typed settings of `method` from YAML names; missing ones take their defaults.

    Raises:
        pydantic.ValidationError: a name or value that the method does not take.
    """
    return METHODS[method].model_validate(values)


def program_of(method: str, values: dict[str, object]) -> Hashable | None:
    """`MethodSettings.program`; None for settings that the method does not take."""
    try:
        return parse_settings(method, values).program
    except ValidationError:
        return None
