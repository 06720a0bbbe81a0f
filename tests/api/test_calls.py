"""The Python call: right on closed forms for every sampler, any pytree, either precision, and silent about nothing."""

from __future__ import annotations

import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat import LLCResult, certify_llc, estimate_llc
from lambda_hat.api import surroundings
from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.errors import InputError
from lambda_hat.posterior import checked_posterior_of
from lambda_hat.reference.importance import ImportanceEstimate, mixture_around
from lambda_hat.reference.survey import Survey
from lambda_hat.targets import read_model

NUM_DATA, DIM, NOISE = 200, 3, 0.5
LOCALIZATION = 50.0
QUICK = {"steps": 100, "localization": LOCALIZATION}
BY_HMC = QUICK | {"sampler": "hmc"}


def regression(seed: int = 0) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Least-squares solution of a noisy linear regression, and its data."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((NUM_DATA, DIM)) * np.array([0.5, 1.0, 2.0])
    outputs = inputs @ np.ones(DIM) + NOISE * rng.standard_normal(NUM_DATA)
    return np.linalg.lstsq(inputs, outputs)[0], (inputs, outputs)


W0, DATA = regression()
SEEN: list[str] = []  # the precision of every trace


def nll(params, batch):
    inputs, outputs = batch
    SEEN.append(str(params["w"].dtype))
    return (inputs @ params["w"] - outputs) ** 2 / (2 * NOISE**2)


CURVATURES = np.linalg.eigvalsh(DATA[0].T @ DATA[0]) / (NOISE**2 * math.log(NUM_DATA))  # of nβL_n
EXACT = float(0.5 * np.sum(CURVATURES / (CURVATURES + LOCALIZATION)))
ETA, BATCH = 1e-4, 64


def stationary() -> float:
    """λ̂ of SGLD itself: variance (1 + (η/4) h nβ/B) / (c (1 − ηc/4)) in the mode of curvature h, c = h + γ_loc.

    A step multiplies by 1 − ηc/2 and adds variance η, and (η²/4) h nβ/B from the minibatch where the model is true.
    """
    h, c = CURVATURES, CURVATURES + LOCALIZATION
    noise = 0.25 * ETA * h * NUM_DATA / math.log(NUM_DATA) / BATCH
    return float(0.5 * np.sum(h / c * (1 + noise) / (1 - 0.25 * ETA * c)))


CASES = {  # settings, the truth, and what it is known to relatively
    "hmc": ({"steps": 1500}, EXACT, 0.0),
    "mclmc": ({"steps": 600}, EXACT, 0.0),
    "sgld": ({"eta0": ETA, "steps": 40_000, "batch": BATCH}, stationary(), 0.01),
    "vi": ({"steps": 1000, "M": 1, "r": 1, "num_chains": 2, "whitening_mode": "rmsprop"}, EXACT, 0.02),
}


