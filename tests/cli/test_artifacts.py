from __future__ import annotations

import json
from pathlib import Path

import pytest

from lambda_hat.artifacts.files import write_json_atomic, write_text_atomic
from lambda_hat.artifacts.paths import Paths, RunContext
from lambda_hat.records.begun import Begun
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.state import State

MANIFEST = {
    "pid": "p_0123456789ab", "method": "sgld", "hyperparams": {}, "settings": {"eta0": 0.1}, "seed": 3,
    "budget": {"trial_sec": 60.0},
}  # fmt: skip
PID, OTHER, RID = "p_0123456789ab", "p_0123cccccccc", "r_aaaaaaaaaaaa"


@pytest.fixture(autouse=True)
def runs(folder: Path) -> Paths:
    paths = Paths(folder / "runs" / "optuna" / "v1")
    with RunContext(paths) as context:
        context.save_config(json.dumps({"store": {"ttl_days": 7}}))
    for pid in (PID, OTHER):
        paths.problem_dir(pid).mkdir()
        write_text_atomic(paths.problem_dir(pid) / "problem.yaml", "target: mlp\n")
    reference = ReferenceRecord(method="hmc", llc=8.25, se=0.1, is_certified=True, localization=56.0, nbeta=21.7)
    reference.write(paths.problem_dir(PID) / "ref.json")
    trial = paths.trial_dir(PID, "sgld", RID)
    trial.mkdir(parents=True)
    write_json_atomic(trial / "manifest.json", MANIFEST)
    Metrics(state=State.COMPLETE, llc_hat=8.0).write(trial / "metrics.json")
    return paths


def test_ls_lists_runs_problems_and_studies(invoke):
    lines = [line.split() for line in invoke("artifacts", "ls").stdout.splitlines()]
    assert [line[0] for line in lines if len(line) == 1] == ["runs", "problems", "studies"]
    (run,) = [line for line in lines if line[0] == "optuna/v1"]
    assert run[1:6] == ["unfinished", "1", "1", "of", "2"]
    assert run[-2:] == ["7", "d"]
    (problem,) = [line for line in lines if line[0] == PID]
    assert problem[2:6] == ["8.25", "±", "0.10", "certified"]
    assert [line[0] for line in lines][-1] == f"{PID}:sgld"


def test_ls_counts_trials_that_ended_of_those_that_are_wanted(invoke, runs):
    Begun(pids=(PID, OTHER), methods=("sgld",), num_trials=3).write(runs.begun)
    trial = runs.trial_dir(PID, "sgld", "r_cccccccccccc")
    trial.mkdir()
    write_json_atomic(trial / "manifest.json", MANIFEST)  # begun, and not ended
    text = invoke("artifacts", "ls").stdout
    assert "1 of 6" in next(line for line in text.splitlines() if line.startswith("  optuna/v1"))
    assert "1 of 3" in next(line for line in text.splitlines() if line.startswith(f"  {PID}:sgld"))
    content = json.loads(invoke("artifacts", "ls", "--json").stdout)
    (run,), (study,) = content["runs"], content["studies"]
    assert [(one["num_ended"], one["num_trials"], one["num_wanted"]) for one in (run, study)] == [(1, 2, 6), (1, 2, 3)]


def test_runs_that_confirm_are_no_trials_of_the_search(invoke, runs):
    runs.trial_dir(PID, "confirm-sgld", "r_bbbbbbbbbbbb").mkdir(parents=True)
    content = json.loads(invoke("artifacts", "ls", "--json").stdout)
    assert content["runs"][0]["num_trials"] == 1
    assert [study["study"] for study in content["studies"]] == [f"{PID}:sgld"]
    assert invoke("artifacts", "show", "r_b").stdout.startswith("confirms sgld  r_bbbbbbbbbbbb\n")


def test_a_run_that_cannot_be_read_does_not_hide_the_others(invoke, runs):
    write_json_atomic(runs.problem_dir(PID) / "ref.json", {"format": 4, "llc": "much"})
    result = invoke("artifacts", "ls")
    assert result.exit_code == 0
    assert "optuna/v1  unreadable" in result.stdout


