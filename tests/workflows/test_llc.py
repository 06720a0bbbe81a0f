"""Experiments: what would run, what runs, and what is not run again."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lambda_hat.artifacts.files import write_json_atomic
from lambda_hat.config.load import load_experiments
from lambda_hat.errors import RunStateError
from lambda_hat.records.tables import read_frame
from lambda_hat.workflows.begin import refuse_to_begin
from lambda_hat.workflows.changes import save_begun_runs
from lambda_hat.workflows.plan import build_llc_plan, build_plan

EXPERIMENTS = {
    "targets": [
        {"target": "quadratic", "seed": 3, "overrides": {"dim": 4, "num_data": 200}},
        {"target": "potential", "overrides": {"num_data": 300}},
    ],
    "samplers": [
        {"name": "sgld", "overrides": {"eta0": 5e-4, "steps": 4000, "batch": 50}},
        {"name": "mclmc-short", "method": "mclmc", "overrides": {"steps": 300}, "seed": 1},
        {"name": "mclmc-long", "method": "mclmc", "overrides": {"steps": 600}, "seed": 1},
    ],
    "reference": "exact",
    "execution": {"budget": {"hmc_sec": 60, "trial_sec": 30}},
}
CONFIG = ("--config", "experiments.yaml")
POOLS = {"type": "local", "executors": [{"label": "htex64", "max_workers": 2}, {"label": "htex32", "max_workers": 1}]}


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("experiments.yaml").write_text(yaml.safe_dump(EXPERIMENTS), encoding="utf-8")
    Path("card.yaml").write_text(yaml.safe_dump(POOLS), encoding="utf-8")
    return lambda *sets: load_experiments("experiments.yaml", sets, parsl_card="card.yaml")


def finish(plan, run, state="COMPLETE"):
    folder = plan.paths.trial_dir(run.pid, run.sampler, run.run_id)
    folder.mkdir(parents=True)
    write_json_atomic(folder / "metrics.json", {"state": state, "llc_hat": 2.0})


def begin(plan):
    plan.paths.begun.parent.mkdir(parents=True, exist_ok=True)
    pids = [problem.pid for problem in plan.problems]
    save_begun_runs(plan.paths, pids, [run.sampler for run in plan.runs], [run.run_id for run in plan.runs])


def test_every_sampler_would_run_on_every_target(load):
    plan = build_llc_plan(load())
    assert [(run.sampler, run.label) for run in plan.runs] == [
        ("sgld", "htex32"), ("mclmc-short", "htex64"), ("mclmc-long", "htex64"),
    ] * 2  # fmt: skip
    assert [run.pid for run in plan.runs] == [problem.pid for problem in plan.problems for _ in range(3)]
    assert len({run.run_id for run in plan.runs}) == 6
    assert not plan.studies
    bounds = [(bound.what, bound.label, bound.num_tasks, bound.num_parallel, bound.seconds) for bound in plan.bounds]
    assert bounds == [
        ("runs", "htex64", 4, 2, 60.0),
        ("runs", "htex32", 2, 1, 60.0),
    ]
    assert plan.max_seconds == 60.0, "exact values are not bounded by `hmc_sec`"


def test_ids_depend_on_what_is_run_alone(load):
    before = {(run.pid, run.sampler): run.run_id for run in build_llc_plan(load()).runs}
    renamed = build_llc_plan(load("samplers.2.name=other")).runs
    assert {run.run_id for run in renamed} == set(before.values())
    for change in ("samplers.0.overrides.steps=5000", "samplers.0.seed=7", "samplers.0.overrides.b1=0.5"):
        after = {(run.pid, run.sampler): run.run_id for run in build_llc_plan(load(change)).runs}
        assert {key for key in before if after[key] != before[key]} == {key for key in before if key[1] == "sgld"}


def test_samplers_of_one_method_and_seed_share_their_random_numbers(load):
    from lambda_hat.workflows.plan import run_of

    loaded = load()
    plan = build_llc_plan(loaded)
    seeds = [
        run_of(plan.paths, pid, sampler, loaded.experiments).manifest.seed
        for pid in ("p_1", "p_2")
        for sampler in loaded.samplers
    ]
    assert seeds[1] == seeds[2]
    assert len(set(seeds)) == 4


def test_runs_that_were_begun_need_resume_unless_they_are_finished(load):
    plan = build_llc_plan(load())
    begin(plan)
    for run in plan.runs[:-1]:
        finish(plan, run)
    again = build_llc_plan(load())
    assert [run.is_finished for run in again.runs] == [True] * 5 + [False]
    assert again.needs_resume
    with pytest.raises(RunStateError, match=r"holds unfinished runs\. Pass `--resume`"):
        refuse_to_begin(again, resume=False)
    refuse_to_begin(again, resume=True)
    finish(plan, plan.runs[-1], "FAIL")
    assert build_llc_plan(load()).needs_resume, "one that failed is run again"
    finish_all = build_llc_plan(load("samplers.2.overrides.steps=700"))
    assert [run.is_finished for run in finish_all.runs] == [True, True, False] * 2
    assert not finish_all.needs_resume, "other settings are other runs"


def test_a_target_that_became_another_is_refused(load):
    plan = build_llc_plan(load())
    begin(plan)
    pid = plan.problems[0].pid
    plan.paths.problem_dir(pid).mkdir(parents=True)
    problem = load().problems[0].to_dict()
    (plan.paths.problem_dir(pid) / "problem.yaml").write_text(yaml.safe_dump(problem))
    with pytest.raises(RunStateError, match=rf"{pid} was begun with another `dim` \(4, now 5\)"):
        refuse_to_begin(build_llc_plan(load("targets.0.overrides.dim=5")), resume=True)


def test_a_search_and_experiments_do_not_share_a_folder(load, tmp_path):
    from lambda_hat.config.load import load_cfg

    study = {
        "problems": EXPERIMENTS["targets"],
        "methods": ["sgld"],
        "search_space": {"sgld": {"gamma": {"dist": "float", "low": 0.0, "high": 1.0}}},
        "store": {"namespace": "llc"},
    }
    Path("study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    plan = build_llc_plan(load())
    begin(plan)
    with pytest.raises(RunStateError, match="belongs to `lambda-hat workflow llc`"):
        refuse_to_begin(build_plan(load_cfg("study.yaml", parsl_card="card.yaml")), resume=True)
    plan.paths.journal.parent.mkdir()
    plan.paths.journal.touch()
    with pytest.raises(RunStateError, match="belongs to `lambda-hat workflow optuna`"):
        refuse_to_begin(plan, resume=True)


def table_of(folder: Path) -> pd.DataFrame:
    return read_frame(folder / "runs/llc/v1/tables/llc_runs.parquet")


@pytest.mark.slow
def test_experiments_from_file_to_table_and_only_what_is_missing_again(load, run_inline, tmp_path: Path) -> None:
    result = run_inline(tmp_path, "llc", *CONFIG)
    assert result.exit_code == 0, result.stderr
    root, table = tmp_path / "runs/llc/v1", table_of(tmp_path)
    assert (
        list(zip(table["sampler"], table["method"], table["executor"], table["dtype"], strict=True))
        == [
            ("sgld", "sgld", "htex32", "float32"),
            ("mclmc-short", "mclmc", "htex64", "float64"),
            ("mclmc-long", "mclmc", "htex64", "float64"),
        ]
        * 2
    )
    assert set(table["state"]) == {"COMPLETE"}
    assert (table.loc[table["method"] == "mclmc", "z"].abs() < 4).all()
    assert list(table["param_steps"]) == [4000, 300, 600] * 2
    for name in ("llc_ref", "num_gradient_evaluations", "ess_bulk", "rhat", "total_sec", "host", "device", "seed"):
        assert table[name].notna().all()
    for row in table.itertuples():
        metrics = json.loads((root / "trials" / row.pid / row.sampler / row.run_id / "metrics.json").read_text())
        assert (metrics["llc_hat"], metrics["executor_label"]) == (row.llc_hat, row.executor)
    for pid in table["pid"].unique():
        assert pid in result.stdout
    assert result.stdout.count("  mclmc-short  ") == 2
    assert (root / "meta/resolved_config.yaml").is_file()

    gone = table.iloc[4]
    (root / "trials" / gone["pid"] / gone["sampler"] / gone["run_id"] / "metrics.json").unlink()
    refused = run_inline(tmp_path, "llc", *CONFIG)
    assert refused.exit_code == 2
    assert "Pass `--resume`" in refused.stderr
    resumed = run_inline(tmp_path, "llc", *CONFIG, "--resume", "-v")
    assert resumed.exit_code == 0, resumed.stderr
    assert resumed.stderr.count(" started on ") == 1
    again = table_of(tmp_path)
    assert list(again["llc_hat"]) == list(table["llc_hat"]), "the same seed gives the same number"
    assert list(again["finished"] == table["finished"]) == [True] * 4 + [False, True]


@pytest.mark.slow
def test_a_run_out_of_time_ends_with_exit_code_3_and_says_which(load, run_inline, tmp_path: Path) -> None:
    sets = (
        "samplers=[{name: hopeless, method: sgld}]",
        "targets=[{target: potential}]",
        "execution.budget.trial_sec=1e-6",
    )
    result = run_inline(tmp_path, "llc", *CONFIG, *(word for text in sets for word in ("--set", text)))
    assert result.exit_code == 3, result.stderr
    assert ":hopeless. The column `reason`" in result.stderr
    assert "hopeless has no estimate: failed, " in result.stdout
    assert list(table_of(tmp_path)["state"]) == ["FAIL"]
