import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.problems import DataSpec, MLPProblem, ModelSpec, QuadraticProblem, TrainingSpec
from lambda_hat.errors import TargetError
from lambda_hat.targets import build_target
from lambda_hat.targets.training import train


def gain_by_hand(problem, target):
    """Decrease still available, and the smallest curvature over the localization, from one unchunked Hessian."""

    def loss_fn(w):
        return jnp.mean(target.loss_fn(w, target.data))

    w0 = jnp.asarray(target.w0)
    nbeta = target.num_data / np.log(target.num_data)
    localization = target.dim / (problem.posterior.localization.radius * np.linalg.norm(target.w0)) ** 2
    curvatures, vectors = np.linalg.eigh(jax.jit(jax.hessian(loss_fn))(w0))
    slopes = nbeta * vectors.T @ np.asarray(jax.grad(loss_fn)(w0))
    return 0.5 * np.sum(slopes**2 / (nbeta * np.abs(curvatures) + localization)), nbeta * curvatures[0] / localization


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "seed"),
    [*(pytest.param(*one, marks=pytest.mark.nightly) for one in (("tanh", 0), ("tanh", 1))), ("relu", 0)],
)
def test_training_ends_at_a_minimum(float64, activation, seed):
    problem = MLPProblem(model=ModelSpec(activation=activation), data=DataSpec(num_data=500, num_test=200), seed=seed)
    target = build_target(problem)
    decrease, smallest = gain_by_hand(problem, target)
    tolerance = problem.training.tolerance * target.dim
    assert target.info["is_minimum"]
    assert decrease <= tolerance
    assert smallest >= -2 * tolerance
    assert target.info["decrease_available"] == pytest.approx(decrease, rel=1e-6)
    assert target.info["loss"] < 0.7  # noise alone: 0.5
    assert np.isfinite(target.info["test_loss"])
    curve = target.info["training_curve"]
    assert len(curve) <= 200
    assert curve[-1][1] < 0.5 * curve[0][1]


@pytest.mark.nightly
def test_polish_reaches_a_strict_minimum_when_asked_to(float64):
    problem = MLPProblem(data=DataSpec(num_data=2000), training=TrainingSpec(tolerance=1e-12))
    target = build_target(problem)
    assert target.info["is_minimum"]
    assert target.info["gradient_norm"] < 1e-5
    assert target.info["smallest_curvature"] > -1e-8


@pytest.mark.nightly
def test_krylov_steps_end_at_a_minimum_that_all_eigenvalues_confirm(float64):
    problem = MLPProblem(
        model=ModelSpec(in_dim=6, depth=1, width=30),
        data=DataSpec(num_data=1000),
        training=TrainingSpec(num_steps=1000),
    )
    target = build_target(problem)
    assert target.dim > 200
    assert target.info["has_all_curvatures"]
    assert target.info["is_minimum"]
    assert target.info["num_polish_steps"] > 0


@pytest.mark.slow
def test_too_little_training_is_reported_not_hidden(float64, caplog):
    problem = MLPProblem(training=TrainingSpec(num_steps=10, max_polish_steps=1))
    target = build_target(problem)
    assert not target.info["is_minimum"]
    assert target.info["num_polish_steps"] == 1
    assert "w0 is no minimum" in caplog.text


def test_polish_leaves_an_exact_saddle(float64):
    def loss_fn(position, batch):  # ¼x⁴ − ½x² + ½y²: a saddle at the origin, minima at x = ±1
        x, y = position
        return 0.25 * x**4 - 0.5 * x**2 + 0.5 * y**2 + 0.0 * batch[0]

    spec, posterior = TrainingSpec(num_steps=0, tolerance=1e-8), QuadraticProblem().posterior
    w0, info = train(loss_fn, np.zeros(2), (np.zeros(1000),), spec, posterior, 0)
    assert info["is_minimum"]
    np.testing.assert_allclose(np.abs(w0), [1.0, 0.0], atol=1e-4)


@pytest.mark.slow
def test_the_same_problem_gives_the_same_target_and_another_seed_another(float64):
    problem = MLPProblem(data=DataSpec(num_data=60), training=TrainingSpec(num_steps=100, batch_size=20))
    first, second = build_target(problem), build_target(problem)
    np.testing.assert_array_equal(first.w0, second.w0)
    other = build_target(problem.model_copy(update={"seed": 1}))
    assert np.abs(first.w0 - other.w0).max() > 0.1


@pytest.mark.slow
def test_runaway_training_says_what_to_change(float64):
    problem = MLPProblem(
        model=ModelSpec(activation="relu", depth=12), training=TrainingSpec(learning_rate=1e30, num_steps=20)
    )
    with pytest.raises(TargetError, match=r"lower training\.learning_rate"):
        build_target(problem)