@pytest.mark.parametrize(
    "sampler", ["hmc", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("mclmc", "sgld", "vi"))]
)
def test_a_linear_regression_in_closed_form(sampler):
    settings, truth, tolerance = CASES[sampler]
    SEEN.clear()
    result = estimate_llc(nll, {"w": W0}, DATA, sampler=sampler, localization=LOCALIZATION, **settings)
    assert abs(result.llc - truth) < 4 * result.se + tolerance * truth
    assert abs(result.llc - 0.5 * DIM) > 4 * result.se + tolerance * truth  # without its localization it would fail
    assert result.se < 0.04 * truth
    assert result.laplace_llc == pytest.approx(EXACT, rel=1e-9)
    assert result.rhat < 1.02
    assert result.decrease_available < 1e-12
    assert result.nbeta == pytest.approx(NUM_DATA / math.log(NUM_DATA))
    assert (result.localization, result.dim, result.num_data) == (LOCALIZATION, DIM, NUM_DATA)
    shape = (2, 2000) if sampler == "vi" else (4, settings["steps"] * 3 // 4)
    assert result.loss_trace.shape == result.distance_trace.shape == shape
    if sampler == "sgld":
        gradients = 4 * settings["steps"] * BATCH / NUM_DATA
        look = result.num_gradient_evaluations - gradients
        assert 0 <= look < surroundings.GRADIENTS_OF_IMPORTANCE, "for other wells, in few dimensions"
    else:
        assert np.mean(result.loss_trace) == pytest.approx(result.raw_llc)
        assert result.is_reliable, result.reasons
    assert SEEN[0] == ("float64" if sampler in ("hmc", "mclmc") else "float32")


class Linear(eqx.Module):
    """A model with a parameter array, a whole-number one, a function and a static field."""

    weight: jax.Array
    order: np.ndarray
    activation: object
    scale: float = eqx.field(static=True)

    def __call__(self, inputs):
        return self.scale * self.activation(inputs[:, self.order] @ self.weight)


def module_nll(params, batch):
    return (params(batch[0]) - batch[1]) ** 2 / (2 * NOISE**2)


@pytest.mark.nightly
def test_a_module_is_the_same_run_as_a_dict_of_its_parameters():
    module = Linear(jnp.asarray(W0, "float32"), np.arange(DIM), lambda x: x, 1.0)
    plain = estimate_llc(nll, {"w": np.asarray(module.weight)}, DATA, **BY_HMC)
    result = estimate_llc(module_nll, module, DATA, **BY_HMC)
    np.testing.assert_allclose(result.loss_trace[:, :5], plain.loss_trace[:, :5], rtol=1e-6)  # rounding grows
    assert result.llc == pytest.approx(plain.llc, rel=1e-3)
    assert result.dim == DIM


def cross_entropy(params, batch):
    inputs, labels = batch
    scores = jax.nn.log_softmax(jax.vmap(params)(inputs))
    return -jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_of_equinox_with_whole_number_labels(dtype):
    network = eqx.nn.MLP(DIM, 3, 2, 1, key=jax.random.key(0))
    data = (jnp.asarray(DATA[0]), np.random.default_rng(0).integers(0, 3, NUM_DATA))
    model = read_model(cross_entropy, network, data)
    with jax.enable_x64(dtype == "float64"):
        posterior = checked_posterior_of(model, PosteriorSpec(localization=1.0), dtype)
        assert posterior.row_losses_at_w0.dtype == dtype
    assert posterior.dim == sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array)))
    assert float(posterior.loss_at_w0) == pytest.approx(float(jnp.mean(cross_entropy(network, data))), rel=1e-5)


@pytest.mark.slow
def test_the_mode_of_the_caller_neither_changes_nor_matters():
    results = []
    for mode in (False, True):
        with jax.enable_x64(mode):
            params = {"w": jnp.asarray(W0.astype("float32"))}
            results += [estimate_llc(nll, params, DATA, sampler=sampler, **QUICK) for sampler in ("hmc", "sgld")]
            assert bool(jax.config.jax_enable_x64) == mode
            assert jnp.ones(()).dtype == ("float64" if mode else "float32")
            assert params["w"].dtype == "float32"
    for one, other in ((0, 2), (1, 3)):
        np.testing.assert_array_equal(results[one].loss_trace, results[other].loss_trace)


@pytest.mark.parametrize("sampler", ["hmc", "sgld"])
def test_a_second_call_of_the_same_shape_compiles_nothing(sampler):
    estimate_llc(nll, {"w": W0}, DATA, sampler=sampler, **QUICK)
    SEEN.clear()
    w0, data = regression(seed=1)
    other = {"step_size": 0.1} if sampler == "hmc" else {"eta0": 1e-5, "precond_type": "adam"}
    estimate_llc(
        nll, {"w": w0}, data, sampler=sampler, inverse_temperature=0.1, seed=3, **QUICK | other | {"steps": 50}
    )
    assert SEEN == []
    with pytest.raises(TypeError, match="dot_general requires contracting dimensions to have the same shape"):
        estimate_llc(nll, {"w": w0[:2]}, data, sampler=sampler, **QUICK)
    assert SEEN  # a new shape is traced, and counted


