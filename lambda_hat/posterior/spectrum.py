"""The spectrum of the loss's Hessian at w0, and the Gaussian (Laplace) value of the LLC that follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.posterior.local import LocalPosterior
from lambda_hat.targets.lanczos import lanczos

__all__ = ["Spectrum", "spectrum_at_w0"]

NUM_PROBES = 12
NUM_LANCZOS_STEPS = 30


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues h of the Hessian of nβL_n: all of them with weight one, or nodes and weights of a quadrature.

    Σ weights · f(values) is the trace of f of the Hessian: exact, or by stochastic Lanczos quadrature, one row per
    random probe.
    """

    values: Float[np.ndarray, "probes k"]
    weights: Float[np.ndarray, "probes k"]
    is_exact: bool

    @classmethod
    def from_eigenvalues(cls, eigenvalues: Array | np.ndarray) -> Spectrum:
        """All eigenvalues are known."""
        values = np.asarray(eigenvalues, np.float64)[None]
        return cls(values, np.ones_like(values), is_exact=True)

    def trace(self, function: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
        """Trace of `function` of the Hessian, and its standard error: that of the mean over probes."""
        sums = np.sum(self.weights * function(self.values), axis=1)
        error = 0.0 if self.is_exact else float(np.std(sums, ddof=1) / np.sqrt(len(sums)))
        return float(np.mean(sums)), error

    def laplace_llc(self, localization: float) -> tuple[float, float]:
        """½ Σ |h|/(|h| + γ_loc), which λ̂ would be if the posterior were Gaussian, and its standard error."""
        value, error = self.trace(lambda h: np.abs(h) / (np.abs(h) + localization))
        return 0.5 * value, 0.5 * error

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue, or the smallest node."""
        return float(self.values.min())

    @property
    def largest(self) -> float:
        """The largest eigenvalue, or the largest node."""
        return float(self.values.max())


@eqx.filter_jit
def _product_at_w0(posterior: LocalPosterior, vector: Array) -> Array:
    return posterior.hessian_vector_product(posterior.w0, vector)


def spectrum_at_w0(posterior: LocalPosterior, rng_key: Array) -> Spectrum:
    """Spectrum at w0 by stochastic Lanczos quadrature (Ubaru et al. 2017): some 360 Hessian–vector products.

    For models whose Hessian is too large to decompose; see `Spectrum.from_eigenvalues` for the others.
    """
    signs = np.asarray(jax.random.rademacher(rng_key, (NUM_PROBES, posterior.dim), posterior.w0.dtype))
    rows = []
    for start in signs:
        values, vectors, _ = lanczos(
            lambda vector: np.asarray(_product_at_w0(posterior, jnp.asarray(vector))), start, NUM_LANCZOS_STEPS
        )
        rows.append((values, posterior.dim * vectors[0] ** 2))
    width = max(len(values) for values, _ in rows)
    pad = lambda array: np.pad(array, (0, width - len(array)))  # noqa: E731  # weight 0 counts for nothing
    return Spectrum(
        np.stack([pad(values) for values, _ in rows]), np.stack([pad(weights) for _, weights in rows]), is_exact=False
    )
