"""The local posterior against closed forms, plain autodiff and itself in other chunks and precisions."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.problems import LocalizationRadius, PosteriorSpec
from lambda_hat.posterior import LocalPosterior, build_posterior, posterior_of, scales_of
from lambda_hat.targets import Model
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

pytestmark = pytest.mark.usefixtures("float64")

NETWORK = MLP((2, 3, 1), "tanh")
NUM_DATA = 61  # prime: every chunk size but one row and the whole needs padding
NBETA, LOCALIZATION = 15.0, 3.0


def network_posterior(**options: object) -> LocalPosterior:
    """A small network on noisy labels; its w0 is no minimum, so that no first-order term vanishes by luck."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((NUM_DATA, 2))
    w0 = NETWORK.random_position(rng, 1.0)
    labels = np.asarray(NETWORK(jnp.asarray(w0), jnp.asarray(inputs))) + 0.5 * rng.standard_normal((NUM_DATA, 1))
    options = {"nbeta": NBETA, "localization": LOCALIZATION, "dtype": "float64"} | options
    return build_posterior(SquaredError(NETWORK, 2.0), w0, (inputs, labels), **options)


def a_position(posterior: LocalPosterior, scale: float = 0.3) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal(posterior.dim)
    return (np.asarray(posterior.w0) + scale * noise).astype(posterior.w0.dtype)


@eqx.filter_jit
def value_and_gradient(posterior: LocalPosterior, position: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(posterior.logdensity)(position)


@eqx.filter_jit
def plain_value_and_gradient(posterior: LocalPosterior, position: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(lambda w: plain_logdensity(posterior, w))(position)


@eqx.filter_jit
def excess_loss(posterior: LocalPosterior, position: jax.Array) -> jax.Array:
    return posterior.excess_loss(position)


def plain_logdensity(posterior: LocalPosterior, position: jax.Array) -> jax.Array:
    """The definition, on the rows as they were given, for plain autodiff."""
    data = tuple(rows.reshape(-1, *rows.shape[2:])[: posterior.num_data] for rows in posterior.rows)
    excess = jnp.mean(posterior.loss_fn(position, data)) - jnp.mean(posterior.loss_fn(posterior.w0, data))
    return -posterior.nbeta * excess - 0.5 * posterior.localization * jnp.sum((position - posterior.w0) ** 2)


def test_closed_form_of_a_quadratic(build_quadratic):
    target, posterior = build_quadratic()
    hessian = target.loss_fn.geometry.hessian
    position = a_position(posterior)
    delta = position - target.w0
    excess = 0.5 * delta @ hessian @ delta  # the linear terms sum to zero
    nbeta = 300 / math.log(300)
    value, gradient = value_and_gradient(posterior, position)
    np.testing.assert_allclose(value, -nbeta * excess - 5.0 * delta @ delta, rtol=1e-12)
    np.testing.assert_allclose(gradient, -nbeta * hessian @ delta - 10.0 * delta, rtol=1e-11)
    np.testing.assert_allclose(excess_loss(posterior, position), excess, rtol=1e-11)
    np.testing.assert_allclose(posterior.excess_loss_from(value, delta @ delta), excess, rtol=1e-11)
    np.testing.assert_allclose(hessian_of(posterior, position), nbeta * hessian, atol=1e-10)
    assert abs(float(posterior.loss_at_w0)) < 1e-14
    assert float(value_and_gradient(posterior, posterior.w0)[0]) == 0.0


@eqx.filter_jit
def hessian_of(posterior: LocalPosterior, position: jax.Array) -> jax.Array:
    return posterior.hessian(position)


@pytest.mark.slow
def test_custom_gradient_is_that_of_the_definition():
    posterior = network_posterior(rows_per_chunk=10)
    position = a_position(posterior)
    value, gradient = value_and_gradient(posterior, position)
    plain_value, plain_gradient = plain_value_and_gradient(posterior, position)
    np.testing.assert_allclose(value, plain_value, rtol=1e-12)
    np.testing.assert_allclose(gradient, plain_gradient, rtol=1e-11)
    # The rule scales with its cotangent, and composes with vmap.
    tripled = jax.jit(jax.vmap(jax.grad(lambda w: 3.0 * posterior.logdensity(w))))(position[None])
    np.testing.assert_allclose(tripled[0], 3.0 * plain_gradient, rtol=1e-11)
    second = jax.jit(jax.hessian(lambda w: plain_logdensity(posterior, w)))(position)
    np.testing.assert_allclose(
        hessian_of(posterior, position), -second - LOCALIZATION * np.eye(posterior.dim), atol=1e-10
    )


@pytest.mark.slow
@pytest.mark.parametrize("rows_per_chunk", [1, 7, 16, 60, 61, 1000])
def test_chunks_and_their_padding_change_nothing(rows_per_chunk):
    whole, chunked = network_posterior(), network_posterior(rows_per_chunk=rows_per_chunk)
    assert whole.rows[0].shape[0] == 1
    assert chunked.rows[0].shape[0] == math.ceil(NUM_DATA / rows_per_chunk)
    position = a_position(whole)
    expected, expected_gradient = value_and_gradient(whole, position)
    value, gradient = value_and_gradient(chunked, position)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-11)
    np.testing.assert_allclose(chunked.loss_at_w0, whole.loss_at_w0, rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(chunked.row_weights), 1.0, rtol=1e-12)


@dataclass(frozen=True)
class CrossEntropy:
    """−log softmax of a linear map, for whole-number labels."""

    def __call__(self, position, batch):
        inputs, labels = batch
        logits = inputs @ position.reshape(2, 3)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integer_columns_stay_integers_and_take_part_in_gradients(dtype):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, NUM_DATA).astype(np.int32)
    posterior = build_posterior(
        CrossEntropy(),
        rng.standard_normal(6),
        (rng.standard_normal((NUM_DATA, 2)), labels),
        nbeta=NBETA,
        localization=LOCALIZATION,
        dtype=dtype,
        rows_per_chunk=20,
    )
    assert [rows.dtype for rows in posterior.rows] == [dtype, np.int32]
    _, gradient = value_and_gradient(posterior, a_position(posterior))
    _, plain = plain_value_and_gradient(posterior, a_position(posterior))
    np.testing.assert_allclose(gradient, plain, rtol=1e-4 if dtype == "float32" else 1e-11)
    (_, batch_labels), at_w0 = posterior.take(jnp.array([60, 0, 33]))
    np.testing.assert_array_equal(batch_labels, labels[[60, 0, 33]])
    assert at_w0.shape == (3,)