@pytest.mark.slow
def test_a_run_is_a_function_of_its_seed():
    one, same, other = (
        estimate_llc(nll, {"w": W0}, DATA, **BY_HMC, seed=seed).loss_trace for seed in (5, np.int64(5), 6)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_the_radius_is_relative_to_the_norm_of_w0():
    result = estimate_llc(nll, {"w": W0}, DATA, sampler="hmc", steps=100, localization={"radius": 0.2})
    assert result.localization == pytest.approx(DIM / (0.2 * np.linalg.norm(W0)) ** 2)


def test_a_start_off_the_minimum_is_not_relied_on():
    result = estimate_llc(nll, {"w": W0 + 0.1}, DATA, **BY_HMC | {"steps": 1000})
    gradient = result.nbeta * DATA[0].T @ (DATA[0] @ (W0 + 0.1) - DATA[1]) / NUM_DATA / NOISE**2
    precision = result.nbeta * DATA[0].T @ DATA[0] / NUM_DATA / NOISE**2 + LOCALIZATION * np.eye(DIM)
    assert result.decrease_available == pytest.approx(0.5 * gradient @ np.linalg.solve(precision, gradient))
    assert result.reasons[0].startswith("λ̂ = ")
    assert result.reasons[0].endswith(
        " is negative by more than two standard errors. Train further, with the full batch at the end: λ̂ is defined "
        "around a minimum."
    )


def test_a_step_that_is_far_too_large_diverges_and_says_so():
    result = estimate_llc(nll, {"w": W0}, DATA, sampler="sgld", eta0=1.0, **QUICK)
    assert not result.is_reliable
    assert len(result.reasons) == 1
    assert result.reasons[0].startswith("The run diverged: ")
    assert result.reasons[0].endswith(" Lower `eta0`.")
    assert "not reliable" in repr(result)


@pytest.mark.nightly
def test_many_parameters_without_a_hessian(monkeypatch):
    monkeypatch.setattr(surroundings, "geometry_at_w0", None)
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20, 2001))
    w0 = np.linalg.lstsq(inputs, rng.standard_normal(20))[0]
    data = (inputs, inputs @ w0)
    for shift, is_minimum in ((0.0, True), (0.1, False)):
        result = estimate_llc(nll, {"w": w0 + shift}, data, sampler="sgld", localization=100.0, steps=50, eta0=1e-6)
        assert (result.laplace_llc, result.num_curvature_passes, result.dim) == (None, 3, 2001)  # of factors by leaf
        slope = result.nbeta * inputs.T @ inputs @ np.full(2001, shift) / 20 / NOISE**2
        precision = result.nbeta * inputs.T @ inputs / 20 / NOISE**2 + 100 * np.eye(2001)
        assert result.decrease_available == pytest.approx(
            0.5 * slope @ np.linalg.solve(precision, slope), rel=0.01, abs=1e-6
        )
        assert is_minimum != any("decrease still available" in reason for reason in result.reasons)


@pytest.mark.slow
def test_a_certificate_needs_time():
    result = certify_llc(nll, {"w": W0}, DATA, localization=LOCALIZATION, seconds=1e-3)
    assert result.certificate is not None
    assert not result.is_reliable
    assert result.reasons[0] == (
        "number of draws is 0, at least 400 wanted. Raise `seconds`, or make `localization` larger."
    )
    assert result.laplace_llc == pytest.approx(EXACT, rel=1e-9)
    assert "not certified" in repr(result)
    assert result.to_inference_data().attrs["is_reliable"] == 0


@pytest.mark.slow
def test_a_certified_linear_regression():
    result = certify_llc(nll, {"w": W0}, DATA, localization=LOCALIZATION, seconds=600, num_chains=4)
    assert result.is_reliable, result.reasons
    assert result.certificate.is_certified
    assert abs(result.llc - EXACT) < 4 * result.se
    assert result.se < 0.01 * result.llc


def built(**fields) -> LLCResult:
    trace = np.arange(8.0).reshape(2, 4)
    known = {
        "sampler": "vi", "llc": 15.6372, "se": 0.0211, "raw_llc": 15.6372, "rhat": 1.0042,
        "ess_bulk": 1234.6, "ess_tail": 999.0, "reasons": (),
        "loss_trace": trace, "distance_trace": 2 * trace, "sample_stats": {"weight": trace},
        "localization": 100.0, "nbeta": 2.0, "dim": 45, "num_data": 2000, "loss_at_w0": 0.5, "laplace_llc": 15.74,
        "decrease_available": 1e-9, "num_gradient_evaluations": 123456.25, "num_curvature_passes": 1,
        "survey": Survey(num_prior_draws=512, prior_size=3.25, num_descents=16),
        "seconds": 43.21, "seed": 0, "settings": {"lr": 0.1}, "extras": {"k_hat": 0.55, "llc_psis": 15.61},
    }  # fmt: skip
    return LLCResult(**known | fields)


