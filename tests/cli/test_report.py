"""The commands that look at a run."""

from __future__ import annotations

import pytest

from lambda_hat.records.rows import TrialRow
from lambda_hat.records.tables import write_table
from tests.report.conftest import trial_row


@pytest.mark.parametrize("command", ["report", "export --json", "diagnose", "dashboard"])
def test_a_folder_that_is_no_run_is_an_error_of_the_user(invoke, command):
    result = invoke(*command.split(), "runs/none/v1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: runs/none/v1 is no run's folder: it does not exist. Name one such as `runs/quickstart/v1`.\n"
    )


@pytest.fixture
def run(folder):
    """A run that has only just begun."""
    (folder / "run" / "meta").mkdir(parents=True)
    (folder / "run" / "meta" / "resolved_config.yaml").write_text("problems: []\n", encoding="utf-8")
    return folder / "run"


def test_the_report_of_a_run_that_has_just_begun(invoke, run):
    result = invoke("report", "run")
    assert (result.exit_code, result.stdout) == (0, f"{run / 'report.html'}\n")
    assert "No trial has ended yet." in (run / "report.html").read_text(encoding="utf-8")


def test_the_report_goes_where_it_is_wanted(invoke, folder, run):
    result = invoke("report", "run", "--output", "pages/mine.html")
    assert (result.exit_code, result.stdout) == (0, "pages/mine.html\n")
    assert (folder / "pages" / "mine.html").is_file()


def test_nothing_to_diagnose_is_an_error_of_the_user(invoke, run):
    result = invoke("diagnose", "run")
    assert result.exit_code == 2
    assert "has draws to look at" in result.stderr
    assert "--all and IDs exclude each other." in invoke("diagnose", "run", "--all", "p_1").stderr


def test_no_journal_is_an_error_of_the_user(invoke, run):
    result = invoke("dashboard", "run")
    assert result.exit_code == 2
    assert "There is no journal to look at" in result.stderr


def test_an_export_has_to_be_named(invoke, run):
    assert "Say what to export: --csv, --json, --latex or --figures FOLDER." in invoke("export", "run").stderr
    assert "export other tables as CSV or JSON" in invoke("export", "run", "--latex", "--table", "trials").stderr


def test_an_export_goes_where_it_is_wanted(invoke, run):
    assert invoke("export", "run", "--json").stdout == "[]\n"
    result = invoke("export", "run", "--csv", "--table", "trials", "--output", "tables/trials.csv")
    assert result.stdout == "tables/trials.csv\n"
    assert (run.parent / "tables" / "trials.csv").is_file()


def test_a_table_that_the_workflow_does_not_have_is_an_error_of_the_user(invoke, run):
    (run / "tables").mkdir()
    write_table(run / "tables" / "optuna_trials.parquet", [trial_row()], TrialRow)
    result = invoke("export", "run", "--csv", "--table", "runs")
    assert result.exit_code == 2
    assert "This run has nothing for the table `runs`. It has `trials`." in result.stderr


def test_runs_are_compared_as_text_and_as_a_page(invoke, run):
    (run.parent / "other" / "meta").mkdir(parents=True)
    (run.parent / "other" / "meta" / "resolved_config.yaml").write_text(
        "problems: []\nmethods: [vi]\n", encoding="utf-8"
    )
    result = invoke("compare", "run", "other", "--output", "both.html")
    assert result.stdout.splitlines()[:2] == [f"A  {run}  unfinished", f"B  {run.parent / 'other'}  unfinished"]
    assert 'methods  not set  ["vi"]' in result.stdout
    assert result.stderr == "both.html\n"


def test_a_root_gets_a_page(invoke, folder):
    (folder / "runs" / "quickstart" / "v1" / "meta").mkdir(parents=True)
    assert invoke("report", "runs").stdout == "runs/index.html\n"
    assert "--interactive is for one run" in invoke("report", "runs", "--interactive").stderr
