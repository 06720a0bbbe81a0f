"""ArviZ's functions of arrays, imported without its containers of labelled data.

Its package imports xarray, and that pandas, where they are installed; these functions need neither. Together they take
as long to import as JAX does, in every worker.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from lambda_hat.imports import import_without

__all__ = ["array_stats"]

_PACKAGE = "arviz_stats"


def _import() -> Any:
    if "xarray" in sys.modules or _PACKAGE in sys.modules:
        return importlib.import_module(f"{_PACKAGE}.base").array_stats
    found = import_without("xarray", f"{_PACKAGE}.base").array_stats
    if "xarray" not in sys.modules:
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
            del sys.modules[name]  # whoever imports it after this gets all of it
    return found


array_stats = _import()
