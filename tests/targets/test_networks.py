from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_hat.config.problems import ModelSpec
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import FEW_ROWS, MLP, NARROW

NUMPY_ACTIVATIONS = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "identity": lambda x: x}


def numpy_forward(position: np.ndarray, inputs: np.ndarray, sizes: tuple[int, ...], activation: str) -> np.ndarray:
    hidden, offset = inputs, 0
    for index, (in_dim, out_dim) in enumerate(pairwise(sizes)):
        if index:
            hidden = NUMPY_ACTIVATIONS[activation](hidden)
        weights = position[offset : offset + in_dim * out_dim].reshape(in_dim, out_dim)
        bias = position[offset + in_dim * out_dim :][:out_dim]
        hidden, offset = hidden @ weights + bias, offset + (in_dim + 1) * out_dim
    return hidden


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("sizes", [(4, 4, 4, 1), (2, 3), (3, 5, 2)])
def test_flat_order_is_weights_then_bias_of_each_layer(float64, activation, sizes):
    network = MLP(sizes, activation)
    rng = np.random.default_rng(0)
    position, inputs = rng.standard_normal(network.dim), rng.standard_normal((7, sizes[0]))
    outputs = network(jnp.asarray(position), jnp.asarray(inputs))
    np.testing.assert_allclose(outputs, numpy_forward(position, inputs, sizes, activation), rtol=1e-13, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("sizes", [(4, 4, 4, 1), (2, 3), (3, NARROW, 2), (3, NARROW + 1, 2)])
def test_many_rows_give_what_few_give(float64, sizes, has_bias):
    # Batches of either kind take another way through narrow networks.
    network = MLP(sizes, "tanh", has_bias)
    rng = np.random.default_rng(0)
    position = jnp.asarray(rng.standard_normal(network.dim))
    inputs = jnp.asarray(rng.standard_normal((FEW_ROWS + 1, sizes[0])))
    in_parts = [network(position, part) for part in (inputs[:100], inputs[100:])]
    np.testing.assert_allclose(network(position, inputs), np.concatenate(in_parts), rtol=1e-13, atol=1e-13)


@pytest.mark.slow
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5).map(tuple),
    has_bias=st.booleans(),
)
def test_layers_tile_the_flat_vector(sizes, has_bias):
    network = MLP(sizes, "tanh", has_bias)
    covered = [
        index
        for layer in network.layers
        for part in (layer.weight, layer.bias)
        if part is not None
        for index in range(part.start, part.stop)
    ]
    assert covered == list(range(network.dim))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "softplus", "identity"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outputs_keep_the_precision_of_the_arguments(float64, activation, dtype):
    network = MLP((3, 4, 2), activation)
    outputs = network(jnp.ones(network.dim, dtype), jnp.ones((5, 3), dtype))
    assert outputs.shape == (5, 2)
    assert outputs.dtype == dtype


def test_small_model_has_45_parameters():
    assert MLP.from_spec(ModelSpec()).dim == 45
    assert MLP.from_spec(ModelSpec(bias=False)).dim == 36


@pytest.mark.parametrize(("activation", "gain"), [("tanh", 1.0), ("relu", 2.0)])
def test_initial_weights_have_variance_gain_over_fan_in_and_biases_are_zero(activation, gain):
    network = MLP((100, 200, 1), activation)
    position = network.init(np.random.default_rng(1))
    first = network.layers[0]
    assert np.var(position[first.weight]) == pytest.approx(gain / 100, rel=0.05)
    assert not position[first.bias].any()


@settings(max_examples=20)
@given(weight=st.floats(0.1, 100.0))
def test_equal_losses_are_one_static_argument(weight):
    first, second = (SquaredError(MLP((2, 3, 1)), weight) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != SquaredError(MLP((2, 4, 1)), weight)


def test_squared_error_sums_over_outputs_and_not_over_rows(float64):
    loss_fn = SquaredError(MLP((2, 3), "identity"), 0.5)
    rng = np.random.default_rng(2)
    position, inputs, labels = rng.standard_normal(9), rng.standard_normal((5, 2)), rng.standard_normal((5, 3))
    expected = 0.5 * ((inputs @ position[:6].reshape(2, 3) + position[6:] - labels) ** 2).sum(axis=1)
    losses = loss_fn(jnp.asarray(position), (jnp.asarray(inputs), jnp.asarray(labels)))
    np.testing.assert_allclose(losses, expected, rtol=1e-13)
