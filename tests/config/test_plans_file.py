"""The study file of the plan, letter by letter but for a blank that YAML needs after `target_accept:`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambda_hat.config.load import load_cfg
from lambda_hat.errors import ConfigError
from lambda_hat.workflows.plan import check_execution, warnings_of

PLAN = """\
# config/optuna/default.yaml
problems:
  - model: small
    data: base
    teacher: _null
    seed: 42
    overrides:
      data.noise_scale: 0.05

methods: [sgld, vi, mclmc]

optuna:
  objective: {type: abs}                  # or {type: huber, delta: 0.1}
  max_trials_per_method: 100
  concurrency:
    batch_size: 16                        # total inflight per (problem, method)
    per_executor:                         # optional caps; omit to disable
      htex64: 8
      htex32: 16
  sampler:
    type: tpe
    seed: 42
    n_startup_trials: 20
  pruner:
    type: median
    n_startup_trials: 10
    n_warmup_steps: 1

search_space:                              # moved from Python into YAML
  sgld:
    eta0:  {dist: float, low: 1e-6, high: 1e-1, log: true}
    gamma: {dist: float, low: 0.3, high: 1.0}
    batch: {dist: categorical, choices: [32, 64, 128, 256]}
    precond_type: {dist: categorical, choices: [none, rmsprop, adam]}
    steps: {dist: int, low: 5_000, high: 20_000, step: 1_000}
  vi:
    lr: {dist: float, low: 1e-5, high: 5e-2, log: true}
    M:  {dist: categorical, choices: [4, 8, 16]}
    r:  {dist: categorical, choices: [1, 2, 4]}
    whitening_mode: {dist: categorical, choices: [none, rmsprop, adam]}
    steps: {dist: int, low: 2_000, high: 20_000, step: 1_000}
    batch_size: {dist: categorical, choices: [32, 64, 128, 256]}
  mclmc:
    step_size:    {dist: float, low: 1e-4, high: 1e-1, log: true}
    target_accept: {dist: float, low: 0.6, high: 0.95}
    L:            {dist: float, low: 0.5, high: 3.0}
    steps:        {dist: int, low: 200, high: 2000, step: 50}

execution:
  parsl_card: config/parsl/local.yaml     # or slurm/gpu-a100.yaml, etc.
  budget:
    hmc_sec: 7200                         # replaces --hmc-budget
    trial_sec: 600                        # replaces --method-budget
  executor_map:
    # Optional. If omitted, use AUTO rules below.
    # You can set per-role or per-method labels:
    hmc: htex64
    methods:
      mclmc: htex64
      sgld:  htex32
      vi:    htex32

store:
  # Uses Paths/RunContext; keep root here for consistency
  root: runs
  layout_version: v1
  namespace: optuna
  ttl_days: 30
"""


def test_it_is_valid_and_quiet_on_the_local_card(repository: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(PLAN, encoding="utf-8")
    loaded = load_cfg(study)
    assert (check_execution(loaded), warnings_of(loaded)) == ([], ())
    shipped = load_cfg("config/optuna/default.yaml")
    assert loaded.problems == shipped.problems
    assert loaded.study.methods == shipped.study.methods
    assert loaded.study.search_space["mclmc"] == shipped.study.search_space["mclmc"]


@pytest.mark.parametrize("card", ["slurm/gpu-a100", "pbs"])
def test_on_a_card_of_other_labels_every_error_names_the_way_out(repository: Path, tmp_path: Path, card: str) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(PLAN, encoding="utf-8")
    sets = ["walltime=04:00:00"]
    faults = check_execution(load_cfg(study, sets, parsl_card=f"config/parsl/{card}.yaml"))
    ways_out = {
        "`--set execution.executor_map={}` names no executors: each is chosen by precision.",
        "`--set optuna.concurrency.per_executor={}` sets no bounds.",
    }
    assert len(faults) == 6
    assert {fault.hint for fault in faults} == ways_out
    sets += [fault.split("`")[1].removeprefix("--set ") for fault in ways_out]
    loaded = load_cfg(study, sets, parsl_card=f"config/parsl/{card}.yaml")
    assert check_execution(loaded) == []
    assert len(warnings_of(loaded)) == 1
    with pytest.raises(ConfigError, match="found '4h', expected a time"):
        load_cfg(study, ["walltime=4h"], parsl_card=f"config/parsl/{card}.yaml")
