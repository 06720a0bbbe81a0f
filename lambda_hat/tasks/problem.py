"""Problems as a worker holds them: loaded once, with their posteriors in each precision."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from lambda_hat.artifacts.files import read_arrays
from lambda_hat.artifacts.paths import PROBLEM_YAML, REFERENCE_NPZ, TARGET_NPZ
from lambda_hat.config.problems import Problem
from lambda_hat.posterior import (
    Coordinates,
    LocalPosterior,
    build_posterior,
    localization_of,
    nbeta_of,
)
from lambda_hat.reference.engine import coordinates_from_arrays
from lambda_hat.targets import Target, load_target

__all__ = ["LoadedProblem", "load_coordinates", "load_problem", "read_problem"]

_PROBLEM: TypeAdapter[Problem] = TypeAdapter(Problem)


@dataclass(frozen=True, eq=False)
class LoadedProblem:
    """A problem with its target and the numbers that make its posterior."""

    problem: Problem
    target: Target

    @property
    def nbeta(self) -> float:
        """nβ."""
        return nbeta_of(self.target.num_data, self.problem.posterior.inverse_temperature)

    @property
    def localization(self) -> float:
        """γ_loc."""
        return localization_of(self.problem.posterior, self.target.w0)

    @functools.cache  # noqa: B019  # one per problem and precision, for the life of the worker
    def posterior(self, dtype: str) -> LocalPosterior:
        """The local posterior in `dtype`; JAX must be in the mode for it."""
        return build_posterior(
            self.target.per_example_loss_fn,
            self.target.w0,
            self.target.data,
            nbeta=self.nbeta,
            localization=self.localization,
            dtype=dtype,
        )


def read_problem(folder: Path) -> Problem:
    """The problem that `problem.yaml` defines."""
    return _PROBLEM.validate_python(yaml.safe_load((folder / PROBLEM_YAML).read_text(encoding="utf-8")))


@functools.lru_cache(maxsize=8)
def load_problem(folder: Path) -> LoadedProblem:
    """The problem in `folder` with its stored target."""
    problem = read_problem(folder)
    return LoadedProblem(problem, load_target(folder / TARGET_NPZ, problem))


@functools.lru_cache(maxsize=8)
def load_coordinates(folder: Path, dtype: str) -> Coordinates:
    """The coordinates that the problem's reference found."""
    return coordinates_from_arrays(read_arrays(folder / REFERENCE_NPZ), dtype)
