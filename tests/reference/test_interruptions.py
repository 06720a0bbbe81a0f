"""What is left of runs and references that an alarm interrupts."""

from __future__ import annotations

import contextlib
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.config.methods.vi import VISettings
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.estimate.method import run_method
from lambda_hat.posterior import Coordinates, hessian_whitening
from lambda_hat.reference.engine import sample_reference
from lambda_hat.samplers import runner as runner_module
from lambda_hat.samplers.growing import GrowingChains
from lambda_hat.samplers.hmc import HMC
from lambda_hat.samplers.work import OutOfTime, Work

pytestmark = pytest.mark.usefixtures("float64")


@contextlib.contextmanager
def already_ringing():
    raise OutOfTime
    yield


@pytest.fixture
def interrupt(monkeypatch):
    """Interrupts the chunk of this number, from 1, as an alarm does."""
    run_chunk = runner_module.run_chunk

    def interrupt(number):
        numbers = itertools.count(1)

        def run(chunk):
            if next(numbers) == number:
                raise OutOfTime
            return run_chunk(chunk)

        monkeypatch.setattr(runner_module, "run_chunk", run)

    return interrupt


@pytest.fixture
def build_chains(build_quadratic):
    """Builds chains that have not moved yet."""
    _, posterior = build_quadratic()
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    sampler = HMC.from_settings(posterior, whitening, HMCSettings())

    def build():
        return GrowingChains(sampler, jax.random.key(0), jnp.zeros((2, posterior.dim)), Work())

    return build


@pytest.mark.slow
def test_draws_of_an_interrupted_round_are_those_of_its_whole_chunks(build_chains, interrupt):
    chains, whole = build_chains(), build_chains()
    whole.extend(jax.random.key(1), 100)
    interrupt(3)
    chains.extend(jax.random.key(1), 200)
    assert chains.num_done == 100
    np.testing.assert_array_equal(chains.info.excess_loss, whole.info.excess_loss)
    np.testing.assert_array_equal(chains.displacements, whole.displacements)


@pytest.mark.parametrize("way", ["extend", "advance", "lengthen"])
def test_chains_interrupted_in_their_first_chunk_are_what_they_were(build_chains, interrupt, way):
    chains = build_chains()
    chains.extend(jax.random.key(1), 50)
    before = chains.to_arrays()
    interrupt(1)
    with pytest.raises(OutOfTime):
        getattr(chains, way)(*(jax.random.key(2), 50)[: 1 if way == "lengthen" else 2])
    assert before.keys() == chains.to_arrays().keys()
    for name, array in chains.to_arrays().items():
        np.testing.assert_array_equal(array, before[name], name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage", [*(pytest.param(stage, marks=pytest.mark.nightly) for stage in ("hessian", "wells")), "pilot 2", "rounds"]
)
def test_an_interrupted_reference_can_be_gone_on_from(build_quadratic, monkeypatch, interrupt, stage, is_within):
    target, posterior = build_quadratic()
    spec = ReferenceSpec(num_chains=4, max_relative_mcse=0.02)

    def on_progress(progress):
        if progress.stage == stage:
            interrupt(1)

    broken = sample_reference(posterior, spec, deadline=math.inf, on_progress=on_progress)
    assert not broken.certificate.is_certified
    assert "unfinished" in broken.seconds
    monkeypatch.undo()
    whole = sample_reference(posterior, spec, deadline=math.inf, stored=broken.arrays)
    assert whole.certificate.is_certified, whole.certificate.reasons
    assert is_within(whole.llc, whole.se, target.exact_llc(float(posterior.nbeta), 10.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        SGLDSettings(steps=200, dtype="float64"),
        pytest.param(VISettings(steps=200, M=1, r=0, dtype="float64"), marks=pytest.mark.nightly),
    ],
    ids=["sgld", "vi"],
)
def test_draws_that_cannot_be_judged_in_time_give_an_estimate_all_the_same(build_quadratic, settings):
    _, posterior = build_quadratic()
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    run = run_method(
        posterior,
        settings,
        coordinates=Coordinates(whitening, whitening),
        seed=0,
        evaluation_guard=already_ringing,
    )
    assert (run.state, run.reason) == ("COMPLETE", "out of time to judge the draws")
    assert run.is_truncated
    assert run.num_steps_done == 200
    assert math.isfinite(run.estimate.llc)
    assert run.fit_draws is None


def test_a_run_interrupted_before_its_first_draw_has_no_estimate(build_quadratic):
    _, posterior = build_quadratic()
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    with pytest.raises(OutOfTime):
        run_method(
            posterior,
            SGLDSettings(dtype="float64"),
            coordinates=Coordinates(whitening, whitening),
            seed=0,
            sampling_guard=already_ringing,
        )
