"""What a problem may say: the data, networks and posterior that define one target and its reference."""

from lambda_hat.config.problems.base import LocalizationRadius, PosteriorSpec, ProblemSpec
from lambda_hat.config.problems.entry import ProblemEntry
from lambda_hat.config.problems.kinds.deep_linear import DeepLinearProblem
from lambda_hat.config.problems.kinds.linear_network import LinearNetworkProblem
from lambda_hat.config.problems.kinds.linear_regression import LinearRegressionProblem
from lambda_hat.config.problems.kinds.mlp import (
    Activation,
    DataSpec,
    MLPProblem,
    ModelSpec,
    TeacherSpec,
    TrainingSpec,
)
from lambda_hat.config.problems.kinds.potential import PotentialProblem
from lambda_hat.config.problems.kinds.python import PythonProblem
from lambda_hat.config.problems.kinds.quadratic import QuadraticProblem
from lambda_hat.config.problems.kinds.real_data import RealDataProblem
from lambda_hat.config.problems.kinds.reduced_rank import ReducedRankProblem
from lambda_hat.config.problems.registry import TARGETS, find_kind, parse_problem

__all__ = [
    "TARGETS",
    "Activation",
    "DataSpec",
    "DeepLinearProblem",
    "LinearNetworkProblem",
    "LinearRegressionProblem",
    "LocalizationRadius",
    "MLPProblem",
    "ModelSpec",
    "PosteriorSpec",
    "PotentialProblem",
    "ProblemEntry",
    "ProblemSpec",
    "PythonProblem",
    "QuadraticProblem",
    "RealDataProblem",
    "ReducedRankProblem",
    "TeacherSpec",
    "TrainingSpec",
    "find_kind",
    "parse_problem",
]
