from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from lambda_hat.artifacts.files import write_json_atomic
from lambda_hat.artifacts.ids import problem_id
from lambda_hat.artifacts.paths import Paths
from lambda_hat.cli.dry_run import plan_to_text
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.load import load_cfg
from lambda_hat.config.problems import QuadraticProblem
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.errors import ConfigError, RunStateError
from lambda_hat.records.base import append_line
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.progress import Alive, Stage
from lambda_hat.records.provenance import Timings
from lambda_hat.records.reference import ReferenceFailure, ReferenceRecord
from lambda_hat.records.state import State
from lambda_hat.workflows.changes import refuse_changed_problems, save_begun_studies
from lambda_hat.workflows.plan import build_plan, check_execution, problem_titles
from lambda_hat.workflows.references import ReferenceLane

STUDY = """\
problems:
  - {model: small}
  - {target: quadratic, seed: 3, overrides: {dim: 5}}
methods: [sgld, mclmc]
optuna: {max_trials_per_method: 10, concurrency: {batch_size: 2, per_executor: {htex64: 3}}}
search_space:
  sgld: {eta0: {dist: float, low: 1e-6, high: 1e-1, log: true}}
  mclmc: {step_size: {dist: float, low: 1e-4, high: 1e-1, log: true}}
confirm: {top_k: 0}
execution:
  budget: {hmc_sec: 100, trial_sec: 10}
"""
CARD = """\
type: local
executors:
  - {label: htex64, max_workers: 4}
  - {label: htex32, max_workers: 1}
"""


CERTIFIED = {
    "format": 4,
    "method": "hmc",
    "is_certified": True,
    "llc": 8.0,
    "se": 0.04,
    "spec": {"cross_check": None},
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY, encoding="utf-8")
    Path("card.yaml").write_text(CARD, encoding="utf-8")
    return lambda *sets: load_cfg("study.yaml", sets, parsl_card="card.yaml")


def test_everything_is_to_do_in_a_new_place(load):
    plan = build_plan(load())
    assert [problem.needs_reference for problem in plan.problems] == [True, True]
    assert [(study.method, study.label, study.num_to_run) for study in plan.studies] == [
        ("sgld", "htex32", 10), ("mclmc", "htex64", 10), ("sgld", "htex32", 10), ("mclmc", "htex64", 10),
    ]  # fmt: skip
    assert not plan.needs_resume


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (None, "there is none"),
        (CERTIFIED | {"format": 1}, "it is of another version of lambda-hat"),
        (CERTIFIED | {"method": "exact"}, "it was made by `exact`, not `hmc`"),
        (CERTIFIED | {"llc": None}, "it has no value"),
        (CERTIFIED | {"is_certified": False, "reasons": ["R̂ 1.2", "no minimum"]}, "not certified: R̂ 1.2; no minimum"),
        (CERTIFIED | {"se": 0.1}, "it was made with another `reference.max_relative_mcse`"),
        (CERTIFIED, ""),
    ],
)
def test_the_plan_says_why_a_reference_will_not_do(load, stored, why):
    loaded = load()
    paths, pid = build_plan(loaded).paths, build_plan(loaded).problems[0].pid
    if stored is not None:
        paths.problem_dir(pid).mkdir(parents=True)
        write_json_atomic(paths.problem_dir(pid) / "ref.json", stored)
    problem = build_plan(loaded).problems[0]
    assert (problem.why_not, problem.needs_reference) == (why, why != "")
    text = plan_to_text(build_plan(loaded))
    expected = f"reference to sample again ({why})" if stored else "reference to sample\n"
    assert ("reference reused, certified" if why == "" else expected) in text


