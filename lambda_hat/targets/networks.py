"""Fully connected networks as functions of one flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.config.problems import Activation, ModelSpec

__all__ = ["MLP", "Layer"]

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "softplus": jax.nn.softplus,
    "identity": lambda x: x,
}
NARROW = 16  # units of a hidden layer
FEW_ROWS = 256  # of a batch
# Variance of a weight times fan_in: LeCun where the activation has slope one at zero, He where half the units are off.
_GAINS: dict[str, float] = {"tanh": 1.0, "identity": 1.0, "relu": 2.0, "gelu": 2.0, "softplus": 2.0}


@dataclass(frozen=True)
class Layer:
    """Place of one affine map in the flat vector: weights (in_dim, out_dim) in row-major order, then the bias."""

    in_dim: int
    out_dim: int
    weight_offset: int
    bias_offset: int | None

    @property
    def weight(self) -> slice:
        """Slice of the weights in the flat vector."""
        return slice(self.weight_offset, self.weight_offset + self.in_dim * self.out_dim)

    def matrix(self, position: Float[Array, " d"]) -> Float[Array, "in out"]:
        """Weights (in_dim, out_dim) at a position."""
        return position[self.weight].reshape(self.in_dim, self.out_dim)

    @property
    def bias(self) -> slice | None:
        """Slice of the bias in the flat vector; None without one."""
        return None if self.bias_offset is None else slice(self.bias_offset, self.bias_offset + self.out_dim)


@dataclass(frozen=True)
class MLP:
    """f(w, x): affine maps of the given `sizes` with `activation` between them, none after the last."""

    sizes: tuple[int, ...]
    activation: Activation = "tanh"
    has_bias: bool = True

    @classmethod
    def from_spec(cls, spec: ModelSpec) -> MLP:
        """Network with `spec.depth` hidden layers of `spec.width` units."""
        return cls((spec.in_dim, *[spec.width] * spec.depth, spec.out_dim), spec.activation, spec.bias)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Shapes and offsets of the affine maps, first to last."""
        layers, offset = [], 0
        for in_dim, out_dim in pairwise(self.sizes):
            bias_offset = offset + in_dim * out_dim if self.has_bias else None
            layers.append(Layer(in_dim, out_dim, offset, bias_offset))
            offset += in_dim * out_dim + (out_dim if self.has_bias else 0)
        return tuple(layers)

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return sum((layer.in_dim + self.has_bias) * layer.out_dim for layer in self.layers)

    def __call__(self, position: Float[Array, " d"], inputs: Float[Array, "B in"]) -> Float[Array, "B out"]:
        """Outputs for a batch, in the precision of the arguments."""
        if max(self.sizes[1:-1], default=0) <= NARROW and inputs.shape[0] > FEW_ROWS:
            return self._by_columns(position, inputs)
        return self.trace(position, inputs)[0]

    def _by_columns(self, position: Float[Array, " d"], inputs: Float[Array, "B in"]) -> Float[Array, "B out"]:
        # The same with units as rows of long vectors: on a CPU up to 2.5 times as fast where there are few units.
        activation_fn = _ACTIVATIONS[self.activation]
        hidden = inputs.T
        for index, layer in enumerate(self.layers):
            if index:
                hidden = activation_fn(hidden)
            hidden = layer.matrix(position).T @ hidden
            if layer.bias is not None:
                hidden = hidden + position[layer.bias][:, None]
        return hidden.T

    def trace(
        self, position: Float[Array, " d"], inputs: Float[Array, "B in"], taps: Sequence[Array] = ()
    ) -> tuple[Float[Array, "B out"], list[Array]]:
        """Outputs, and the inputs of every layer. `taps`, one per layer, are added to the outputs of the layers."""
        activation_fn = _ACTIVATIONS[self.activation]
        hidden, layer_inputs = inputs, []
        for index, layer in enumerate(self.layers):
            if index:
                hidden = activation_fn(hidden)
            layer_inputs.append(hidden)
            hidden = hidden @ layer.matrix(position)
            if layer.bias is not None:
                hidden = hidden + position[layer.bias]
            if taps:
                hidden = hidden + taps[index]
        return hidden, layer_inputs

    def init(self, rng: np.random.Generator) -> Float[np.ndarray, " d"]:
        """Starting point of training: N(0, gain/fan_in) weights (He or LeCun by activation), zero biases."""
        position = np.zeros(self.dim)
        for layer in self.layers:
            scale = np.sqrt(_GAINS[self.activation] / layer.in_dim)
            position[layer.weight] = scale * rng.standard_normal(layer.in_dim * layer.out_dim)
        return position

    def random_position(self, rng: np.random.Generator, weight_scale: float) -> Float[np.ndarray, " d"]:
        """Parameters of a teacher: weights and biases N(0, weight_scale²/fan_in)."""
        position = np.zeros(self.dim)
        for layer in self.layers:
            scale = weight_scale / np.sqrt(layer.in_dim)
            position[layer.weight] = scale * rng.standard_normal(layer.in_dim * layer.out_dim)
            if layer.bias is not None:
                position[layer.bias] = scale * rng.standard_normal(layer.out_dim)
        return position
