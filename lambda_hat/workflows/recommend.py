"""Confirmed settings as a file that `workflow llc` takes as it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.experiments import Experiments
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.load import LoadedStudy
from lambda_hat.formatting import number
from lambda_hat.report.analysis import doubts_of_settings
from lambda_hat.workflows.plan import problem_titles

__all__ = ["recommended_yaml"]

Row = Mapping[str, Any]


def recommended_yaml(
    loaded: LoadedStudy, paths: Paths, method: str, confirmed: Sequence[Row], across: Sequence[Row]
) -> str:
    """Each problem's winner as a sampler on all problems of the study, the best over all of them first.

    `confirmed` and `across` are the method's rows of the tables of these names. The references are those of the study.
    """
    study, resolved = loaded.study, loaded.resolved
    winners = sorted((row for row in confirmed if row["rank"] == 1), key=lambda row: not _is_best(row, across))
    fixed = {str(name): settings for name, settings in study.samplers.items()}.get(method, {})
    names = {row["hyperparameters"]: method for row in winners}
    if len(names) > 1:
        names = {settings: f"{method}-{place}" for place, settings in enumerate(names, start=1)}
    samplers = [
        {
            "name": name,
            "method": method,
            "overrides": {**fixed, **json.loads(settings)},
            "seed": 0,
        }
        for settings, name in names.items()
    ]
    store = study.store
    values = {
        "targets": resolved["problems"],
        "samplers": samplers,
        **{key: resolved[key] for key in Experiments.model_fields if key in ("execution", "posterior", "reference")},
        "store": {
            **resolved["store"],
            "references": store.references or str(paths.problem_dir(confirmed[0]["pid"]).parent),
            "namespace": f"{store.namespace}-recommended",
        },
    }
    values["execution"] = {**resolved["execution"], "executor_map": _routes(resolved, method)}
    comments = _header(paths, method, problem_titles(loaded), winners, names, across)
    return "".join(f"# {line}\n".replace("#  \n", "#\n") for line in comments) + "\n" + to_yaml(values)


def _routes(resolved: Row, method: str) -> dict[str, Any]:
    """The study's executors without those of other methods."""
    routes = resolved["execution"]["executor_map"]
    return {**routes, "methods": {name: label for name, label in routes["methods"].items() if name == method}}


def _is_best(row: Row, across: Sequence[Row]) -> bool:
    return any(other["is_best_mean"] and other["hyperparameters"] == row["hyperparameters"] for other in across)


def _header(
    paths: Paths,
    method: str,
    titles: Mapping[str, str],
    winners: Sequence[Row],
    names: Mapping[str, str],
    across: Sequence[Row],
) -> Iterator[str]:
    yield f"Settings of {method} that were confirmed under seeds which the search had not seen."
    yield f"  lambda-hat workflow llc --config {paths.recommended(method)}"
    for row in winners:
        yield f"{names[row['hyperparameters']]}: best on {row['pid']} ({titles.get(row['pid'], '')})"
        yield (
            f"  root mean squared error {number(row['rmse'])} ± {number(row['rmse_se'], '.2g')} "
            f"({number(row['relative_rmse'], '.1%')} of λ), {row['num_seeds']} seeds"
        )
        yield from (f"  NOT TO BE TRUSTED as it is: {doubt}" for doubt in doubts_of_settings(row))
    for flag, what, column in (
        ("is_best_mean", "mean", "mean_relative_rmse"),
        ("is_best_worst", "worst", "worst_relative_rmse"),
    ):
        of_best = [row for row in across if row[flag]]
        if of_best:
            name, value = names[of_best[0]["hyperparameters"]], number(of_best[0][column], ".1%")
            yield f"Over all problems {name} has the smallest {what} relative error: {value}"
            yield from (f"  {row['pid']} loses {number(row['loss'], '+.1%')} of λ by it" for row in of_best)
