"""No hyperparameter is ignored: changing it changes the run, or it is one that must not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml

from lambda_hat.config.methods import hyperparameter_names, parse_settings
from lambda_hat.config.problems import MLPProblem, PosteriorSpec
from lambda_hat.estimate.method import run_method
from lambda_hat.posterior import Coordinates, LocalPosterior, build_posterior, hessian_whitening
from lambda_hat.targets.losses import SquaredError

STUDY = yaml.safe_load((Path(__file__).parents[2] / "config/optuna/default.yaml").read_text(encoding="utf-8"))
NUM_DATA = 600  # more than the largest batch of the search space

BASE = {
    "sgld": {"eta0": 1e-4, "gamma": 0.3, "batch": 32, "precond_type": "none", "steps": 60, "num_chains": 1},
    "vi": {
        "lr": 1e-2,
        "M": 2,
        "r": 1,
        "whitening_mode": "none",
        "steps": 20,
        "batch_size": 32,
        "num_chains": 1,
        "num_draws": 100,
        "max_components": 4,
        "max_rank": 2,
    },
    "sghmc": {"eta": 1e-3, "friction": 0.1, "batch": 32, "steps": 60, "num_chains": 1},
    "mclmc": {"step_size": 0.05, "target_accept": 0.7, "L": 1.0, "steps": 40, "num_chains": 1},
    "hmc": {"step_size": 0.1, "num_integration_steps": 2, "target_accept": 0.7, "steps": 40, "num_chains": 1},
}
COMMON = {"num_chains": 2}
OTHER = {
    "sgld": COMMON
    | {"eta0": 2e-4, "gamma": 0.9, "batch": 64, "precond_type": ["rmsprop", "adam", "whitened"], "steps": 80}
    | {"t0": 50.0, "burn_in_fraction": 0.5, "b1": 0.5, "b2": 0.9, "eps": 0.1, "freeze": True}
    | {"dtype": "float64"},
    "vi": COMMON
    | {"lr": 2e-2, "M": 4, "r": 2, "whitening_mode": ["rmsprop", "adam", "hessian"], "steps": 30, "batch_size": 64}
    | {"num_draws": 200, "dtype": "float64"},
    "sghmc": COMMON
    | {"eta": 2e-3, "friction": 0.3, "noise_share": 0.2, "batch": 64, "steps": 80, "burn_in_fraction": 0.5}
    | {"precond_type": "none", "dtype": "float64"},
    "mclmc": COMMON
    | {"step_size": 0.1, "target_accept": 0.95, "L": 2.0, "steps": 60, "adjusted": False, "dtype": "float32"}
    | {"burn_in_fraction": 0.5, "max_bias": 0.1},
    "hmc": COMMON
    | {"step_size": 0.2, "num_integration_steps": 4, "target_accept": 0.95, "steps": 60, "dtype": "float32"}
    | {"burn_in_fraction": 0.5},
}
# Names that act together with another value than the base's.
TOGETHER_WITH = {
    ("sgld", "b1"): {"precond_type": "adam"},
    ("sgld", "b2"): {"precond_type": "rmsprop"},
    ("sgld", "eps"): {"precond_type": "rmsprop"},
    ("sgld", "freeze"): {"precond_type": "rmsprop"},
    ("mclmc", "max_bias"): {"adjusted": False},
}
# Names that must change nothing: how often the deadline is looked at, and how many slots there are for M and r,
# and what VI leaves out of its progress, since its λ̂ is that of draws from the end of the fit.
WITHOUT_EFFECT = {
    "sgld": {"chunk_size": 40},
    "vi": {"chunk_size": 15, "max_components": 2, "max_rank": 1, "burn_in_fraction": 0.5},
    "sghmc": {"chunk_size": 40},
    "mclmc": {"chunk_size": 15},
    "hmc": {"chunk_size": 15},
}
# Each of these compiles all of a method anew: tested at night, and of one method always.
RECOMPILED = {"num_chains", "num_draws", "batch_size", "dtype", "adjusted", "max_bias", "hessian"}


def is_nightly(method: str, name: str, value: object) -> bool:
    return method != "sgld" and (name in RECOMPILED or value in RECOMPILED)


CASES = [
    pytest.param(method, name, value, marks=[pytest.mark.nightly] if is_nightly(method, name, value) else [])
    for method, names in OTHER.items()
    for name in names
    for value in np.atleast_1d(names[name]).tolist()
]


@pytest.fixture(scope="module")
def posteriors() -> dict[str, LocalPosterior]:
    problem = MLPProblem(posterior=PosteriorSpec(localization=100.0))
    loss_fn = SquaredError.from_problem(problem)
    rng = np.random.default_rng(0)
    inputs, w0 = rng.normal(size=(NUM_DATA, 4)), loss_fn.network.init(rng)
    with jax.enable_x64(True):
        outputs = np.asarray(loss_fn.network(w0, inputs))[:, 0]
        jacobian = np.asarray(jax.jacobian(loss_fn.network)(w0, inputs))[:, 0]
    noise = problem.data.noise_scale * rng.normal(size=NUM_DATA)
    noise -= jacobian @ np.linalg.lstsq(jacobian, noise)[0]  # so that w0 is a minimum
    data = (inputs, (outputs + noise)[:, None])
    posteriors = {}
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            posteriors[dtype] = build_posterior(loss_fn, w0, data, nbeta=90.0, localization=100.0, dtype=dtype)
    return posteriors


def llc(posteriors: dict[str, LocalPosterior], method: str, values: dict[str, object]) -> float:
    settings = parse_settings(method, values)
    posterior = posteriors[settings.dtype]
    with jax.enable_x64(settings.dtype == "float64"):
        whitening, _ = hessian_whitening(posterior, posterior.w0[None])
        return run_method(posterior, settings, coordinates=Coordinates(whitening, whitening), seed=1).estimate.llc


@pytest.fixture(scope="module")
def baseline(posteriors: dict[str, LocalPosterior]) -> Callable[[str], float]:
    """The estimate of a method with its values of `BASE`."""
    return cache(lambda method: llc(posteriors, method, dict(BASE[method])))


@pytest.mark.parametrize("method", BASE)
def test_every_name_is_accounted_for(method: str) -> None:
    assert {*OTHER[method], *WITHOUT_EFFECT[method]} == set(hyperparameter_names(method))
    assert not set(OTHER[method]) & set(WITHOUT_EFFECT[method])
    assert set(STUDY["search_space"].get(method, ())) <= set(OTHER[method])


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [method if method == "sgld" else pytest.param(method, marks=pytest.mark.nightly) for method in BASE]
)
def test_the_same_settings_give_the_same_run(posteriors, baseline, method) -> None:
    assert llc(posteriors, method, dict(BASE[method])) == baseline(method)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "name", "value"), CASES, ids=lambda part: str(part))
def test_changing_a_hyperparameter_changes_the_run(posteriors, baseline, method, name, value) -> None:
    others = TOGETHER_WITH.get((method, name), {})
    base = llc(posteriors, method, {**BASE[method], **others}) if others else baseline(method)
    assert np.isfinite(base)
    changed = llc(posteriors, method, {**BASE[method], **others, name: value})
    assert np.isfinite(changed)
    assert abs(changed / base - 1) > (0 if name == "dtype" else 1e-4), "more than rounding"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param(method, name, marks=[] if method == "sgld" else pytest.mark.nightly)
        for method, names in WITHOUT_EFFECT.items()
        for name in names
    ],
)
def test_what_must_change_nothing(posteriors, baseline, method, name) -> None:
    changed = llc(posteriors, method, {**BASE[method], name: WITHOUT_EFFECT[method][name]})
    assert changed == pytest.approx(baseline(method), rel=1e-5)