def test_what_is_there_is_not_run_again(load):
    loaded = load()
    plan = build_plan(loaded)
    first, second = (problem.pid for problem in plan.problems)
    folder = plan.paths.problem_dir(first)
    folder.mkdir(parents=True)
    (folder / "target.npz").touch()
    write_json_atomic(folder / "ref.json", CERTIFIED)
    plan.paths.problem_dir(second).mkdir(parents=True)
    write_json_atomic(plan.paths.problem_dir(second) / "ref.json", {**CERTIFIED, "is_certified": False})
    for number in range(12):
        trial = plan.paths.trial_dir(first, "sgld" if number < 10 else "mclmc", f"r_{number}")
        trial.mkdir(parents=True)
        write_json_atomic(trial / "metrics.json", {"state": "COMPLETE"})
    running = plan.paths.trial_dir(first, "mclmc", "r_99")
    running.mkdir()
    (running / "metrics.json").write_text('{"state": "COMP')
    plan = build_plan(loaded)
    assert [(p.has_target, p.has_reference, p.is_usable) for p in plan.problems] == [
        (True, True, True), (False, True, False),
    ]  # fmt: skip
    assert [study.num_to_run for study in plan.studies] == [0, 8, 10, 10]
    assert plan.needs_resume


def test_a_reference_by_another_method_is_not_reused(load):
    sets = ("problems=[{target: quadratic}]", "methods=[sgld]")
    plan = build_plan(load(*sets))
    folder = plan.paths.problem_dir(plan.problems[0].pid)
    folder.mkdir(parents=True)
    for method, other in (("hmc", "exact"), ("exact", "hmc")):
        write_json_atomic(folder / "ref.json", {**CERTIFIED, "method": method})
        needs = [build_plan(load(*sets, f"reference={name}")).problems[0].needs_reference for name in (method, other)]
        assert needs == [False, True]


@pytest.mark.parametrize(
    ("content", "setting", "is_usable"),
    [
        ({}, "reference.max_relative_mcse=0.01", True),
        ({}, "reference.max_relative_mcse=0.004", False),
        ({}, "reference.cross_check=mclmc", False),
        ({"format": 1}, "reference.seed=0", False),
        ({"is_certified": False}, "reference.seed=0", False),
        ({"is_certified": False}, "reference.on_uncertified=warn", False),
    ],
)
def test_a_stored_reference_must_do_for_what_is_asked(load, content, setting, is_usable):
    plan = build_plan(load(setting))
    folder = plan.paths.problem_dir(plan.problems[0].pid)
    folder.mkdir(parents=True)
    write_json_atomic(folder / "ref.json", CERTIFIED | content)
    assert build_plan(load(setting)).problems[0].is_usable == is_usable


def test_trials_are_not_judged_by_two_references(load):
    plan = build_plan(load())
    pid = plan.problems[0].pid
    plan.paths.problem_dir(pid).mkdir(parents=True)
    plan.paths.trial_dir(pid, "sgld", "r_1").mkdir(parents=True)
    write_json_atomic(plan.paths.problem_dir(pid) / "ref.json", CERTIFIED)
    with pytest.raises(RunStateError, match=rf"{pid} were judged by .* another `reference\.max_relative_mcse`"):
        build_plan(load("reference.max_relative_mcse=0.004"))
    write_json_atomic(plan.paths.problem_dir(pid) / "ref.json", CERTIFIED | {"is_certified": False})
    assert build_plan(load("reference.on_uncertified=warn")).problems[0].is_usable, "it is not sampled on"


def begin(load, *sets):
    loaded = load(*sets)
    problems = {problem_id(problem.to_dict()): problem.to_dict() for problem in loaded.problems}
    paths = build_plan(loaded).paths
    for pid, problem in problems.items():
        paths.problem_dir(pid).mkdir(parents=True, exist_ok=True)
        (paths.problem_dir(pid) / "problem.yaml").write_text(to_yaml(problem))
    paths.begun.parent.mkdir(exist_ok=True)
    save_begun_studies(paths, list(problems), {"sgld": 2})
    return paths, problems


def changed(load, *sets):
    return {problem_id(problem.to_dict()): problem.to_dict() for problem in load(*sets).problems}


def test_an_unfinished_problem_that_became_another_is_refused_by_what_changed(load):
    paths, problems = begin(load, "problems=[{target: quadratic, seed: 3}, {model: small}]")
    refuse_changed_problems(paths, problems)
    now = changed(load, "problems=[{target: quadratic, seed: 4, overrides: {dim: 7}}, {model: small}]")
    with pytest.raises(RunStateError) as caught:
        refuse_changed_problems(paths, now)
    assert f"The problem {next(iter(problems))} was begun with another `dim` (" in str(caught.value)
    assert "now 7), `seed` (3, now 4)." in str(caught.value)
    moved = changed(load, "posterior.localization=50.0")
    with pytest.raises(RunStateError, match=r"with another `posterior\.localization"):
        refuse_changed_problems(paths, moved)


