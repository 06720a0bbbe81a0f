"""Sampling hyperparameters from a search space of the study file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from pydantic import TypeAdapter, ValidationError

from lambda_hat.config.locate import dotted
from lambda_hat.config.study import CategoricalDist, Distribution, FloatDist, IntDist
from lambda_hat.config.validation import findings_of
from lambda_hat.errors import InputError

__all__ = ["nearest_params", "suggest_params_from_yaml"]


def suggest_params_from_yaml(
    trial: optuna.trial.BaseTrial, space: Mapping[str, Distribution | Mapping[str, object]]
) -> dict[str, bool | int | float | str | None]:
    """One value of every hyperparameter in `space`, under the names that YAML uses.

    A distribution may be a plain dict as YAML has it: `{"dist": "float", "low": 1e-6, "high": 0.1, "log": True}`.

    Raises:
        InputError: a dict that is no distribution, such as one with an unknown `dist`. It is a ValueError.
    """
    distributions = {name: _distribution(name, spec) for name, spec in space.items()}
    return {name: _suggested(trial, name, distribution) for name, distribution in distributions.items()}


def _distribution(name: str, spec: Distribution | Mapping[str, object]) -> Distribution:
    if not isinstance(spec, Mapping):
        return spec
    try:
        return TypeAdapter[Distribution](Distribution).validate_python(dict(spec))
    except ValidationError as error:
        found = findings_of(error, Distribution, spec)
        raise InputError("; ".join(f"{dotted((name, *item.path))}: {item.message}" for item in found)) from error


def _suggested(trial: optuna.trial.BaseTrial, name: str, distribution: Distribution) -> bool | int | float | str | None:
    match distribution:
        case FloatDist(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)
        case IntDist(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case CategoricalDist(choices=choices):
            return trial.suggest_categorical(name, choices)


def nearest_params(settings: Mapping[str, object], space: Mapping[str, Distribution]) -> dict[str, Any]:
    """The point of `space` next to `settings`: numbers move into their ranges, what is no choice is left out."""
    near = {name: _nearest(settings[name], spec) for name, spec in space.items() if name in settings}
    return {name: value for name, value in near.items() if value is not _NOWHERE}


_NOWHERE = object()


def _nearest(value: object, distribution: Distribution) -> object:
    match distribution:
        case CategoricalDist(choices=choices):
            return next((choice for choice in choices if choice == value and type(choice) is type(value)), _NOWHERE)
        case IntDist(low=low, high=high, step=step) if isinstance(value, int | float):
            inside = min(max(value, low), high)
            return low + step * round((inside - low) / step)
        case FloatDist(low=low, high=high) if isinstance(value, int | float):
            return min(max(float(value), low), high)
        case _:
            return _NOWHERE
