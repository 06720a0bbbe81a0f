"""Certified references and tuned estimators of Local Learning Coefficients.

`estimate_llc` and `certify_llc` take a JAX model of your own; the command line does the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambda_hat.api.calls import certify_llc, estimate_llc
    from lambda_hat.api.control import SamplerCheck, check_sampler
    from lambda_hat.api.progress import CallProgress
    from lambda_hat.api.result import LLCResult
    from lambda_hat.api.series import LLCSeries, estimate_llc_series
    from lambda_hat.draws.rows import Observable, RowLosses
    from lambda_hat.targets.model import Model
    from lambda_hat.targets.pytrees import read_model
    from lambda_hat.targets.torch import from_torch

__all__ = [
    "CallProgress",
    "LLCResult",
    "LLCSeries",
    "Model",
    "Observable",
    "RowLosses",
    "SamplerCheck",
    "certify_llc",
    "check_sampler",
    "estimate_llc",
    "estimate_llc_series",
    "from_torch",
    "read_model",
]

__version__ = "0.1.0"

_HOMES = {
    "CallProgress": "lambda_hat.api.progress",
    "LLCResult": "lambda_hat.api.result",
    "LLCSeries": "lambda_hat.api.series",
    "Model": "lambda_hat.targets.model",
    "Observable": "lambda_hat.draws.rows",
    "RowLosses": "lambda_hat.draws.rows",
    "SamplerCheck": "lambda_hat.api.control",
    "certify_llc": "lambda_hat.api.calls",
    "check_sampler": "lambda_hat.api.control",
    "estimate_llc": "lambda_hat.api.calls",
    "estimate_llc_series": "lambda_hat.api.series",
    "from_torch": "lambda_hat.targets.torch",
    "read_model": "lambda_hat.targets.pytrees",
}


def __getattr__(name: str) -> Any:
    # The command line imports this package: JAX has to wait until somebody asks for what needs it.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
