"""The Lanczos process with full reorthogonalisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float

__all__ = ["lanczos"]


def lanczos(
    matvec: Callable[[np.ndarray], np.ndarray], start: Float[np.ndarray, " d"], num_steps: int
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, "k k"], Float[np.ndarray, "k d"]]:
    """Ritz values, ascending, coefficients of the Ritz vectors in the Lanczos basis, and that basis.

    The basis is kept orthogonal; it starts with `start` and ends early where the Krylov space does.
    """
    basis = (start / np.linalg.norm(start))[None]
    diagonal, off_diagonal = np.empty(0), np.empty(0)
    for _ in range(num_steps):
        image = matvec(basis[-1])
        diagonal = np.append(diagonal, image @ basis[-1])
        for _ in range(2):  # once is not enough to keep the basis orthogonal in floating point
            image = image - basis.T @ (basis @ image)
        residual = np.linalg.norm(image)
        if residual <= 1e-10 * np.abs(diagonal).max():
            break  # the space is invariant: nothing more to find
        off_diagonal = np.append(off_diagonal, residual)
        basis = np.vstack([basis, image / residual])
    num_pairs = len(diagonal)
    values, vectors = scipy.linalg.eigh_tridiagonal(diagonal, off_diagonal[: num_pairs - 1])
    return values, vectors, basis[:num_pairs]
