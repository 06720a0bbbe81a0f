"""What a worker leaves in the folders of a problem and of its trials."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from lambda_hat.artifacts.files import read_json, read_json_lines
from lambda_hat.config.explain import to_yaml
from lambda_hat.draws.control import corrected_by_regression
from lambda_hat.draws.info import Info, drop_burn_in
from lambda_hat.estimate.traces import Traces
from lambda_hat.records.base import append_line
from lambda_hat.targets import build_target
from lambda_hat.tasks import reference_task, trial_task
from lambda_hat.tasks import trial as trial_module
from tests.conftest import HANGING
from tests.tasks.conftest import QUADRATIC, SPEC

SGLD = {"eta0": 2e-3, "steps": 4000, "chunk_size": 1000, "batch": 64}
MCLMC = {"steps": 600, "chunk_size": 200, "step_size": 0.5}


@pytest.fixture(scope="module")
def exact() -> float:
    with jax.enable_x64(True):
        target = build_target(QUADRATIC)
        return target.exact_llc(QUADRATIC.posterior.nbeta(200), 1.0)


def write_problem(folder: Path, problem=QUADRATIC) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "problem.yaml").write_text(to_yaml(problem.to_dict()), encoding="utf-8")
    return folder


def make_reference(folder: Path, budget: float, **changes):
    """What `ref.json` or `failure.json` says after a task that had `budget` seconds."""
    return reference_task(str(folder), SPEC.model_copy(update=changes), budget).to_json()


@pytest.fixture
def run(quadratic_dir, tmp_path):
    """Runs one trial in `tmp_path`."""

    def run(method, settings, *, trial_sec=HANGING, seed=3, **more):
        manifest = {
            "pid": "p_0",
            "method": method,
            "hyperparams": {},
            "settings": settings,
            "seed": seed,
            "budget": {"trial_sec": trial_sec},
            **more,
        }
        (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        (tmp_path / "metrics.json").unlink(missing_ok=True)
        return trial_task(str(tmp_path), str(quadratic_dir)).to_json()

    return run


@pytest.mark.nightly
def test_reference_is_certified_and_right(quadratic_dir, exact, is_within):
    reference = read_json(quadratic_dir / "ref.json")
    assert reference["state"] == "COMPLETE"
    assert reference["is_certified"], reference["reasons"]
    assert reference["reasons"] == []
    assert all(row["is_met"] for row in reference["certificate"])
    assert is_within(reference["llc"], reference["se"], exact)
    assert reference["se"] < 0.03 * exact
    assert reference["exact_llc"] == pytest.approx(exact)
    assert reference["laplace_llc"] == pytest.approx(exact)
    assert reference["nbeta"] == pytest.approx(200 / math.log(200))
    assert (reference["localization"], reference["radius"]) == (1.0, None)
    assert (reference["dim"], reference["num_data"], reference["dtype"]) == (4, 200, "float64")
    assert reference["loss_at_w0"] == pytest.approx(0.0, abs=1e-12)
    assert reference["spec"] == SPEC.to_dict()
    assert reference["num_gradient_evaluations"] > reference["num_draws"] > 0
    assert {"certificate", "step_size", "stages", "seconds", "host", "pid", "device", "versions"} <= reference.keys()
    assert reference["format"] == 4
    first, *stages, last = [
        line.get("stage", line.get("event")) for line in read_json_lines(quadratic_dir / "progress.jsonl")[0]
    ]
    assert (first, stages[0], last) == ("started", "training", "ended")
    assert "half step size" in stages


def test_reference_arrays(quadratic_dir):
    reference = read_json(quadratic_dir / "ref.json")
    with np.load(quadratic_dir / "ref.npz", allow_pickle=False) as arrays:
        assert arrays["at_w0.dense"].shape == arrays["averaged.dense"].shape == (4, 4)
        trace = arrays["chains.excess_loss"]
        assert trace.shape == arrays["chains.squared_distance"].shape
        retained = trace[:, trace.shape[1] // 4 :]
        assert retained.size == reference["num_draws"]
        info = drop_burn_in(Info(*(arrays[f"chains.{name}"] for name in Info._fields)), trace.shape[1] // 4)
        corrected = corrected_by_regression(info, reference["nbeta"])
        assert corrected.mean() == pytest.approx(reference["llc"], rel=1e-4)
        curvatures = reference["nbeta"] * np.geomspace(0.1, 10, 4)
        np.testing.assert_allclose(np.sort(arrays["spectrum.values"][0]), curvatures, rtol=1e-6)
        assert reference["spectrum"]["smallest"] == pytest.approx(curvatures[0])
        assert reference["spectrum"]["largest"] == pytest.approx(curvatures[-1])


@pytest.mark.slow
def test_a_larger_budget_extends_a_reference(quadratic_dir, tmp_path, exact, is_within):
    """Tighter bounds later go on from the chains that are there; another seed starts afresh.

    Of a Gaussian the identities leave so little that the first draws do for any bound.
    """
    folder = tmp_path / "problem"
    shutil.copytree(quadratic_dir, folder)
    before = read_json(folder / "ref.json")
    assert make_reference(folder, 0.0, max_relative_mcse=1e-6)["num_extensions"] == 1
    tighter = make_reference(folder, HANGING, max_relative_mcse=0.02)
    assert tighter["is_certified"], tighter["reasons"]
    assert tighter["num_extensions"] == 2
    assert tighter["num_draws"] == before["num_draws"]
    assert tighter["num_gradient_evaluations"] >= before["num_gradient_evaluations"]
    assert tighter["step_size"] == pytest.approx(before["step_size"])
    assert tighter["seconds"] > before["seconds"]
    assert tighter["se"] <= 1.001 * before["se"]  # of a quadratic: what is left is rounding
    assert is_within(tighter["llc"], tighter["se"], exact)
    afresh = make_reference(folder, 0.0, seed=1)
    assert (afresh["num_extensions"], afresh["num_draws"]) == (0, 0)


def test_reference_out_of_time_is_not_certified(quadratic_dir, tmp_path):
    folder = write_problem(tmp_path / "problem")
    shutil.copy(quadratic_dir / "target.npz", folder)
    reference = make_reference(folder, 1e-6)
    assert reference["state"] == "COMPLETE"
    assert reference["is_certified"] is False
    assert "number of draws is 0, at least 400 wanted" in reference["reasons"]
    assert reference["llc"] is None
    assert (folder / "ref.npz").exists()
    assert not (folder / "failure.json").exists()


@pytest.mark.slow
def test_reference_out_of_time_in_training_fails_and_says_which_budget(tmp_path):
    folder = write_problem(tmp_path)
    result = make_reference(folder, 1e-6)
    assert result["state"] == "FAIL"
    assert result["reason"] == (
        "out of time before there was a reference: raise execution.budget.hmc_sec, which is 1e-06 s"
    )
    assert result == read_json(folder / "failure.json")
    assert not (folder / "ref.json").exists()
    assert make_reference(folder, HANGING)["state"] == "COMPLETE"
    assert not (folder / "failure.json").exists()
    events = [line for line in read_json_lines(folder / "progress.jsonl")[0] if "event" in line]
    assert [(line["event"], line.get("state")) for line in events] == [
        ("started", None), ("ended", "FAIL"), ("started", None), ("ended", "COMPLETE"),
    ]  # fmt: skip


def test_a_reference_of_another_format_is_not_gone_on_from(quadratic_dir, tmp_path):
    folder = tmp_path / "problem"
    shutil.copytree(quadratic_dir, folder)
    content = read_json(folder / "ref.json")
    (folder / "ref.json").write_text(json.dumps(content | {"format": 1}), encoding="utf-8")
    assert make_reference(folder, 0.0)["num_extensions"] == 0


def test_reference_that_fails_says_why(tmp_path):
    result = make_reference(tmp_path, 1.0)
    assert result["state"] == "FAIL"
    assert result["reason"].startswith("FileNotFoundError")
    assert "Traceback" in result["traceback"]
    assert result == read_json(tmp_path / "failure.json")
    assert not (tmp_path / "ref.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("is_x64", [False, True])
@pytest.mark.parametrize(("method", "settings", "dtype"), [("sgld", SGLD, "float32"), ("mclmc", MCLMC, "float64")])
def test_trial_in_its_own_precision(run, tmp_path, exact, is_within, method, settings, dtype, is_x64):
    with jax.enable_x64(is_x64):
        metrics = run(method, settings)
        assert jax.config.jax_enable_x64 == is_x64
    assert (metrics["state"], metrics["reason"]) == ("COMPLETE", "")
    assert (metrics["dtype"], metrics["x64"]) == (dtype, dtype == "float64")
    assert metrics == read_json(tmp_path / "metrics.json")
    assert not metrics["is_diverged"]
    assert not metrics["is_truncated"]
    assert metrics["num_steps_done"] == settings["steps"]
    assert metrics["num_draws"] == 4 * settings["steps"] * 0.75
    assert metrics["rhat"] == max(metrics["rhat_loss"], metrics["rhat_distance"]) < 1.1
    assert 0 < metrics["se_hat"] < 0.2 * exact
    if method == "mclmc":
        assert is_within(metrics["llc_hat"], metrics["se_hat"], exact)
        assert 0.7 < metrics["acceptance_rate"] <= 1
        assert metrics["num_gradient_evaluations"] >= 4 * 600
    else:
        assert metrics["llc_hat"] == pytest.approx(exact, rel=0.3)  # the bias of its finite steps
        # Steps, and the rows at the end of each chain that its bias is predicted from.
        assert metrics["num_gradient_evaluations"] == pytest.approx(4 * 4000 * 64 / 200 + 4, rel=1e-5)
        assert 0 < metrics["predicted_bias"] < 0.3
    timings = metrics["timings"]
    assert timings["load"] + timings["compile"] + timings["sample"] == pytest.approx(timings["total"])
    assert {"started", "finished", "host", "pid", "device", "executor_label", "versions"} <= metrics.keys()


def test_progress_grows_chunk_by_chunk(run, tmp_path):
    metrics = run("sgld", SGLD)
    lines, _ = read_json_lines(tmp_path / "progress.jsonl")
    started, *chunks, ended = lines
    assert (started["event"], started["pid"], started["host"]) == ("started", metrics["pid"], metrics["host"])
    assert (ended["event"], ended["state"]) == ("ended", "COMPLETE")
    steps = [line["step"] for line in chunks]
    assert steps[-1] == 4000
    assert max(np.diff([0, *steps])) <= 400  # a tenth: what the pruner can act on
    assert [line["fraction"] for line in chunks] == [step / 4000 for step in steps]
    assert chunks[-1]["llc_hat"] == pytest.approx(metrics["llc_hat"], rel=1e-4)


def test_a_trial_that_has_ended_is_not_run_again(run, quadratic_dir, tmp_path):
    first = run("sgld", SGLD)
    log = (tmp_path / "progress.jsonl").read_bytes()
    assert trial_task(str(tmp_path), str(quadratic_dir)).to_json() == first
    assert (tmp_path / "progress.jsonl").read_bytes() == log


def test_same_manifest_same_result(run):
    first, again, other = run("sgld", SGLD), run("sgld", SGLD), run("sgld", SGLD, seed=4)
    assert first["llc_hat"] == again["llc_hat"] != other["llc_hat"]


def test_stop_flag_prunes(run, tmp_path):
    (tmp_path / "stop").touch()
    metrics = run("sgld", SGLD)
    num_done = metrics["num_steps_done"]
    assert (metrics["state"], metrics["reason"]) == ("PRUNED", f"stopped by the pruner after {num_done} steps")
    assert not metrics["is_diverged"]
    assert num_done <= 400
    assert math.isfinite(metrics["llc_hat"])


@pytest.mark.parametrize(("method", "settings"), [("sgld", SGLD), ("mclmc", MCLMC)])
def test_out_of_time_before_the_first_draw_is_a_failure(run, tmp_path, method, settings):
    metrics = run(method, settings, trial_sec=1e-3)
    assert (metrics["state"], metrics["reason"]) == (
        "FAIL",
        "out of time before the first draw: execution.budget.trial_sec is 0.001 s",
    )
    assert "OutOfTime" in metrics["traceback"]
    assert {"timings", "started", "finished", "host", "device"} <= metrics.keys()
    assert metrics == read_json(tmp_path / "metrics.json")


@pytest.mark.parametrize("eta0", [0.5, 1e10])
def test_divergence_is_pruned(run, tmp_path, eta0):
    metrics = run("sgld", SGLD | {"eta0": eta0})
    assert (metrics["state"], metrics["is_diverged"]) == ("PRUNED", True)
    assert "|w − w0|²" in metrics["reason"] or "not finite" in metrics["reason"]
    assert metrics["num_steps_done"] <= 1000
    stored = read_json(tmp_path / "metrics.json")
    assert (stored["state"], stored["is_diverged"]) == ("PRUNED", True)


@pytest.mark.parametrize(
    ("method", "settings", "more", "reason"),
    [
        ("sgld", {"eta": 1e-3}, {}, "ValidationError"),
        ("sgld", {"eta0": -1.0}, {}, "ValidationError"),
        ("nuts", {}, {}, "KeyError"),
        ("sgld", SGLD, {"seed": None}, "RunStateError: .*is damaged: seed"),
        ("sgld", SGLD, {"budget": {}}, "RunStateError: .*is damaged: budget.trial_sec"),
        ("sgld", SGLD, {"format": 2}, "FormatError: .* is of format 2"),
    ],
)
def test_bad_manifest_fails_with_its_traceback(run, tmp_path, method, settings, more, reason):
    manifest_fields = {"pid": "p_0", "method": method, "hyperparams": {}, "settings": settings, **more}
    metrics = run(**manifest_fields)
    assert metrics["state"] == "FAIL"
    assert re.match(reason, metrics["reason"])
    assert "Traceback" in metrics["traceback"]
    assert metrics == read_json(tmp_path / "metrics.json")


@pytest.mark.parametrize("text", [None, '{"method": "sgld", '], ids=["missing", "torn"])
def test_manifest_that_cannot_be_read(tmp_path, quadratic_dir, text):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    metrics = trial_task(str(tmp_path), str(quadratic_dir)).to_json()
    assert metrics["state"] == "FAIL"
    assert "manifest.json is missing or torn" in metrics["reason"]
    assert read_json(tmp_path / "metrics.json")["state"] == "FAIL"


ALONE = """
import sys
from lambda_hat.tasks import trial_task
for folder in sys.argv[2:]:
    trial_task(folder, sys.argv[1])
