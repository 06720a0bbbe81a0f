"""What the command line takes, and what it says to what it does not take."""

from __future__ import annotations

import pytest

WORKFLOW = ("workflow", "optuna", "--config", "study.yaml")


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("--max-trials", "optuna.max_trials_per_method"),
        ("--batch-size", "optuna.concurrency.batch_size"),
        ("--hmc-budget", "execution.budget.hmc_sec"),
        ("--method-budget", "execution.budget.trial_sec"),
        ("--artifacts-dir", "store.root"),
        ("--results-dir", "store.root"),
        ("--study-name", "store.namespace"),
    ],
)
@pytest.mark.parametrize("joiner", ["=", " "])
def test_options_of_the_study_file_name_their_key(invoke, option, key, joiner):
    result = invoke(*WORKFLOW, *f"{option}{joiner}7".split())
    assert result.exit_code == 2
    assert result.stdout == ""
    message = f"Error: There is no {option}: the study file has it as `{key}`. For one run, use `--set {key}=VALUE`.\n"
    assert result.stderr.endswith(message)


def test_storage_is_where_the_root_is(invoke):
    result = invoke(*WORKFLOW, "--storage", "sqlite:///x.db")
    assert result.exit_code == 2
    assert "the studies' journal lies under `store.root`. For one run, use `--set store.root=VALUE`." in result.stderr


def test_other_unknown_options_are_clicks_own_affair(invoke):
    result = invoke(*WORKFLOW, "--resum")
    assert result.exit_code == 2
    assert "Did you mean '--resume'?" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--local", "--parsl-card", "slurm.yaml"), "`--local` and `--parsl-card` exclude each other"),
        (("--inline", "--parsl-card", "slurm.yaml"), "`--inline` and `--parsl-card` exclude each other"),
        (("--local", "--inline"), "`--local` and `--inline` exclude each other: give one of the two"),
        (("--json",), "--json goes with --dry-run."),
        (("-q", "-v"), "--quiet and --verbose exclude each other."),
    ],
)
def test_options_that_exclude_each_other(invoke, args, message):
    result = invoke(*WORKFLOW, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_study_file_is_required(invoke):
    assert invoke("workflow", "optuna").exit_code == 2


def test_all_faults_come_at_once_without_a_traceback(invoke):
    sets = ("--set", "optuna.max_trials_per_method=0", "--set", "methods=[]", "--set", "walltme=1")
    result = invoke(*WORKFLOW, *sets)
    assert (result.exit_code, result.stdout) == (2, "")
    for part in ('--set "optuna.max_trials_per_method=0"', '--set "methods=[]"', '--set "walltme=1"'):
        assert part in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in invoke(*WORKFLOW, *sets, "-v").stderr


def test_a_missing_study_file_is_a_configuration_error(invoke):
    result = invoke("workflow", "optuna", "--config", "stody.yaml")
    assert result.exit_code == 2
    assert "stody.yaml  there is no such file\n    Did you mean `study.yaml`?" in result.stderr


def test_a_budget_beyond_the_walltime_names_both(invoke):
    result = invoke(*WORKFLOW, "--parsl-card", "slurm.yaml", "--dry-run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        "study.yaml:9:21  execution.budget.hmc_sec: 60 s, but a block of the Parsl card ends after 30 s"
        in result.stderr
    )
    assert "Lower `execution.budget.hmc_sec` or raise the card's `walltime`." in result.stderr
    assert invoke(*WORKFLOW, "--parsl-card", "slurm.yaml", "--dry-run", "--set", "walltime=00:01:00").exit_code == 0


def test_labels_that_the_card_lacks_are_found_before_anything_runs(invoke):
    label = "execution.executor_map.methods.sgld=htex_32"
    result = invoke(*WORKFLOW, "--local", "--dry-run", "--set", label)
    assert result.exit_code == 2
    assert f'--set "{label}"  execution.executor_map.methods.sgld: `htex_32` is no executor' in result.stderr
    assert "Did you mean `htex32`?" in result.stderr
