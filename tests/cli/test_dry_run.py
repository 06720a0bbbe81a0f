"""The dry run tells everything and touches nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lambda_hat.config.explain import to_yaml
from lambda_hat.config.load import load_cfg

REPOSITORY = Path(__file__).parents[2]
DRY_RUN = ("workflow", "optuna", "--config", "study.yaml", "--local", "--dry-run")
EXPERIMENTS = """\
targets: [{target: quadratic}]
samplers: [{name: sgld}, {name: fine, method: sgld, overrides: {eta0: 1e-5}}]
"""
HEAVY = {"jax", "optuna", "parsl", "pandas", "pyarrow", "numpy"}


def tree(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_it_writes_nothing(folder, invoke):
    before = tree(folder)
    assert invoke(*DRY_RUN).exit_code == 0
    assert invoke(*DRY_RUN, "--json").exit_code == 0
    assert tree(folder) == before


def test_it_tells_the_whole_plan_as_text(invoke):
    result = invoke(*DRY_RUN, "--set", "executors.1.max_workers=2")
    assert result.stderr == ""
    config = to_yaml(load_cfg("study.yaml", local=True).resolved)
    assert result.stdout.startswith("Configuration (study.yaml)\n  " + config.replace("\n", "\n  ").rstrip())
    for line in (
        "htex32  2 workers",
        "hmc → htex64  (AUTO: double precision)",
        "methods.sgld → htex32  (AUTO: single precision)",
        "mlp, model small, data small, teacher _null, seed 0: target to train, reference to sample",
        ":sgld  0 trials done, 5 to run on htex32",
        "1 reference on htex64, ",
        "5 trials on htex32, 2 at once: 3 × 10 s = 0:00:30; none has ended here yet",
        ":sgld  its best settings under new seeds: 12 to run on htex32",
        "12 confirmations on htex32, 2 at once: 6 × 10 s = 0:01:00",
        "in all 0:02:30: references, then trials, then confirmations, all executors side by side",
        str(Path("runs/optuna/v1").resolve()),
    ):
        assert line in result.stdout


def test_inline_there_are_no_workers_and_times_add_up(invoke):
    result = invoke("workflow", "optuna", "--config", "study.yaml", "--inline", "--dry-run")
    assert result.stderr == ""
    for line in (
        "htex64  this process",
        "methods.sgld → htex32  (AUTO: single precision)",
        "5 trials on htex32, 1 at once: 5 × 10 s = 0:00:50",
        "in all 0:03:50: one task after the other",
    ):
        assert line in result.stdout


@pytest.mark.parametrize(
    ("card", "sets", "label", "workers"),
    [
        ("local-gpu", ("executors.1.available_accelerators=[2, 3]",), "htex32", 2),
        ("slurm/cpu", ('scheduler_options_extra=["#SBATCH --nice"]', "max_blocks=2"), "htex_slurm", 64),
        ("pbs", ("cores_per_node=8", "nodes_per_block=2"), "htex_pbs", 64),
        ("kubernetes", ("persistent_volumes.0.path=/data", "max_workers=3"), "htex_kubernetes", 12),
    ],
)
def test_every_kind_of_card_is_understood_without_its_cluster(invoke, card, sets, label, workers):
    path = str(REPOSITORY / "config" / "parsl" / f"{card}.yaml")
    words = ["workflow", "optuna", "--config", "study.yaml", "--parsl-card", path, "--dry-run"]
    words += [word for text in sets for word in ("--set", text)]
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)
    waiting = {"slurm/cpu": "waiting for Slurm, ", "pbs": "waiting for PBS, ", "kubernetes": "waiting for Kubernetes, "}
    assert f"all executors side by side; {waiting.get(card, '')}starting workers, " in invoke(*words).stdout
    assert {"label": label, "workers": workers} in [
        {key: executor[key] for key in ("label", "workers")} for executor in plan["executors"]
    ]


@pytest.mark.parametrize(
    ("card", "sets", "packs"),
    [
        ("local", (), {"htex64": 1, "htex32": 1}),
        ("local", ("optuna.concurrency.pack=4",), {"htex64": 1, "htex32": 4}),
        ("local", ("optuna.concurrency.pack=4", "optuna.concurrency.batch_size=3"), {"htex64": 1, "htex32": 3}),
        ("local-gpu", ("executors.1.available_accelerators=2",), {"htex64": 1, "htex32": 1}),
        (
            "local-gpu",
            ("executors.1.available_accelerators=2", "optuna.concurrency.pack=8"),
            {"htex64": 1, "htex32": 8},
        ),
    ],
)
def test_it_tells_how_many_trials_a_worker_runs_at_once(invoke, card, sets, packs):
    path = str(REPOSITORY / "config" / "parsl" / f"{card}.yaml")
    words = ["workflow", "optuna", "--config", "study.yaml", "--parsl-card", path, "--dry-run"]
    words += [word for text in sets for word in ("--set", text)]
    text, plan = invoke(*words).stdout, json.loads(invoke(*words, "--json").stdout)
    assert {executor["label"]: executor["pack"] for executor in plan["executors"]} == packs
    for label, size in packs.items():
        line = next(line for line in text.splitlines() if line.startswith(f"  {label}  "))
        assert line.endswith(f", {size} trials at once on each") == (size > 1)


def test_an_exact_reference_is_computed_not_sampled(invoke):
    result = invoke(*DRY_RUN, "--set", "reference=exact", "--set", "problems=[{target: potential}]")
    assert "potential, seed 0: target to train, exact reference to compute" in result.stdout


def test_it_tells_the_same_as_json(invoke):
    result = invoke(*DRY_RUN, "--json", "--set", "execution.executor_map.hmc=htex32")
    plan = json.loads(result.stdout)
    assert plan["config"] == load_cfg("study.yaml", ["execution.executor_map.hmc=htex32"], local=True).resolved
    assert plan["card"]["type"] == "local"
    assert [executor["label"] for executor in plan["executors"]] == ["htex64", "htex32"]
    assert plan["executor_map"] == {
        "hmc": {"label": "htex32", "is_explicit": True, "reason": "execution.executor_map.hmc"},
        "methods.sgld": {"label": "htex32", "is_explicit": False, "reason": "single precision"},
    }
    (problem,) = plan["problems"]
    assert (problem["has_target"], problem["has_reference"], problem["needs_reference"]) == (False, False, True)
    assert plan["studies"] == [
        {
            "pid": problem["pid"],
            "method": "sgld",
            "label": "htex32",
            "num_finished": 0,
            "num_trials": 5,
            "num_to_run": 5,
        }
    ]
    assert plan["confirmations"] == [
        {
            "kind": "confirm",
            "pid": problem["pid"],
            "method": "sgld",
            "label": "htex32",
            "num_to_run": 12,
            "is_begun": False,
        }
    ]
    assert plan["max_seconds"] == sum(bound["seconds"] for bound in plan["time_bounds"])
    assert plan["needs_resume"] is False


def test_experiments_are_told_run_by_run(invoke):
    Path("experiments.yaml").write_text(EXPERIMENTS, encoding="utf-8")
    command = ("workflow", "llc", "--config", "experiments.yaml", "--local", "--dry-run")
    before = tree(Path())
    text = invoke(*command, "--set", "executors.1.max_workers=2").stdout
    plan = json.loads(invoke(*command, "--json").stdout)
    assert tree(Path()) == before
    (problem,), (first, second) = plan["problems"], plan["runs"]
    assert "studies" not in plan
    assert first == {
        "pid": problem["pid"],
        "sampler": "sgld",
        "method": "sgld",
        "label": "htex32",
        "run_id": first["run_id"],
        "is_finished": False,
        "num_to_run": 1,
    }
    for line in (
        f"  {problem['pid']}:sgld  {first['run_id']}  to run on htex32\n",
        f"  {problem['pid']}:fine (sgld)  {second['run_id']}  to run on htex32\n",
        "  2 runs on htex32, 2 at once: 1 × 600 s = 0:10:00; none has ended here yet\n",
        "references, then runs, all executors side by side",
        str(Path("runs/llc/v1").resolve()),
    ):
        assert line in text
    assert "Studies" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ("--help",),
        ("workflow", "optuna", "--config", "config/optuna/default.yaml", "--local", "--dry-run"),
        ("workflow", "llc", "--config", "config/experiments.yaml", "--local", "--dry-run"),
        ("config", "validate", "config/optuna/default.yaml", "--local"),
        ("report", "--help"),
        ("diagnose", "--help"),
        ("dashboard", "--help"),
        ("config", "validate", "config/experiments.yaml", "--local"),
    ],
)
def test_what_runs_nothing_imports_nothing_heavy(args):
    program = "import sys\nfrom lambda_hat.cli.app import cli\n"
    program += f"cli({list(args)!r}, standalone_mode=False)\nprint(*(set(sys.modules) & {HEAVY!r}), file=sys.stderr)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert output.stderr.splitlines()[-1] == ""


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "lambda_hat", "--version"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert output.stdout == "lambda-hat, version 0.1.0\n"
