from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lambda_hat.cli.app import cli

STUDY = """\
problems:
  - {model: small}
methods: [sgld]
optuna: {max_trials_per_method: 5}
search_space:
  sgld:
    eta0: {dist: float, low: 1e-6, high: 1e-1, log: true}
execution:
  budget: {hmc_sec: 60, trial_sec: 10}
"""
SLURM_CARD = "type: slurm\nwalltime: 00:00:30\nmax_workers: 2\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a valid study and a Slurm card whose walltime is too short for it."""
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY, encoding="utf-8")
    Path("slurm.yaml").write_text(SLURM_CARD, encoding="utf-8")
    return tmp_path


@pytest.fixture
def invoke(folder: Path) -> Callable[..., Result]:
    """Runs a command line in this process."""
    return lambda *args: CliRunner().invoke(cli, args, prog_name="lambda-hat")


@pytest.fixture
def run_with(monkeypatch: pytest.MonkeyPatch, invoke: Callable[..., Result]) -> Callable[..., Result]:
    """Runs `workflow optuna` with another function in the workflow's place."""

    def run(run_optuna: Callable[..., Any], *args: str) -> Result:
        module = ModuleType("lambda_hat.workflows.optuna")
        vars(module)["run_optuna"] = run_optuna
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return invoke("workflow", "optuna", "--config", "study.yaml", "--local", *args)

    return run
