"""Whitening by eigenvalue-corrected Kronecker factors (EKFAC, George et al. 1806.03884), of networks of layers."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.posterior.local import LocalPosterior
from lambda_hat.posterior.whitening import Whitening
from lambda_hat.targets.losses import NetworkLoss
from lambda_hat.targets.networks import Layer

__all__ = ["KroneckerWhitening", "kronecker_whitening"]

OF_BLOCK = 4_000  # multiplications that take as long as taking a block apart and putting it together


class KroneckerWhitening(Whitening):
    """A as one block per matrix of parameters: (w − w0) = U (s ⊙ Z) Vᵀ, such as weights and bias (in_dim + 1, out_dim).

    U and V are orthogonal, None for the identity; s are the scales 1/√(nβ e + γ_loc) with e the second moments of the
    gradients along U ⊗ V. Of a layer, U and V are eigenvectors of the second moments of its inputs and of the gradients
    of its outputs.
    """

    spans: tuple[tuple[int, int], ...] = eqx.field(static=True)  # of each layer in the flat vector
    in_bases: tuple[Float[Array, "in in"] | None, ...]
    out_bases: tuple[Float[Array, "out out"] | None, ...]
    scales: tuple[Float[Array, "in out"], ...]

    def _blocks(self, vector: Array) -> list[Array]:
        return [
            vector[start:end].reshape(scale.shape) for (start, end), scale in zip(self.spans, self.scales, strict=True)
        ]

    def _rotated(self, blocks: list[Array]) -> list[Array]:
        return [
            _product(_transposed(u), block, v)
            for u, block, v in zip(self.in_bases, blocks, self.out_bases, strict=True)
        ]

    def _turned(self, blocks: list[Array]) -> Array:
        turned = [
            _product(u, block, _transposed(v))
            for u, block, v in zip(self.in_bases, blocks, self.out_bases, strict=True)
        ]
        return jnp.concatenate([block.ravel() for block in turned])

    def displacement(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """w − w0 = A z."""
        return self._turned([scale * block for scale, block in zip(self.scales, self._blocks(z), strict=True)])

    def coordinates(self, displacement: Float[Array, " d"]) -> Float[Array, " d"]:
        """The z with A z = w − w0."""
        blocks = self._rotated(self._blocks(displacement))
        return jnp.concatenate([(block / scale).ravel() for block, scale in zip(blocks, self.scales, strict=True)])

    def pullback(self, gradient: Float[Array, " d"]) -> Float[Array, " d"]:
        """Aᵀ g, the gradient with respect to z."""
        blocks = self._rotated(self._blocks(gradient))
        return jnp.concatenate([(scale * block).ravel() for block, scale in zip(blocks, self.scales, strict=True)])

    def gradient(self, pulled: Float[Array, " d"]) -> Float[Array, " d"]:
        """The g with Aᵀ g = pulled."""
        blocks = [block / scale for block, scale in zip(self._blocks(pulled), self.scales, strict=True)]
        return self._turned(blocks)

    @property
    def num_multiplications(self) -> int:
        """What one product with A costs, with what each block takes beside its multiplications."""
        bases = zip(self.scales, self.in_bases, self.out_bases, strict=True)
        sizes = (scale.size * (1 + sum(len(base) for base in sides if base is not None)) for scale, *sides in bases)
        return sum(size + OF_BLOCK for size in sizes)

    @property
    def squared_norm(self) -> Float[Array, ""]:
        """tr A Aᵀ."""
        return sum((jnp.sum(scale**2) for scale in self.scales), jnp.zeros(()))

    @property
    def log_abs_det(self) -> Float[Array, ""]:
        """log |det A|."""
        return sum((jnp.sum(jnp.log(scale)) for scale in self.scales), jnp.zeros(()))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Bases and scales of every layer, with the layer's place in the flat vector."""
        arrays = {"spans": np.asarray(self.spans)}
        for name in ("in_bases", "out_bases", "scales"):
            known = ((i, array) for i, array in enumerate(getattr(self, name)) if array is not None)
            arrays |= {f"{name}.{i}": np.asarray(array) for i, array in known}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Any, dtype: str) -> KroneckerWhitening:
        """The whitening from the arrays that `to_arrays` gave."""
        spans = tuple((int(start), int(end)) for start, end in arrays["spans"])
        in_bases, out_bases = (
            tuple(
                jnp.asarray(arrays[f"{name}.{i}"], dtype=dtype) if f"{name}.{i}" in arrays else None
                for i in range(len(spans))
            )
            for name in ("in_bases", "out_bases")
        )
        scales = tuple(jnp.asarray(arrays[f"scales.{i}"], dtype=dtype) for i in range(len(spans)))
        return cls(spans, in_bases, out_bases, scales)


def _transposed(basis: Array | None) -> Array | None:
    return None if basis is None else basis.T


