"""The random numbers of a step: uniform, normal, and nothing in common between coordinates, chains and steps."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lambda_hat.samplers.noise import few_normals, indices, normals

NUM_STEPS, NUM_CHAINS, DIM = 600, 4, 1001
MAX_DEVIATION = 4.5  # standard errors, of a few hundred figures
UPPER = 1000


def keys() -> jax.Array:
    """As the runner makes them."""
    split = jax.vmap(lambda t: jax.random.split(jax.random.fold_in(jax.random.key(0), t), NUM_CHAINS))
    return split(jnp.arange(NUM_STEPS))


@cache
def draws() -> np.ndarray:
    """Normals `(num_steps, num_chains, dim)` in float64."""
    draw = jax.jit(jax.vmap(jax.vmap(lambda key: normals(key, DIM, jnp.dtype("float32")))))
    return np.asarray(draw(keys()), np.float64)


@cache
def rows() -> np.ndarray:
    """Indices `(num_steps, num_chains, dim)`."""
    return np.asarray(jax.jit(jax.vmap(jax.vmap(lambda key: indices(key, DIM, UPPER))))(keys()))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """In standard errors of independent numbers."""
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1] * np.sqrt(first.size))


@pytest.mark.slow
@pytest.mark.parametrize(("power", "moment"), list(enumerate([0, 1, 0, 3, 0, 15, 0, 105], start=1)))
def test_moments_are_those_of_a_normal(power: int, moment: int) -> None:
    values = draws().ravel() ** power
    assert abs(values.mean() - moment) < MAX_DEVIATION * values.std() / np.sqrt(values.size)


def test_every_coordinate_has_mean_zero_and_variance_one() -> None:
    z = draws().reshape(-1, DIM)
    assert np.max(np.abs(z.mean(axis=0))) * np.sqrt(len(z)) < MAX_DEVIATION
    assert np.max(np.abs(z.var(axis=0) - 1)) * np.sqrt(len(z) / 2) < MAX_DEVIATION
    assert stats.kstest(z.mean(axis=0) * np.sqrt(len(z)), "norm").pvalue > 1e-3


def test_the_distribution_is_normal_everywhere() -> None:
    z = draws().ravel()
    assert stats.kstest(z[:1_000_000], "norm").pvalue > 1e-3
    edges = stats.norm.ppf(np.linspace(0, 1, 1001))
    counts = np.histogram(z, edges)[0]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("bound", [1.0, 2.0, 3.0, 4.0, 4.75])
@pytest.mark.parametrize("sign", [-1, 1])
def test_tails_have_their_share(bound: float, sign: int) -> None:
    z = draws().ravel()
    expected = z.size * stats.norm.sf(bound)
    assert abs(np.sum(sign * z > bound) - expected) < MAX_DEVIATION * np.sqrt(expected)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("lag", [1, 2, 3, 7, 16, 64, (DIM + 1) // 2])
def test_coordinates_are_independent(lag: int, power: int) -> None:
    # The last lag is that between the cosine and the sine of one angle.
    z = draws() ** power
    assert abs(correlation(z[..., :-lag], z[..., lag:])) < MAX_DEVIATION


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("lag", [1, 2, 10])
def test_steps_are_independent(lag: int, power: int) -> None:
    z = draws() ** power
    assert abs(correlation(z[:-lag], z[lag:])) < MAX_DEVIATION
    assert abs(correlation(z[:-lag, :, :-1], z[lag:, :, 1:])) < MAX_DEVIATION


@pytest.mark.parametrize("power", [1, 2])
def test_chains_are_independent(power: int) -> None:
    z = draws() ** power
    for first in range(NUM_CHAINS):
        for second in range(first):
            assert abs(correlation(z[:, first], z[:, second])) < MAX_DEVIATION


def test_sums_over_coordinates_are_normal_too() -> None:
    # What a shared pattern across coordinates would widen or narrow.
    sums = draws().sum(axis=-1).ravel() / np.sqrt(DIM)
    assert stats.kstest(sums, "norm").pvalue > 1e-3
    squares = (draws() ** 2).sum(axis=-1).ravel()
    assert stats.kstest(squares, "chi2", args=(DIM,)).pvalue > 1e-3


@pytest.mark.slow
def test_keys_that_differ_in_one_bit_have_nothing_in_common() -> None:
    data = np.array([[7, 0]] + [[7, 1 << bit] for bit in range(32)], np.uint32)
    draw = jax.jit(jax.vmap(lambda data: normals(jax.random.wrap_key_data(data), 100_000, jnp.dtype("float32"))))
    z = np.asarray(draw(data), np.float64)
    for power in (1, 2):
        matrix = np.corrcoef(z**power) * np.sqrt(z.shape[1])
        assert np.max(np.abs(matrix[np.triu_indices(len(z), 1)])) < MAX_DEVIATION


@pytest.mark.nightly
def test_words_are_uniform_in_every_bit() -> None:
    words = np.asarray(jax.jit(jax.vmap(lambda key: indices(key, 100_000, 1 << 31)))(keys()[:20, 0])).view(np.uint32)
    for bit in range(31):
        values = (words >> bit) & 1
        assert abs(values.mean() - 0.5) * 2 * np.sqrt(values.size) < MAX_DEVIATION
        for other in range(bit):
            same = values == ((words >> other) & 1)
            assert abs(same.mean() - 0.5) * 2 * np.sqrt(same.size) < MAX_DEVIATION


def test_indices_are_uniform_and_independent() -> None:
    found = rows()
    assert (found.min(), found.max()) == (0, UPPER - 1)
    assert stats.chisquare(np.bincount(found.ravel(), minlength=UPPER)).pvalue > 1e-3
    pairs = found[..., :-1] // 50 * 20 + found[..., 1:] // 50
    assert stats.chisquare(np.bincount(pairs.ravel(), minlength=400)).pvalue > 1e-3
    for lag in (1, 2, 5):
        assert abs(correlation(found[:-lag], found[lag:])) < MAX_DEVIATION
    assert abs(correlation(found[:, 0], found[:, 1])) < MAX_DEVIATION


def test_a_batch_says_nothing_of_the_noise() -> None:
    for power in (1, 2):
        z = draws() ** power
        assert abs(correlation(z, rows())) < MAX_DEVIATION
        assert abs(correlation(z, rows()[..., ::-1])) < MAX_DEVIATION


@pytest.mark.nightly
def test_double_precision_gets_the_same_numbers() -> None:
    key = jax.random.key(3)
    single = normals(key, 7, jnp.dtype("float32"))
    with jax.enable_x64(True):
        double = normals(key, 7, jnp.dtype("float64"))
        assert double.dtype == np.float64
        np.testing.assert_allclose(double, single, rtol=1e-6)


def test_few_normals_are_normal_and_say_nothing_of_the_others() -> None:
    few = np.asarray(jax.jit(jax.vmap(jax.vmap(lambda key: few_normals(key, 8, jnp.dtype("float32")))))(keys()))
    few = few.astype(np.float64)
    assert stats.kstest(few.ravel(), "norm").pvalue > 1e-3
    for power in (1, 2):
        for lag in (1, 2):
            assert abs(correlation(few[..., :-lag] ** power, few[..., lag:] ** power)) < MAX_DEVIATION
            assert abs(correlation(few[:-lag] ** power, few[lag:] ** power)) < MAX_DEVIATION
        assert abs(correlation(few**power, draws()[..., :8] ** power)) < MAX_DEVIATION
        assert abs(correlation(few**power, rows()[..., :8])) < MAX_DEVIATION


@pytest.mark.nightly
def test_few_normals_do_not_depend_on_how_many_they_are() -> None:
    key, dtype = jax.random.key(5), jnp.dtype("float32")
    np.testing.assert_array_equal(few_normals(key, 3, dtype), few_normals(key, 17, dtype)[:3])
    assert few_normals(key, 0, dtype).shape == (0,)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
def test_short_streams(size: int) -> None:
    assert np.unique(normals(jax.random.key(0), size, jnp.dtype("float32"))).size == size
