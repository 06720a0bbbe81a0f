import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from lambda_hat.config.problems import PotentialProblem
from lambda_hat.targets import build_target
from lambda_hat.targets.potential import PotentialLLC

PROBLEM = PotentialProblem(k=1, l=2, num_data=40, gradient_noise=2.0)


@pytest.mark.parametrize(
    ("k", "l", "localization", "truth"),
    [
        (1, 1, 1.0, 0.390273),
        (1, 1, 10.0, 0.290274),
        (1, 1, 100.0, 0.060988),
        (1, 2, 1.0, 0.224851),
        (2, 2, 1.0, 0.165238),
        (1, 3, 1.0, 0.150909),
    ],
)
def test_known_values_at_nbeta_1000(k, l, localization, truth):  # noqa: E741
    assert PotentialLLC(k, l)(1000.0, localization) == pytest.approx(truth, abs=5.1e-7)
    assert PotentialLLC(l, k)(1000.0, localization) == pytest.approx(truth, abs=5.1e-7)


@settings(max_examples=40)
@given(nbeta=st.floats(1e-2, 1e9), localization=st.floats(1e-2, 1e3))
def test_w1_w2_squared_in_closed_form(nbeta, localization):
    a = localization**2 / (8 * nbeta)
    if a < 100:  # beyond, the closed form is the difference of numbers that are nearly equal
        closed = 0.5 + a * (1 - special.k1e(a) / special.k0e(a))
        assert PotentialLLC(1, 1)(nbeta, localization) == pytest.approx(closed, rel=1e-7)


@pytest.mark.parametrize(("k", "l"), [(1, 2), (3, 2)])
def test_another_quadrature_gives_the_same(k, l):  # noqa: E741
    """Over w₂ exactly by Gauss–Legendre in pieces, over w₁ by QUADPACK."""
    nbeta, localization = 200.0, 2.0
    nodes, weights = np.polynomial.legendre.leggauss(40)
    edges = np.geomspace(1e-4, 8.0, 30)
    middles, halves = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    w2 = np.concatenate([middle + half * nodes for middle, half in zip(middles, halves, strict=True)])
    dw2 = np.concatenate([half * weights for half in halves])

    def integral(power):
        def inner(w1):
            potential = nbeta * w1 ** (2 * k) * w2 ** (2 * l)
            return np.sum(dw2 * potential**power * np.exp(-potential - 0.5 * localization * (w1**2 + w2**2)))

        return sum(integrate.quad(inner, low, high)[0] for low, high in ((0.0, 0.1), (0.1, 1.0), (1.0, 8.0)))

    # Below w₂ = 1e-4, which the pieces leave out, lies a share of about 1e-4 of the mass and none of the potential.
    assert PotentialLLC(k, l)(nbeta, localization) == pytest.approx(integral(1) / integral(0), rel=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 6])
def test_it_rises_to_the_real_log_canonical_threshold(k):
    values = [PotentialLLC(k, 1)(nbeta, 1.0) for nbeta in (1e2, 1e6, 1e12, 1e24, 1e48)]
    limit = 0.5 / k
    assert np.all(np.diff(values) > 0)
    assert values[-1] == pytest.approx(limit, rel=0.02)  # at k = l like 1/log nβ


@pytest.mark.slow
def test_gradient_noise_leaves_the_mean_loss_as_it_is(float64):
    target = build_target(PROBLEM)
    rng = np.random.default_rng(0)
    for position in rng.standard_normal((3, 2)):
        losses = target.loss_fn(jnp.asarray(position), target.data)
        assert float(losses.mean()) == pytest.approx(position[0] ** 2 * position[1] ** 4, rel=1e-12)
        gradient = jax.grad(lambda w: jnp.mean(target.loss_fn(w, target.data)))(jnp.asarray(position))
        expected = [2 * position[0] * position[1] ** 4, 4 * position[0] ** 2 * position[1] ** 3]
        np.testing.assert_allclose(gradient, expected, rtol=1e-10)
    assert target.data[0].std() == pytest.approx(2.0, rel=0.2)
    assert not target.w0.any()
    assert target.info["asymptotic_llc"] == 0.25


@pytest.mark.slow
def test_losses_follow_the_precision_of_the_position(float64):
    target = build_target(PROBLEM)
    batch = (jnp.asarray(target.data[0], jnp.float32),)
    assert target.loss_fn(jnp.ones(2, jnp.float32), batch).dtype == jnp.float32
