"""Losses of rows at draws: closed forms of a linear-Gaussian model, and no other draws than without them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lambda_hat import CallProgress, certify_llc, estimate_llc, estimate_llc_series
from lambda_hat.errors import InputError
from lambda_hat.samplers import recorder

NUM_DATA, DIM, NOISE, LOCALIZATION = 60, 3, 0.5, 50.0
RNG = np.random.default_rng(0)
X = RNG.standard_normal((NUM_DATA, DIM)) * np.array([0.5, 1.0, 2.0])
Y = X @ np.ones(DIM) + NOISE * RNG.standard_normal(NUM_DATA)
W0 = np.linalg.lstsq(X, Y)[0]
QUERIES = (RNG.standard_normal((4, DIM)), RNG.standard_normal(4))
BETA = 1 / math.log(NUM_DATA)
HESSIAN = X.T @ X / (NUM_DATA * NOISE**2)  # of L_n


def nll(params, batch):
    return (batch[0] @ params["w"] - batch[1]) ** 2 / (2 * NOISE**2)


def run(**arguments):
    return estimate_llc(
        nll, {"w": W0}, (X, Y), **{"sampler": "hmc", "steps": 1000, "localization": LOCALIZATION} | arguments
    )


def covariance(localization: float = LOCALIZATION) -> np.ndarray:
    """Of w under π, a Gaussian around w0."""
    return np.linalg.inv(NUM_DATA * BETA * HESSIAN + localization * np.eye(DIM))


def kernel(one, other) -> np.ndarray:
    """Cov(l_i, l_j) = ∇l_i Σ ∇l_j + ½ (x_i Σ x_j)²/σ⁴ of rows (inputs, outputs), since w is Gaussian around w0."""
    gradients = [(x @ W0 - y)[:, None] * x / NOISE**2 for x, y in (one, other)]
    quadratic = 0.5 * (one[0] @ covariance() @ other[0].T) ** 2 / NOISE**4
    return gradients[0] @ covariance() @ gradients[1].T + quadratic


def assert_close(observable, truth) -> None:
    z = (observable.value - truth) / observable.se
    assert np.sqrt(np.mean(z**2)) < 1.5
    assert np.max(np.abs(z)) < 5
    assert np.median(observable.se) < 0.1 * np.max(np.abs(truth))
    assert observable.is_converged.all()


TOLD: list[CallProgress] = []


@pytest.fixture(scope="module")
def watched():
    return run(rows=slice(None), queries=QUERIES, progress=TOLD.append)


@pytest.mark.slow
def test_progress_tells_stages_and_figures(watched):
    assert [stage for stage, _ in itertools.groupby(TOLD, lambda told: told.stage)] == ["hessian", "sampling", "wells"]
    sampling = [told for told in TOLD if told.stage == "sampling" and told.fraction > 0]
    fractions = [told.fraction for told in sampling]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert sampling[-1].llc == pytest.approx(watched.raw_llc)
    assert (TOLD[-1].llc, TOLD[-1].se) == (watched.llc, watched.se)


def test_watching_changes_no_draw(watched):
    other = run()
    np.testing.assert_array_equal(watched.loss_trace, other.loss_trace)
    assert (watched.llc, watched.se) == (other.llc, other.se)


def test_closed_forms_of_a_linear_model(watched):
    losses, rows, both = watched.row_losses, (X, Y), (np.vstack([X, QUERIES[0]]), np.append(Y, QUERIES[1]))
    sigma = covariance()
    assert losses.beta == pytest.approx(BETA)
    contributions = 0.5 * BETA * np.einsum("id,de,ie->i", X, sigma, X) / NOISE**2
    assert_close(losses.contributions(), contributions)
    assert np.sum(losses.contributions().value) == pytest.approx(watched.raw_llc, rel=1e-5)
    assert_close(losses.influence(), -BETA * kernel(rows, QUERIES))
    truth = kernel(both, both)
    assert_close(losses.kernel(), truth)
    correlations = losses.kernel(normalised=True)
    sizes = np.sqrt(np.diag(truth))
    np.testing.assert_allclose(correlations.value, truth / np.outer(sizes, sizes), atol=0.1)
    middle = sigma @ HESSIAN @ sigma
    of_rows = 0.5 * np.einsum("id,de,ie->i", both[0], middle, both[0]) / NOISE**2
    assert_close(losses.susceptibilities(), 0.5 * np.trace(HESSIAN @ middle) - of_rows)


@pytest.mark.slow
def test_influence_becomes_the_classical_one():
    """−∇l_iᵀ (nH)⁻¹ ∇l_j as γ_loc → 0, of rows whose residuals are much larger than what w does to them."""
    far = [3, 10]
    outputs = Y.copy()
    outputs[far] += 20.0
    best = np.linalg.lstsq(X, outputs)[0]
    result = estimate_llc(nll, {"w": best}, (X, outputs), sampler="hmc", steps=1000, localization=1e-6, rows=far)
    gradients = (X[far] @ best - outputs[far])[:, None] * X[far] / NOISE**2
    classical = -gradients @ np.linalg.inv(NUM_DATA * HESSIAN) @ gradients.T
    found = result.row_losses.influence()
    assert np.all(np.abs(found.value - classical) < 4 * found.se + 0.01 * np.abs(classical).max())


@pytest.mark.nightly
def test_a_restricted_run_has_susceptibilities_of_its_part():
    """Of the first weight alone: χ_i = ½ v² h (h − a_i), v = Var w_1, a_i the curvature of l_i, h that of L_n."""
    mask = np.arange(DIM) == 0
    losses = run(sampled={"w": mask}, rows=range(10)).row_losses
    curvatures, h = X[:10, 0] ** 2 / NOISE**2, HESSIAN[0, 0]
    variance = 1 / (NUM_DATA * BETA * h + LOCALIZATION)
    assert_close(losses.susceptibilities(), 0.5 * variance**2 * h * (h - curvatures))


@pytest.mark.nightly
@pytest.mark.parametrize("call", ["auto", "sgld", "certify"])
def test_other_runs_record_their_own_draws(call):
    arguments = {"rows": range(5), "localization": LOCALIZATION}
    if call == "certify":
        result = certify_llc(nll, {"w": W0}, (X, Y), **arguments)
    elif call == "auto":
        result = estimate_llc(nll, {"w": W0}, (X, Y), **arguments)
    else:
        result = run(sampler="sgld", steps=8000, eta0=1e-4, batch=NUM_DATA, **arguments)
    losses = result.row_losses
    assert losses.traces.total.shape[1] <= recorder.MAX_DRAWS
    found, truth = losses.kernel(), kernel((X[:5], Y[:5]), (X[:5], Y[:5]))
    assert np.all(np.abs(found.value - truth) < 5 * found.se + 0.03 * np.max(truth))
    if call != "sgld":  # whose readings are of where a step begins
        readings = result.loss_trace[:, losses.traces.steps - 1]
        np.testing.assert_allclose(losses.traces.total * result.nbeta, readings, rtol=1e-4, atol=1e-6)
    assert losses.reasons == result.reasons


@pytest.mark.nightly
def test_they_go_into_inference_data(watched, tmp_path):
    data = watched.to_inference_data()
    data.to_netcdf(tmp_path / "run.nc")
    assert data["row_losses"]["rows"].dims == ("chain", "draw", "row")
    assert list(data["row_losses"]["row"]) == list(range(NUM_DATA))
    assert data["row_losses"]["queries"].shape == (4, 750, 4)
    assert float(data["posterior"]["raw_llc"].mean()) == pytest.approx(watched.raw_llc)


def test_figures(watched):
    losses = watched.row_losses
    assert losses.contributions().plot().get_title() == "contributions to λ̂"
    image = losses.influence().plot().images[0]
    assert image.get_array().shape == (NUM_DATA, 4)
    assert "60 rows and 4 queries at 4 × 750 draws" in repr(losses)
    assert repr(losses.influence()).startswith("influence (60, 4): ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": []}, "rows: found none, expected a list"),
        ({"rows": [1, 1]}, "found a row twice"),
        ({"rows": [60]}, "found 60, expected numbers from 0 to 59"),
        ({"rows": [0.5]}, "found float64 of shape"),
        ({"rows": "all"}, "found a str, expected numbers of rows"),
        ({"rows": np.zeros(4, bool)}, "booleans of shape"),
        ({"queries": QUERIES}, "queries: found without `rows`"),
        ({"rows": [0], "queries": X}, "queries: found the structure"),
        ({"rows": [0], "queries": (X[:, :2], Y)}, r"queries\[0\]: found rows of shape \(2,\)"),
        ({"rows": [0], "sampler": "vi"}, "rows: found with vi"),
        ({"rows": [0], "sampler": "sgld", "gamma": 0.5}, "rows: found with an annealed step size"),
    ],
)
def test_rows_that_are_none_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        run(**arguments)


def test_a_series_keeps_no_draws():
    with pytest.raises(InputError, match="rows: found here"):
        estimate_llc_series(nll, {0: {"w": W0}}, (X, Y), rows=[0])
