"""Targets: the kinds of them, and the models that they are built into or that somebody hands in."""

from lambda_hat.targets.build import build_target, load_target
from lambda_hat.targets.kind import Predictions, TargetKind, kind_of
from lambda_hat.targets.learning_coefficients import aoyagi_coefficient, reduced_rank_coefficient
from lambda_hat.targets.losses import NetworkLoss
from lambda_hat.targets.model import Data, ExactLLC, Model, PerExampleLossFn
from lambda_hat.targets.pytrees import PytreeLoss, read_model

__all__ = [
    "Data",
    "ExactLLC",
    "Model",
    "NetworkLoss",
    "PerExampleLossFn",
    "Predictions",
    "PytreeLoss",
    "TargetKind",
    "aoyagi_coefficient",
    "build_target",
    "kind_of",
    "load_target",
    "read_model",
    "reduced_rank_coefficient",
]
