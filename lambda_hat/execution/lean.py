"""Parsl without its database of monitoring: importing this module imports Parsl, and has to come first.

SQLAlchemy, which Parsl takes where it is installed and Optuna installs, makes up half of the second that Parsl's import
takes, in each of the five processes that start one after the other before the first task of a study.
"""

import importlib
import sys

__all__: list[str] = []

if "sqlalchemy" not in sys.modules:
    sys.modules["sqlalchemy"] = None  # pyright: ignore[reportArgumentType]  # which makes its import fail
    try:
        importlib.import_module("parsl.executors")
    finally:
        del sys.modules["sqlalchemy"]
