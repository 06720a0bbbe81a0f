"""What a run's folder says."""

from __future__ import annotations

import os
import socket

import pytest

from lambda_hat.artifacts.files import write_json_atomic, write_text_atomic
from lambda_hat.artifacts.ids import problem_id
from lambda_hat.artifacts.paths import METRICS_JSON, REFERENCE_JSON, Paths, RunContext
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.load import load_cfg
from lambda_hat.records.base import append_line
from lambda_hat.records.begun import Begun
from lambda_hat.records.event import End
from lambda_hat.report.html import write_report
from lambda_hat.report.run_files import RunFiles, short_titles
from lambda_hat.workflows.plan import problem_titles
from tests.report.conftest import reference_record


def test_problems_have_the_titles_that_the_console_shows(tmp_path):
    changes = ("problems.0.overrides={training.num_steps: 4000}",)
    loaded = load_cfg("config/optuna/quickstart.yaml", changes, parsl_card=None, local=True)
    paths = Paths(tmp_path)
    paths.make_folders()
    write_text_atomic(paths.resolved_config, to_yaml(loaded.resolved))
    pids = [problem_id(problem.to_dict()) for problem in loaded.problems]
    Begun(pids=pids, methods=("sgld",), num_trials=3).write(paths.begun)
    assert RunFiles(paths).titles == problem_titles(loaded)


def test_a_problem_whose_entry_is_gone_is_named_by_its_definition(make_run):
    paths = make_run()
    write_text_atomic(paths.resolved_config, "problems: []\n")
    assert RunFiles(paths).titles == {"p_0123456789ab": "mlp, seed 42"}


@pytest.mark.slow
def test_a_configuration_of_another_version_is_done_without(make_run):
    paths = make_run()
    text = paths.resolved_config.read_text(encoding="utf-8")
    write_text_atomic(paths.resolved_config, text + "of_another_version: 1\n")
    run = RunFiles(paths)
    assert (run.config, run.objective, run.search_space("sgld")) == (None, None, {})
    (note,) = run.missing()
    assert note.startswith("The configuration in `meta/resolved_config.yaml` cannot be read by this version")
    page = write_report(paths).read_text(encoding="utf-8")
    assert "cannot be read by this version of lambda-hat" in page
    assert "of_another_version: 1" in page
    assert "Objective against eta0, steps" in page


@pytest.mark.slow
def test_a_reference_of_another_format_is_done_without(make_run):
    paths = make_run()
    path = paths.problem_dir("p_0123456789ab") / REFERENCE_JSON
    write_json_atomic(path, reference_record().to_json() | {"format": 1})
    run = RunFiles(paths)
    assert run.references == {}
    (note,) = run.missing()
    assert note.startswith(
        f"The reference of {run.titles['p_0123456789ab']} failed: {path} is of format 1; this version"
    )
    assert note in write_report(paths).read_text(encoding="utf-8")


@pytest.mark.slow
def test_metrics_of_another_format_are_said(make_run):
    paths = make_run()
    folder = paths.trial_dir("p_0123456789ab", "sgld", "r_0")
    folder.mkdir(parents=True, exist_ok=True)
    write_json_atomic(folder / METRICS_JSON, {"format": 99, "state": "COMPLETE", "llc_hat": 1.0})
    (note,) = RunFiles(paths).missing()
    assert note.startswith("1 trial (r_0) left a `metrics.json` of another version of lambda-hat")
    assert note in write_report(paths).read_text(encoding="utf-8")


def test_what_is_missing_is_said(make_run):
    assert list(RunFiles(make_run()).missing()) == []
    paths = make_run(num_trials=3)
    Begun(pids=("p_0123456789ab",), methods=("sgld",), num_trials=5).write(paths.begun)
    assert list(RunFiles(paths).missing()) == ["sgld has 3 of 5 trials; `--resume` runs the others."]


def test_short_titles_say_what_differs():
    titles = ["mlp, model small, seed 1", "mlp, model small, seed 2", "quadratic, seed 1"]
    assert short_titles(titles) == ["mlp, model small, seed 1", "mlp, model small, seed 2", "quadratic, seed 1"]
    assert short_titles(["mlp, model small, seed 1", "mlp, model small, seed 2"]) == ["seed 1", "seed 2"]
    assert short_titles(["mlp, seed 1"]) == ["mlp"]
    assert short_titles([]) == []


@pytest.mark.parametrize(
    ("without", "state"),
    [((), "finished"), (("end",), "interrupted"), (("reference",), "failed"), (("events",), "unfinished")],
)
def test_the_state_of_a_run(make_run, without, state):
    assert RunFiles(make_run(without=without)).state.word == state


def test_a_run_that_a_command_holds_is_running(make_run):
    paths = make_run(without=("end",))
    with RunContext(paths):
        state = RunFiles(paths).state
        assert (state.word, state.reason) == ("running", f"process {os.getpid()} on {socket.gethostname()}")
        assert "A command is working on this run" in state.sentence
    assert RunFiles(paths).state.word == "interrupted"


def test_a_log_that_does_not_say_how_it_ended_is_judged_by_what_is_there(make_run):
    paths = make_run(without=("end",))
    append_line(paths.events, End(at=99.0))
    assert RunFiles(paths).state.word == "finished"
    Begun(pids=("p_0123456789ab",), methods=("sgld",), num_trials=50).write(paths.begun)
    assert RunFiles(paths).state.word == "unfinished"
