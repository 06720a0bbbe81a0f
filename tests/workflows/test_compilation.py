"""Which programs are compiled ahead, when, and by whom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lambda_hat.artifacts.paths import TARGET_NPZ
from lambda_hat.config.load import load_cfg
from lambda_hat.config.methods import parse_settings, program_of
from lambda_hat.records.event import read_commands
from lambda_hat.report.timeline import spans_of
from lambda_hat.workflows.compilation import CompileLane, programs_of_search

DEFAULT_YAML = Path(__file__).parents[2] / "config" / "optuna" / "default.yaml"


@pytest.mark.parametrize(("method", "num_programs"), [("sgld", 16), ("vi", 8), ("mclmc", 1)])
def test_the_programs_of_a_search_are_all_that_its_choices_make(method, num_programs):
    loaded = load_cfg(DEFAULT_YAML)
    settings = loaded.samplers[method] | ({"max_components": 16, "max_rank": 4} if method == "vi" else {})
    found = programs_of_search(method, settings, loaded.study.search_space[method])
    programs = [program_of(*program) for program in found]
    assert len(set(programs)) == len(programs) == num_programs
    assert programs[0] == parse_settings(method, settings).program, "what is tried first is compiled first"


def test_settings_that_a_method_does_not_take_make_no_program():
    assert programs_of_search("sgld", {"no_such": 1}, {}) == []
    assert programs_of_search("sgld", {"batch": 8}, {}) == [("sgld", {"batch": 8})]


def lane_of(folder, is_wanted=lambda: True):
    return CompileLane(
        "p:compile", "a", [("sgld", {"batch": 8}), ("vi", {})],
        problem_dir=folder, num_workers=2, seconds=10.0, max_seconds=13.0, is_wanted=is_wanted,
    )  # fmt: skip


def test_workers_import_first_and_compile_once_the_target_is_there(tmp_path):
    lane = lane_of(tmp_path)
    assert [lane.next_task().name for _ in range(2)] == ["p:compile:imports 1", "p:compile:imports 0"]
    assert lane.next_task() is None, "it is being trained"
    (tmp_path / TARGET_NPZ).touch()
    task = lane.next_task()
    assert (task.name, task.args) == ("p:compile:sgld 0", (str(tmp_path), "sgld", {"batch": 8}, 10.0))
    assert lane.next_task().name == "p:compile:vi 1"
    assert lane.next_task() is None


def test_nothing_is_compiled_ahead_once_there_is_something_to_run(tmp_path):
    (tmp_path / TARGET_NPZ).touch()
    answers = iter([True, False, False])
    lane = lane_of(tmp_path, lambda: next(answers))
    assert lane.next_task() is not None
    assert lane.next_task() is None
    assert lane.next_task() is None


@pytest.mark.slow
def test_an_executor_that_waits_for_a_reference_compiles(small_study):
    pools = [{"label": "htex64"}, {"label": "htex32"}]
    (small_study.folder / "card.yaml").write_text(json.dumps({"type": "local", "executors": pools}), encoding="utf-8")
    small_study.run("--set", "execution.executor_map={hmc: htex64, methods: {sgld: htex32}}", "--set", "reference={}")
    (command,) = read_commands(small_study.root / "meta" / "events.jsonl")
    ahead = [span for span in spans_of(command.tasks) if span.lane.endswith(":compile")]
    assert {span.label for span in ahead} == {"htex32"}
    assert {span.how for span in ahead} == {"done"}
    (certified,) = [event.at for event in command.tasks if event.kind == "done" and "reference" in event.lane]
    assert all(span.start < certified for span in ahead)
    assert any(":sgld " in span.task for span in ahead)
    compiling = small_study.table.set_index("number").sort_index()["compile_sec"]
    assert compiling[0] < 0.5, "its worker had it done"
