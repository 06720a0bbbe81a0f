"""What targets whose λ̂ is known share: the value of a Gaussian posterior, and gradient noise that leaves L_n alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lambda_hat.targets.datasets import Stream, random_stream

__all__ = ["GaussianLLC", "draw_gradient_noise"]


@dataclass(frozen=True, eq=False)
class GaussianLLC:
    """½ Σ nβh/(nβh + γ_loc) over the eigenvalues h of ∇²L_n, where L_n is exactly quadratic."""

    curvatures: Float[np.ndarray, " d"]

    def __call__(self, nbeta: float, localization: float) -> float:
        """λ̂."""
        return float(0.5 * np.sum(nbeta * self.curvatures / (nbeta * self.curvatures + localization)))


def draw_gradient_noise(num_data: int, dim: int, scale: float, seed: int) -> Float[np.ndarray, "n d"]:
    """Rows g_i with standard deviation `scale` and a sum of zero, so that g_i·(w − w0) adds nothing to L_n."""
    noise = scale * random_stream(seed, Stream.NOISE).standard_normal((num_data, dim))
    return noise - noise.mean(axis=0)
