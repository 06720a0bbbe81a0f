"""Executors by Parsl: from a card to a running cluster that leaves no process behind.

Importing this package imports Parsl without its database of monitoring. SQLAlchemy, which Parsl takes where it is
installed and Optuna installs, makes up half of the second that Parsl's import takes, in each of the five processes that
start one after the other before the first task of a study.
"""

from lambda_hat.imports import import_without

import_without("sqlalchemy", "parsl.executors")
