"""What follows the searches: confirmed settings, the best over all problems, and the files that recommend them."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from lambda_hat.artifacts.files import read_json, write_json_atomic
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, Paths
from lambda_hat.config.load import load_cfg, load_experiments
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.provenance import Timings
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.state import State
from lambda_hat.records.tables import read_frame
from lambda_hat.report.verdict import judge_settings
from lambda_hat.scheduling.scheduler import Scheduler
from lambda_hat.tuning.plan import StudyPlan
from lambda_hat.tuning.study import StudyStore
from lambda_hat.tuning.trials import TrialLane
from lambda_hat.workflows.confirm import Confirmation
from lambda_hat.workflows.plan import build_plan

STUDY = """\
problems:
  - {target: quadratic, seed: 1, overrides: {dim: 4}}
  - {target: quadratic, seed: 2, overrides: {dim: 4}}
methods: [sgld]
optuna: {max_trials_per_method: 5, concurrency: {batch_size: 2}, pruner: {type: none}}
confirm: {top_k: 2, num_seeds: 3}
search_space:
  sgld: {eta0: {dist: float, low: 1e-4, high: 1e-1, log: true}}
samplers: {sgld: {batch: 32, preset: sgld}}
reference: exact
execution: {executor_map: {hmc: b, methods: {sgld: a, vi: b}}}
"""
REFERENCE = ReferenceRecord(method="exact", llc=2.0, se=0.0, is_certified=True)
CARD = "type: local\nexecutors: [{label: a, max_workers: 2}, {label: b, max_workers: 1}]\n"


def estimate(trial_dir, problem_dir):
    """λ̂ is best at a step size that each problem has of its own, and off by a little more under some seeds."""
    manifest = Manifest.read(Path(trial_dir) / MANIFEST_JSON)
    landscape = read_json(Path(problem_dir).parent.parent / "landscape.json")
    distance = abs(math.log10(manifest.settings["eta0"]) - landscape[Path(problem_dir).name])
    if distance > landscape["far"]:
        return Metrics(state=State.PRUNED, reason="diverged", is_diverged=True)
    error = (0.01 + distance) * (1 + manifest.seed % 7 / 100)
    timings = Timings(total=0.5)
    metrics = Metrics(state=State.COMPLETE, llc_hat=2.0 + error, se_hat=0.1, rhat=1.0, timings=timings)
    metrics.write(Path(trial_dir) / METRICS_JSON)
    return metrics


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A loaded study of two problems, with sets, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY, encoding="utf-8")
    Path("card.yaml").write_text(CARD, encoding="utf-8")
    return lambda *sets: load_cfg("study.yaml", sets, parsl_card="card.yaml")


def run(loaded, *, best=(-3.5, -1.5), far=10.0, is_broken_off=False):
    """All searches and what follows them, without Parsl: the confirmation and the names of the tasks that ran."""
    plan = build_plan(loaded)
    paths: Paths = plan.paths
    paths.make_folders()
    pids = [problem.pid for problem in plan.problems]
    write_json_atomic(paths.root / "landscape.json", dict(zip(pids, best, strict=False)) | {"far": far})
    ran = []

    def submit(task, label):
        ran.append(task.name)
        if is_broken_off and "confirm-" in task.args[0]:
            raise KeyboardInterrupt
        return pool.submit(task.function, *task.args)

    with StudyStore(paths, loaded.study.optuna) as store, ThreadPoolExecutor(2) as pool:
        confirmation = Confirmation(loaded, paths, [problem.pid for problem in plan.problems])
        scheduler = Scheduler(submit, {}, 0, poll_interval=0.05)
        space = loaded.study.search_space["sgld"]
        for problem in plan.problems:
            described = StudyPlan(
                pid=problem.pid, method="sgld", label="a", settings={"batch": 32},
                reference=REFERENCE, seed=42, trial_sec=600.0,
                num_trials=5, function=estimate,
            )  # fmt: skip
            opened = store.open(problem.pid, "sgld", space)
            lane = TrialLane(opened, described, loaded.study.optuna, paths, confirmation.open_lanes)
            lane.settle_interrupted()
            for each in (lane, *lane.follow()):
                scheduler.add(each)
        scheduler.run()
        confirmation.write()
    return confirmation, ran


def test_the_best_settings_are_run_again_and_ranked(study):
    confirmation, ran = run(study())
    assert confirmation.is_through
    assert len(ran) == 2 * 5 + 2 * 2 * 3 + 2 * 3
    rows = confirmation.rows()
    assert [row.rank for row in rows] == [1, 2, 1, 2]
    for first, second in (rows[:2], rows[2:]):
        assert first.rmse < second.rmse
        assert (first.num_seeds, first.num_failed, first.seconds) == (3, 0, 0.5)
        assert first.search_error == pytest.approx(first.rmse, rel=0.1)
        assert first.relative_rmse == first.rmse / 2.0
    table = read_frame(build_plan(study()).paths.confirmed_table)
    assert list(table["rmse"]) == [row.rmse for row in rows]
    assert list(table["run_id"]) == [row.run_id for row in rows]


def test_seeds_are_new_and_the_same_for_all_candidates(study):
    run(study())
    root = build_plan(study()).paths.root
    manifests = [read_json(path) for path in root.glob(f"trials/*/*/*/{MANIFEST_JSON}")]
    by_pid = {}
    for path in root.glob(f"trials/*/confirm-sgld/*/{MANIFEST_JSON}"):
        by_pid.setdefault(path.parents[2].name, set()).add(read_json(path)["seed"])
    searched = {manifest["seed"] for manifest in manifests} - set().union(*by_pid.values())
    assert [len(seeds) for seeds in by_pid.values()] == [3, 3]
    assert len(searched) == 10, "none of them was used by a trial"


def test_every_winner_is_tried_on_the_other_problems(study):
    confirmation, _ = run(study())
    plan = build_plan(study())
    first, second = (problem.pid for problem in plan.problems)
    table = read_frame(plan.paths.across_table)
    assert sorted(zip(table["found_on"], table["pid"], strict=True)) == sorted(
        [(first, first), (first, second), (second, first), (second, second)]
    )
    own = table[table["found_on"] == table["pid"]]
    assert list(own["loss"]) == [0.0, 0.0]
    assert (table.loc[table["found_on"] != table["pid"], "loss"] > 0).all()
    best = {row.pid: json.dumps(row.hyperparameters) for row in confirmation.rows() if row.rank == 1}
    assert list(table["hyperparameters"]) == [best[pid] for pid in table["found_on"]]
    for name, aggregate, flag in (
        ("mean_relative_rmse", "mean", "is_best_mean"),
        ("worst_relative_rmse", "max", "is_best_worst"),
    ):
        by_settings = table.groupby("found_on")["relative_rmse"].agg(aggregate)
        assert list(table[name]) == pytest.approx(list(by_settings[table["found_on"]]))
        assert set(table.loc[table[flag], "found_on"]) == {by_settings.idxmin()}


def test_settings_that_fail_on_another_problem_are_not_the_best_over_all(study):
    confirmation, _ = run(study(), far=1.0)
    across = confirmation.rows_across()
    assert {row.num_failed for row in across if row.found_on != row.pid} == {3}
    assert not any(row.is_best_mean or row.is_best_worst for row in across)
    assert {row.mean_relative_rmse for row in across} == {None}
    text = build_plan(study()).paths.recommended("sgld").read_text(encoding="utf-8")
    assert "Over all problems" not in text


def test_problems_with_the_same_winner_need_no_more_runs(study):
    confirmation, ran = run(study(), best=(-3.5, -3.5))  # searches of one seed begin with the same trials
    assert len(ran) == 2 * 5 + 2 * 2 * 3
    assert [(row.found_on, row.loss) for row in confirmation.rows_across()] == [
        (problem.pid, 0.0) for problem in build_plan(study()).problems
    ]
    (sampler,) = load_experiments(build_plan(study()).paths.recommended("sgld"), inline=True).experiments.samplers
    assert sampler.name == "sgld"


def test_what_is_confirmed_is_not_run_again(study):
    run(study())
    assert not build_plan(study()).confirmations
    confirmation, ran = run(study())
    assert ran == []
    assert [row.rank for row in confirmation.rows()] == [1, 2, 1, 2]
    assert len(confirmation.rows_across()) == 4


def test_a_confirmation_that_was_broken_off_needs_resume_and_goes_on(study):
    with pytest.raises(KeyboardInterrupt):
        run(study(), is_broken_off=True)
    plan = build_plan(study())
    assert plan.needs_resume
    finished = {path.parent.name for path in plan.paths.root.glob(f"trials/*/*/*/{METRICS_JSON}")}
    _, ran = run(study())
    assert not finished & set(ran)
    assert len(finished) + len(ran) == 2 * 5 + 2 * 2 * 3 + 2 * 3
    assert not build_plan(study()).needs_resume


def test_more_seeds_add_to_those_there_are(study):
    run(study())
    plan = build_plan(study("confirm.num_seeds=5"))
    assert [item.num_to_run for item in plan.confirmations] == [10, 5, 10, 5]
    assert not plan.needs_resume
    _, ran = run(study("confirm.num_seeds=5"))
    assert len(ran) == 2 * 2 * 2 + 2 * 2


def test_none_leaves_it_out(study):
    confirmation, ran = run(study("confirm.top_k=0"))
    assert (len(ran), confirmation.rows()) == (10, [])
    assert not build_plan(study("confirm.top_k=0")).confirmations
    assert not build_plan(study()).paths.recommended_dir.exists()


def test_one_problem_has_no_others(study):
    confirmation, ran = run(study("problems=[{target: quadratic, seed: 1}]"))
    assert len(ran) == 5 + 2 * 3
    assert confirmation.rows_across() == []


def test_the_plan_counts_them_and_bounds_their_time(study):
    plan = build_plan(study("execution.budget.trial_sec=10"))
    assert [(item.kind, item.num_to_run) for item in plan.confirmations] == [("confirm", 6), ("across", 3)] * 2
    bounds = [(bound.what, bound.num_tasks, bound.seconds) for bound in plan.bounds]
    assert bounds == [("trials", 10, 50.0), ("confirmations", 12, 60.0), ("runs on other problems", 6, 30.0)]
    assert not plan.needs_resume


def test_the_recommendation_is_a_file_of_experiments(study):
    confirmation, _ = run(study())
    paths = build_plan(study()).paths
    text = paths.recommended("sgld").read_text(encoding="utf-8")
    loaded = load_experiments(paths.recommended("sgld"), inline=True)
    experiments = loaded.experiments
    best = {row.pid: row.hyperparameters["eta0"] for row in confirmation.rows() if row.rank == 1}
    assert [sampler.name for sampler in experiments.samplers] == ["sgld-1", "sgld-2"]
    (overall,) = {row.hyperparameters["eta0"] for row in confirmation.rows_across() if row.is_best_mean}
    assert loaded.samplers[0].settings["eta0"] == overall
    assert {sampler.settings["eta0"] for sampler in loaded.samplers} == set(best.values())
    assert {sampler.settings["batch"] for sampler in loaded.samplers} == {32}
    assert loaded.problems == study().problems
    assert experiments.execution.executor_map.methods == {"sgld": "a"}
    assert experiments.store.references == str(paths.root / "problems")
    assert experiments.store.namespace == "optuna-recommended"
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert header[1].startswith("# Run them with `lambda-hat workflow llc --config` and this file")
    assert sum(" loses " in line for line in header) == 4
    assert any("has the smallest worst relative error" in line for line in header)
    words = {f"#   {judge_settings(row, REFERENCE).sentence}" for row in confirmation.rows() if row.rank == 1}
    assert {line for line in header if line.startswith("#   sgld ")} == words


def test_the_recommendation_says_where_settings_are_biased(study):
    run(study("problems=[{target: quadratic, seed: 1}]"), best=(-7.0,))  # no settings come near it
    text = build_plan(study()).paths.recommended("sgld").read_text(encoding="utf-8")
    assert "#   sgld is biased (by " in text


def test_one_winner_has_the_methods_name(study):
    run(study("problems=[{target: quadratic, seed: 1}]"))
    (sampler,) = load_experiments(build_plan(study()).paths.recommended("sgld"), inline=True).experiments.samplers
    assert sampler.name == "sgld"


@pytest.mark.slow
def test_a_study_ends_with_a_file_that_workflow_llc_takes(small_study, run_inline):
    small_study.study |= {
        "problems": [small_study.study["problems"][0], {"target": "potential", "overrides": {"num_data": 200}}],
        "confirm": {"top_k": 2, "num_seeds": 2},
    }
    (small_study.folder / "study.yaml").write_text(yaml.safe_dump(small_study.study), encoding="utf-8")
    stdout, _ = small_study.run()
    assert stdout.count("  confirmed ") == 2
    assert f"recommended    {small_study.root / 'recommended'}\n" in stdout
    assert len(small_study.table) == 6
    confirmed = read_frame(small_study.root / "tables/confirmed.parquet")
    assert list(confirmed["rank"]) == [1, 2, 1, 2]
    assert (confirmed["num_failed"] == 0).all()
    across = read_frame(small_study.root / "tables/across_problems.parquet")
    assert len(across) == 2 * across["hyperparameters"].nunique(), "each setting on each problem"

    _, stderr = small_study.run()
    assert "Nothing is left to run" in stderr

    recommended = str(small_study.root / "recommended/sgld.yaml")
    result = run_inline(small_study.folder, "llc", "--config", recommended)
    assert result.exit_code == 0, result.stderr
    assert "reference: starting" not in result.stderr, "the study's references serve"
    runs = read_frame(small_study.folder / "runs/optuna-recommended/v1/tables/llc_runs.parquet")
    assert set(runs["state"]) == {"COMPLETE"}
    assert len(runs) == len(across)