def test_paired_readings_are_unbiased_and_vary_less():
    posterior = network_posterior(rows_per_chunk=16)
    position = a_position(posterior, 0.05)

    @jax.jit
    @jax.vmap
    def readings(indices):
        return posterior.paired_excess_loss(position, *posterior.take(indices))

    @jax.jit
    @jax.vmap
    def raw_readings(indices):
        return jnp.mean(posterior.loss_fn(position, posterior.take(indices)[0])) - posterior.loss_at_w0

    truth = float(excess_loss(posterior, position))
    np.testing.assert_allclose(np.mean(readings(np.arange(NUM_DATA)[:, None])), truth, rtol=1e-11)
    batches = np.random.default_rng(3).integers(0, NUM_DATA, (2000, 8))
    paired, raw = np.asarray(readings(batches)), np.asarray(raw_readings(batches))
    assert np.var(paired) < np.var(raw) / 5
    error = np.std(paired) / math.sqrt(2000)
    assert abs(np.mean(paired) - truth) < 4 * error


@pytest.mark.nightly
def test_paired_readings_of_a_partition_are_the_full_data_value():
    posterior = network_posterior(rows_per_chunk=16)
    position = a_position(posterior, 0.05)
    parts = np.split(np.random.default_rng(4).permutation(NUM_DATA), [20, 27, 54])
    readings = [float(posterior.paired_excess_loss(position, *posterior.take(jnp.asarray(part)))) for part in parts]
    truth = float(excess_loss(posterior, position))
    np.testing.assert_allclose(np.average(readings, weights=[part.size for part in parts]), truth, rtol=1e-11)


@pytest.mark.slow
def test_a_reading_is_biased_where_the_position_depends_on_its_batch():
    posterior = network_posterior(rows_per_chunk=16)
    start = a_position(posterior, 0.05)

    @jax.jit
    @jax.vmap
    def errors(step_batch, own_batch):
        """Of the reading of a batch, after a step along the gradient of another."""
        slope = jax.grad(posterior.paired_excess_loss)(start, *posterior.take(step_batch))
        position = start - 0.02 * slope
        return posterior.paired_excess_loss(position, *posterior.take(own_batch)) - posterior.excess_loss(position)

    one, other = np.random.default_rng(5).integers(0, NUM_DATA, (2, 2000, 8))
    independent, dependent = np.asarray(errors(one, other)), np.asarray(errors(one, one))
    assert abs(np.mean(independent)) < 4 * np.std(independent) / math.sqrt(2000)
    assert np.mean(dependent) < -8 * np.std(dependent) / math.sqrt(2000)


@pytest.mark.slow
def test_precisions_agree():
    double, single = network_posterior(), network_posterior(dtype="float32")
    assert {leaf.dtype for leaf in jax.tree.leaves(single)} == {np.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(double)} == {np.dtype("float64")}
    position = a_position(double)
    expected, expected_gradient = value_and_gradient(double, position)
    value, gradient = value_and_gradient(single, position.astype(np.float32))
    assert value.dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-3, atol=1e-3)