LOOKED = (
    "  searched for other wells with 512 draws of the localization's Gaussian (3.25 effective) "
    "and 16 descents from such draws"
)


def test_the_whole_representation():
    assert repr(built()).splitlines() == [
        "λ̂ = 15.637 ± 0.021  vi, reliable",
        "  Laplace 15.74  γ_loc 100  nβ 2  d 45  n 2000",
        "  R̂ 1.004  bulk ESS 1,235  tail ESS 999  k̂ 0.55  λ̂ by importance sampling 15.61  gradients 123,456  "
        "seconds 43.2",
        LOOKED,
    ]
    assert repr(built(laplace_llc=None, rhat=math.inf, extras={}, reasons=("One.", "Two."))).splitlines() == [
        "λ̂ = 15.637 ± 0.021  vi, not reliable",
        "  Laplace –  γ_loc 100  nβ 2  d 45  n 2000",
        "  R̂ –  bulk ESS 1,235  tail ESS 999  gradients 123,456  seconds 43.2",
        LOOKED,
        "  because One.",
        "  because Two.",
    ]


def test_inference_data_has_the_traces_and_every_figure(tmp_path):
    result = estimate_llc(nll, {"w": W0}, DATA, **BY_HMC)
    data = result.to_inference_data()
    assert sorted(data.posterior.data_vars) == ["excess_loss", "raw_llc", "squared_distance"]
    assert sorted(data.sample_stats.data_vars) == ["acceptance_rate", "diverging", "energy", "weight"]
    for group in (data.posterior, data.sample_stats):
        assert dict(group.sizes) == {"chain": 4, "draw": 75}
        assert {variable.dims for variable in group.data_vars.values()} == {("chain", "draw")}
    assert result.nbeta * float(data.posterior.excess_loss.mean()) == pytest.approx(result.raw_llc)
    assert data.sample_stats.diverging.dtype == bool
    assert data.attrs["llc"] == result.llc
    assert data.attrs["localization"] == LOCALIZATION
    assert json.loads(data.attrs["settings"])["steps"] == 100
    assert json.loads(data.attrs["reasons"]) == list(result.reasons)
    missing = {name for name, value in result.to_dict().items() if value is not None} - data.attrs.keys()
    assert not missing
    data.to_netcdf(str(tmp_path / "run.nc"), engine="h5netcdf")


@pytest.mark.parametrize("name", ["steps", "burn_in_fraction"])
def test_auto_takes_no_number_of_steps(name):
    with pytest.raises(InputError, match=f"{name}: means nothing to auto, which runs until `tolerance` is met"):
        estimate_llc(nll, {"w": W0}, DATA, **{name: 0.5})


@pytest.mark.nightly
def test_a_fit_beside_a_hole_does_not_claim_to_know_it():
    """Where VI has all its draws the loss is constant: an error of nothing, but for what lies in the hole.

    20 (1 − e^(−r²/2s²)) in six dimensions: a twentieth of λ̂, by quadrature in r.
    """
    width = 0.1
    r = np.linspace(1e-6, 12.0, 2_000_001)
    potential = -20.0 * np.expm1(-0.5 * (r / width) ** 2)
    density = r**5 * np.exp(-potential - 0.5 * r**2)
    truth = float(np.sum(potential * density) / np.sum(density))
    assert 0.02 < 1 - truth / 20.0 < 0.2

    def hole(params, batch):
        return -20.0 * jnp.expm1(-0.5 * jnp.sum(params**2) / width**2) / 100.0 + 0.0 * batch

    data = np.zeros(200)
    result = estimate_llc(
        hole, np.zeros(6), data, sampler="vi", localization=1.0, inverse_temperature=100.0 / len(data), steps=500
    )
    assert not result.is_reliable or abs(result.llc - truth) < 4 * result.se
    assert result.se > 0.2 * abs(result.llc - truth)


@pytest.mark.parametrize(("k_hat", "left_open"), [(0.3, 0.4), (0.8, 0.0)])
def test_importance_sampling_leaves_open_what_its_own_error_does_not_cover(k_hat, left_open):
    nothing = mixture_around(np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros(0), 1.0)
    importance = ImportanceEstimate(2.0, 0.1, k_hat, 1000.0, 4096, nothing, 0.0)
    assert importance.left_open(2.5) == pytest.approx(left_open)
    assert importance.left_open(1.95) == 0.0
