"""Per-example losses of networks as hashable values: equal ones share their compiled kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from lambda_hat.config.problems import MLPProblem
from lambda_hat.targets.model import PerExampleLossFn
from lambda_hat.targets.networks import MLP

__all__ = ["CrossEntropy", "NetworkLoss", "SquaredError", "StudentT", "build_network_loss", "cross_entropy"]


@runtime_checkable
class NetworkLoss(PerExampleLossFn, Protocol):
    """A loss that sees the parameters through the outputs of a network only: what curvature by layers needs to know."""

    @property
    def network(self) -> MLP:
        """The network; its parameters are the position."""
        ...

    def of_outputs(self, outputs: Float[Array, "B out"], labels: Array) -> Float[Array, " B"]:
        """Losses of a batch whose outputs the network has computed."""
        ...


@dataclass(frozen=True)
class SquaredError:
    """l_i(w) = weight · |f(w, x_i) − y_i|², summed over outputs.

    `gaussian_nll` has weight 1/(2σ²) with σ the noise scale of the data, its constant log σ√(2π) left out; `mse` has 1.
    """

    network: MLP
    weight: float

    @classmethod
    def from_problem(cls, problem: MLPProblem) -> SquaredError:
        """`gaussian_nll` or `mse` for the student's network."""
        weight = 1.0 if problem.loss == "mse" else 0.5 / problem.data.noise_scale**2
        return cls(MLP.from_spec(problem.model), weight)

    def __call__(self, position: Float[Array, " d"], batch: tuple[Array, Array]) -> Float[Array, " B"]:
        """Losses of a batch of (inputs, labels)."""
        inputs, labels = batch
        return self.of_outputs(self.network(position, inputs), labels)

    def of_outputs(self, outputs: Float[Array, "B out"], labels: Float[Array, "B out"]) -> Float[Array, " B"]:
        """Losses of a batch whose outputs the network has computed."""
        return self.weight * jnp.sum(jnp.square(outputs - labels), axis=-1)


@dataclass(frozen=True)
class StudentT:
    """l_i(w) = ½(ν + 1) Σ log(1 + (f(w, x_i) − y_i)²/(ν s²)), summed over outputs, whose errors are independent.

    That is −log of the t density with ν = `dof` and scale s, less its constant: zero where f = y, and (1 + 1/ν)/(2s²)
    times the squared error near there. s = σ√((ν − 2)/ν), so that the standard deviation is the data's noise scale σ
    and the loss is the likelihood of data with `noise: student_t`.
    """

    network: MLP
    dof: float
    scale: float

    @classmethod
    def from_problem(cls, problem: MLPProblem) -> StudentT:
        """For the student's network; ν is `loss_dof`, or else the `noise_dof` of the data."""
        dof = problem.loss_dof or problem.data.noise_dof
        return cls(MLP.from_spec(problem.model), dof, problem.data.noise_scale * math.sqrt((dof - 2) / dof))

    def __call__(self, position: Float[Array, " d"], batch: tuple[Array, Array]) -> Float[Array, " B"]:
        """Losses of a batch of (inputs, labels)."""
        inputs, labels = batch
        return self.of_outputs(self.network(position, inputs), labels)

    def of_outputs(self, outputs: Float[Array, "B out"], labels: Float[Array, "B out"]) -> Float[Array, " B"]:
        """Losses of a batch whose outputs the network has computed."""
        errors = jnp.square((outputs - labels) / self.scale)
        return 0.5 * (self.dof + 1) * jnp.sum(jnp.log1p(errors / self.dof), axis=-1)


@dataclass(frozen=True)
class CrossEntropy:
    """l_i(w) = log Σ_c exp f_c(w, x_i) − f_{y_i}(w, x_i): −log softmax of the logits f at the class y_i = 0, 1, …

    With `smoothing` the label names y_i with probability 1 − smoothing, and all other classes alike.
    """

    network: MLP
    smoothing: float = 0.0

    @classmethod
    def from_problem(cls, problem: MLPProblem) -> CrossEntropy:
        """For the student's network."""
        return cls(MLP.from_spec(problem.model))

    def __call__(self, position: Float[Array, " d"], batch: tuple[Array, Array]) -> Float[Array, " B"]:
        """Losses of a batch of (inputs, classes)."""
        inputs, labels = batch
        return self.of_outputs(self.network(position, inputs), labels)

    def of_outputs(self, outputs: Float[Array, "B classes"], labels: Integer[Array, " B"]) -> Float[Array, " B"]:
        """Losses of a batch whose logits the network has computed."""
        return cross_entropy(outputs, labels, self.smoothing)


def cross_entropy(
    outputs: Float[Array, "B classes"], labels: Integer[Array, " B"], smoothing: float = 0.0
) -> Float[Array, " B"]:
    """−log softmax of the logits at the class of each row, or its mean over the classes that a smoothed label names."""
    at_label = jnp.take_along_axis(outputs, labels[:, None], axis=-1)[:, 0]
    if not smoothing:
        return jax.nn.logsumexp(outputs, axis=-1) - at_label
    at_others = (jnp.sum(outputs, axis=-1) - at_label) / (outputs.shape[-1] - 1)
    return jax.nn.logsumexp(outputs, axis=-1) - (1 - smoothing) * at_label - smoothing * at_others


def build_network_loss(problem: MLPProblem) -> NetworkLoss:
    """The loss that `problem.loss` names."""
    kinds = {"student_t_nll": StudentT, "cross_entropy": CrossEntropy}
    return kinds.get(problem.loss, SquaredError).from_problem(problem)
