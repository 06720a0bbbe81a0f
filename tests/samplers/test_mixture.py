"""Densities of the mixture against SciPy's and JAX's own, whatever number of components is masked."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal

from lambda_hat.samplers.mixture import (
    COMPONENTS_PER_BLOCK,
    Blocks,
    Components,
    Mixture,
    components_of,
    log_density,
    log_density_and_score,
)

pytestmark = pytest.mark.usefixtures("float64")
DIM = 3


def mixture_of(num_slots: int, rank: int, seed: int = 0) -> Mixture:
    rng = np.random.default_rng(seed)
    return Mixture(
        logits=jnp.asarray(rng.standard_normal(num_slots)),
        means=jnp.asarray(2 * rng.standard_normal((num_slots, DIM))),
        log_scales=jnp.asarray(0.5 * rng.standard_normal((num_slots, DIM))),
        factors=jnp.asarray(rng.standard_normal((num_slots, DIM, rank))),
    )


def prepared(mixture: Mixture, num_components: int | jax.Array) -> tuple[Components, Blocks]:
    num_slots = mixture.logits.size
    logits = jnp.where(jnp.arange(num_slots) < num_components, mixture.logits, -jnp.inf)
    blocks = Blocks(jnp.asarray(num_components), num_slots)
    return components_of(mixture, jax.nn.log_softmax(logits), blocks), blocks


@jax.jit
def values(
    mixture: Mixture, num_components: jax.Array, z: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Log density and score of samples by the function for both, and by the density alone and JAX's gradient of it."""
    components, blocks = prepared(mixture, num_components)
    return *log_density_and_score(components, z, blocks), *jax.vmap(
        jax.value_and_grad(partial(log_density, components))
    )(z)


def truth(mixture: Mixture, num_components: int, z: np.ndarray) -> float:
    logits, means, log_scales, factors = map(np.asarray, mixture)
    weights = log_softmax(logits[:num_components])
    logs = []
    for k in range(num_components):
        covariance = np.diag(np.exp(2 * log_scales[k])) + factors[k] @ factors[k].T
        logs.append(weights[k] + multivariate_normal(means[k], covariance).logpdf(z))
    return float(logsumexp(logs))


SHAPES = [(1, 3), (3, 0), (4, 1), (9, 2)]  # slots and rank: less than a block, one, and a block that is not full


@pytest.mark.slow  # every shape compiles
@settings(max_examples=25)
@given(st.sampled_from(SHAPES), st.data())
def test_density_and_score_of_any_number_of_components(shape: tuple[int, int], data: st.DataObject) -> None:
    num_slots, rank = shape
    num_components = data.draw(st.integers(1, num_slots))
    mixture = mixture_of(num_slots, rank, seed=num_slots + 10 * rank)
    z = jnp.asarray(3 * np.random.default_rng(1).standard_normal((2, DIM)))
    logs, scores, logs_alone, gradients = values(mixture, jnp.asarray(num_components), z)
    truths = [truth(mixture, num_components, sample) for sample in np.asarray(z)]
    np.testing.assert_allclose(logs, truths, rtol=0, atol=1e-9)
    np.testing.assert_allclose(logs_alone, logs, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores, gradients, rtol=0, atol=1e-9)


@pytest.mark.nightly
def test_far_samples_have_finite_scores() -> None:
    # A hundred standard deviations away every density underflows, but not its logarithm.
    mixture = mixture_of(2 * COMPONENTS_PER_BLOCK + 1, 2)
    components, blocks = prepared(mixture, mixture.logits.size)
    far = jnp.full((1, DIM), 1e3)
    logs, scores = log_density_and_score(components, far, blocks)
    assert float(logs[0]) == pytest.approx(truth(mixture, mixture.logits.size, np.asarray(far[0])), rel=1e-9)
    np.testing.assert_allclose(scores[0], jax.grad(lambda z: log_density(components, z))(far[0]), rtol=1e-9)


@pytest.mark.slow
def test_float32_does_not_cancel_where_a_column_is_long() -> None:
    # z far along a factor: y is large, and what counts is the little that is left of it.
    factors = np.array([[1e3], [0.0], [0.0]])
    mixture = Mixture(jnp.zeros(1), jnp.zeros((1, DIM)), jnp.zeros((1, DIM)), jnp.asarray(factors[None]))
    single = Mixture(*(leaf.astype(jnp.float32) for leaf in mixture))
    components, _ = prepared(single, 1)
    z = np.array([2e3, 0.5, -0.5])
    assert float(log_density(components, jnp.asarray(z, jnp.float32))) == pytest.approx(truth(mixture, 1, z), abs=1e-3)


@pytest.mark.parametrize(("num_slots", "num_components"), [(3, 2), (4, 4), (6, 5), (9, 9), (16, 4)])
def test_every_component_is_new_once(num_slots: int, num_components: int) -> None:
    blocks = Blocks(jnp.asarray(num_components), num_slots)
    new = [
        int(k) for i in range(int(blocks.number)) for k in blocks.numbers(jnp.asarray(i))[blocks.is_new(jnp.asarray(i))]
    ]
    assert new == list(range(num_components))
    assert int(blocks.number) == -(-num_components // blocks.size)