def test_show_a_problem_as_the_workflow_tells_it(invoke):
    lines = invoke("artifacts", "show", PID).stdout.splitlines()
    assert lines[:4] == [
        f"mlp, seed None  {PID}",
        "  reference λ = 8.25 ± 0.10  certified",
        "  γ_loc 56  nβ 21.7  gradients –  seconds –",
        "  Cite this: λ = 8.25 ± 0.10 at γ_loc = 56, nβ = 21.7, reference certified.",
    ]
    assert len(lines) < 12
    study = invoke("artifacts", "show", f"{PID}:").stdout.splitlines()
    assert study[0] == f"sgld on mlp, seed None  {PID}"
    assert "  1 run ended" in study


def test_ls_as_json(invoke):
    content = json.loads(invoke("artifacts", "ls", "--json").stdout)
    (run,) = content["runs"]
    assert (run["state"], run["certified"], run["best"]) == ("unfinished", "1 of 2", "none")
    assert (run["num_problems"], run["num_trials"], run["num_ended"], run["in_use_by"]) == (2, 1, 1, None)
    assert run["bytes"] > sum(problem["bytes"] for problem in content["problems"]) > 0
    assert [problem["is_certified"] for problem in content["problems"]] == [True, None]
    assert [study["study"] for study in content["studies"]] == [f"{PID}:sgld"]


@pytest.mark.parametrize("name", [RID, "r_a", "r_"])
def test_show_a_trial_by_its_id_or_a_prefix(invoke, name):
    (trial,) = json.loads(invoke("artifacts", "show", name, "--json").stdout)
    assert trial["manifest"]["settings"] == {"eta0": 0.1}
    assert trial["metrics"]["llc_hat"] == 8.0
    assert trial["files"] == ["manifest.json", "metrics.json"]
    assert "llc_hat: 8.0" in invoke("artifacts", "show", name, "--raw").stdout
    lines = invoke("artifacts", "show", name).stdout.splitlines()
    assert lines[:6] == [
        f"sgld  {RID}",
        f"  on mlp, seed None  {PID}",
        "  complete",
        "  λ̂ = 8 ± ?  error -0.25  relative -3.0%",
        "  settings  eta0=0.1",
        "  Cite this: λ = 8.25 ± 0.10 at γ_loc = 56, nβ = 21.7, reference certified.",
    ]
    assert lines[-1] == "run     optuna/v1, unfinished"


@pytest.mark.parametrize("name", [RID, f"{PID}:sgld"])
def test_show_says_which_records_are_of_another_version(runs, invoke, name):
    path = runs.trial_dir(PID, "sgld", RID) / "metrics.json"
    assert "another" not in invoke("artifacts", "show", name).stderr
    write_json_atomic(path, {"format": 99, "state": "COMPLETE", "llc_hat": 8.0})
    result = invoke("artifacts", "show", name)
    assert (result.exit_code, "llc_hat: 8.0" in result.stdout) == (0, True)
    assert result.stderr.startswith(f"Warning: {path} is of format 99; this version of lambda-hat reads format 1.")


def test_show_a_problem_and_a_study(invoke):
    (problem,) = json.loads(invoke("artifacts", "show", PID[:8], "--json").stdout)
    assert (problem["problem"], problem["reference"]["llc"]) == ({"target": "mlp"}, 8.25)
    (study,) = json.loads(invoke("artifacts", "show", f"{PID}:", "--json").stdout)
    assert study["trials"] == {RID: {"state": "COMPLETE", "llc_hat": 8.0, "se_hat": None}}


@pytest.mark.parametrize(
    ("name", "words"),
    [("p_0123", f"the beginning of several ids: {PID}, {OTHER}."), ("p_9", "Nothing in runs is called 'p_9'")],
)
def test_show_says_why_it_cannot(invoke, name, words):
    result = invoke("artifacts", "show", name)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_root_that_is_not_there(invoke):
    result = invoke("artifacts", "ls", "--root", "nowhere")
    assert result.exit_code == 2
    assert "There is no folder" in result.stderr


def test_gc_says_what_goes(invoke, runs):
    assert invoke("artifacts", "gc").stderr == "0 things removed, 0 B\n"
    dry = invoke("artifacts", "gc", "--older-than", "0", "--dry-run")
    assert f"{RID}  (no study or table mentions this trial)" in dry.stdout
    assert runs.trial_dir(PID, "sgld", RID).is_dir()
    removed = json.loads(invoke("artifacts", "gc", "--older-than", "0", "--json").stdout)
    assert {Path(item["path"]).name for item in removed} == {RID, OTHER, "cache"}
    assert not runs.trial_dir(PID, "sgld", RID).exists()
    with RunContext(runs):
        assert "optuna/v1: left alone, in use by process" in invoke("artifacts", "gc").stderr