def test_a_network_that_became_another_is_named_in_words(load):
    paths, problems = begin(load, "problems=[{target: quadratic, seed: 3}]")
    (pid,) = problems
    mine = problems[pid] | {"content": "3bfafd6e", "sketch": [32.6, 29.7]}
    (paths.problem_dir(pid) / "problem.yaml").write_text(to_yaml(mine))
    with pytest.raises(
        RunStateError, match=rf"problem {pid} was begun with another network \(what its function .*\)\.\n"
    ):
        refuse_changed_problems(paths, {"p_2": mine | {"content": "4444", "sketch": []}})


def test_problems_may_be_added_left_out_and_replaced_once_they_are_finished(load):
    paths, problems = begin(load, "problems=[{target: quadratic, seed: 3}]")
    refuse_changed_problems(paths, changed(load, "problems=[{target: quadratic, seed: 3}, {model: small}]"))
    refuse_changed_problems(paths, {})
    for number in range(2):
        trial = paths.trial_dir(next(iter(problems)), "sgld", f"r_{number}")
        trial.mkdir(parents=True)
        write_json_atomic(trial / "metrics.json", {"state": "FAIL"})
    refuse_changed_problems(paths, changed(load, "problems=[{target: quadratic, seed: 5}]"))


def test_the_bound_counts_references_first_then_the_slowest_executor(load):
    plan = build_plan(load())
    references, trials64, trials32 = plan.bounds
    assert (references.num_tasks, references.num_parallel, references.seconds) == (2, 2, 100.0)
    assert (trials64.num_tasks, trials64.num_parallel, trials64.num_rounds) == (20, 3, 9)  # 10/3 rounds, then 5 of two
    assert (trials32.num_tasks, trials32.num_parallel, trials32.num_rounds) == (20, 1, 20)
    assert plan.max_seconds == 300.0


@pytest.mark.parametrize(("batch_size", "num_rounds"), [(1, 14), (2, 9), (3, 7), (16, 7)])
def test_a_batch_smaller_than_the_executor_costs_rounds(load, batch_size, num_rounds):
    plan = build_plan(load(f"optuna.concurrency.batch_size={batch_size}"))
    assert plan.bounds[1].num_rounds == num_rounds


def test_titles_are_by_the_ids_of_the_resolved_problems(load):
    loaded = load()
    ids = [problem_id(problem.to_dict()) for problem in loaded.problems]
    texts = ["mlp, model small, data small, teacher _null, seed 0", "quadratic, seed 3, dim=5"]
    assert problem_titles(loaded) == dict(zip(ids, texts, strict=True))


def test_one_executor_takes_everything_with_a_warning(load):
    Path("card.yaml").write_text("type: slurm\nlabel: all\nmax_workers: 2\nmax_blocks: 3\n", encoding="utf-8")
    plan = build_plan(load("optuna.concurrency.per_executor={}"))
    assert plan.capacity == {"all": 6}
    assert {route.label for route in plan.routes.values()} == {"all"}
    assert plan.warnings == ("The card has one executor, `all`: hmc, methods.sgld, methods.mclmc go there.",)


def test_faults_of_study_and_card_are_found_together_and_located(load):
    Path("card.yaml").write_text("type: slurm\nlabel: all\nwalltime: 00:01:00\n", encoding="utf-8")
    sets = ("execution.executor_map.hmc=htex64",)
    faults = check_execution(load(*sets))
    assert [(fault.source, fault.line, fault.key) for fault in faults] == [
        ("card.yaml", None, "max_workers"),
        ('--set "execution.executor_map.hmc=htex64"', None, "execution.executor_map.hmc"),
        ("study.yaml", 5, "optuna.concurrency.per_executor.htex64"),
        ("study.yaml", 11, "execution.budget.hmc_sec"),
    ]
    with pytest.raises(ConfigError, match="raise the card's `walltime`"):
        build_plan(load(*sets))


