"""Whitening changes coordinates, never the posterior: the same λ̂ in all, on one that is far from Gaussian."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.posterior import (
    DenseWhitening,
    DiagonalWhitening,
    LocalPosterior,
    build_posterior,
    hessian_whitening,
    identity_whitening,
)
from lambda_hat.posterior.kronecker import KroneckerWhitening
from lambda_hat.samplers.hmc import HMC

pytestmark = pytest.mark.usefixtures("float64")

NBETA, LOCALIZATION = 20.0, 4.0
INPUTS = np.array([[2.0, 0.5], [0.5, 1.0], [-1.5, 0.3], [0.2, -0.4]])


@dataclass(frozen=True)
class Ridge:
    """l_i(w) = log cosh(x_i·w) + w₁w₂²/4 + w₂⁴/2: skewed, with curvature that changes over the posterior."""

    def __call__(self, position, batch):
        skew = position[0] * position[1] ** 2 / 4 + position[1] ** 4 / 2
        return jnp.log(jnp.cosh(batch[0] @ position)) + skew


def ridge() -> LocalPosterior:
    return build_posterior(Ridge(), np.zeros(2), (INPUTS,), nbeta=NBETA, localization=LOCALIZATION, dtype="float64")


def by_quadrature() -> float:
    """λ̂ by a sum over a fine grid, whose error falls faster than any power of its spacing."""
    x, y = np.meshgrid(*[np.linspace(-4, 4, 801)] * 2)
    loss = np.mean([np.log(np.cosh(a * x + b * y)) for a, b in INPUTS], axis=0) + x * y**2 / 4 + y**4 / 2
    density = np.exp(-NBETA * loss - 0.5 * LOCALIZATION * (x**2 + y**2))
    return float(NBETA * np.sum(density * loss) / np.sum(density))


WHITENINGS = {
    "identity": identity_whitening,
    "diagonal": lambda posterior: DiagonalWhitening(jnp.array([0.1, 0.5])),
    "dense": lambda posterior: DenseWhitening(jnp.array([[0.2, 0.1], [-0.3, 0.4]])),
    "kronecker": lambda posterior: KroneckerWhitening(
        ((0, 2),), (jnp.array([[0.6, -0.8], [0.8, 0.6]]),), (jnp.array([[-1.0]]),), (jnp.array([[0.2], [0.4]]),)
    ),
    "hessian": lambda posterior: hessian_whitening(posterior, posterior.w0[None])[0],
}


class LocalizedInZ(HMC):
    """Broken on purpose: the localization is that of z. The loss it reports is right."""

    def logdensity(self, z):
        posterior = self.posterior
        w = posterior.w0 + self.whitening.displacement(z)
        return -posterior.nbeta * posterior.excess_loss(w) - 0.5 * posterior.localization * jnp.sum(z**2)

    def step(self, rng_key, state):
        state, info = super().step(rng_key, state)
        return state, info._replace(
            excess_loss=self.posterior.excess_loss(self.posterior.w0 + self.displacement(state))
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name if name == "kronecker" else pytest.param(name, marks=pytest.mark.nightly) for name in WHITENINGS],
)
def test_the_same_llc_in_all_coordinates(sample_llc, is_within, name):
    posterior = ridge()
    sampler = HMC.from_settings(posterior, WHITENINGS[name](posterior), HMCSettings(num_integration_steps=5))
    estimate = sample_llc(sampler, 3000)
    assert estimate.rhat < 1.01
    assert estimate.se < 0.03
    assert is_within(estimate.llc, estimate.se, by_quadrature())


@pytest.mark.slow
def test_a_localization_in_whitened_coordinates_is_another_posterior(sample_llc, is_within, recast):
    posterior = ridge()
    sampler = HMC.from_settings(posterior, WHITENINGS["dense"](posterior), HMCSettings(num_integration_steps=5))
    estimate = sample_llc(recast(sampler, LocalizedInZ), 3000)
    assert not is_within(estimate.llc, estimate.se, by_quadrature())
