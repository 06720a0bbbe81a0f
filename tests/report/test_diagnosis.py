"""Close looks at references and trials."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from lambda_hat.artifacts.files import read_json, write_text_atomic
from lambda_hat.artifacts.ids import problem_id
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, PROBLEM_YAML, REFERENCE_NPZ, TARGET_NPZ, TRACES_NPZ
from lambda_hat.config.explain import to_yaml
from lambda_hat.config.problems import DataSpec, MLPProblem, ModelSpec, TrainingSpec
from lambda_hat.draws.info import Info
from lambda_hat.errors import InputError, RunStateError
from lambda_hat.estimate.traces import Traces
from lambda_hat.records.manifest import Manifest, TrialBudget
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.provenance import Timings
from lambda_hat.records.state import State
from lambda_hat.report.diagnosis import INFERENCE_DATA, to_inference_data, write_diagnosis, write_diagnostics_index
from lambda_hat.report.html import write_report
from lambda_hat.report.run_files import RunFiles
from lambda_hat.report.subjects import find_subjects
from lambda_hat.samplers.method import FitDraws
from lambda_hat.targets import build_target

PID = "p_0123456789ab"
NBETA = 21.7
OF_DRAWS = [
    "inference_data.nc",
    "running.png",
    "trace.png",
    "rank.png",
    "autocorrelation.png",
    "ess.png",
    "distance.png",
]
PNG = b"\x89PNG\r\n\x1a\n"


def draws(num_chains=3, num_draws=400, seed=0):
    rng = np.random.default_rng(seed)
    loss = rng.gamma(8.0, 1 / NBETA, (num_chains, num_draws))
    ones = np.ones_like(loss)
    return Info.without_identities(
        excess_loss=loss,
        squared_distance=rng.gamma(3.0, 0.2, loss.shape),
        acceptance_rate=0.9 * ones,
        energy=rng.normal(size=loss.shape),
        is_divergent=0 * ones,
        is_undefined=0 * ones,
        weight=ones,
        num_gradient_evaluations=ones,
    )


@pytest.fixture(scope="module")
def run(make_run):
    """A run with draws of its reference, and of one trial of each method."""
    paths = make_run()
    folder = paths.problem_dir(PID)
    problem = MLPProblem(
        model=ModelSpec(in_dim=2, depth=1, width=2),
        data=DataSpec(num_data=30),
        training=TrainingSpec(num_steps=50, max_polish_steps=3),
    )
    write_text_atomic(folder / PROBLEM_YAML, to_yaml(problem.to_dict()))
    with jax.enable_x64(True):
        target = build_target(problem)
    assert target.problem_id == problem_id(problem.to_dict())
    target.save(folder / TARGET_NPZ)
    spectrum = {"spectrum.values": np.geomspace(0.1, 1e3, 9)[None], "spectrum.weights": np.ones((1, 9))}
    chains = {f"chains.{name}": trace for name, trace in draws()._asdict().items()}
    np.savez(folder / REFERENCE_NPZ, **spectrum, **chains)
    for method, number in (("sgld", 0), ("vi", 0)):
        trial = paths.trial_dir(PID, method, f"r_{method}{number}")
        ended = Metrics(state=State.COMPLETE, llc_hat=8.2, se_hat=0.1, is_truncated=False, timings=Timings(sample=2.5))
        ended.write(trial / METRICS_JSON)
        given = {"pid": PID, "method": method, "hyperparams": {}, "settings": {"steps": 400}, "seed": 1}
        Manifest(**given, budget=TrialBudget(trial_sec=60.0)).write(trial / MANIFEST_JSON)
        fit_draws = FitDraws(*(np.asarray(trace) for trace in draws(2)[:3])) if method == "vi" else None
        Traces.of_draws(draws(seed=1), NBETA, work_before=10.0, fit_draws=fit_draws).save(trial / TRACES_NPZ)
    files = RunFiles(paths)
    best = [row.run_id for row in files.rows if row.state is State.COMPLETE]
    assert {"r_sgld0", "r_vi0"} <= set(best)
    return files


def written(run, name):
    (subject,) = find_subjects(run, [name])
    paths = write_diagnosis(run.paths, subject)
    assert all(path.parent == run.paths.root / "diagnostics" / subject.name for path in paths)
    assert all(path.read_bytes().startswith(PNG) for path in paths if path.suffix == ".png")
    return [path.name for path in paths]


@pytest.mark.nightly
def test_a_reference_is_shown_with_its_problem(run):
    assert written(run, PID) == [*OF_DRAWS, "energy.png", "training.png", "prediction.png", "spectrum.png"]


@pytest.mark.nightly
def test_a_trial_is_shown(run):
    assert written(run, "r_sgld0") == OF_DRAWS


@pytest.mark.slow
def test_a_fit_is_shown_with_its_bound(run):
    assert written(run, "r_vi0") == [*OF_DRAWS, "elbo.png"]


@pytest.mark.slow
def test_the_index_shows_what_was_drawn_and_the_report_leads_to_it(run):
    written(run, "r_vi0")
    gone = run.paths.diagnostics_dir("r_gone")
    gone.mkdir()
    page = write_diagnostics_index(run.paths).read_text(encoding="utf-8")
    gone.rmdir()
    assert "vi r_vi0: λ̂ = " in page
    assert "r_gone" in page
    assert page.index('src="r_vi0/running.png"') < page.index('src="r_vi0/ess.png"') < page.index("r_vi0/elbo.png")
    assert '<a href="r_vi0/inference_data.nc">' in page
    report = write_report(run.paths).read_text(encoding="utf-8")
    assert '<a href="diagnostics/index.html">diagnostics</a>' in report


@pytest.mark.slow
def test_figures_come_in_the_formats_that_are_asked_for(run):
    (subject,) = find_subjects(run, ["r_sgld0"])
    names = [path.name for path in write_diagnosis(run.paths, subject, ["svg", "pdf"])]
    assert names[1:3] == ["running.svg", "running.pdf"]


@pytest.mark.slow
def test_arviz_reads_what_was_written(run):
    import arviz as az

    written(run, "r_sgld0")
    data = az.from_netcdf(run.paths.diagnostics_dir("r_sgld0") / INFERENCE_DATA)
    assert data.posterior["excess_loss"].shape == (3, 400)
    assert float(NBETA * data.posterior["excess_loss"].mean()) == pytest.approx(8.0, abs=0.5)
    assert not data.sample_stats["diverging"].any()
    assert data.attrs["settings"] == '{"steps": 400}'
    assert (data.attrs["method"], data.attrs["thinning"], data.attrs["is_truncated"]) == ("sgld", 1, "false")


def test_the_draws_of_a_fit_are_those_of_its_densities(run):
    (subject,) = find_subjects(run, ["r_vi0"])
    data = to_inference_data(subject)
    assert data.posterior["excess_loss"].shape == (2, 400)
    assert list(data.sample_stats) == ["log_importance_weight"]


def test_references_and_the_best_trials_come_unasked(run):
    names = [subject.name for subject in find_subjects(run)]
    assert names[0] == PID
    assert set(names) <= {PID, "r_sgld0", "r_vi0"}
    assert {subject.name for subject in find_subjects(run, with_all=True)} == {PID, "r_sgld0", "r_vi0"}


def test_a_beginning_of_an_id_will_do(run):
    assert [subject.name for subject in find_subjects(run, ["p_01", "r_vi0"])] == [PID, "r_vi0"]
    with pytest.raises(InputError, match=r"r_vi1 fits 3 names|r_v fits 12 names: r_vi0, r_vi1, r_vi10, r_vi11. Give"):
        find_subjects(run, ["r_v"])
    with pytest.raises(InputError, match="No reference and no trial of this run is called r_x"):
        find_subjects(run, ["r_x"])
    with pytest.raises(InputError, match="r_sgld5: there are no draws; the trial failed, or has not ended"):
        find_subjects(run, ["r_sgld5"])


def test_a_run_without_draws_says_so(make_run):
    with pytest.raises(InputError, match="has draws to look at"):
        find_subjects(RunFiles(make_run(without=("reference",))))


def test_torn_draws_are_named(run):
    path = run.paths.trial_dir(PID, "sgld", "r_sgld1") / TRACES_NPZ
    path.write_bytes(b"PK")
    try:
        with pytest.raises(RunStateError, match=r"traces\.npz holds no traces"):
            find_subjects(run, ["r_sgld1"])
    finally:
        path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ["few", "constant", "infinite"])
def test_odd_draws_are_shown_as_far_as_they_can_be(run, spoil):
    info = draws(num_draws=4 if spoil == "few" else 400)
    if spoil == "constant":
        info.excess_loss[:] = 0.5
    elif spoil == "infinite":
        info.excess_loss[0, 5] = math.inf
    path = run.paths.trial_dir(PID, "sgld", "r_sgld2") / TRACES_NPZ
    Traces.of_draws(info, NBETA, work_before=0.0).save(path)
    assert written(run, "r_sgld2") == ["inference_data.nc", "running.png", "trace.png", "distance.png"]
    path.unlink()


@pytest.mark.nightly
def test_the_gallery_of_a_run(run, tmp_path):
    script = Path(__file__).parents[2] / "benchmarks" / "gallery.py"
    command = [sys.executable, str(script), str(run.paths.root), str(tmp_path / "gallery")]
    subprocess.run(command, check=True, capture_output=True)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "gallery").iterdir()}
    assert {"estimates.png", "cost.png", "reference.png"} <= sizes.keys()
    assert max(sizes.values()) < 150_000


def test_an_exact_reference_has_its_problem_only(run, tmp_path):
    folder = run.paths.problem_dir(PID)
    shutil.copy(folder / REFERENCE_NPZ, tmp_path / "kept.npz")
    with np.load(folder / REFERENCE_NPZ) as archive:
        arrays = {name: archive[name] for name in archive.files if not name.startswith("chains.")}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    (folder / REFERENCE_NPZ).write_bytes(buffer.getvalue())
    try:
        assert written(run, PID) == ["training.png", "prediction.png", "spectrum.png"]
    finally:
        shutil.copy(tmp_path / "kept.npz", folder / REFERENCE_NPZ)
    assert read_json(folder / "ref.json") is not None
