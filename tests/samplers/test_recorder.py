"""The recorder of single rows' losses: every row in its place, thinned evenly, and bounded in memory."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.errors import InputError
from lambda_hat.posterior import posterior_of
from lambda_hat.samplers import recorder
from lambda_hat.samplers.base import Sampler
from lambda_hat.samplers.recorder import RowRecorder, WatchedRows
from lambda_hat.targets import read_model

NUM_TOKENS = 3


def losses_of_tokens(params, batch):
    return jnp.stack([(batch - params["w"][0]) ** 2 * (1 + token) for token in range(NUM_TOKENS)], axis=1)


DATA = np.arange(20.0)
POSTERIOR = posterior_of(
    read_model(losses_of_tokens, {"w": np.array([1.0])}, DATA), PosteriorSpec(localization=1.0), "float32"
)


class Still(Sampler):
    """Its states are displacements."""

    def init(self, rng_key, displacement):
        return displacement

    def step(self, rng_key, state):
        raise NotImplementedError

    def displacement(self, state):
        return state


def recorded(num_done: int, rows=(7, 2), queries=(), **numbers):
    """What two chains leave that are at t/10 and −t/10 after t steps."""
    found = RowRecorder(POSTERIOR, WatchedRows(np.array(rows), queries), 2, **numbers)
    done = 0
    while done < num_done:
        done += found.steps_to_next()
        found.record(Still(), jnp.array([[done / 10], [-done / 10]]), found.steps_to_next())
    return found


def excess(place, row: float) -> np.ndarray:
    return ((row - 1 - place) ** 2 - (row - 1) ** 2)[..., None] * np.arange(1, NUM_TOKENS + 1)


@pytest.mark.slow
def test_every_row_is_in_its_place(monkeypatch):
    monkeypatch.setattr(recorder, "ROWS_AT_ONCE", 2)  # so that the last chunk is padded
    losses = recorded(30, rows=(7, 2, 19), queries=(np.array([100.0, -3.0], "float32"),)).result(10)
    steps = np.arange(1, 21)
    np.testing.assert_array_equal(losses.traces.steps, steps)
    places = np.array([1.0, -1.0])[:, None] * (steps + 10) / 10
    for index, row in enumerate((7, 2, 19)):
        np.testing.assert_allclose(losses.traces.rows[:, :, index], excess(places, row), rtol=1e-4, atol=1e-4)
    for index, row in enumerate((100, -3)):
        np.testing.assert_allclose(losses.traces.queries[:, :, index], excess(places, row), rtol=1e-4, atol=1e-2)
    mean = np.mean([excess(places, row).mean(axis=-1) for row in DATA], axis=0)
    np.testing.assert_allclose(losses.traces.total, mean, rtol=1e-4, atol=1e-4)
    assert losses.influence().value.shape == (3, NUM_TOKENS, 2, NUM_TOKENS)
    assert losses.kernel().value.shape == (5, NUM_TOKENS, 5, NUM_TOKENS)
    contributions = losses.contributions().value
    assert contributions[0, 0] == pytest.approx(losses.beta * np.mean(excess(places, 7)[..., 0]) / NUM_TOKENS, rel=1e-4)


@pytest.mark.slow
def test_thinning_doubles_when_memory_is_full(monkeypatch):
    monkeypatch.setattr(recorder, "MAX_DRAWS", 100)
    for num_steps in (90, 150, 960):
        steps = recorded(num_steps).result(0).traces.steps
        every = 1 << max(0, int(np.ceil(np.log2(num_steps / 100))))
        np.testing.assert_array_equal(steps, np.arange(every, num_steps + 1, every))
    np.testing.assert_array_equal(recorded(399, first=100, num_steps=400).result(100).traces.steps[:3], [2, 5, 8])
    assert recorded(30, first=50).result(50).traces.rows.shape == (2, 0, 2, NUM_TOKENS)


def test_more_rows_than_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr(recorder, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match=r"rows: found 120 losses .* expected at most 3. Choose fewer rows"):
        recorded(0, rows=range(20))
