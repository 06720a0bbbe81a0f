"""What is kept of a run's draws on disk."""

from __future__ import annotations

import numpy as np
import pytest

from lambda_hat.draws.info import Info
from lambda_hat.draws.llc import estimate_llc_from_traces
from lambda_hat.errors import RunStateError
from lambda_hat.estimate.traces import Traces
from lambda_hat.samplers.method import FitDraws

NBETA = 50.0


def build_info(num_chains=3, num_draws=2500, seed=1):
    rng = np.random.default_rng(seed)
    loss, distance, energy = rng.gamma(2.0, 0.1, (3, num_chains, num_draws))
    divergent = np.zeros((num_chains, num_draws))
    divergent[0, 7:8] = 1.0
    weight = np.broadcast_to(np.linspace(2.0, 1.0, num_draws), loss.shape)
    return Info.without_identities(
        excess_loss=loss,
        squared_distance=distance,
        acceptance_rate=np.full_like(loss, 0.8),
        energy=energy,
        is_divergent=divergent,
        is_undefined=0 * loss,
        weight=weight,
        num_gradient_evaluations=np.full_like(loss, 0.25),
    )


@pytest.mark.parametrize("num_draws", [1, 5, 999, 1000, 1001, 2500])
def test_thinned_traces_keep_the_estimate_of_all_draws(num_draws):
    info = build_info(num_draws=num_draws)
    traces = Traces.of_draws(info, NBETA, work_before=100.0)
    expected = NBETA * np.sum(info.weight * info.excess_loss) / np.sum(info.weight)
    running = traces.running_llc()
    assert traces.num_kept <= 1000
    assert running.llc[-1] == pytest.approx(expected, rel=1e-5)
    assert running.work[-1] == pytest.approx(100.0 + 3 * num_draws * 0.25)


def test_the_running_error_is_that_of_all_draws():
    info = build_info()
    estimate = estimate_llc_from_traces(info, NBETA, has_minibatch_noise=False)
    running = Traces.of_draws(info, NBETA, work_before=0.0).running_llc()
    assert running.se[-1] == pytest.approx(estimate.se, rel=0.15)
    assert running.se[-1] < running.se[0]
    assert (np.diff(running.work) > 0).all()


def test_what_happened_within_a_block_is_not_lost():
    info = build_info()
    traces = Traces.of_draws(info, NBETA, work_before=0.0)
    assert traces.thinning == 3
    assert traces.is_divergent.sum() == 1
    assert traces.excess_loss[:, -1] == pytest.approx(info.excess_loss[:, -1], rel=1e-6)
    assert traces.squared_distance[:, -2] == pytest.approx(info.squared_distance[:, -4], rel=1e-6)


def test_traces_come_back_from_disk(tmp_path):
    draws = FitDraws(*np.random.default_rng(2).normal(size=(3, 2, 1500)))
    traces = Traces.of_draws(build_info(), NBETA, work_before=0.0, fit_draws=draws)
    traces.save(tmp_path / "traces.npz")
    loaded = Traces.load(tmp_path / "traces.npz")
    assert (loaded.nbeta, loaded.thinning, loaded.num_chains) == (NBETA, 3, 3)
    assert loaded.draw_log_weights.shape == (2, 1000)
    for name, value in vars(traces).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
    assert loaded.excess_loss.dtype == np.float32
    assert (tmp_path / "traces.npz").stat().st_size < 100_000


def test_a_diverged_run_has_traces_too():
    info = build_info(num_draws=20)
    info.excess_loss[0, -1] = np.inf
    info.squared_distance[0, -1] = 1e300
    traces = Traces.of_draws(info, NBETA, work_before=0.0)
    assert np.isinf(traces.squared_distance[0, -1])


def test_no_draws_are_no_traces():
    traces = Traces.of_draws(build_info(num_draws=0), NBETA, work_before=3.0)
    assert (traces.num_kept, traces.running_llc().llc.size) == (0, 0)


@pytest.mark.parametrize("content", [b"", b"nothing of ours", b"PK\x03\x04 torn"])
def test_a_torn_file_is_named(tmp_path, content):
    assert Traces.load(tmp_path / "traces.npz") is None
    (tmp_path / "traces.npz").write_bytes(content)
    with pytest.raises(RunStateError, match=r"traces\.npz holds no traces"):
        Traces.load(tmp_path / "traces.npz")


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "traces.npz", nbeta=np.array([object()], dtype=object))
    with pytest.raises(RunStateError, match="holds no traces"):
        Traces.load(tmp_path / "traces.npz")


def test_the_first_quarter_of_a_references_chains_does_not_count():
    info = build_info(num_draws=400)
    arrays = {f"chains.{name}": trace for name, trace in info._asdict().items()}
    traces = Traces.of_reference(arrays, NBETA)
    assert (traces.num_kept, traces.thinning) == (300, 1)
    assert traces.work[-1] == pytest.approx(3 * 400 * 0.25)
    assert Traces.of_reference({"num_keys": np.array(3)}, NBETA) is None
