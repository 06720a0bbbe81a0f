"""Identities that hold under any local posterior π ∝ e^(−U), U = nβ(L_n(w) − L_n(w0)) + (γ_loc/2) r², r = w − w0.

Integration by parts gives E_π[f·∇U − div f] = 0 for every smooth field f that does not grow too fast (Stein). With
f = M r, M constant and symmetric, that is E_π[½ (r·M∇U − tr M)] = 0. For a quadratic loss of Hessian H and
M = H(H + γ_loc)⁻¹ the difference nβ(L_n(w) − L_n(w0)) − ½ (r·M∇U − tr M) is the same number everywhere: the LLC.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lambda_hat.posterior.whitening import Whitening

__all__ = ["Identities", "Virials"]


class Virials(NamedTuple):
    """½ (r·∇U − d), and ½ (r·M∇U − tr M)."""

    plain: Float[Array, ""]
    curved: Float[Array, ""]


class Identities(eqx.Module):
    """The identities of M = 1 and of M = 1 − γ_loc A Aᵀ, which is H(H + γ_loc)⁻¹ if A whitens by H.

    They hold for every A; a poor one makes the second less useful, not wrong.
    """

    at_w0: Whitening
    localization: Float[Array, ""]
    flat_trace: Float[Array, ""]  # tr (1 − M)

    def __init__(self, at_w0: Whitening, localization: Float[Array, ""]) -> None:
        self.at_w0 = at_w0
        self.localization = localization
        self.flat_trace = localization * at_w0.squared_norm

    def read(self, displacement: Float[Array, " d"], force: Float[Array, " d"]) -> Virials:
        """Their values at w0 + displacement, where `force` is ∇U or an unbiased estimate of it."""
        plain = self.plain(displacement, force)
        return Virials(plain, plain - self.flat(displacement, force))

    def plain(self, displacement: Float[Array, " d"], force: Float[Array, " d"]) -> Float[Array, ""]:
        """That of M = 1, ½ (r·∇U − d): two inner products."""
        return 0.5 * (displacement @ force - displacement.size)

    def flat(self, displacement: Float[Array, " d"], force: Float[Array, " d"]) -> Float[Array, ""]:
        """That of 1 − M = γ_loc A Aᵀ, which the directions without curvature make up: two products with A."""
        along, against = jax.vmap(self.at_w0.pullback)(jnp.stack([displacement, force]))  # one product of matrices
        return 0.5 * (self.localization * (along @ against) - self.flat_trace)
