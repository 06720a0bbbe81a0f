"""Learning coefficients of linear networks by closed formulas: the minimum over all parameters with the same product.

At one particular w0 the local coefficient can be larger: with widths 10-10-10-10 and rank 4 the minimum is 44, but
where all layers except the last have full rank it is 50.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

from lambda_hat.errors import InputError

__all__ = ["aoyagi_coefficient", "lowest_rank_profile", "profile_codimension", "reduced_rank_coefficient"]


def _check(widths: Sequence[int], rank: int) -> None:
    if len(widths) < 3 or min(widths) < 1:
        raise InputError(f"found widths {tuple(widths)}, expected inputs, hidden layers and outputs, each at least 1")
    if not 0 <= rank <= min(widths):
        raise InputError(f"found rank {rank}, expected one from 0 to {min(widths)}, the smallest of the widths")


def aoyagi_coefficient(widths: Sequence[int], rank: int) -> float:
    """λ of a linear network with layers H₁, …, H_{L+1} = `widths` and a true product of the given rank r.

    With Δ_s = H_s − r, take the set Σ of layers, ℓ = |Σ| − 1 ≥ 1, for which max_Σ Δ < min_Σᶜ Δ, Σ_Σ Δ ≥ ℓ max_Σ Δ and
    Σ_Σ Δ < ℓ min_Σᶜ Δ (what concerns an empty Σᶜ holds). With S = Σ_Σ Δ, M = ⌈S/ℓ⌉ and a = S − (M − 1)ℓ,

        λ = [r(H₁ + H_{L+1}) − r²]/2 + a(ℓ − a)/(4ℓ) − (ℓ(ℓ − 1)/4)(S/ℓ)² + ½ Σ_{i<j∈Σ} Δ_i Δ_j.

    Of all layers, first and last included, only the widths count, and of these only r, H₁ and H_{L+1} by place. This is
    the smallest local coefficient on the fibre of that product (Aoyagi, Neural Networks 172, 2024).

    Raises:
        InputError: fewer than three widths, or a rank that no such product has.
    """
    _check(widths, rank)
    deltas = sorted(width - rank for width in widths)
    # Σ holds the smallest Δ: of equal ones all or none, since max_Σ Δ < min_Σᶜ Δ.
    ell = next(
        ell
        for ell in range(1, len(deltas))
        if sum(deltas[: ell + 1]) >= ell * deltas[ell]
        and all(deltas[ell] < delta and sum(deltas[: ell + 1]) < ell * delta for delta in deltas[ell + 1 :])
    )
    chosen = deltas[: ell + 1]
    total = sum(chosen)
    ceiling = -(-total // ell)
    a = total - (ceiling - 1) * ell
    pairs = sum(one * other for one, other in combinations(chosen, 2))
    fixed = rank * (widths[0] + widths[-1]) - rank**2
    return (2 * ell * (fixed + pairs) + a * (ell - a) - (ell - 1) * total**2) / (4 * ell)  # whole numbers: exact


def reduced_rank_coefficient(in_dim: int, hidden_dim: int, out_dim: int, rank: int) -> float:
    """λ of reduced-rank regression M → H → N with a true matrix of rank r (Aoyagi & Watanabe 2005):

        N+r ≤ M+H, M+r ≤ N+H, H+r ≤ M+N:  [2(H+r)(M+N) + 2MN − (H+r)² − M² − N² (+1 if M+H+N+r is odd)]/8
        M+H < N+r:  (HM − Hr + Nr)/2        N+H < M+r:  (HN − Hr + Mr)/2        M+N < H+r:  MN/2

    It equals `aoyagi_coefficient((M, H, N), r)`, and like that it is the minimum over the fibre.

    Raises:
        InputError: a width below 1, or a rank that no such product has.
    """
    _check((in_dim, hidden_dim, out_dim), rank)
    if in_dim + hidden_dim < out_dim + rank:
        return (hidden_dim * in_dim - hidden_dim * rank + out_dim * rank) / 2
    if out_dim + hidden_dim < in_dim + rank:
        return (hidden_dim * out_dim - hidden_dim * rank + in_dim * rank) / 2
    if in_dim + out_dim < hidden_dim + rank:
        return in_dim * out_dim / 2
    inner, is_odd = hidden_dim + rank, (in_dim + hidden_dim + out_dim + rank) % 2
    both = 2 * inner * (in_dim + out_dim) + 2 * in_dim * out_dim
    return (both - inner**2 - in_dim**2 - out_dim**2 + is_odd) / 8


def profile_codimension(widths: Sequence[int], rank: int, profile: Sequence[int]) -> int:
    """Codimension of the factors W₁, …, W_L of one product P of rank r for which q_i = rank(W_{i+1}⋯W_L) = `profile`.

    From the last layer to the first, with V the product of what follows: rank(W_{i+1} V) = q_i, and its row space holds
    that of P; W₁V = P. Counting what each is free to be leaves

        codim = H₁ q₁ + Σ_{i=1}^{L−1} (q_{i+1} − q_i)(H_{i+1} + r − q_i),  q_L = H_{L+1}.
    """
    ranks = (*profile, widths[-1])
    pairs = zip(pairwise(ranks), widths[1:-1], strict=True)
    return widths[0] * ranks[0] + sum((after - q) * (width + rank - q) for (q, after), width in pairs)


def lowest_rank_profile(widths: Sequence[int], rank: int) -> tuple[int, ...]:
    """The ranks q₁ ≤ … ≤ q_{L−1} for which `profile_codimension` is smallest: there it is twice Aoyagi's coefficient.

    Raises:
        InputError: fewer than three widths, or a rank that no such product has.
    """
    _check(widths, rank)
    best = {widths[-1]: (0, ())}  # by the rank of what follows: the sum from there on, and its profile
    for width in reversed(widths[1:-1]):
        best = {
            q: min(
                (cost + (after - q) * (width + rank - q), (q, *profile))
                for after, (cost, profile) in best.items()
                if after >= q
            )
            for q in range(rank, min(width, max(best)) + 1)
        }
    return min((cost + widths[0] * q, profile) for q, (cost, profile) in best.items())[1]
