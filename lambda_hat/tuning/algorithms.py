"""Optuna's search algorithms and pruners from the study file's words for them."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import optuna

from lambda_hat.artifacts.ids import derive_seed
from lambda_hat.config.study import PrunerSpec, SearchAlgorithm
from lambda_hat.errors import ConfigError, Fault

__all__ = ["NUM_REPORT_STEPS", "build_pruner", "build_search_algorithm"]

NUM_REPORT_STEPS = 10  # a trial reports at most once per tenth of its work


def build_search_algorithm(spec: SearchAlgorithm, num_trials: int) -> optuna.samplers.BaseSampler:
    """The algorithm that proposes trials, seeded from (seed, trials so far) so that a resumed search repeats nothing.

    Quasi-Monte Carlo keeps its seed: its place in the sequence is stored with the study, and a new seed would be a
    new sequence.

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
