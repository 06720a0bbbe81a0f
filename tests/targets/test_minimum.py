import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.problems import QuadraticProblem
from lambda_hat.targets import build_target
from lambda_hat.targets.minimum import LocalModel, build_local_model

NBETA, LOCALIZATION = 200.0, 5.0


def model_of(slopes, curvatures):
    return LocalModel(0.0, np.array(slopes), np.array(curvatures), np.eye(len(slopes)), NBETA, LOCALIZATION)


@pytest.mark.parametrize("is_dense", [True, False])
def test_decrease_available_is_what_one_step_takes_off_the_local_potential(float64, is_dense):
    # 150 parameters are more than the Lanczos process has steps.
    target = build_target(QuadraticProblem(dim=150, num_data=200, smallest_curvature=0.5, largest_curvature=50.0))
    delta = 0.1 * np.random.default_rng(0).standard_normal(150)
    data = tuple(map(jnp.asarray, target.data))
    model = build_local_model(target.loss_fn, target.w0 + delta, data, NBETA, LOCALIZATION, is_dense=is_dense)
    hessian = target.loss_fn.geometry.hessian
    gradient = NBETA * hessian @ delta
    exact = 0.5 * gradient @ np.linalg.solve(NBETA * hessian + LOCALIZATION * np.eye(150), gradient)
    assert model.decrease_available == pytest.approx(exact, rel=1e-6)
    assert model.gradient_norm == pytest.approx(np.linalg.norm(hessian @ delta), rel=1e-10)
    assert model.curvatures[0] == pytest.approx(0.5, rel=1e-6 if is_dense else 0.02)
    assert model.curvatures[-1] == pytest.approx(50.0, rel=1e-6)
    assert model.has_all_directions is is_dense
    if is_dense:
        np.testing.assert_allclose(model.step(1e-9), -delta, rtol=1e-6)


def test_lanczos_survives_an_exactly_stationary_point(float64):
    target = build_target(QuadraticProblem(dim=80, num_data=100, gradient_noise=0.0))
    data = tuple(map(jnp.asarray, target.data))
    model = build_local_model(target.loss_fn, target.w0, data, NBETA, LOCALIZATION, is_dense=False)
    assert model.decrease_available == 0
    assert model.is_minimum(1e-12)


def test_a_saddle_is_no_minimum_and_its_step_follows_the_negative_curvature():
    saddle = model_of([1e-9, 0.0], [-1.0, 3.0])
    assert saddle.decrease_available < 1e-12
    assert not saddle.is_minimum(1.0)
    np.testing.assert_allclose(saddle.step(4.0), [-0.5, 0.0])
    assert model_of([0.0, 0.0], [0.0, 3.0]).is_minimum(1e-12)


def test_newton_step_goes_downhill_where_curvature_is_negative():
    step = model_of([3.0, -2.0], [-2.0, 1.0]).step(1.0)
    assert step[0] < 0 < step[1]
