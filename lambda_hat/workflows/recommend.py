"""Confirmed settings as a file that `workflow llc` takes as it stands."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lambda_hat.artifacts.ids import canonical_json
from lambda_hat.artifacts.paths import Paths
from lambda_hat.config.experiments import Experiments
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.load import LoadedStudy
from lambda_hat.formatting import estimate, number
from lambda_hat.records.base import Value
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.rows import AcrossRow, ConfirmedRow
from lambda_hat.report.verdict import judge_settings
from lambda_hat.workflows.plan import problem_titles
from lambda_hat.workflows.snapshot import portable

__all__ = ["recommended_yaml"]

_TAKEN = ("execution", "posterior", "reference", "relative_to")


def recommended_yaml(
    loaded: LoadedStudy,
    paths: Paths,
    method: str,
    confirmed: Sequence[ConfirmedRow],
    across: Sequence[AcrossRow],
    references: Mapping[str, ReferenceRecord],
) -> str:
    """Each problem's winner as a sampler on all problems of the study, the best over all of them first.

    `confirmed` and `across` are the method's rows of the tables of these names, `references` by problem.
    """
    study, folder = loaded.study, paths.recommended_dir
    resolved = portable(loaded, paths, folder)
    winners = sorted((row for row in confirmed if row.rank == 1), key=lambda row: not _is_best(row, across))
    fixed = {str(name): settings for name, settings in study.samplers.items()}.get(method, {})
    found = {canonical_json(row.hyperparameters): row.hyperparameters for row in winners}
    names = dict.fromkeys(found, method)
    if len(found) > 1:
        names = {settings: f"{method}-{place}" for place, settings in enumerate(found, start=1)}
    samplers = [
        {
            "name": names[settings],
            "method": method,
            "overrides": {**fixed, **dict(sorted(hyperparameters.items()))},
            "seed": 0,
        }
        for settings, hyperparameters in found.items()
    ]
    store = study.store
    values = {
        "targets": resolved["problems"],
        "samplers": samplers,
        **{key: resolved[key] for key in Experiments.model_fields if key in _TAKEN},
        "store": {
            **resolved["store"],
            "references": resolved["store"]["references"] or os.path.relpath(paths.problems_dir, folder),
            "namespace": f"{store.namespace}-recommended",
        },
    }
    values["execution"] = {**resolved["execution"], "executor_map": _routes(resolved, method)}
    comments = _header(method, problem_titles(loaded), winners, names, across, references)
    return "".join(f"# {line}\n".replace("#  \n", "#\n") for line in comments) + "\n" + to_yaml(values)


def _routes(resolved: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The study's executors without those of other methods."""
    routes = resolved["execution"]["executor_map"]
    return {**routes, "methods": {name: label for name, label in routes["methods"].items() if name == method}}


def _is_best(row: ConfirmedRow, across: Sequence[AcrossRow]) -> bool:
    return any(other.is_best_mean and other.hyperparameters == row.hyperparameters for other in across)


def _header(
    method: str,
    titles: Mapping[str, str],
    winners: Sequence[ConfirmedRow],
    names: Mapping[str, str],
    across: Sequence[AcrossRow],
    references: Mapping[str, ReferenceRecord],
) -> Iterator[str]:
    def name_of(settings: Mapping[str, Value]) -> str:
        return names[canonical_json(settings)]

    yield f"Settings of {method} that were confirmed under seeds which the search had not seen."
    yield "Run them with `lambda-hat workflow llc --config` and this file, which has to stay in its run's folder."
    for row in winners:
        yield f"{name_of(row.hyperparameters)}: best on {titles.get(row.pid, row.pid)} ({row.pid})"
        yield (
            f"  root mean squared error {estimate(row.rmse, row.rmse_se)} "
            f"({number(row.relative_rmse, '.1%')} of λ), {row.num_seeds} seeds"
        )
        yield f"  {judge_settings(row, references.get(row.pid)).sentence}"
    for what, of_best, value in (
        ("mean", [row for row in across if row.is_best_mean], lambda row: row.mean_relative_rmse),
        ("worst", [row for row in across if row.is_best_worst], lambda row: row.worst_relative_rmse),
    ):
        if of_best:
            name, least = name_of(of_best[0].hyperparameters), number(value(of_best[0]), ".1%")
            yield f"Over all problems {name} has the smallest {what} relative error: {least}"
            yield from (
                f"  {titles.get(row.pid, row.pid)} loses {number(row.loss, '+.1%')} of λ by it" for row in of_best
            )
