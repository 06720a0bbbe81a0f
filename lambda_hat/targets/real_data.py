"""Small networks on data sets that scikit-learn brings along, trained to a minimum."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.config.problems import RealDataProblem
from lambda_hat.errors import TargetError
from lambda_hat.targets.datasets import Stream, random_stream
from lambda_hat.targets.kind import TargetKind
from lambda_hat.targets.losses import CrossEntropy, SquaredError, cross_entropy
from lambda_hat.targets.model import Model
from lambda_hat.targets.networks import MLP
from lambda_hat.targets.training import train

__all__ = ["KIND"]

NUM_CLASSES, SIDE = 10, 8  # of the digits
NUM_PATCH = 9  # pixels under a kernel
NUM_MEASUREMENTS = 10  # of a patient


@dataclass(frozen=True)
class CNN:
    """Two 3 × 3 convolutions with stride 2 and tanh on images of 8 × 8 pixels, then a linear layer of ten outputs."""

    channels: int

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes (inputs, outputs) of the weights of each layer, which its bias follows."""
        return (NUM_PATCH, self.channels), (NUM_PATCH * self.channels, self.channels), (4 * self.channels, NUM_CLASSES)

    def parameters(self, position: Float[Array, " d"]) -> list[tuple[Array, Array]]:
        """Weights and bias of each layer."""
        layers, start = [], 0
        for shape in self.shapes:
            middle = start + math.prod(shape)
            layers.append((position[start:middle].reshape(shape), position[middle : middle + shape[1]]))
            start = middle + shape[1]
        return layers

    def __call__(self, position: Float[Array, " d"], images: Float[Array, "B pixels"]) -> Float[Array, "B classes"]:
        """Logits of a batch."""
        *convolutions, (weights, bias) = self.parameters(position)
        signal = images.reshape(-1, SIDE, SIDE, 1)
        for kernel, offset in convolutions:
            signal = jnp.tanh(_patches(signal) @ kernel + offset)
        return signal.reshape(signal.shape[0], -1) @ weights + bias

    def init(self, rng: np.random.Generator) -> Float[np.ndarray, " d"]:
        """Starting point of training: N(0, 1/fan_in) weights, zero biases."""
        parts: list[np.ndarray] = []
        for shape in self.shapes:
            parts += [rng.standard_normal(math.prod(shape)) / math.sqrt(shape[0]), np.zeros(shape[1])]
        return np.concatenate(parts)


def _patches(signal: Float[Array, "B side side c"]) -> Float[Array, "B half half patch"]:
    """The 3 × 3 neighbourhoods at every other pixel, edges padded with zeros.

    A product with them is a convolution. XLA's own is slow on CPUs under `vmap` over kernels, as in Hessians.
    """
    size = signal.shape[1]
    padded = jnp.pad(signal, ((0, 0), (0, 1), (0, 1), (0, 0)))
    shifted = [padded[:, i : i + size - 1 : 2, j : j + size - 1 : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1)


@dataclass(frozen=True)
class ImageLoss:
    """Smoothed cross-entropy of a convolutional network."""

    images: CNN
    smoothing: float

    def __call__(self, position: Float[Array, " d"], batch: tuple[Array, Array]) -> Float[Array, " B"]:
        """Losses of a batch of (images, classes)."""
        images, labels = batch
        return cross_entropy(self.images(position, images), labels, self.smoothing)


def _loss_of(problem: RealDataProblem) -> SquaredError | CrossEntropy | ImageLoss:
    if problem.dataset == "diabetes":
        return SquaredError(MLP((NUM_MEASUREMENTS, problem.width, 1)), 0.5 / problem.noise_scale**2)
    if problem.network == "cnn":
        return ImageLoss(CNN(problem.width), problem.label_smoothing)
    return CrossEntropy(MLP((SIDE**2, problem.width, NUM_CLASSES)), problem.label_smoothing)


def _data_of(problem: RealDataProblem) -> tuple[Float[np.ndarray, "n k"], np.ndarray]:
    """Pixels from 0 to 1 with classes (n,), or standardised measurements and outcome (n, 1)."""
    try:
        datasets: Any = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise TargetError(
            f"dataset `{problem.dataset}`: scikit-learn, which has it, is not installed here. Install the extra: "
            "`pip install 'lambda-hat[datasets]'`."
        ) from error
    if problem.dataset == "digits":
        images, classes = datasets.load_digits(return_X_y=True)
        return np.asarray(images, np.float64) / 16, np.asarray(classes, np.int32)
    measurements, outcome = datasets.load_diabetes(return_X_y=True)
    return _standardised(measurements), _standardised(np.reshape(outcome, (-1, 1)))


def _standardised(columns: np.ndarray) -> Float[np.ndarray, "n k"]:
    columns = np.asarray(columns, np.float64)
    return (columns - columns.mean(axis=0)) / columns.std(axis=0)


def _build(problem: RealDataProblem) -> Model:
    loss_fn, data = _loss_of(problem), _data_of(problem)
    network = loss_fn.images if isinstance(loss_fn, ImageLoss) else loss_fn.network
    start = network.init(random_stream(problem.seed, Stream.INIT))
    batch_seed = int(random_stream(problem.seed, Stream.BATCHES).integers(2**31))
    w0, info = train(loss_fn, start, data, problem.training, problem.posterior, batch_seed)
    return Model(w0, data, loss_fn, info)


KIND = TargetKind(build=_build, loss_of=_loss_of)
