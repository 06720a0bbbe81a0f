"""Chooses the whitening of a model by its size and structure, and reads its spectrum at w0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.posterior.kronecker import KroneckerWhitening, kronecker_whitening
from lambda_hat.posterior.leafwise import leafwise_whitening
from lambda_hat.posterior.local import LocalPosterior
from lambda_hat.posterior.spectrum import NUM_LANCZOS_STEPS, NUM_PROBES, Spectrum, spectrum_at_w0
from lambda_hat.posterior.spiked import SpikedWhitening, find_spikes, spiked_whitening
from lambda_hat.posterior.whitening import DenseWhitening, DiagonalWhitening, Whitening, hessian_whitening
from lambda_hat.targets.losses import NetworkLoss

__all__ = [
    "GRADIENTS_PER_PASS",
    "LEAST_POSITIONS",
    "MAX_DENSE_DIM",
    "Geometry",
    "average_whitening",
    "factored_whitening",
    "geometry_at_w0",
    "num_positions_to_average",
    "whitening_from_arrays",
]

MAX_DENSE_DIM = 2000  # parameters up to which a Hessian is built and decomposed
GRADIENTS_PER_PASS = 2  # work of a product with the Hessian beside that of a gradient
MAX_HESSIAN_COLUMNS = 20_000  # that one average is worth
MAX_POSITIONS = 160
LEAST_POSITIONS = 8  # of an average, and all where a Hessian of each is too much


class Geometry(NamedTuple):
    """The curvature at w0: coordinates A0, the spectrum, and the passes over the data that they took."""

    whitening: Whitening
    spectrum: Spectrum
    num_passes: int


def num_positions_to_average(dim: int) -> int:
    """Number of draws that the curvature is averaged over: fewer if one costs more."""
    if dim > MAX_DENSE_DIM:
        return LEAST_POSITIONS
    return max(LEAST_POSITIONS, min(MAX_POSITIONS, MAX_HESSIAN_COLUMNS // dim))


def average_whitening(
    posterior: LocalPosterior, positions: Float[Array, "draws d"], rng_key: Array
) -> tuple[Whitening, int]:
    """Whitening by the curvature averaged over `positions`, and the number of passes over the data.

    Up to `MAX_DENSE_DIM` parameters the curvature is the Hessian. Above, it is Kronecker factors.
    """
    num_positions = positions.shape[0]
    if posterior.dim <= MAX_DENSE_DIM:
        return hessian_whitening(posterior, positions)[0], num_positions * posterior.dim
    return factored_whitening(posterior, positions, rng_key)


def factored_whitening(
    posterior: LocalPosterior, positions: Float[Array, "draws d"], rng_key: Array
) -> tuple[Whitening, int]:
    """Whitening by Kronecker factors of the curvature averaged over `positions`, and the passes over the data.

    The factors are those of layers where these are known. Else they are those of leaves, whose larger matrices are not
    turned, and the stiffest directions are looked for one by one.
    """
    num_positions = positions.shape[0]
    if isinstance(posterior.loss_fn, NetworkLoss):
        return kronecker_whitening(posterior, positions, rng_key), 2 * num_positions
    spikes, num_passes = find_spikes(posterior, positions, rng_key)
    rest = leafwise_whitening(posterior, positions, rng_key, spikes)
    return spiked_whitening(rest, spikes), num_passes + 3 * num_positions


def geometry_at_w0(posterior: LocalPosterior, rng_key: Array) -> Geometry:
    """Coordinates A0 and the spectrum at w0. Up to `MAX_DENSE_DIM` parameters both come from the whole Hessian.

    Above, they are estimated.
    """
    if posterior.dim <= MAX_DENSE_DIM:
        whitening, eigenvalues = hessian_whitening(posterior, posterior.w0[None])
        return Geometry(whitening, Spectrum.from_eigenvalues(eigenvalues), posterior.dim)
    factor_key, probe_key = jax.random.split(rng_key)
    whitening, num_passes = average_whitening(posterior, posterior.w0[None], factor_key)
    return Geometry(whitening, spectrum_at_w0(posterior, probe_key), num_passes + NUM_PROBES * NUM_LANCZOS_STEPS)


def whitening_from_arrays(arrays: Mapping[str, np.ndarray], dtype: str) -> Whitening:
    """The whitening, in `dtype`, from the arrays that its `to_arrays` gave.

    Raises:
        KeyError: the arrays are not those of a whitening.
    """
    if "spikes" in arrays:
        rest = {name: array for name, array in arrays.items() if name not in ("spikes", "stretches")}
        return SpikedWhitening.from_arrays(whitening_from_arrays(rest, dtype), arrays, dtype)
    if "spans" in arrays:
        return KroneckerWhitening.from_arrays(arrays, dtype)
    if "dense" in arrays:
        return DenseWhitening(jnp.asarray(arrays["dense"], dtype=dtype))
    return DiagonalWhitening(jnp.asarray(arrays["diagonal"], dtype=dtype))
