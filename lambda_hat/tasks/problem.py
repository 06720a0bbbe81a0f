"""Problems as a worker holds them: loaded once, with their posteriors in each precision."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

from lambda_hat.artifacts.files import read_arrays
from lambda_hat.artifacts.paths import PROBLEM_YAML, REFERENCE_NPZ, TARGET_NPZ
from lambda_hat.config.problems import ProblemSpec, parse_problem
from lambda_hat.posterior import Coordinates, LocalPosterior, posterior_of, scales_of
from lambda_hat.reference.result import coordinates_from_arrays
from lambda_hat.targets import Model, load_target

__all__ = ["LoadedProblem", "load_coordinates", "load_problem", "read_problem"]


@dataclass(frozen=True, eq=False)
class LoadedProblem:
    """A problem with its target."""

    problem: ProblemSpec
    target: Model

    @property
    def nbeta(self) -> float:
        """nβ."""
        return scales_of(self.target, self.problem.posterior).nbeta

    @property
    def localization(self) -> float:
        """γ_loc."""
        return scales_of(self.target, self.problem.posterior).localization

    @functools.cache  # noqa: B019  # one per problem and precision, for the life of the worker
    def posterior(self, dtype: str) -> LocalPosterior:
        """The local posterior in `dtype`; JAX must be in the mode for it."""
        return posterior_of(self.target, self.problem.posterior, dtype)


def read_problem(folder: Path) -> ProblemSpec:
    """The problem that `problem.yaml` defines."""
    return parse_problem(yaml.safe_load((folder / PROBLEM_YAML).read_text(encoding="utf-8")))


def load_problem(folder: Path) -> LoadedProblem:
    """The problem in `folder` with its stored target, kept until that is another file."""
    return _load_problem(folder, _identity(folder / TARGET_NPZ))


@functools.lru_cache(maxsize=8)
def _load_problem(folder: Path, _identity: object) -> LoadedProblem:
    problem = read_problem(folder)
    return LoadedProblem(problem, load_target(folder / TARGET_NPZ, problem))


def load_coordinates(folder: Path, dtype: str) -> Coordinates:
    """The coordinates that the problem's reference found, kept until that is another file."""
    return _load_coordinates(folder, dtype, _identity(folder / REFERENCE_NPZ))


@functools.lru_cache(maxsize=8)
def _load_coordinates(folder: Path, dtype: str, _identity: object) -> Coordinates:
    return coordinates_from_arrays(read_arrays(folder / REFERENCE_NPZ), dtype)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from the one that replaces it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
