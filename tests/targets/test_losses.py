import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lambda_hat.config.problems import DataSpec, MLPProblem, ModelSpec, TrainingSpec
from lambda_hat.posterior import build_posterior
from lambda_hat.targets import NetworkLoss, build_target, load_target
from lambda_hat.targets.datasets import build_dataset, draw_classes
from lambda_hat.targets.losses import CrossEntropy, SquaredError, StudentT, build_network_loss
from lambda_hat.targets.networks import MLP

MODEL = ModelSpec(in_dim=2, width=3, depth=1)
STUDENT = MLPProblem(
    model=MODEL,
    data=DataSpec(num_data=200, num_test=50, noise="student_t", noise_scale=0.3, noise_dof=3.0),
    training=TrainingSpec(num_steps=300),
    loss="student_t_nll",
)
CLASSES = MLPProblem(
    model=MODEL.model_copy(update={"out_dim": 3}),
    data=DataSpec(num_data=200, num_test=50, noise_scale=1.0),
    training=TrainingSpec(num_steps=300),
    loss="cross_entropy",
)


@pytest.fixture(scope="module", params=[STUDENT, CLASSES], ids=["student_t_nll", "cross_entropy"])
def trained(request):
    with jax.enable_x64(True):
        return request.param, build_target(request.param)


def test_every_loss_is_the_one_it_is_called():
    losses = {
        name: build_network_loss(MLPProblem(loss=name))
        for name in ("gaussian_nll", "mse", "student_t_nll", "cross_entropy")
    }
    assert [type(loss_fn) for loss_fn in losses.values()] == [SquaredError, SquaredError, StudentT, CrossEntropy]
    assert (losses["gaussian_nll"].weight, losses["mse"].weight) == (pytest.approx(50.0), 1.0)
    for name, loss_fn in losses.items():
        assert isinstance(loss_fn, NetworkLoss)
        assert loss_fn == build_network_loss(MLPProblem(loss=name))
        assert hash(loss_fn) == hash(build_network_loss(MLPProblem(loss=name)))
    assert build_network_loss(STUDENT).dof == 3.0
    assert build_network_loss(STUDENT.model_copy(update={"loss_dof": 5.0})).dof == 5.0


@pytest.mark.parametrize("dof", [2.5, 4.0, 50.0])
def test_student_t_is_the_density_of_the_data_without_its_constant(float64, dof):
    problem = STUDENT.model_copy(update={"loss_dof": dof})
    rng = np.random.default_rng(0)
    outputs, labels = rng.standard_normal((2, 6, 2))
    scale = 0.3 / stats.t(dof).std()
    density = stats.t(dof, scale=scale)
    expected = np.sum(density.logpdf(0.0) - density.logpdf(outputs - labels), axis=1)
    losses = build_network_loss(problem).of_outputs(jnp.asarray(outputs), jnp.asarray(labels))
    np.testing.assert_allclose(losses, expected, rtol=1e-10)


def test_cross_entropy_is_minus_the_logarithm_of_the_softmax(float64):
    logits = np.array([[0.0, 1.0, -2.0], [800.0, 0.0, -800.0]])  # the second overflows without care
    losses = CrossEntropy(MLP((1, 3))).of_outputs(jnp.asarray(logits), jnp.asarray([1, 2]))
    expected = [-np.log(np.exp(1.0) / (1.0 + np.exp(1.0) + np.exp(-2.0))), 1600.0]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["student_t_nll", "cross_entropy"])
def test_gradients_with_respect_to_outputs(float64, name):
    rng = np.random.default_rng(1)
    outputs = jnp.asarray(rng.standard_normal((5, 3)))
    if name == "cross_entropy":
        loss_fn, labels = CrossEntropy(MLP((1, 3))), jnp.asarray([0, 2, 1, 1, 0])
        expected = jax.nn.softmax(outputs) - jax.nn.one_hot(labels, 3)
    else:
        loss_fn, labels = StudentT(MLP((1, 3)), 4.0, 0.7), jnp.asarray(rng.standard_normal((5, 3)))
        errors = outputs - labels
        expected = 5.0 * errors / (4.0 * 0.7**2 + errors**2)
    gradient = jax.grad(lambda values: jnp.sum(loss_fn.of_outputs(values, labels)))(outputs)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)


def test_classes_are_drawn_from_the_softmax_of_outputs_over_the_temperature():
    outputs, num_rows = np.array([0.5, 0.0, -1.0]), 20_000
    classes = draw_classes(np.tile(outputs, (num_rows, 1)), 0.5, np.random.default_rng(2))
    probabilities = np.exp(outputs / 0.5) / np.exp(outputs / 0.5).sum()
    errors = np.sqrt(probabilities * (1 - probabilities) / num_rows)
    deviations = np.abs(np.bincount(classes, minlength=3) / num_rows - probabilities)
    assert (deviations < 4 * errors).all()
    at_another = np.exp(outputs) / np.exp(outputs).sum()
    assert (np.abs(at_another - probabilities) > 4 * errors).all()


@pytest.mark.slow
def test_training_ends_at_a_minimum_for_every_loss(trained):
    problem, target = trained
    dataset = build_dataset(problem)
    assert target.info["is_minimum"]
    with jax.enable_x64(True):
        loss_fn = build_network_loss(problem)
        mean_loss = jax.jit(lambda w, data: jnp.mean(loss_fn(w, data)))
        assert np.linalg.norm(jax.grad(mean_loss)(jnp.asarray(target.w0), target.data)) < 0.02
        assert target.info["loss"] == pytest.approx(float(mean_loss(target.w0, target.data)))
        assert target.info["test_loss"] == pytest.approx(float(mean_loss(target.w0, dataset.test_data)))
    chance = np.log(3) if problem.loss == "cross_entropy" else np.inf
    assert target.info["loss"] < target.info["training_curve"][0][1]
    assert target.info["loss"] < chance


@jax.jit
def readings_of(posterior, position):
    """Excess loss and its gradient on all data, and the paired reading of a minibatch that is all data."""
    paired = posterior.paired_excess_loss(position, *posterior.take(jnp.arange(200)))
    return *jax.value_and_grad(posterior.excess_loss)(position), paired


@pytest.mark.slow
def test_a_trained_target_is_saved_with_its_labels_and_samples_in_either_precision(trained, tmp_path):
    problem, target = trained
    target.save(tmp_path / "target.npz")
    loaded = load_target(tmp_path / "target.npz", problem)
    is_classes = problem.loss == "cross_entropy"
    for array, before in zip(loaded.data, target.data, strict=True):
        np.testing.assert_array_equal(array, before)
    assert loaded.data[1].dtype == (np.int32 if is_classes else np.float64)
    assert loaded.data[1].shape == ((200,) if is_classes else (200, 1))
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            posterior = build_posterior(
                loaded.loss_fn, loaded.w0, loaded.data, nbeta=30.0, localization=10.0, dtype=dtype
            )
            assert posterior.rows[1].dtype == ("int32" if is_classes else dtype)
            assert float(posterior.loss_at_w0) == pytest.approx(target.info["loss"], rel=1e-5)
            excess, gradient, paired = readings_of(posterior, posterior.w0 + 0.1)
            assert excess.dtype == gradient.dtype == dtype
            assert float(paired) == pytest.approx(float(excess), rel=1e-4)
            assert np.isfinite(gradient).all()
