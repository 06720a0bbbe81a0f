from functools import reduce
from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.problems import DeepLinearProblem, ReducedRankProblem
from lambda_hat.targets import aoyagi_coefficient, build_target
from lambda_hat.targets.learning_coefficients import lowest_rank_profile, profile_codimension
from lambda_hat.targets.linear_network import draw_factors, jacobian_rank, product_ranks

NETWORKS = [
    (widths, rank)
    for num_layers, most in ((3, 5), (4, 4))
    for widths in product(range(1, most + 1), repeat=num_layers)
    for rank in range(min(widths) + 1)
]


def product_fn(widths):
    """The product as a function of the flat parameters."""
    shapes = list(pairwise(widths))
    ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
    return lambda w: reduce(jnp.matmul, [x.reshape(s) for x, s in zip(jnp.split(w, ends), shapes, strict=True)])


@pytest.mark.slow
def test_factors_have_the_product_and_the_ranks_that_were_asked_for():
    for widths, rank in NETWORKS:
        profile = lowest_rank_profile(widths, rank)
        factors = draw_factors(widths, rank, profile, np.random.default_rng(0))
        assert [factor.shape for factor in factors] == list(pairwise(widths))
        singular_values = np.linalg.svd(reduce(np.matmul, factors))[1]
        np.testing.assert_allclose(singular_values[:rank], 1.0, rtol=1e-9)
        np.testing.assert_allclose(singular_values[rank:], 0.0, atol=1e-12)
        assert product_ranks(factors)[1] == (rank, *profile, widths[-1])


def test_at_the_lowest_profile_the_local_value_is_aoyagis():
    for widths, rank in NETWORKS:
        factors = draw_factors(widths, rank, lowest_rank_profile(widths, rank), np.random.default_rng(1))
        assert jacobian_rank(factors) == 2 * aoyagi_coefficient(widths, rank), (widths, rank)


@pytest.mark.slow
@pytest.mark.parametrize("widths", [(3, 4, 2), (4, 3, 4, 3)])
@pytest.mark.parametrize("profile", ["lowest", "full_rank", "none"])
def test_rank_of_the_jacobian_is_that_of_the_matrix(float64, widths, profile):
    rank = 1
    profile = {"lowest": lowest_rank_profile(widths, rank), "full_rank": (rank,) * (len(widths) - 2)}.get(profile)
    if profile is None:
        factors = [np.zeros(shape) for shape in pairwise(widths)]
    else:
        factors = draw_factors(widths, rank, profile, np.random.default_rng(2))
    w = np.concatenate([factor.ravel() for factor in factors])
    jacobian = np.asarray(jax.jacobian(product_fn(widths))(jnp.asarray(w))).reshape(-1, w.size)
    assert jacobian_rank(factors) == np.linalg.matrix_rank(jacobian, tol=1e-9)


def distance_to_fibre(widths, start, direction, size):
    """|w − start − size·direction| for a w with the product of `start`, found from there by Gauss–Newton steps."""
    fn = jax.jit(product_fn(widths))
    jacobian_fn = jax.jit(jax.jacobian(fn))
    wanted, moved = fn(start), start + size * direction
    w = moved
    for _ in range(30):
        matrix = np.asarray(jacobian_fn(w)).reshape(-1, w.size)
        w = w - np.linalg.lstsq(matrix, np.asarray(fn(w) - wanted).ravel(), rcond=1e-8)[0]
    assert np.abs(fn(w) - wanted).max() < 1e-12
    return float(np.linalg.norm(w - moved))


@pytest.mark.slow
def test_at_a_regular_point_every_direction_without_slope_leads_along_the_fibre(float64):
    target = build_target(DeepLinearProblem(widths=(3, 3, 3, 3), rank=1, num_data=5))
    assert target.info["is_regular"]
    w0 = jnp.asarray(target.w0)
    matrix = np.asarray(jax.jacobian(product_fn((3, 3, 3, 3)))(w0)).reshape(-1, target.dim)
    kernel = np.linalg.svd(matrix)[2][target.info["jacobian_rank"] :]
    assert len(kernel) == target.dim - 2 * aoyagi_coefficient((3, 3, 3, 3), 1)
    direction = kernel.T @ np.random.default_rng(0).standard_normal(len(kernel))
    direction /= np.linalg.norm(direction)
    far, near = (distance_to_fibre((3, 3, 3, 3), w0, direction, size) for size in (1e-2, 1e-3))
    assert near < 0.02 * far  # falls with the square: the fibre is smooth there
    # Where two sheets cross, w₁w₂ = 0, most directions without slope lead off both.
    crossing = jnp.zeros(2)
    far, near = (distance_to_fibre((1, 1, 1), crossing, jnp.asarray([0.8, 0.6]), size) for size in (1e-2, 1e-3))
    assert near > 0.05 * far


def test_a_target_tells_its_local_value_and_the_lowest(float64):
    lowest = build_target(DeepLinearProblem(widths=(10, 10, 10, 10), rank=4, num_data=20))
    full_rank = build_target(DeepLinearProblem(widths=(10, 10, 10, 10), rank=4, num_data=20, fibre="full_rank"))
    assert (lowest.info["lowest_llc"], lowest.info["asymptotic_llc"], lowest.info["jacobian_rank"]) == (44, 44, 88)
    assert (full_rank.info["lowest_llc"], full_rank.info["asymptotic_llc"]) == (44, 50)
    assert full_rank.info["jacobian_rank"] == 100


@pytest.mark.slow
@pytest.mark.parametrize("problem", [DeepLinearProblem(), ReducedRankProblem()], ids=lambda problem: problem.target)
def test_labels_are_those_of_w0_and_the_curvature_has_the_rank_of_the_jacobian(float64, problem):
    target = build_target(problem)
    assert float(jnp.max(target.loss_fn(jnp.asarray(target.w0), target.data))) < 1e-25
    inputs, outputs = target.data
    assert (inputs.shape[1], outputs.shape[1]) == (problem.widths[0], problem.widths[-1])
    assert np.linalg.matrix_rank(outputs) == problem.rank
    hessian = jax.jit(jax.hessian(lambda w: jnp.mean(target.loss_fn(w, target.data))))(target.w0)
    assert np.linalg.matrix_rank(hessian, tol=1e-6) == target.info["jacobian_rank"]
    assert target.info["asymptotic_llc"] == aoyagi_coefficient(problem.widths, problem.rank)


def test_a_rank_profile_with_hidden_layers_that_widen_is_regular_by_the_other_side(float64):
    target = build_target(DeepLinearProblem(widths=(3, 5, 3), rank=1, num_data=5, fibre="full_rank"))
    assert profile_codimension((3, 5, 3), 1, (1,)) > target.info["jacobian_rank"]
    assert target.info["is_regular"]