def shared_lane(folder):
    problem = QuadraticProblem()
    return ReferenceLane("p_1", problem, folder, "a", ReferenceSpec(), 60.0, 68.0, lambda reference: ())


def test_runs_that_share_references_find_each_others(load, tmp_path):
    sets = (f"store.references={tmp_path / 'shared'}", "reference.seed=0")
    first, second = (build_plan(load(*sets, f"store.namespace={name}")) for name in ("one", "two"))
    pid = first.problems[0].pid
    assert first.paths.problem_dir(pid) == second.paths.problem_dir(pid) == tmp_path / "shared" / pid
    first.paths.problem_dir(pid).mkdir(parents=True)
    write_json_atomic(first.paths.problem_dir(pid) / "ref.json", CERTIFIED)
    assert build_plan(load(*sets, "store.namespace=two")).problems[0].is_usable
    with pytest.raises(RunStateError, match=r"another `reference\.max_relative_mcse`, and other runs may rely on it"):
        build_plan(load(*sets, "store.namespace=two", "reference.max_relative_mcse=0.001"))


def test_one_reference_is_not_made_by_two_runs_at_once(tmp_path):
    first, second = shared_lane(tmp_path / "p_1"), shared_lane(tmp_path / "p_1")
    task = first.next_task()
    assert second.next_task() is None
    assert "another run is making it in" in second.state
    assert second.result.state is State.FAIL
    first.on_done(task, ReferenceFailure.failed("on purpose"))
    assert shared_lane(tmp_path / "p_1").next_task() is not None


def test_training_is_told_by_its_own_bound(tmp_path):
    lane = shared_lane(tmp_path / "p_1")
    task = lane.next_task()
    path = tmp_path / "p_1" / "progress.jsonl"
    states = []
    for line in (
        Stage(stage="training"),
        Alive(seconds=0.0, setup_seconds=12.0),
        Stage(stage="rounds", seconds=3.0, llc=1.0, se=0.1, num_met=7, num_criteria=9),
        Alive(seconds=31.0, setup_seconds=15.0),
    ):
        append_line(path, line)
        lane.on_progress(task)
        states.append(lane.state)
    assert states == [
        "training: 0/68 s", "training: 12/68 s",
        "rounds: λ 1.00 ± 0.10, 7/9 criteria, 3/60 s", "rounds: λ 1.00 ± 0.10, 7/9 criteria, 31/60 s",
    ]  # fmt: skip


@pytest.mark.nightly  # three studies
def test_the_estimate_is_by_what_has_ended_in_this_run_or_beside_it(load):
    plan = build_plan(load())
    assert plan.usual_seconds is None
    others = Paths(plan.paths.root.parent.parent / "other" / plan.paths.root.name)
    for study, run in itertools.product(plan.studies, range(3)):
        folder = others.trial_dir(study.pid, study.method, f"r_{run}")
        folder.mkdir(parents=True)
        seconds = {"sgld": 2.0}.get(study.method, 4.0) + run
        Metrics(state="COMPLETE", llc_hat=1.0, timings=Timings(total=seconds)).write(folder / "metrics.json")
    for problem in plan.problems:
        folder = others.problem_dir(problem.pid)
        folder.mkdir(parents=True)
        reference = ReferenceRecord(
            method="hmc", llc=1.0, se=0.1, is_certified=False, seconds=30.0, stages={"training": 5.0}
        )
        reference.write(folder / "ref.json")
    plan = build_plan(load())
    for bound in plan.bounds:
        assert bound.usual_sec is not None
        assert bound.usual_seconds == bound.num_tasks * bound.usual_sec / bound.num_parallel
    assert plan.bounds[0].usual_sec == 35.0
    by_label = {study.label: study.method for study in plan.studies}
    for bound in plan.bounds[1:]:
        assert bound.usual_sec == {"sgld": 3.0}.get(by_label[bound.label], 5.0)
    seconds = [bound.usual_seconds for bound in plan.bounds]
    assert plan.usual_seconds == pytest.approx(seconds[0] + max(seconds[1:]))