def _product(left: Array | None, block: Array, right: Array | None) -> Array:
    """left @ block @ right, where None stands for the identity."""
    block = block if left is None else left @ block
    return block if right is None else block @ right


def _span(layer: Layer) -> tuple[int, int]:
    return layer.weight_offset, (layer.weight if layer.bias is None else layer.bias).stop


def _signals(loss_fn: NetworkLoss, position: Array, batch: Any, rng_key: Array) -> tuple[list[Array], list[Array]]:
    """Inputs of every layer, a one appended for the bias, and gradients of its outputs.

    The gradients are those of random outputs whose second moment is the loss's own curvature there (a symmetric root
    of it times random signs), so that second moments of the weights' gradients are the Gauss–Newton matrix.
    """
    network, (inputs, labels) = loss_fn.network, batch
    position = position.astype(inputs.dtype)
    taps = [jnp.zeros((inputs.shape[0], layer.out_dim), position.dtype) for layer in network.layers]

    def outputs_of(taps: list[Array]) -> tuple[Array, list[Array]]:
        return network.trace(position, inputs, taps)

    outputs, pullback, layer_inputs = jax.vjp(outputs_of, taps, has_aux=True)
    curvature = jax.vmap(jax.hessian(lambda output, label: loss_fn.of_outputs(output[None], label[None])[0]))(
        outputs, labels
    )
    if outputs.shape[1] == 1:
        values, vectors = curvature[:, 0], jnp.ones_like(curvature)
    else:
        values, vectors = jnp.linalg.eigh(curvature)
    signs = jax.random.rademacher(rng_key, outputs.shape, outputs.dtype)
    (gradients,) = pullback(jnp.einsum("bij,bj->bi", vectors, jnp.sqrt(jnp.maximum(values, 0.0)) * signs))
    if network.has_bias:
        layer_inputs = [jnp.pad(array, ((0, 0), (0, 1)), constant_values=1.0) for array in layer_inputs]
    return layer_inputs, gradients


@eqx.filter_jit
def kronecker_whitening(
    posterior: LocalPosterior, positions: Float[Array, "draws d"], rng_key: Array
) -> KroneckerWhitening:
    """EKFAC from Gauss–Newton moments averaged over `positions` and all rows.

    The loss must be a `NetworkLoss` on rows (inputs, labels).
    """
    loss_fn: Any = posterior.loss_fn

    def mean_over_signals(statistic_fn: Any) -> Any:
        """Mean of `statistic_fn(inputs, gradients, weights)` over rows and positions."""

        def add_chunk(total: Any, chunk: Any) -> tuple[Any, None]:
            position, key, batch, weights = chunk
            statistic = statistic_fn(*_signals(loss_fn, position, batch, key), weights)
            return jax.tree.map(jnp.add, total, statistic), None

        def add_position(total: Any, pair: Any) -> tuple[Any, None]:
            position, key = pair
            keys = jax.random.split(key, posterior.row_weights.shape[0])
            repeated = jnp.broadcast_to(position, (keys.shape[0], position.size))
            return jax.lax.scan(add_chunk, total, (repeated, keys, posterior.rows, posterior.row_weights))

        pairs = (positions, jax.random.split(rng_key, positions.shape[0]))
        chunk = jax.tree.map(lambda x: x[0], (posterior.rows, posterior.row_weights))
        shapes = jax.eval_shape(lambda: statistic_fn(*_signals(loss_fn, positions[0], chunk[0], rng_key), chunk[1]))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, positions.dtype), shapes)
        total, _ = jax.lax.scan(add_position, zeros, pairs)
        return jax.tree.map(lambda x: x / positions.shape[0], total)

    def second_moments(inputs: list[Array], gradients: list[Array], weights: Array) -> Any:
        return (
            [(weights[:, None] * array).T @ array for array in inputs],
            [(weights[:, None] * array).T @ array for array in gradients],
        )

    in_moments, out_moments = mean_over_signals(second_moments)
    in_bases = [jnp.linalg.eigh(moment)[1] for moment in in_moments]
    out_bases = [jnp.linalg.eigh(moment)[1] for moment in out_moments]

    def along_bases(inputs: list[Array], gradients: list[Array], weights: Array) -> list[Array]:
        return [
            (weights[:, None] * jnp.square(a @ u)).T @ jnp.square(g @ v)
            for a, u, g, v in zip(inputs, in_bases, gradients, out_bases, strict=True)
        ]

    curvatures = mean_over_signals(along_bases)
    scales = [1.0 / jnp.sqrt(posterior.nbeta * curvature + posterior.localization) for curvature in curvatures]
    return KroneckerWhitening(
        spans=tuple(_span(layer) for layer in loss_fn.network.layers),
        in_bases=tuple(in_bases),
        out_bases=tuple(out_bases),
        scales=tuple(scales),
    )
