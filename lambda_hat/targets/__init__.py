"""Targets: data, networks, training, and what comes out of them."""

from lambda_hat.targets.build import build_target, load_target
from lambda_hat.targets.target import Data, PerExampleLossFn, Target

__all__ = ["Data", "PerExampleLossFn", "Target", "build_target", "load_target"]
