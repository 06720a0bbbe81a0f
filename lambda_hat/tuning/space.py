"""Sampling hyperparameters from a search space of the study file."""

from __future__ import annotations

from collections.abc import Mapping

import optuna

from lambda_hat.config.study import CategoricalDist, Distribution, FloatDist, IntDist

__all__ = ["suggest_params_from_yaml"]


def suggest_params_from_yaml(
    trial: optuna.trial.BaseTrial, space: Mapping[str, Distribution]
) -> dict[str, bool | int | float | str | None]:
    """One value of every hyperparameter in `space`, under the names that YAML uses."""
    return {name: _suggested(trial, name, distribution) for name, distribution in space.items()}


def _suggested(trial: optuna.trial.BaseTrial, name: str, distribution: Distribution) -> bool | int | float | str | None:
    match distribution:
        case FloatDist(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)
        case IntDist(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case CategoricalDist(choices=choices):
            return trial.suggest_categorical(name, choices)
