"""Optuna's search algorithms and pruners from the study file's words for them."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import operator
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import optuna

from lambda_hat.artifacts.ids import derive_seed
from lambda_hat.config.describe import accepts
from lambda_hat.config.locate import Finding, KeyPath, dotted
from lambda_hat.config.study import Distribution, PrunerSpec, SearchAlgorithm, Study
from lambda_hat.config.validation import unknown_key, wrong_value
from lambda_hat.errors import ConfigError, Fault
from lambda_hat.tuning.grid import GridSearch
from lambda_hat.tuning.space import suggest_params_from_yaml

__all__ = ["NUM_REPORT_STEPS", "build_pruner", "build_search_algorithm", "check_search"]

NUM_REPORT_STEPS = 10  # a trial reports at most once per tenth of its work
_OPTIONS: KeyPath = ("optuna", "sampler", "options")
_CLASSES: dict[str, type[optuna.samplers.BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "qmc": optuna.samplers.QMCSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "grid": GridSearch,
}
_OWN_KEYS = ("seed", "n_startup_trials")  # of `optuna.sampler`, which are no options
_YAML_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "None": None, "dict[str, Any]": dict[str, Any]}


def check_search(study: Study) -> list[Fault]:
    """What is wrong with the search's options, found by building it and letting it propose trials of every space."""
    spec = study.optuna.sampler
    if findings := list(_check_options(spec)):
        return [Fault(key=dotted(item.path), message=item.message, hint=item.hint) for item in findings]
    few = spec.model_copy(update={"n_startup_trials": min(spec.n_startup_trials, 1)})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for space in study.search_space.values():
                _rehearse(few, study.optuna.pruner, space)
    except ConfigError as error:
        return list(error.faults)
    except Exception as error:  # whatever an option does to the search
        message = f"{spec.type} cannot search with them: {type(error).__name__}: {error}"
        return [Fault(key=dotted(_OPTIONS), message=message)]
    return []


def _rehearse(spec: SearchAlgorithm, pruner: PrunerSpec, space: Mapping[str, Distribution]) -> None:
    study = optuna.create_study(sampler=build_search_algorithm(spec, 0, space), pruner=build_pruner(pruner))
    for value in (2.0, 1.0, 3.0):
        trial = study.ask()
        suggest_params_from_yaml(trial, space)
        study.tell(trial, value)


def _check_options(spec: SearchAlgorithm) -> Iterator[Finding]:
    """Options that the algorithm does not take, and values of another type than its signature says."""
    parameters = inspect.signature(_CLASSES[spec.type]).parameters
    types = {name: _yaml_type(parameter.annotation) for name, parameter in parameters.items()}
    names = tuple(name for name, wanted in types.items() if wanted is not None and name not in _OWN_KEYS)
    for name, value in spec.options.items():
        path = (*_OPTIONS, name)
        if name in _OWN_KEYS:
            message = f"not an option; `optuna.sampler` has a `{name}` of its own"
            yield Finding(path, message, f"Move it next to `options`, as `{name}:`.", is_about_key=True)
        elif name not in names:
            what = "takes what YAML cannot say" if name in types else f"unknown option of `{spec.type}`"
            yield unknown_key(path, names, what if names else f"{what}, which takes none")
        elif not accepts(types[name], value):
            yield wrong_value(path, value, types[name])


def _yaml_type(annotation: str) -> Any:
    """What YAML can say of a parameter, whose annotation is text; None where that is nothing."""
    parts = [part.strip() for part in annotation.split("|")]
    known = [_YAML_TYPES[part] for part in parts if part in _YAML_TYPES]
    return functools.reduce(operator.or_, known) if any(item is not None for item in known) else None


def build_search_algorithm(
    spec: SearchAlgorithm, num_trials: int, space: Mapping[str, Distribution]
) -> optuna.samplers.BaseSampler:
    """The algorithm that proposes trials, seeded from (seed, trials so far) so that a resumed search repeats nothing.

    Quasi-Monte Carlo and the grid keep their seed: a trial's place in their sequence is known by its study, and a new
    seed would be a new sequence.

    Raises:
        ConfigError: an option that the algorithm does not take, or a package that it needs and is not installed.
    """
    seed = derive_seed("search", spec.seed, num_trials)
    options: dict[str, Any] = dict(spec.options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            match spec.type:
                case "tpe":
                    options = {"multivariate": True, "constant_liar": True, **options}
                    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=spec.n_startup_trials, **options)
                case "random":
                    return optuna.samplers.RandomSampler(seed=seed, **options)
                case "qmc":
                    options = {"scramble": True, "warn_independent_sampling": False, **options}
                    return optuna.samplers.QMCSampler(seed=derive_seed("search", spec.seed), **options)
                case "grid":
                    return GridSearch(space, seed=derive_seed("search", spec.seed), **options)
                case "cmaes":
                    if importlib.util.find_spec("cmaes") is None:
                        raise ConfigError(
                            [
                                Fault(
                                    key="optuna.sampler.type",
                                    message="`cmaes` needs the package of that name, which is not installed.",
                                    hint="`pip install cmaes`, or use `tpe`.",
                                )
                            ]
                        )
                    options = {"warn_independent_sampling": False, **options}
                    return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=spec.n_startup_trials, **options)
        except (TypeError, ValueError) as error:
            raise ConfigError([Fault(key="optuna.sampler.options", message=f"{spec.type}: {error}")]) from error


def build_pruner(spec: PrunerSpec) -> optuna.pruners.BasePruner:
    """The rule that stops hopeless trials early; its steps are tenths of a trial's work."""
    match spec.type:
        case "median":
            return optuna.pruners.MedianPruner(
                n_startup_trials=spec.n_startup_trials, n_warmup_steps=spec.n_warmup_steps
            )
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=max(1, spec.n_warmup_steps), max_resource=NUM_REPORT_STEPS
            )
        case "none":
            return optuna.pruners.NopPruner()
