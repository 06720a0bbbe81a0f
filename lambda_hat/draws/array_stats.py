"""ArviZ's functions of arrays, imported without its containers of labelled data.

Its package imports xarray, and that pandas, where they are installed; these functions need neither. Together they take
as long to import as JAX does, in every worker.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["array_stats"]

_PACKAGE = "arviz_stats"


def _import() -> Any:
    if "xarray" in sys.modules or _PACKAGE in sys.modules:
        return importlib.import_module(f"{_PACKAGE}.base").array_stats
    sys.modules["xarray"] = None  # pyright: ignore[reportArgumentType]  # which makes its import fail
    try:
        return importlib.import_module(f"{_PACKAGE}.base").array_stats
    finally:
        del sys.modules["xarray"]
        for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:
            del sys.modules[name]  # whoever imports it after this gets all of it


array_stats = _import()
