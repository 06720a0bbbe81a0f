"""Parsl without its database of monitoring: importing this module imports Parsl, and has to come first.

SQLAlchemy, which Parsl takes where it is installed and Optuna installs, makes up half of the second that Parsl's import
takes, in each of the five processes that start one after the other before the first task of a study.
"""

from lambda_hat.imports import import_without

__all__: list[str] = []

import_without("sqlalchemy", "parsl.executors")
