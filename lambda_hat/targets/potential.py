"""Singular potentials in two dimensions, whose λ̂ is an integral that a quadrature gets right to ten digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float

from lambda_hat.config.problems import PotentialProblem
from lambda_hat.targets.analytic import draw_gradient_noise
from lambda_hat.targets.kind import TargetKind
from lambda_hat.targets.model import Data, Model

__all__ = ["KIND", "PotentialLLC", "PotentialLoss"]

# The integrands are analytic in log w within π/(4 max(k, l)) of the real axis: this step leaves errors of e^(−π²/0.4).
_RELATIVE_STEP = 0.2
_LOG_TAIL = 32.0  # towards w = 0 they vanish like w
_LARGEST = 12.0  # in units of 1/√γ_loc; beyond it exp(−w²/2) is below 1e-31


@dataclass(frozen=True)
class PotentialLoss:
    """l_i(w) = w₁²ᵏ w₂²ˡ + g_i·w; the data are the rows g_i, which sum to zero, so that L_n(w) = w₁²ᵏ w₂²ˡ."""

    k: int
    l: int  # noqa: E741

    def __call__(self, position: Float[Array, " 2"], batch: tuple[Float[Array, "B 2"]]) -> Float[Array, " B"]:
        """Losses of a batch of gradient-noise rows."""
        (noise,) = batch
        return position[0] ** (2 * self.k) * position[1] ** (2 * self.l) + noise @ position


@dataclass(frozen=True)
class PotentialLLC:
    """nβ E[w₁²ᵏ w₂²ˡ] under exp(−nβ w₁²ᵏ w₂²ˡ − (γ_loc/2)|w|²), by the trapezoidal rule in log w₁ and log w₂.

    Both integrands are even in w₁ and w₂ and decay fast at both ends of the logarithms, where the rule converges
    exponentially. For k = l = 1 the value is ½ + a(1 − K₁(a)/K₀(a)) with a = γ_loc²/(8nβ).
    """

    k: int
    l: int  # noqa: E741

    def __call__(self, nbeta: float, localization: float) -> float:
        """λ̂."""
        log_scale = np.log(nbeta) - (self.k + self.l) * np.log(localization)  # with w in units of 1/√γ_loc
        step = _RELATIVE_STEP / max(self.k, self.l)
        # Where nβL_n pins one of the two down, it pins it to this scale while the other is about one.
        first, second = (
            np.arange(-max(log_scale, 0.0) / (2 * power) - _LOG_TAIL, np.log(_LARGEST), step)
            for power in (self.k, self.l)
        )
        exponents = 2 * self.k * first[:, None] + 2 * self.l * second + log_scale
        potential = np.exp(np.minimum(exponents, 700.0))  # beyond, the density is zero to every digit
        radii = 0.5 * (np.exp(2 * first)[:, None] + np.exp(2 * second))
        weights = np.exp(first[:, None] + second - potential - radii)
        return float(np.sum(potential * weights) / np.sum(weights))


def _loss_of(problem: PotentialProblem) -> PotentialLoss:
    return PotentialLoss(problem.k, problem.l)


def _build(problem: PotentialProblem) -> Model:
    """At w0 = 0; as nβ → ∞ its λ̂ rises to 1/(2 max(k, l)), the `asymptotic_llc`."""
    noise = draw_gradient_noise(problem.num_data, 2, problem.gradient_noise, problem.seed)
    info = {
        "is_minimum": True,
        "loss": 0.0,
        "gradient_norm": float(np.linalg.norm(noise.mean(axis=0))),
        "decrease_available": 0.0,
        "asymptotic_llc": 0.5 / max(problem.k, problem.l),
    }
    return Model(np.zeros(2), (noise,), _loss_of(problem), info)


def _exact_llc(problem: PotentialProblem, data: Data) -> PotentialLLC:
    del data
    return PotentialLLC(problem.k, problem.l)


KIND = TargetKind(build=_build, loss_of=_loss_of, exact_llc_of=_exact_llc)