def test_another_data_set_of_the_same_shape_compiles_nothing():
    num_traces = 0

    @eqx.filter_jit
    def logdensity(posterior, position):
        nonlocal num_traces
        num_traces += 1
        return posterior.logdensity(position)

    one, other = network_posterior(), network_posterior(nbeta=2 * NBETA, localization=1.0)
    other = eqx.tree_at(lambda p: p.rows, other, tuple(1.5 * rows for rows in other.rows))
    values = {float(logdensity(posterior, a_position(one))) for posterior in (one, other)}
    assert len(values) == 2
    assert num_traces == 1


def model_of(w0: np.ndarray, num_data: int = NUM_DATA) -> Model:
    """A network that nobody trained, on inputs and labels of zero."""
    return Model(w0, (np.zeros((num_data, 2)), np.zeros((num_data, 1))), SquaredError(NETWORK, 2.0))


def test_nbeta():
    model = model_of(np.zeros(3), 2000)
    assert PosteriorSpec().nbeta(2000) == pytest.approx(2000 / math.log(2000))
    assert PosteriorSpec(inverse_temperature=0.5).nbeta(2000) == 1000.0
    for spec in (PosteriorSpec(), PosteriorSpec(inverse_temperature=0.5)):
        assert scales_of(model, spec).nbeta == spec.nbeta(2000)


def test_localization():
    w0 = np.array([3.0, 0.0, 4.0])
    radius = PosteriorSpec(localization=LocalizationRadius(radius=0.2))
    assert scales_of(model_of(w0), PosteriorSpec(localization=7.0)).localization == 7.0
    assert scales_of(model_of(w0), radius).localization == pytest.approx(3 / (0.2 * 5.0) ** 2)
    assert scales_of(model_of(np.zeros(3)), radius).localization == pytest.approx(3 / 0.2**2)
    assert scales_of(model_of(w0), radius).localization == pytest.approx(radius.localization_at(3, 5.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_posterior_of_a_model_has_its_scales(dtype):
    model = model_of(NETWORK.random_position(np.random.default_rng(0), 1.0))
    spec = PosteriorSpec(localization=LocalizationRadius(radius=0.2))
    posterior = posterior_of(model, spec, dtype)
    assert (posterior.w0.dtype, posterior.rows[0].dtype, posterior.num_data) == (dtype, dtype, NUM_DATA)
    nbeta, localization = scales_of(model, spec)
    assert float(posterior.nbeta) == pytest.approx(nbeta)
    assert float(posterior.localization) == pytest.approx(localization)


@pytest.mark.parametrize(("nbeta", "is_enough"), [(10.0, True), (1e9, False)])
def test_single_precision_is_taken_where_it_changes_no_log_density(nbeta: float, is_enough: bool) -> None:
    def loss(position, batch):
        return jnp.sum((position - batch[0]) ** 2, axis=1)

    rows = np.random.default_rng(0).standard_normal((50, 3))
    with jax.enable_x64(True):
        double = build_posterior(loss, rows.mean(0), (rows,), nbeta=nbeta, localization=1.0, dtype="float64")
        rounded = double.evaluated_in("float32")
        taken, error = double.if_exact_enough(rounded, jnp.asarray(rows[:4]))
    assert taken is (rounded if is_enough else double)
    assert error > 0
    assert (error <= 0.01) is is_enough


def test_a_loss_that_is_evaluated_in_single_precision_sees_nothing_else() -> None:
    """Positions stay in float64; a loss such as a convolution takes arguments of one dtype only."""

    def loss(position, batch):
        assert position.dtype == batch[0].dtype == jnp.float32
        return 0.5 * (batch[0] @ position) ** 2

    with jax.enable_x64(True):
        data = (np.random.default_rng(0).standard_normal((50, 3)),)
        double = build_posterior(
            lambda w, batch: 0.5 * (batch[0] @ w) ** 2, np.ones(3), data, nbeta=10.0, localization=1.0, dtype="float64"
        )
        posterior = dataclasses.replace(double.evaluated_in("float32"), loss_fn=loss)
        position, indices = jnp.array([1.1, 0.9, 1.0]), jnp.arange(20)
        batch, at_w0 = posterior.take(indices)
        paired = jax.value_and_grad(posterior.paired_excess_loss)(position, batch, at_w0)
        assert [value.dtype for value in paired] == [jnp.float64, jnp.float64]
        np.testing.assert_allclose(paired[0], double.paired_excess_loss(position, *double.take(indices)), rtol=1e-4)
        for name, arguments in (
            ("excess_loss", (position,)),
            ("logdensity", (position,)),
            ("hessian", (position,)),
            ("hessian_vector_product", (position, jnp.ones(3))),
            ("row_gradients", (position, indices)),
            ("entry_losses", (position, batch)),
        ):
            np.testing.assert_allclose(
                getattr(posterior, name)(*arguments), getattr(double, name)(*arguments), rtol=1e-4, atol=1e-5
            )
