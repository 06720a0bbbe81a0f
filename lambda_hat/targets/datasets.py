"""Synthetic data: inputs of several shapes, labelled by a teacher network with noise, or with classes.

Each purpose has its own stream of random numbers. A change of one, such as the noise, leaves the others as they were.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32

from lambda_hat.config.problems import DataSpec, MLPProblem
from lambda_hat.targets.networks import MLP

__all__ = ["Dataset", "Stream", "build_dataset", "draw_classes", "draw_inputs", "draw_noise", "random_stream"]

Rows = Float[np.ndarray, "n k"]


class Stream(IntEnum):
    """Purposes of random numbers; each has a stream of its own."""

    INPUT_LAW = 0  # centres of a mixture, embedding of a manifold: shared by training and test rows
    INPUTS = 1
    TEST_INPUTS = 2
    NOISE = 3
    TEST_NOISE = 4
    TEACHER = 5
    INIT = 6
    BATCHES = 7
    GEOMETRY = 8  # analytic targets


def random_stream(seed: int, stream: Stream) -> np.random.Generator:
    """Generator for one purpose, independent of the generators for other purposes with the same seed."""
    return np.random.default_rng([seed, stream])


class Dataset(NamedTuple):
    """Training and test rows, and the teacher's parameters."""

    data: tuple[Rows, np.ndarray]  # inputs, labels
    test_data: tuple[Rows, np.ndarray]
    teacher: MLP
    teacher_position: Float[np.ndarray, " k"]


def draw_inputs(
    spec: DataSpec, num_rows: int, in_dim: int, law_rng: np.random.Generator, rng: np.random.Generator
) -> Rows:
    """Rows whose coordinates have a variance of about one; `law_rng` fixes the distribution, `rng` the rows."""
    shape = (num_rows, in_dim)
    if spec.inputs == "gauss_aniso":
        variances = np.geomspace(spec.input_condition, 1.0, in_dim)
        return np.sqrt(variances / variances.mean()) * rng.standard_normal(shape)
    if spec.inputs == "mixture":
        centres = law_rng.standard_normal((spec.num_mixture, in_dim))
        component = rng.integers(spec.num_mixture, size=num_rows)
        return (centres[component] + rng.standard_normal(shape)) / np.sqrt(2)
    if spec.inputs == "lowdim_manifold":
        frequencies = law_rng.standard_normal((spec.manifold_dim, in_dim)) / np.sqrt(spec.manifold_dim)
        phases = law_rng.uniform(0, 2 * np.pi, in_dim)
        return np.sqrt(2) * np.sin(rng.standard_normal((num_rows, spec.manifold_dim)) @ frequencies + phases)
    if spec.inputs == "heavy_tail":
        return rng.standard_t(spec.input_dof, shape) / np.sqrt(spec.input_dof / (spec.input_dof - 2))
    return rng.standard_normal(shape)


def draw_noise(spec: DataSpec, inputs: Rows, out_dim: int, rng: np.random.Generator) -> Rows:
    """Label noise whose standard deviation is `noise_scale`; with outliers, that of the rest.

    `hetero` has the standard deviation noise_scale · |x|/√in_dim in each row, noise_scale in quadratic mean.
    """
    shape = (len(inputs), out_dim)
    if spec.noise == "student_t":
        unit = rng.standard_t(spec.noise_dof, shape) / np.sqrt(spec.noise_dof / (spec.noise_dof - 2))
    else:
        unit = rng.standard_normal(shape)
    if spec.noise == "hetero":
        unit *= np.linalg.norm(inputs, axis=1, keepdims=True) / np.sqrt(inputs.shape[1])
    if spec.noise == "outliers":
        is_outlier = rng.random((len(inputs), 1)) < spec.outlier_fraction
        unit *= np.where(is_outlier, spec.outlier_scale, 1.0)
    return spec.noise_scale * unit


def draw_classes(outputs: Rows, temperature: float, rng: np.random.Generator) -> Int32[np.ndarray, " n"]:
    """One class per row, drawn with probabilities softmax(outputs / temperature)."""
    return np.argmax(outputs + temperature * rng.gumbel(size=outputs.shape), axis=1).astype(np.int32)


def build_dataset(problem: MLPProblem) -> Dataset:
    """Training and test rows of `problem`: labels are the teacher's outputs plus noise, or classes (n,)."""
    model, spec = problem.model, problem.data
    overrides = problem.teacher.model_dump(include={"depth", "width", "activation"}, exclude_none=True)
    teacher = MLP.from_spec(model.model_copy(update=overrides))
    position = teacher.random_position(random_stream(problem.seed, Stream.TEACHER), problem.teacher.weight_scale)

    def rows(num_rows: int, input_stream: Stream, noise_stream: Stream) -> tuple[Rows, np.ndarray]:
        law_rng = random_stream(problem.seed, Stream.INPUT_LAW)
        inputs = draw_inputs(spec, num_rows, model.in_dim, law_rng, random_stream(problem.seed, input_stream))
        outputs = np.asarray(teacher(jnp.asarray(position), jnp.asarray(inputs)))
        noise_rng = random_stream(problem.seed, noise_stream)
        if problem.loss == "cross_entropy":
            return inputs, draw_classes(outputs, spec.noise_scale, noise_rng)
        return inputs, outputs + draw_noise(spec, inputs, model.out_dim, noise_rng)

    return Dataset(
        rows(spec.num_data, Stream.INPUTS, Stream.NOISE),
        rows(spec.num_test, Stream.TEST_INPUTS, Stream.TEST_NOISE),
        teacher,
        position,
    )
