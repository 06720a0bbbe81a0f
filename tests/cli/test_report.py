"""The commands that look at a run."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("command", ["report", "diagnose", "dashboard"])
def test_a_folder_that_is_no_run_is_an_error_of_the_user(invoke, command):
    result = invoke(command, "runs/none/v1")
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
