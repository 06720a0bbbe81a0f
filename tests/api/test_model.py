"""Every mistake in a model of one's own is answered by its argument, what was found and what was expected."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat import certify_llc, estimate_llc
from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.errors import InputError
from lambda_hat.posterior import checked_posterior_of
from lambda_hat.targets import read_model

X, Y = np.ones((10, 2)), np.arange(10.0)
PARAMS, DATA = {"w": np.ones(2)}, (X, Y)
NOISE = np.random.default_rng(0)


def squares(params, batch):
    inputs, outputs = batch
    return (inputs @ params["w"] - outputs) ** 2


def mean(params, batch):
    return jnp.mean(squares(params, batch))


def broadcast(params, batch):
    inputs, outputs = batch
    return (inputs @ params["w"] - outputs[:, None]) ** 2


def cube(params, batch):
    return jnp.zeros((batch[0].shape[0], 2, 3)) + params["w"][0]


def pair(params, batch):
    return squares(params, batch), params


def whole(params, batch):
    return jnp.zeros(batch[0].shape[0], "int32")


def stopped(params, batch):
    inputs, outputs = batch
    return (jax.lax.stop_gradient(inputs @ params["w"]) - outputs) ** 2 + inputs @ params["w"]


def mixing(params, batch):
    return jnp.full(batch[0].shape[0], jnp.mean(squares(params, batch)))


def noisy(params, batch):
    return squares(params, batch) + NOISE.standard_normal()


def ignoring(params, batch):
    return jnp.square(batch[1])


def deciding(params, batch):
    return squares(params, batch) if params["w"][0] > 0 else mean(params, batch)


def converting(params, batch):
    return squares(params, batch) * float(params["w"][0])


def of_numpy(params, batch):
    return np.square(np.asarray(squares(params, batch)))


def indexing(params, batch):
    return squares(params, batch)[batch[1] > 0]


def infinite(params, batch):
    return jnp.log(batch[1]) * params["w"][0]


class Unhashable:
    __hash__ = None

    def __call__(self, params, batch):
        return squares(params, batch)


WANTED = "expected shape (10,), one loss for each of 10 rows."
SGLD_NAMES = (
    "`steps`, `num_chains`, `burn_in_fraction`, `dtype`, `chunk_size`, `eta0`, `gamma`, `t0`, `batch`, `precond_type`, "
    "`b1`, `b2`, `eps`, `freeze`"
)
MODELS = [
    ((mean, PARAMS, DATA), f"loss_fn: returned shape (), {WANTED} Leave out the mean over the batch."),
    (
        (broadcast, PARAMS, DATA),
        f"loss_fn: returned shape (10, 10), {WANTED} Predictions and labels are broadcast against each other: give "
        "both the same shape.",
    ),
    ((cube, PARAMS, DATA), f"loss_fn: returned shape (10, 2, 3), {WANTED}"),
    ((pair, PARAMS, DATA), f"loss_fn: returned a tuple, {WANTED}"),
    ((whole, PARAMS, DATA), "loss_fn: returned int32, expected float64."),
    (
        (mixing, PARAMS, DATA),
        "loss_fn: row 0 has loss 14.5 in one batch and 2 in a smaller one; expected the loss of a row not to "
        "depend on the other rows.",
    ),
    (
        (infinite, PARAMS, DATA),
        "loss_fn: returned -inf at params for row 0 (1 of 10 rows are not finite), expected finite losses.",
    ),
    (
        (squares, {"w": X[0], "unused": X, "q": {"p": np.float64(0.5)}}, DATA),
        "params['q']['p'], params['unused']: found a gradient that is zero everywhere, expected parameters that "
        "loss_fn depends on. Choose the others with `sampled`, or take it out of params.",
    ),
    (
        (stopped, PARAMS, DATA),
        "loss_fn: along a random direction its values change by 0.1398 per unit of distance and its gradient says "
        "-0.03495; expected the gradient to be that of the values. Look for `stop_gradient`, rounding to whole "
        "numbers, or a rule for derivatives of your own.",
    ),
    (("squares", PARAMS, DATA), "loss_fn: found a str, expected a function of (params, batch)."),
    (
        (Unhashable(), PARAMS, DATA),
        "loss_fn: found a callable without a hash, expected one that compiled kernels can be filed under: a function, "
        "or an object of a frozen dataclass.",
    ),
    (
        (squares, {"w": X[0], "b": 1.0}, DATA),
        "params['b']: found 1.0, a Python float, which could be a parameter or a constant. Make it an array to sample "
        "it; keep it in loss_fn or in a static field to fix it.",
    ),
    (
        (squares, {"w": X[0], "b": np.array([1.0, None])}, DATA),
        "params['b']: found an array of Python objects, expected numbers.",
    ),
    (
        (squares, {"w": 1j * X[0]}, DATA),
        "params['w']: found complex numbers, expected real ones. Store real and imaginary parts as two arrays.",
    ),
    (
        (squares, {"w": 3}, DATA),
        "params: found 1 leaf, none of them an array of floating-point numbers; expected at least one: those are "
        "sampled.",
    ),
    (
        (squares, {"w": np.array([1, np.nan])}, DATA),
        "params['w']: found 1 of 2 entries NaN or infinite, expected finite numbers.",
    ),
    (
        (squares, {"u": X[:, 0] * np.nan, "v": Y * np.nan, "w": X[0]}, (X, Y[:9])),
        "data[1]: found 9 rows, expected 10 as in data[0].\n"
        "params['u'], params['v']: found 10 of 10 entries NaN or infinite, expected finite numbers.",
    ),
    (
        (ignoring, PARAMS, DATA),
        "params['w']: found a gradient that is zero everywhere, expected parameters that loss_fn depends on. Look for "
        "`stop_gradient`, rounding to whole numbers, or a loss_fn that does not use its params.",
    ),
    ((squares, PARAMS, ()), "data: found a tuple without arrays, expected arrays with one row per example."),
    ((squares, PARAMS, (X, [1.0] * 2)), "data[1][0], data[1][1]: found a float, expected a NumPy or JAX array."),
    ((squares, PARAMS, {"x": X, "y": Y[:9]}), "data['y']: found 9 rows, expected 10 as in data['x']."),
    ((squares, PARAMS, (X, Y[:9])), "data[1]: found 9 rows, expected 10 as in data[0]."),
    ((squares, PARAMS, (X[:1], Y[:1])), "data: found 1 rows, expected at least 2."),
    (
        (squares, PARAMS, (X, np.array(1.0))),
        "data[1]: found a single number, expected an array with one row per example.",
    ),
    (
        (squares, PARAMS, (X * np.inf, Y)),
        "data[0]: found 20 of 20 entries NaN or infinite, expected finite numbers.",
    ),
    (
        (squares, PARAMS, (X, np.array(["a"] * 10))),
        "data[1]: found dtype <U1, expected floating-point or whole numbers.",
    ),
]
ARGUMENTS = [
    (
        {"sampler": "hcm"},
        "sampler: found 'hcm', expected one of `sgld`, `vi`, `mclmc`, `hmc`, `auto`, `sghmc`.\n    Did you mean `hmc`?",
    ),
    (
        {"sampler": "sgld", "eta_0": 1.0, "batch": "x"},
        "batch: found 'x' (text), expected a whole number greater than 0.\n"
        f"eta_0: unknown setting of sgld; expected one of {SGLD_NAMES}.\n    Did you mean `eta0`?",
    ),
    (
        {"sampler": "sgld", "eta0": 1e-3, "initial_step_size": 1e-3},
        "initial_step_size: found beside `eta0`, which is the same; expected one of them.",
    ),
    ({"sampler": "hmc", "steps": 2.5}, "steps: found 2.5, expected a whole number greater than 0."),
    ({"num_chains": 0}, "num_chains: found 0, expected a whole number greater than 0."),
    ({"localization": -1}, "localization: found -1, expected a number greater than 0 or a mapping."),
    ({"localization": {"radius": 0}}, "localization.radius: found 0, expected a number greater than 0."),
    ({"localization": {"radios": 1}}, "localization.radios: unknown argument; expected `radius`.\n"
     "    Did you mean `radius`?"),
    ({"inverse_temperature": 0}, "inverse_temperature: found 0, expected a number greater than 0 or None."),
    ({"seed": 1.5}, "seed: found 1.5, expected a whole number from 0 to 2³¹ − 1."),
    ({"seed": -1}, "seed: found -1, expected a whole number from 0 to 2³¹ − 1."),
    (
        {"sampler": "hmc", "seed": -1, "steps": -3, "localization": -1, "lr": 1.0},
        "lr: found here; expected another name.\n    Did you mean `step_size`?\n"
        "steps: found -3, expected a whole number greater than 0.\n"
        "localization: found -1, expected a number greater than 0 or a mapping.\n"
        "seed: found -1, expected a whole number from 0 to 2³¹ − 1.",
    ),
    ({"seed": True}, "seed: found True, expected a whole number from 0 to 2³¹ − 1."),
]  # fmt: skip
CERTIFIED = [
    ({"seconds": 0}, "seconds: found 0, expected a number greater than 0."),
    ({"on_uncertified": "warn"}, "on_uncertified: found here; expected only in a study."),
    ({"method": "exact"}, "method: found here; expected only in a study."),
    ({"num_chains": 3}, "num_chains: found 3, expected a whole number of at least 4."),
    (
        {"seconds": 0, "seed": -1, "dtype": "float16"},
        "seconds: found 0, expected a number greater than 0.\n"
        "seed: found -1, expected a whole number from 0 to 2³¹ − 1.\n"
        "dtype: found 'float16', expected one of `float32`, `float64`.\n    Did you mean `float64`?",
    ),
]
UNTRACEABLE = [
    (deciding, "a decision of Python (`if`, `while`, `and`)"),
    (converting, "float(), int() or the like"),
    (of_numpy, "a function of NumPy"),
    (indexing, "an index by booleans"),
]


@pytest.mark.parametrize(("model", "message"), MODELS, ids=lambda part: part[:40] if isinstance(part, str) else "")
def test_a_model_that_cannot_be_used(model, message):
    with pytest.raises(InputError) as caught:
        estimate_llc(*model)
    assert str(caught.value) == message


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS, ids=lambda part: str(part)[:40])
def test_an_argument_that_cannot_be_used(arguments, message):
    with pytest.raises(InputError) as caught:
        estimate_llc(squares, PARAMS, DATA, **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(("arguments", "message"), CERTIFIED, ids=lambda part: str(part)[:40])
def test_an_argument_that_cannot_be_certified_with(arguments, message):
    with pytest.raises(InputError) as caught:
        certify_llc(squares, PARAMS, DATA, **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(("loss_fn", "found"), UNTRACEABLE)
def test_a_loss_that_jax_cannot_trace(loss_fn, found):
    line = loss_fn.__code__.co_firstlineno + 1
    with pytest.raises(InputError) as caught:
        estimate_llc(loss_fn, PARAMS, DATA)
    assert str(caught.value) == (
        f"loss_fn: found {found} in {__file__}, line {line}, `{loss_fn.__name__}`, where values are not known yet; "
        "expected what JAX can trace: functions of jax.numpy in place of NumPy's, jnp.where in place of `if` on "
        "values, and no float(), int() or .item()."
    )


def test_a_random_loss():
    with pytest.raises(InputError, match=r"and then .* in the same batch at the same params; .* Switch dropout off"):
        estimate_llc(noisy, PARAMS, DATA)


def test_a_loss_that_is_rounding_at_w0_does_not_mix_rows():
    rows = np.random.default_rng(0).standard_normal((101, 2))
    model = read_model(squares, {"w": np.array([0.3, 0.7])}, (rows, rows @ np.array([0.3, 0.7])))
    with jax.enable_x64(True):
        checked_posterior_of(model, PosteriorSpec(localization=1.0, inverse_temperature=10 / 101), "float64")


@pytest.mark.parametrize("depth", [1.0, 1e6])
def test_a_gradient_may_vanish_far_away(depth):
    """There a difference of values is rounding of losses that are 0 at w0, or of third order where w₂ = 0."""

    def hole(params, batch):
        return depth * (1 - jnp.exp(-jnp.sum(params**2) / 1e-4)) + 0 * batch[0]

    def four_hyperbolas(params, batch):
        return depth * ((params[0] * params[1]) ** 2 - 1) ** 2 + 0 * batch[0]

    for loss_fn, w0 in ((hole, np.zeros(2)), (four_hyperbolas, np.ones(2))):
        model = read_model(loss_fn, w0, (np.zeros(4),))
        for dtype in ("float64", "float32"):
            with jax.enable_x64(dtype == "float64"):
                checked_posterior_of(model, PosteriorSpec(localization=1.0), dtype)


def test_whole_numbers_of_64_bits_in_a_run_of_32():
    data = (X, np.arange(10) + 2**31)
    assert [column.dtype for column in read_model(squares, PARAMS, data).columns("float64")] == ["float64", "int64"]
    message = "data[1]: found whole numbers beyond 32 bits, which a float32 run cannot hold. Pass dtype='float64'."
    with pytest.raises(InputError) as caught:
        estimate_llc(squares, PARAMS, data, sampler="sgld")
    assert str(caught.value) == message
    small = read_model(squares, PARAMS, (X.astype("float16"), jnp.ones((10,), "bfloat16"), np.arange(10, dtype="u8")))
    assert [column.dtype for column in small.columns("float32")] == ["float32", "float32", "uint32"]


class Layer(eqx.Module):
    weight: jax.Array
    index: np.ndarray
    activation: object
    name: str = eqx.field(static=True)


def layers(value: float, index: int = 1, activation: object = jnp.tanh, name: str = "a"):
    return [Layer(jnp.full((2, 3), value), np.array([index]), activation, name), {"b": np.float64(value), "n": 7}]


def test_floating_arrays_are_sampled_and_the_rest_stays():
    model = read_model(squares, layers(2.0), DATA)
    np.testing.assert_array_equal(model.w0, np.full(7, 2.0))
    layer, rest = model.loss_fn.params(np.arange(7.0, dtype="float32"))
    np.testing.assert_array_equal(layer.weight, np.arange(6.0).reshape(2, 3))
    assert (layer.weight.dtype, rest["b"], rest["b"].shape) == ("float32", 6.0, ())
    assert (layer.index.tolist(), layer.activation, layer.name, rest["n"]) == ([1], jnp.tanh, "a", 7)


def test_losses_are_equal_where_they_compute_the_same():
    loss_fn = read_model(squares, layers(2.0), DATA).loss_fn
    same = read_model(squares, layers(3.0), (X[:4], Y[:4])).loss_fn
    assert (loss_fn, hash(loss_fn)) == (same, hash(same))
    for other in ({"index": 2}, {"activation": jnp.sin}, {"name": "b"}):
        assert read_model(squares, layers(2.0, **other), DATA).loss_fn != loss_fn
    assert read_model(mean, layers(2.0), DATA).loss_fn != loss_fn
