"""Linear networks at a w0 that is constructed, not trained, so that its local coefficient is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from lambda_hat.config.problems import DeepLinearProblem, ReducedRankProblem
from lambda_hat.targets.datasets import Stream, random_stream
from lambda_hat.targets.kind import TargetKind
from lambda_hat.targets.learning_coefficients import aoyagi_coefficient, lowest_rank_profile, profile_codimension
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.model import Model
from lambda_hat.targets.networks import MLP

__all__ = ["KIND", "draw_factors", "jacobian_rank", "product_ranks"]

_RANK_TOLERANCE = 1e-9  # of singular values, which are about one or rounding

Matrix = Float[np.ndarray, "rows columns"]


def _loss_of(problem: DeepLinearProblem | ReducedRankProblem) -> SquaredError:
    """l_i(w) = |x_i W₁⋯W_L − y_i|²/(2σ²)."""
    return SquaredError(MLP(problem.widths, "identity", False), 0.5 / problem.noise_scale**2)


def _orthonormal_columns(rng: np.random.Generator, rows: int, columns: int) -> Matrix:
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def draw_factors(
    widths: tuple[int, ...], rank: int, profile: tuple[int, ...], rng: np.random.Generator
) -> list[Matrix]:
    """Random W₁, …, W_L with a product of rank r and rank(W_{i+1}⋯W_L) = q_i, generic among those.

    With G₁ = U, the left factor of the product, G_{L+1} = Qᵀ, and G_i random with q_{i−1} orthonormal columns between,

        W_i = [G_i, 0] G_{i+1}ᵀ + Z (1 − G_{i+1} G_{i+1}ᵀ),  Z ~ N(0, 1/fan_in),

    so that W_i⋯W_L = G_i (the first q_{i−1} rows of Q), and all singular values of the product are one.
    """
    sizes = (rank, *profile, widths[-1])
    frames = [_orthonormal_columns(rng, width, size) for width, size in zip(widths, sizes, strict=True)]
    factors = []
    for frame, following in pairwise(frames):
        image = np.zeros((frame.shape[0], following.shape[1]))
        image[:, : frame.shape[1]] = frame
        rest = rng.standard_normal((frame.shape[0], following.shape[0])) / np.sqrt(frame.shape[0])
        factors.append(image @ following.T + rest - (rest @ following) @ following.T)
    return factors


def product_ranks(factors: list[Matrix]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ranks p_i of W₁⋯W_i and q_i of W_{i+1}⋯W_L, i = 0, …, L; p₀ = H₁ and q_L = H_{L+1}."""
    before, after = [np.eye(factors[0].shape[0])], [np.eye(factors[-1].shape[1])]
    for factor in factors:
        before.append(before[-1] @ factor)
    for factor in reversed(factors):
        after.append(factor @ after[-1])
    p, q = (
        tuple(int(np.linalg.matrix_rank(product, tol=_RANK_TOLERANCE)) for product in chain)
        for chain in (before, after)
    )
    return p, q[::-1]


def jacobian_rank(factors: list[Matrix]) -> int:
    """Rank of the derivative of W₁⋯W_L, with the image Σ_i (columns of W₁⋯W_{i−1}) ⊗ (rows of W_{i+1}⋯W_L).

    The first spaces shrink with i and the second grow: the rank is p₀q₁ + Σ_{i=1}^{L−1} p_i (q_{i+1} − q_i).
    """
    p, q = product_ranks(factors)
    return p[0] * q[1] + sum(p[i] * (q[i + 1] - q[i]) for i in range(1, len(factors)))


def _build(problem: DeepLinearProblem | ReducedRankProblem) -> Model:
    """Inputs N(0, 1), labels without noise, w0 on the component of the fibre that `problem.fibre` names.

    `info` has the `jacobian_rank` ρ of the product at w0 and the smallest coefficient on the fibre, `lowest_llc`. Near
    w0 the codimension of the fibre is at least ρ, and at most that of the factorisations whose products have the ranks
    of w0's. Where both agree, w0 is a regular point: L_n grows quadratically away from a smooth fibre, and the local
    coefficient, `asymptotic_llc`, is ρ/2.
    """
    widths, rank = problem.widths, problem.rank
    # Where all layers but the last have full rank, that of the product comes from the last alone.
    profile = lowest_rank_profile(widths, rank) if problem.fibre == "lowest" else (rank,) * (len(widths) - 2)
    factors = draw_factors(widths, rank, profile, random_stream(problem.seed, Stream.TEACHER))
    inputs = random_stream(problem.seed, Stream.INPUTS).standard_normal((problem.num_data, widths[0]))
    loss_fn = _loss_of(problem)
    w0 = np.concatenate([factor.ravel() for factor in factors])
    outputs = inputs
    for factor in factors:
        outputs = outputs @ factor
    rho = jacobian_rank(factors)
    p, q = product_ranks(factors)
    is_regular = rho == min(
        profile_codimension(widths, rank, q[1:-1]), profile_codimension(widths[::-1], rank, p[-2:0:-1])
    )
    info = {
        "is_minimum": True,
        "loss": 0.0,
        "gradient_norm": 0.0,
        "decrease_available": 0.0,
        "jacobian_rank": rho,
        "is_regular": is_regular,
        "lowest_llc": aoyagi_coefficient(widths, rank),
    }
    if is_regular:
        info["asymptotic_llc"] = rho / 2
    return Model(w0, (inputs, outputs), loss_fn, info)


KIND = TargetKind(build=_build, loss_of=_loss_of)
