"""Per-example losses as hashable values: equal ones share their compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from lambda_hat.config.problems import MLPProblem
from lambda_hat.targets.networks import MLP

__all__ = ["SquaredError"]


@dataclass(frozen=True)
class SquaredError:
    """l_i(w) = weight · |f(w, x_i) − y_i|², summed over outputs.

    `gaussian_nll` has weight 1/(2σ²) with σ the noise scale of the data, its constant log σ√(2π) left out; `mse` has 1.
    """

    network: MLP
    weight: float

    @classmethod
    def from_problem(cls, problem: MLPProblem) -> SquaredError:
        """The loss that `problem.loss` names, for the student's network."""
        weight = 1.0 if problem.loss == "mse" else 0.5 / problem.data.noise_scale**2
        return cls(MLP.from_spec(problem.model), weight)

    def __call__(self, position: Float[Array, " d"], batch: tuple[Array, Array]) -> Float[Array, " B"]:
        """Losses of a batch of (inputs, labels)."""
        inputs, labels = batch
        return self.of_outputs(self.network(position, inputs), labels)

    def of_outputs(self, outputs: Float[Array, "B out"], labels: Float[Array, "B out"]) -> Float[Array, " B"]:
        """Losses of a batch whose outputs the network has computed."""
        return self.weight * jnp.sum(jnp.square(outputs - labels), axis=-1)
