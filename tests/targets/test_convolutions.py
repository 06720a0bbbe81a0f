"""Convolutions as products of matrices: the same numbers, whatever their windows, groups and axes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_hat.targets.convolutions import with_matrix_products
from lambda_hat.targets.pytrees import read_model


def names_of(function, *args):
    return str(jax.make_jaxpr(function)(*args))


@pytest.mark.slow(seconds=10)
@given(st.data())
@settings(max_examples=10, deadline=None)
def test_any_convolution_is_a_product(data):
    num_axes = data.draw(st.integers(1, 3), "axes")

    def each(low, high, name):
        return data.draw(st.lists(st.integers(low, high), min_size=num_axes, max_size=num_axes).map(tuple), name)

    groups, per_group, outputs = (data.draw(st.integers(1, 3), name) for name in ("groups", "inputs", "outputs"))
    space, window = each(3, 6, "space"), each(1, 3, "window")
    letters = "XYZ"[:num_axes]
    signal_axes, kernel_axes, out_axes = (
        "".join(data.draw(st.permutations(sorted(f"{letters}{two}")), "axes")) for two in ("NC", "IO", "NC")
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 100), "seed"))
    sizes = dict(zip(letters, space, strict=True)) | {"N": 2, "C": groups * per_group}
    signal = rng.standard_normal([sizes[axis] for axis in signal_axes])
    sizes = dict(zip(letters, window, strict=True)) | {"I": per_group, "O": groups * outputs}
    kernel = rng.standard_normal([sizes[axis] for axis in kernel_axes])
    options = {
        "window_strides": each(1, 3, "strides"),
        "padding": [*zip(each(-1, 2, "low"), each(2, 4, "high"), strict=True)],
        "lhs_dilation": each(1, 2, "dilation of the signal"),
        "rhs_dilation": each(1, 2, "dilation of the kernel"),
        "dimension_numbers": (signal_axes, kernel_axes, out_axes),
        "feature_group_count": groups,
    }

    def convolved(signal, kernel):
        return jax.lax.conv_general_dilated(signal, kernel, **options)

    @jax.jit
    def both(signal, kernel):
        expected, pull = jax.vjp(convolved, signal, kernel)
        found, pull_of_product = jax.vjp(with_matrix_products(convolved), signal, kernel)
        return (expected, *pull(expected)), (found, *pull_of_product(expected))

    with jax.enable_x64(True):
        assert "conv" not in names_of(with_matrix_products(convolved), signal, kernel)
        for expected, found in zip(*both(signal, kernel), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-10)


def loss_of(params, batch):
    """A convolution beside what stays as it is: a called function, a custom derivative and a loop."""
    images, labels = batch

    @jax.jit
    def features(images):
        signal = jax.lax.conv_general_dilated(images, params["kernel"], (1, 1), "SAME")
        return jax.nn.relu(signal + params["bias"])

    signal = jax.lax.fori_loop(0, 2, lambda _, signal: jnp.tanh(signal), features(images))
    return (signal.mean((1, 2, 3)) - labels) ** 2


def test_the_loss_of_a_model_has_no_convolution_and_the_same_values():
    rng = np.random.default_rng(0)
    params = {"kernel": rng.standard_normal((4, 2, 3, 3)), "bias": rng.standard_normal((4, 1, 1))}
    data = rng.standard_normal((20, 2, 5, 5)), rng.standard_normal(20)
    model = read_model(loss_of, params, data)
    with jax.enable_x64(True):
        position = jnp.asarray(model.w0)
        program = names_of(model.loss_fn, position, model.data)
        assert "conv" not in program
        assert "while" in program or "scan" in program
        np.testing.assert_allclose(model.loss_fn(position, model.data), loss_of(params, data), rtol=1e-12)


def test_what_has_no_convolution_is_left_alone():
    calls = []

    def function(x, *, y):
        calls.append(x)
        return {"sum": x + y}

    assert with_matrix_products(function)(1.0, y=2.0) == {"sum": 3.0}
    assert calls[-1] == 1.0


def test_other_devices_keep_convolutions(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    def convolved(signal):
        return jnp.convolve(signal, jnp.ones(3))

    assert "conv" in names_of(with_matrix_products(convolved), jnp.ones(5))


@pytest.mark.parametrize("size", [0, 2])
def test_a_convolution_without_places_is_left_alone(size):
    """A window that is larger than the signal has no place in it."""

    def convolved(signal):
        return jax.lax.conv_general_dilated(signal, jnp.ones((1, 1, 3)), (1,), "VALID")

    assert with_matrix_products(convolved)(jnp.ones((2, 1, size))).shape == (2, 1, 0)
