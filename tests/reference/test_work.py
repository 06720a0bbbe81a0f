"""Gradient evaluations as counted by the host, row by row, against what a run says of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.methods import parse_settings
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.estimate.method import run_method
from lambda_hat.posterior import Coordinates, DenseWhitening, LocalPosterior, build_posterior
from lambda_hat.reference.engine import sample_reference

NUM_DATA, DIM = 12, 2


class Tally:
    """Rows that went through the loss, forwards and backwards."""

    rows: ClassVar[dict[str, int]] = {"forward": 0, "backward": 0}

    @classmethod
    def restart(cls) -> None:
        jax.effects_barrier()
        cls.rows = {"forward": 0, "backward": 0}

    @classmethod
    def passes(cls) -> tuple[float, float]:
        """Forward and backward passes on the full-data scale."""
        jax.effects_barrier()
        return cls.rows["forward"] / NUM_DATA, cls.rows["backward"] / NUM_DATA

    @classmethod
    def count(cls, way: str, losses: jax.Array) -> None:
        """To be called with a value of its own for each row: under `vmap` the host is then called for every chain."""

        def add(losses: np.ndarray) -> None:
            cls.rows[way] += losses.size

        jax.debug.callback(add, losses)


@jax.custom_vjp
def tallied(losses):
    Tally.count("forward", losses)
    return losses


def tallied_forward(losses):
    Tally.count("forward", losses)
    return losses, losses


def tallied_backward(losses, cotangent):
    Tally.count("backward", losses)
    return (cotangent,)


tallied.defvjp(tallied_forward, tallied_backward)


@dataclass(frozen=True)
class CountingLoss:
    """Squared error of a linear map that reports every row it is computed for."""

    def __call__(self, position, batch):
        inputs, outputs = batch
        return tallied((inputs @ position - outputs) ** 2)


def build(dtype: str) -> LocalPosterior:
    """Three chunks without padding, which would be counted too."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((NUM_DATA, DIM))
    outputs = rng.standard_normal(NUM_DATA)
    w0 = np.linalg.lstsq(inputs, outputs)[0]
    return build_posterior(
        CountingLoss(), w0, (inputs, outputs), nbeta=5.0, localization=1.0, dtype=dtype, rows_per_chunk=4
    )


RUNS = {
    "hmc": ("hmc", {"steps": 30, "num_integration_steps": 3}),
    "mclmc": ("mclmc", {"steps": 30, "L": 0.5}),
    "sgld": ("sgld", {"steps": 60, "batch": 5}),
    "sghmc": ("sghmc", {"steps": 60, "batch": 5}),
    "sgld, full batch": ("sgld", {"steps": 30, "batch": 12}),
}
FITS = {
    "vi": ("vi", {"steps": 20, "batch_size": 5, "M": 3, "r": 1, "num_draws": 100}),
    "vi, full batch": ("vi", {"steps": 20, "batch_size": 12, "M": 3, "r": 1, "num_draws": 100}),
}
SHORT = ("mclmc", "sgld, full batch")  # the others at night


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name if name in SHORT else pytest.param(name, marks=pytest.mark.nightly) for name in (*RUNS, *FITS)],
)
def test_a_run_counts_what_the_host_counts(name):
    method, values = (RUNS | FITS)[name]
    settings = parse_settings(method, {"num_chains": 2, "chunk_size": 20, **values})
    with jax.enable_x64(settings.dtype == "float64"):
        posterior = build(settings.dtype)
        whitening = DenseWhitening(0.3 * jnp.eye(DIM))
        Tally.restart()
        run = run_method(posterior, settings, coordinates=Coordinates(whitening, whitening), seed=0)
        forward, backward = Tally.passes()
    assert run.num_gradient_evaluations == pytest.approx(backward, abs=1e-9)
    # No loss is computed but with a gradient; only the draws of fitted densities need nothing else.
    assert forward - backward == pytest.approx(run.extras.get("num_loss_evaluations", 0.0), abs=1e-9)
    assert backward > 10


@pytest.mark.nightly
def test_a_reference_counts_what_the_host_counts():
    spec = ReferenceSpec(num_chains=4, draws_per_round=50, max_relative_mcse=0.3, num_integration_steps=1)
    with jax.enable_x64(True):
        posterior = build("float64")
        Tally.restart()
        reference = sample_reference(posterior, spec, deadline=math.inf)
        forward, backward = Tally.passes()
    num_losses = forward - backward  # of the look from afar, a third of a gradient each
    assert num_losses >= 4096
    # A Hessian is one pass of this counter, whose tangents share their primal values, but one per column of the other.
    gradients = backward - reference.num_curvature_passes / DIM
    assert reference.num_gradient_evaluations == pytest.approx(gradients + num_losses / 3)
    assert reference.info is not None
