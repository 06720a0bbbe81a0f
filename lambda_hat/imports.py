"""Importing a module without a heavy package that it would take along but can do without."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__all__ = ["import_without"]


def import_without(heavy: str, name: str) -> ModuleType:
    """The module `name`, imported as if the package `heavy` were not installed.

    The ordinary import follows where that fails, for whatever reason: then everything works, only more slowly.
    """
    if heavy in sys.modules:
        return importlib.import_module(name)
    before = set(sys.modules)
    sys.modules[heavy] = None  # pyright: ignore[reportArgumentType]  # which makes its import fail
    try:
        return importlib.import_module(name)
    except Exception:
        package = name.partition(".")[0]
        for half in [other for other in sys.modules if other not in before and other.partition(".")[0] == package]:
            del sys.modules[half]
    finally:
        sys.modules.pop(heavy, None)
    return importlib.import_module(name)
