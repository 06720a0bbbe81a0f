"""The benchmark scripts can be started; at night they run, in their short form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("*.py"))
LIBRARIES = {"known.py", "gauntlet_problems.py", "lines.py"}  # of the other scripts
ELSEWHERE = {"devinterp_llc.py", "devinterp_steps.py"}  # for an environment that has torch

# One process for all of them, as importing JAX, Optuna and Parsl takes seconds. They set variables of the environment.
ASK_FOR_HELP = """
import contextlib, io, json, runpy, sys
answers = {}
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        runpy.run_path(path, run_name="__main__")
    answers[path] = printed.getvalue()
print(json.dumps(answers))
"""


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.nightly
def test_every_script_says_what_it_takes() -> None:
    scripts = [name for name in SCRIPTS if name not in LIBRARIES | ELSEWHERE]
    command = [sys.executable, "-c", ASK_FOR_HELP, *(str(BENCHMARKS / name) for name in scripts)]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    for path, answer in json.loads(done.stdout).items():
        assert answer.startswith(f"usage: {Path(path).name}"), f"{path} prints {answer!r}"


@pytest.mark.nightly
def test_bias(tmp_path: Path) -> None:
    run("bias.py", str(tmp_path), "--quick")
    rows = json.loads((tmp_path / "bias.json").read_text(encoding="utf-8"))
    assert {(row["method"], row["series"]) for row in rows} == {
        ("SGLD", "none"),
        ("SGLD", "whitened"),
        ("unadjusted MCLMC", "whitened"),
        ("VI", "rmsprop"),
        ("VI", "hessian"),
    }
    assert all(row["state"] == "COMPLETE" for row in rows)
    assert (tmp_path / "bias.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.nightly
def test_sghmc(tmp_path: Path) -> None:
    run("sghmc.py", str(tmp_path), "--quick")
    rows = json.loads((tmp_path / "sghmc.json").read_text(encoding="utf-8"))
    assert {row["series"] for row in rows} == {"SGLD", "SGHMC 0.3", "SGHMC 0.1", "SGHMC 0.03"}
    assert all(row["state"] == "COMPLETE" for row in rows)
    assert (tmp_path / "sghmc.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.nightly
def test_control(tmp_path: Path) -> None:
    first, second = run("control.py", str(tmp_path), "--quick").splitlines()
    for line in (first, second):
        ratio, _, se, expected = line.split(": ")[1].replace(",", "").split()
        assert abs(float(ratio) - float(expected)) < 4 * float(se)
    assert (tmp_path / "control.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.nightly
def test_coverage() -> None:
    header, row = run("coverage.py", "--seeds", "3", "--method", "sgld whitened").splitlines()
    assert header.split()[:4] == ["method", "about", "coverage", "bias"]
    assert row.startswith("sgld whitened")


@pytest.mark.nightly
def test_reference(tmp_path: Path) -> None:
    row = run("reference.py", str(tmp_path), "small-small-_null:0.1", "--seconds", "4")
    assert row.startswith("case=small-small-_null:0.1  d=45  n=100  localization=56.158  ")
    stored = json.loads((tmp_path / "small-small-_null_0.1.json").read_text(encoding="utf-8"))
    assert stored["laplace"] == pytest.approx(8.32, abs=0.01)


@pytest.mark.nightly
def test_scaling(tmp_path: Path) -> None:
    run("scaling.py", str(tmp_path), "--case", "tpe 2 x 30")
    result = json.loads((tmp_path / "tpe_2_x_30.json").read_text(encoding="utf-8"))
    assert [row["trials"] for row in result["rows"]] == list(range(6, 61, 6))
    assert result["parts"]["ask"]["calls"] == 60
    assert all(row["cpu_ms"] > 0 and row["wall_ms"] > 0 for row in result["rows"])


@pytest.mark.nightly
def test_scheduler(tmp_path: Path) -> None:
    run("scheduler.py", str(tmp_path), "--seconds", "0.5", "--trials", "4", "--workers", "2")
    result = json.loads((tmp_path / "scheduler.json").read_text(encoding="utf-8"))
    used = [(row["label"], row["num_trials"], row["max_in_flight"]) for row in result["executors"]]
    assert used == [("htex64", 8, 2), ("htex32", 16, 2)]
    assert all(0 < row["asleep"] <= row["in_flight"] <= 1 for row in result["executors"])


@pytest.mark.nightly
def test_warm(tmp_path: Path) -> None:
    run("warm.py", str(tmp_path), "--quick")
    methods = json.loads((tmp_path / "warm.json").read_text(encoding="utf-8"))["methods"]
    assert list(methods) == ["sgld", "vi", "mclmc", "hmc"]
    for row in methods.values():
        assert row["warm_compilations"] == 0
        assert 0 < row["warm_outside"] < row["warm_seconds"]


@pytest.mark.nightly
def test_growth(tmp_path: Path) -> None:
    run("growth.py", str(tmp_path), "--quick")
    results = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))
    controller = results.pop("controller")
    assert [row["trials"] for row in controller] == [250, 500]
    assert all(row[name] > 0 for row in controller for name in ("ask", "prune", "tell", "pickle"))
    assert [(axis, list(methods)) for axis, methods in results.items()] == [
        (axis, ["sgld", "hmc"]) for axis in ("dim", "num_data", "num_chains")
    ]
    assert [row["num_chains"] for row in results["num_chains"]["sgld"]] == [1, 2]
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.nightly
def test_gradient(tmp_path: Path) -> None:
    run("gradient.py", str(tmp_path), "--quick")
    rows = json.loads((tmp_path / "gradient.json").read_text(encoding="utf-8"))
    assert [row["dtype"] for row in rows] == 2 * ["float64", "float32"]
    assert all(0 < row["share_of_matrix_rate"] < 1.5 and row["times_as_fast_as_one_piece"] > 0 for row in rows)


@pytest.mark.nightly
def test_own_network(tmp_path: Path) -> None:
    run("own_network.py", str(tmp_path), "--only", "share", "--repeats", "1", "--steps", "500")
    cases = json.loads((tmp_path / "share.json").read_text(encoding="utf-8"))
    assert list(cases) == ["P1a", "P1b"]
    assert all(0 < case["share"] < 1.2 for case in cases.values())


@pytest.mark.nightly
def test_packs(tmp_path: Path) -> None:
    run("packs.py", str(tmp_path), "--quick", "--size", "2")
    rows = json.loads((tmp_path / "packs.json").read_text(encoding="utf-8"))
    assert [row["size"] for row in rows] == 3 * [2]
    assert all(row["alone_seconds"] > 0 and row["times_as_fast"] > 0 for row in rows)


@pytest.mark.nightly
def test_all_and_sgld(tmp_path: Path) -> None:
    printed = run("all.py", str(tmp_path), "--only", "sgld").splitlines()
    assert printed[0].split()[:3] == ["sgld", "case", "run"]
    assert printed[-1].startswith("sgld       done in ")
    result = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert list(result["benchmarks"]) == ["sgld"]
    rows = result["benchmarks"]["sgld"]["results"]["sgld.json"]
    assert {(row["case"], row["run"]) for row in rows if row["goal"]} == {("P1a", "sgld none"), ("P1b", "sgld none")}
    assert len(rows) == 10
    assert all(row["steps_per_cpu_second"] > 0 and 0 < row["share"] < 2 for row in rows)