"""


@pytest.mark.nightly
def test_one_worker_serves_both_precisions_bit_by_bit(quadratic_dir, tmp_path):
    trials = {"sgld": SGLD, "mclmc": MCLMC}

    def run_process(name: str, methods: list[str]) -> list[float]:
        folders = []
        for number, method in enumerate(methods):
            folder = tmp_path / f"{name}{number}"
            folder.mkdir()
            manifest = {
                "pid": "p_0",
                "method": method,
                "hyperparams": {},
                "settings": trials[method],
                "seed": 3,
                "budget": {"trial_sec": HANGING},
            }
            (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
            folders.append(folder)
        subprocess.run([sys.executable, "-c", ALONE, quadratic_dir, *folders], check=True)
        metrics = [read_json(folder / "metrics.json") for folder in folders]
        assert [row["dtype"] for row in metrics] == [{"sgld": "float32", "mclmc": "float64"}[m] for m in methods]
        return [row["llc_hat"] for row in metrics]

    sgld, *after_sgld = run_process("a", ["sgld", "mclmc", "sgld"])
    mclmc, *after_mclmc = run_process("b", ["mclmc", "sgld", "mclmc"])
    assert (after_sgld, after_mclmc) == ([mclmc, sgld], [sgld, mclmc]), "the first of each process was alone until then"


@pytest.mark.parametrize(("method", "settings"), [("sgld", SGLD), ("mclmc", MCLMC)])
def test_a_trial_leaves_its_traces(run, tmp_path, method, settings):
    metrics = run(method, settings)
    traces = Traces.load(tmp_path / "traces.npz")
    running = traces.running_llc()
    assert running.llc[-1] == pytest.approx(metrics["llc_hat"], rel=1e-5)
    assert running.work[-1] == pytest.approx(metrics["num_gradient_evaluations"], rel=0.05)
    assert (traces.num_chains, traces.num_kept <= 1000) == (4, True)


def test_the_end_that_comes_first_is_the_one_that_counts(run, tmp_path, monkeypatch):
    """A worker outlives its controller by some seconds, and can end a trial that another one runs again by then."""
    its_end = {"state": "COMPLETE", "llc_hat": 2.0}

    def report_and_end_elsewhere(path, line):
        append_line(path, line)
        (tmp_path / "metrics.json").write_text(json.dumps(its_end), encoding="utf-8")

    monkeypatch.setattr(trial_module, "append_line", report_and_end_elsewhere)
    assert run("sgld", SGLD) == {"format": 1, **its_end}
    assert read_json(tmp_path / "metrics.json") == its_end
    (first, *lines) = read_json_lines(tmp_path / "progress.jsonl")[0]
    assert first["event"] == "started"
    assert not any("event" in line for line in lines), "it tells of no end"
    assert [line["step"] < SGLD["steps"] for line in lines] == [True], "and goes no further"
    assert not (tmp_path / "traces.npz").exists()
