import jax
import numpy as np
import pytest

from lambda_hat.artifacts.ids import problem_id
from lambda_hat.config.problems import (
    TARGETS,
    DataSpec,
    DeepLinearProblem,
    LinearRegressionProblem,
    MLPProblem,
    ModelSpec,
    PotentialProblem,
    QuadraticProblem,
    ReducedRankProblem,
    TrainingSpec,
)
from lambda_hat.errors import TargetError
from lambda_hat.targets import Model, build_target, load_target

MLP_PROBLEM = MLPProblem(
    model=ModelSpec(in_dim=2, width=3, depth=1), data=DataSpec(num_data=30), training=TrainingSpec(num_steps=50)
)
QUADRATIC = QuadraticProblem(dim=3, num_data=20)


PROBLEMS = [
    MLP_PROBLEM,
    QUADRATIC,
    LinearRegressionProblem(dim=3, num_data=20),
    PotentialProblem(num_data=20),
    DeepLinearProblem(widths=(3, 2, 3), num_data=20),
    ReducedRankProblem(num_data=20),
]


@pytest.mark.slow
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.target)
def test_load_gives_back_what_save_wrote_in_either_precision_mode(tmp_path, problem):
    path = tmp_path / "target.npz"
    with jax.enable_x64(True):
        target = build_target(problem)
    target.save(path)
    loaded = load_target(path, problem)
    np.testing.assert_array_equal(loaded.w0, target.w0)
    assert loaded.w0.dtype == np.float64
    for first, second in zip(loaded.data, target.data, strict=True):
        np.testing.assert_array_equal(first, second)
        assert first.dtype == np.float64
    assert loaded.loss_fn == target.loss_fn
    assert loaded.info == target.info
    assert loaded.exact_llc(100.0, 1.0) == target.exact_llc(100.0, 1.0)
    assert (loaded.num_data, loaded.dim) == (len(target.data[0]), len(target.w0))
    assert [file.name for file in tmp_path.iterdir()] == ["target.npz"]


def test_exact_values_are_known_where_the_configuration_says_so(float64):
    have_tests_of_their_own = {"python", "real_data"}
    assert {problem.target for problem in PROBLEMS} == set(TARGETS) - have_tests_of_their_own
    for problem in PROBLEMS:
        assert (build_target(problem).exact_llc(100.0, 1.0) is not None) == problem.has_exact_llc


@pytest.fixture
def saved(float64, tmp_path):
    path = tmp_path / "target.npz"
    build_target(QUADRATIC).save(path)
    return path


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.99])
def test_a_torn_file_says_so(saved, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(TargetError, match=r"target\.npz: not a complete target file .* Delete it and run again"):
        load_target(saved, QUADRATIC)


def test_a_flipped_byte_says_so(saved):
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 0xFF
    saved.write_bytes(content)
    with pytest.raises(TargetError, match="not a complete target file"):
        load_target(saved, QUADRATIC)


def test_another_problems_file_is_refused_by_name(saved):
    other = QUADRATIC.model_copy(update={"seed": 1})
    with pytest.raises(TargetError) as caught:
        load_target(saved, other)
    expected = f"made for problem {problem_id(QUADRATIC.to_dict())}, not {problem_id(other.to_dict())}."
    assert str(caught.value) == f"{saved}: {expected} Delete it and run again to make it anew."


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(TargetError, match="there is no stored target"):
        load_target(tmp_path / "target.npz", QUADRATIC)


def test_a_file_of_another_format_is_refused(saved, monkeypatch):
    monkeypatch.setattr("lambda_hat.targets.model._FORMAT", 2)
    with pytest.raises(TargetError, match="format 1, expected 2"):
        load_target(saved, QUADRATIC)


def test_a_pickle_in_the_file_is_not_run(tmp_path):
    path = tmp_path / "target.npz"
    np.savez(path, header=np.array([{"format": 1}], dtype=object))
    with pytest.raises(TargetError, match="not a complete target file"):
        load_target(path, QUADRATIC)


def test_a_target_without_a_problem_is_not_saved(tmp_path):
    target = Model(np.zeros(2), (np.zeros((3, 2)),), lambda position, batch: batch[0] @ position)
    with pytest.raises(TargetError, match="was not made from a problem"):
        target.save(tmp_path / "target.npz")


def test_single_precision_is_refused():
    with jax.enable_x64(False), pytest.raises(TargetError, match="Targets are built in float64"):
        build_target(QUADRATIC)
