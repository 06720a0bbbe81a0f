"""Networks of one's own through workflows: dry run, run, another folder, an edited checkpoint, wrong functions."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml

from lambda_hat.records.tables import read_frame
from tests.conftest import HANGING, wait_until

NETWORKS = '''\
import numpy as np


def loss_fn(params, batch):
    x, y = batch
    return (x @ params["w"] * params["scale"] - y) ** 2 / 0.18


def linear(checkpoint):
    """A linear regression at its least-squares solution, and a factor that stays as it is."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    y = x @ np.ones(3) + 0.3 * rng.standard_normal(200)
    return loss_fn, {"w": np.load(checkpoint), "scale": np.ones(())}, (x, y)
'''
LOCALIZATION = 20.0
EXPERIMENTS = {
    "targets": [
        {
            "target": "python",
            "build": "networks.py:linear",
            "sampled": "w",
            "sweep": {"checkpoint": ["a.npy", "b.npy"]},
            "overrides": {"posterior": {"localization": LOCALIZATION}},
        }
    ],
    "samplers": [{"name": "mclmc", "overrides": {"steps": 400}}],
    "execution": {"budget": {"hmc_sec": 600, "trial_sec": 600}},
    "reference": {"max_relative_mcse": 0.05},
}


def least_squares() -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    return np.linalg.lstsq(x, x @ np.ones(3) + 0.3 * rng.standard_normal(200))[0]


def exact() -> float:
    x = np.random.default_rng(0).standard_normal((200, 3))
    curvatures = np.linalg.eigvalsh(x.T @ x) / (0.09 * np.log(200))
    return float(0.5 * np.sum(curvatures / (curvatures + LOCALIZATION)))


def write(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "networks.py").write_text(NETWORKS)
    np.save(folder / "a.npy", least_squares())
    np.save(folder / "b.npy", least_squares() + 1e-9)
    (folder / "experiments.yaml").write_text(yaml.safe_dump(EXPERIMENTS))


def dry_run(run_inline, folder: Path) -> dict:
    result = run_inline(folder, "llc", "--config", "experiments.yaml", "--dry-run", "--json")
    assert result.exit_code in (0, 2), result.output
    return json.loads(result.stdout)


@pytest.mark.nightly  # two certified references and three processes that import JAX
def test_experiments_on_networks_of_ones_own(run_inline, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    write(one)
    assert [problem["is_built"] for problem in dry_run(run_inline, one)["problems"]] == [False, False]
    assert not (one / "runs").exists()

    result = run_inline(one, "llc", "--config", "experiments.yaml")
    assert result.exit_code == 0, result.output
    assert "networks.py:linear, checkpoint=a.npy, sampled w" in result.stdout
    runs = read_frame(one / "runs" / "llc" / "v1" / "tables" / "llc_runs.parquet")
    assert list(runs["state"]) == ["COMPLETE", "COMPLETE"]
    assert [json.loads(text)["checkpoint"] for text in runs["arguments"]] == ["a.npy", "b.npy"]
    assert runs["title"][0].startswith("networks.py:linear, checkpoint=a.npy, sampled w")
    assert (abs(runs["llc_ref"] - exact()) < 4 * runs["se_ref"]).all()
    assert (abs(runs["llc_hat"] - exact()) < 4 * runs["se_hat"]).all()
    assert "networks.py:linear" in (one / "runs" / "llc" / "v1" / "report.html").read_text()
    plan = dry_run(run_inline, one)
    assert [(problem["is_built"], problem["needs_reference"]) for problem in plan["problems"]] == [(True, False)] * 2
    assert all(run["is_finished"] for run in plan["runs"])

    shutil.move(one, other)
    result = run_inline(other, "llc", "--config", "experiments.yaml", "--resume")
    assert "Nothing is left to run" in result.stderr, "an unchanged network is found again, from another folder too"
    pids = [problem["pid"] for problem in plan["problems"]]
    kept = yaml.safe_load((other / "runs" / "llc" / "v1" / "problems" / pids[0] / "problem.yaml").read_text())
    assert kept["build"] == f"{other}/networks.py:linear"

    np.save(other / "b.npy", least_squares() + 1e-6)
    plan = dry_run(run_inline, other)
    assert [problem["is_built"] for problem in plan["problems"]] == [True, False], "an edited checkpoint is another one"


@pytest.mark.slow
def test_a_function_that_gives_no_network_starts_nothing(run_inline, tmp_path):
    write(tmp_path)
    (tmp_path / "networks.py").write_text("def linear(checkpoint):\n    return 1 / len(checkpoint[6:])\n")
    result = run_inline(tmp_path, "llc", "--config", "experiments.yaml")
    assert result.exit_code == 2
    assert "experiments.yaml:" in result.stderr
    assert "targets.0.build: `linear` of " in result.stderr
    assert "networks.py, line 2, `linear`: ZeroDivisionError: division by zero" in result.stderr
    assert not (tmp_path / "runs").exists()


ENDS = [
    ("os._exit(7)", "which ended with exit code 7."),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "which was killed by SIGSEGV."),
]


@pytest.mark.slow
@pytest.mark.parametrize(("statement", "end"), ENDS)
def test_a_function_that_ends_its_process_is_named(run_inline, tmp_path, statement, end):
    write(tmp_path)
    source = NETWORKS.replace("import numpy as np\n", "import os\nimport signal\n\nimport numpy as np\n")
    ending = f'    if checkpoint == "b.npy":\n        {statement}\n    rng ='
    (tmp_path / "networks.py").write_text(source.replace("    rng =", ending))
    result = run_inline(tmp_path, "llc", "--config", "experiments.yaml")
    assert result.exit_code == 2
    call = f"`linear` of {tmp_path}/networks.py (checkpoint='b.npy')"
    assert f"targets.0.build: {call} ended the process that builds it, {end}\n" in result.stderr
    assert ('networks.py", line' in result.stderr) == ("SIGSEGV" in end), "where it was, if somebody can know"
    assert "--resume" not in result.stderr


@pytest.mark.slow
def test_what_a_loss_does_wrong_is_said_with_the_arguments(run_inline, tmp_path):
    write(tmp_path)
    ignoring = 'return loss_fn, {"w": np.load(checkpoint), **({"u": np.ones(2)} if checkpoint == "b.npy" else {}), '
    source = NETWORKS.replace('return loss_fn, {"w": np.load(checkpoint), ', ignoring)
    (tmp_path / "networks.py").write_text(source)
    experiments = EXPERIMENTS | {"targets": [EXPERIMENTS["targets"][0] | {"sampled": ["w", "u*"]}]}
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(experiments))
    result = run_inline(tmp_path, "llc", "--config", "experiments.yaml")
    assert result.exit_code == 2
    assert "(checkpoint='a.npy') gave: sampled: 'u*' matches nothing of" in result.stderr
    assert "networks.py (checkpoint='b.npy') gave cannot be used: params['u']: found a gradient" in result.stderr


@pytest.mark.slow
def test_a_dry_run_looks_for_the_function(run_inline, tmp_path):
    write(tmp_path)
    (tmp_path / "networks.py").write_text(NETWORKS.replace("def linear", "def linaer"))
    result = run_inline(tmp_path, "llc", "--config", "experiments.yaml", "--dry-run")
    assert result.exit_code == 2
    assert "found no such function, expected a function. Did you mean `linaer`?" in result.stderr


@pytest.mark.slow
def test_two_of_the_same_content_are_one_too_many(run_inline, tmp_path):
    write(tmp_path)
    shutil.copy(tmp_path / "a.npy", tmp_path / "b.npy")
    result = run_inline(tmp_path, "llc", "--config", "experiments.yaml")
    assert result.exit_code == 2
    assert "checkpoint=b.npy, sampled w" in result.stderr
    assert "builds the same network on the same data as networks.py:linear, checkpoint=a.npy" in result.stderr


@pytest.mark.nightly
def test_checkpoints_without_references_say_which_are_minima(run_inline, tmp_path):
    write(tmp_path)
    np.save(tmp_path / "b.npy", least_squares() + 0.3)
    experiments = EXPERIMENTS | {"reference": "none", "samplers": [{"name": "mclmc", "overrides": {"steps": 200}}]}
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump(experiments))
    result = run_inline(tmp_path, "llc", "--config", "experiments.yaml")
    assert result.exit_code == 0, result.output
    runs = read_frame(tmp_path / "runs" / "llc" / "v1" / "tables" / "llc_runs.parquet")
    assert list(runs["is_minimum"]) == [True, False]
    assert runs["llc_ref"].isna().all()
    assert runs["laplace_llc"][0] == pytest.approx(exact(), rel=1e-6)
    assert runs["decrease_available"][1] > 1
    assert result.stdout.count("no reference was asked for") == 2
    assert "mclmc has nothing to be compared with: estimate" in result.stdout
    assert result.stdout.count("w0 is no minimum: no number here is a local learning coefficient") == 1
    report = (tmp_path / "runs" / "llc" / "v1" / "report.html").read_text()
    assert 'aria-label="λ̂ of every sampler along checkpoint"' in report
    assert "mclmc, no minimum" in report
    again = run_inline(tmp_path, "llc", "--config", "experiments.yaml", "--resume")
    assert "Nothing is left to run" in again.stderr


@pytest.mark.nightly  # a certified reference, and workers that import JAX
def test_a_killed_study_of_ones_own_network_goes_on_where_it_was(small_study):
    write(small_study.folder)
    problem = {
        "target": "python",
        "build": "networks.py:linear",
        "arguments": {"checkpoint": "a.npy"},
        "sampled": "w",
        "overrides": {"posterior": {"localization": LOCALIZATION}},
    }
    study = small_study.study | {"problems": [problem], "reference": {"max_relative_mcse": 0.05}}
    (small_study.folder / "study.yaml").write_text(yaml.safe_dump(study))
    process = small_study.start("--set", "optuna.max_trials_per_method=200")
    wait_until(lambda: len(small_study.trial_files("metrics.json")) >= 3)
    small_study.send(process, signal.SIGKILL)
    process.communicate(timeout=HANGING)
    small_study.wait_until_nothing_is_left()

    done = {path: path.read_bytes() for path in small_study.trial_files("metrics.json")}
    (reference,) = small_study.root.glob("problems/*/ref.json")
    certified = reference.read_bytes()
    total = len(done) + 4
    small_study.run("--resume", "--set", f"optuna.max_trials_per_method={total}")
    assert {path: path.read_bytes() for path in done} == done, "a finished trial is not run again"
    assert list(small_study.root.glob("problems/*/ref.json")) == [reference]
    assert reference.read_bytes() == certified
    record = json.loads(certified)
    assert record["is_certified"]
    assert abs(record["llc"] - exact()) < 4 * record["se"]
    table = small_study.table
    assert list(table["number"]) == list(range(total))
    assert table["run_id"].is_unique
    assert {path.parent.name for path in done} < set(table["run_id"])
    assert set(table["state"]) <= {"COMPLETE", "PRUNED"}
