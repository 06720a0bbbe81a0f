import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_hat.config.problems import DataSpec, MLPProblem, TeacherSpec
from lambda_hat.targets.datasets import Stream, build_dataset, draw_inputs, draw_noise, random_stream

INPUTS = ["gauss_iso", "gauss_aniso", "mixture", "lowdim_manifold", "heavy_tail"]
NOISES = ["gauss", "hetero", "student_t", "outliers"]
NUM_ROWS = 40_000


def inputs_of(**fields):
    spec = DataSpec(**fields)
    return draw_inputs(spec, NUM_ROWS, 6, random_stream(3, Stream.INPUT_LAW), random_stream(3, Stream.INPUTS))


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_have_variance_of_order_one(kind):
    rows = inputs_of(inputs=kind)
    assert rows.shape == (NUM_ROWS, 6)
    assert rows.dtype == np.float64
    assert 0.4 < rows.var(axis=0).mean() < 1.6


def test_gauss_iso_is_standard_normal():
    covariance = np.cov(inputs_of(inputs="gauss_iso").T)
    np.testing.assert_allclose(covariance, np.eye(6), atol=0.03)


def test_gauss_aniso_has_the_condition_asked_for():
    variances = inputs_of(inputs="gauss_aniso", input_condition=100.0).var(axis=0)
    assert variances.mean() == pytest.approx(1.0, rel=0.03)
    assert variances[0] / variances[-1] == pytest.approx(100.0, rel=0.06)


def test_mixture_has_as_many_centres_as_asked_for():
    rows = inputs_of(inputs="mixture", num_mixture=2)
    centres = random_stream(3, Stream.INPUT_LAW).standard_normal((2, 6)) / np.sqrt(2)
    distances = np.linalg.norm(rows[:, None] - centres, axis=2)
    nearest = distances.argmin(axis=1)
    assert nearest.mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(rows.mean(axis=0), centres.mean(axis=0), atol=0.02)


def test_lowdim_manifold_has_the_dimension_asked_for():
    rows = inputs_of(inputs="lowdim_manifold", manifold_dim=1)
    # Near any point of a curve the neighbours lie along one direction.
    neighbours = rows[np.argsort(np.linalg.norm(rows - rows[0], axis=1))[:30]]
    strengths = np.linalg.svd(neighbours - neighbours.mean(axis=0), compute_uv=False)
    assert strengths[1] < 0.01 * strengths[0]


def test_heavy_tail_has_more_far_rows_than_a_gaussian():
    rows = inputs_of(inputs="heavy_tail", input_dof=3.0)
    assert (np.abs(rows) > 5).mean() > 1e-3
    assert (np.abs(inputs_of(inputs="gauss_iso")) > 5).mean() < 1e-5


def noise_of(**fields):
    inputs = inputs_of()
    return inputs, draw_noise(DataSpec(noise_scale=0.2, **fields), inputs, 1, random_stream(3, Stream.NOISE))


@pytest.mark.parametrize("kind", ["gauss", "hetero", "student_t"])
def test_noise_has_the_standard_deviation_asked_for(kind):
    _, noise = noise_of(noise=kind, noise_dof=8.0)
    assert noise.shape == (NUM_ROWS, 1)
    assert noise.mean() == pytest.approx(0.0, abs=0.005)
    assert noise.std() == pytest.approx(0.2, rel=0.03)


def test_hetero_noise_grows_with_the_norm_of_the_inputs():
    inputs, noise = noise_of(noise="hetero")
    norms = np.linalg.norm(inputs, axis=1)
    near, far = norms < np.quantile(norms, 0.2), norms > np.quantile(norms, 0.8)
    ratio = np.sqrt((norms[far] ** 2).mean() / (norms[near] ** 2).mean())
    assert noise[far].std() / noise[near].std() == pytest.approx(ratio, rel=0.05)


def test_student_t_noise_has_heavy_tails():
    def kurtosis(noise):
        return (noise**4).mean() / (noise**2).mean() ** 2

    assert kurtosis(noise_of(noise="student_t", noise_dof=5.0)[1]) > 5
    assert kurtosis(noise_of(noise="gauss")[1]) == pytest.approx(3.0, rel=0.05)


def test_outliers_are_a_fraction_and_as_large_as_asked_for():
    _, noise = noise_of(noise="outliers", outlier_fraction=0.1, outlier_scale=20.0)
    assert noise.var() == pytest.approx(0.2**2 * (0.9 + 0.1 * 20.0**2), rel=0.1)
    assert np.median(np.abs(noise)) == pytest.approx(0.2 * 0.745, rel=0.05)  # 55 % of the rest


@given(seed=st.integers(0, 2**40))
def test_streams_of_one_seed_differ_and_repeat(seed):
    draws = [random_stream(seed, stream).random() for stream in Stream]
    assert len(set(draws)) == len(draws)
    assert draws == [random_stream(seed, stream).random() for stream in Stream]


def problem_of(**data):
    return MLPProblem(data=DataSpec(num_data=50, **data), seed=4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NOISES)
def test_noise_kind_changes_neither_inputs_nor_teacher(float64, kind):
    plain, other = build_dataset(problem_of()), build_dataset(problem_of(noise=kind, num_test=10))
    np.testing.assert_array_equal(plain.data[0], other.data[0])
    np.testing.assert_array_equal(plain.teacher_position, other.teacher_position)


@pytest.mark.parametrize("kind", INPUTS)
def test_test_rows_change_no_training_row(float64, kind):
    without, with_test = build_dataset(problem_of(inputs=kind)), build_dataset(problem_of(inputs=kind, num_test=20))
    for first, second in zip(without.data, with_test.data, strict=True):
        np.testing.assert_array_equal(first, second)
    assert [rows.shape for rows in with_test.test_data] == [(20, 4), (20, 1)]
    assert not np.isin(with_test.test_data[0], with_test.data[0]).any()


def test_labels_are_the_teachers_outputs_plus_noise(float64):
    dataset = build_dataset(problem_of(noise_scale=0.05))
    inputs, labels = dataset.data
    residual = labels - np.asarray(dataset.teacher(dataset.teacher_position, inputs))
    assert residual.std() == pytest.approx(0.05, rel=0.25)
    assert labels.dtype == np.float64


def test_null_teacher_is_the_students_architecture_and_fields_override_it(float64):
    problem = problem_of()
    assert build_dataset(problem).teacher.sizes == (4, 4, 4, 1)
    teacher = TeacherSpec(depth=1, width=7, activation="relu")
    built = build_dataset(problem.model_copy(update={"teacher": teacher})).teacher
    assert built.sizes == (4, 7, 1)
    assert built.activation == "relu"
