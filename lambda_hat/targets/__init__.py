"""Targets: data, networks, training, and what comes out of them."""

from lambda_hat.targets.build import build_target, load_target
from lambda_hat.targets.learning_coefficients import aoyagi_coefficient, reduced_rank_coefficient
from lambda_hat.targets.losses import NetworkLoss
from lambda_hat.targets.target import Data, PerExampleLossFn, Target

__all__ = [
    "Data",
    "NetworkLoss",
    "PerExampleLossFn",
    "Target",
    "aoyagi_coefficient",
    "build_target",
    "load_target",
    "reduced_rank_coefficient",
]
