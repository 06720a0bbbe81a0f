"""However a command ends, its run has a report that says so, what there is to cite, and what to type."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from lambda_hat.artifacts.paths import Paths
from lambda_hat.cli.app import cli
from lambda_hat.errors import TargetError
from lambda_hat.records.metrics import Metrics
from lambda_hat.report.run_files import RunFiles

pytestmark = pytest.mark.slow


def ending_of(small_study):
    """The report's text, and the state as `artifacts ls` and `artifacts show` tell it."""
    report = (small_study.root / "report.html").read_text(encoding="utf-8")
    listed = CliRunner().invoke(cli, ["artifacts", "ls", "--root", str(small_study.folder / "runs")])
    shown = CliRunner().invoke(cli, ["artifacts", "show", "p_", "--root", str(small_study.folder / "runs")])
    assert (listed.exit_code, shown.exit_code) == (0, 0), listed.output + shown.output
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("  optuna/v1 ")]
    state = line.split()[1]
    assert shown.stdout.rstrip().endswith(f"run     optuna/v1, {state}")
    return report, state


def test_a_study_whose_training_failed(small_study, monkeypatch):
    def build_target(problem):
        raise TargetError("The loss does not go down.")

    monkeypatch.setattr("lambda_hat.tasks.reference.build_target", build_target)
    stdout, stderr = small_study.run(code=1)
    report, state = ending_of(small_study)
    assert state == "failed"
    nothing = "Nothing to cite: there is no reference (TargetError: The loss does not go down.)."
    for text in (report, stdout):
        assert nothing in text
    assert "The last command failed: The reference of" in report
    assert "TargetError: The loss does not go down." in stderr
    command = RunFiles(Paths(small_study.root)).next_command
    assert f"<p>To go on, type</p>\n<pre>{command}</pre>" in report
    assert command.endswith("runs/optuna/v1/meta/resolved_config.yaml --resume")
    monkeypatch.undo()
    small_study.run("--resume")
    report, state = ending_of(small_study)
    assert state == "finished"
    assert "Cite this: λ =" in report
    assert "To go on, type" not in report


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_study_that_was_interrupted(small_study, monkeypatch, error, code):
    def trial_task(*args):
        raise error

    monkeypatch.setattr("lambda_hat.workflows.begin.trial_task", trial_task)
    small_study.run(code=code)
    report, state = ending_of(small_study)
    assert state == "interrupted"
    assert "The last command was interrupted: this is how far it came." in report
    assert "Cite this: λ =" in report
    assert "To go on, type" in report


def test_a_study_whose_trials_all_failed(small_study, monkeypatch):
    monkeypatch.setattr("lambda_hat.workflows.begin.trial_task", lambda *args: Metrics.failed("no such device"))
    _, stderr = small_study.run("--set", "optuna.max_trials_per_method=6", code=3)
    report, state = ending_of(small_study)
    assert state == "failed"
    assert "sgld has no estimate: 5 failed." in report
    assert "The last command failed: More than" in report
    assert "no such device" in report
    assert "More than" in stderr


def test_a_refused_command_leaves_the_report_as_it_was(small_study, monkeypatch):
    small_study.run()
    before = (small_study.root / "report.html").read_bytes()
    small_study.run("--set", "optuna.max_trials_per_method=5", code=2)
    assert (small_study.root / "report.html").read_bytes() == before
    assert ending_of(small_study)[1] == "finished"
