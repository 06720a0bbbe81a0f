"""SGLD against its own exact stationary law on a quadratic, its formula written out, and broken SGLD against both."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from lambda_hat.config.methods.sgld import SGLDSettings
from lambda_hat.draws.control import corrected_by_virial
from lambda_hat.draws.diagnostics import mcse
from lambda_hat.draws.info import Info
from lambda_hat.posterior import DenseWhitening, DiagonalWhitening, build_posterior, hessian_whitening
from lambda_hat.samplers.noise import indices, normals
from lambda_hat.samplers.runner import init_chains, run_chains
from lambda_hat.samplers.sgld import PRECONDITIONERS, SGLD
from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

pytestmark = pytest.mark.usefixtures("float64")

NUM_STEPS = 12_000
LOCALIZATION = 10.0


def a0(posterior) -> DenseWhitening:
    matrix = hessian_whitening(posterior, posterior.w0[None])[0].matrix
    return DenseWhitening(matrix.astype(posterior.w0.dtype))


def stationary_llc(target, posterior, settings: SGLDSettings) -> float:
    """λ̂ of the discretised, noisy chain at stationarity, exactly: what SGLD says, bias included.

    (w − w0, m) is a linear recursion whose covariance solves a Lyapunov equation. With a slow second moment the
    preconditioner is constant, and consistent with the covariance that it leads to.
    """
    (noise,) = target.data
    n, d = noise.shape
    nbeta, whitening = float(posterior.nbeta), np.asarray(a0(posterior).matrix, np.float64)
    hessian, identity, zero = target.loss_fn.geometry.hessian, np.eye(d), np.zeros((d, d))
    minibatch = noise.T @ noise / n / settings.batch_size if settings.batch_size < n else zero
    eta = settings.initial_step_size
    keep = settings.gradient_decay if settings.preconditioner == "adam" else 0.0  # m̂ is ĝ where nothing is kept
    scale = np.ones(d)
    for _ in range(100):
        p = whitening @ whitening.T if settings.preconditioner == "whitened" else np.diag(scale)
        push = -0.5 * eta * nbeta * p
        moment = np.hstack([(1 - keep) * hessian, keep * identity])
        position = np.hstack([identity - 0.5 * eta * LOCALIZATION * p, zero]) + push @ moment
        matrix = np.vstack([position, moment])
        kick = np.vstack([push, identity]) * (1 - keep)
        covariance = kick @ minibatch @ kick.T
        covariance[:d, :d] += eta * p
        full = solve_discrete_lyapunov(matrix, covariance)
        state = full[:d, :d]
        if settings.preconditioner in ("none", "whitened"):
            break
        squares = np.diag(hessian @ state @ hessian + minibatch)
        scale = 1 / (np.sqrt(squares) + settings.damping)
    return float(0.5 * nbeta * np.trace(hessian @ state))


# Second moments slow enough that the preconditioner hardly fluctuates, but within the burn-in of the chains.
SLOW = {"square_decay": 0.9995, "damping": 0.1}
CASES = {
    "full data": SGLDSettings(initial_step_size=4e-3, batch_size=300),
    "minibatch": SGLDSettings(initial_step_size=2e-3, batch_size=32),
    "rmsprop": SGLDSettings(initial_step_size=2e-3, batch_size=32, preconditioner="rmsprop", **SLOW),
    "adam": SGLDSettings(initial_step_size=2e-3, batch_size=32, preconditioner="adam", **SLOW),
    "whitened": SGLDSettings(initial_step_size=0.2, batch_size=32, preconditioner="whitened"),
}


@pytest.fixture
def build(build_quadratic):
    def build(settings: SGLDSettings, dtype: str = "float64"):
        target, posterior = build_quadratic(localization=LOCALIZATION, dtype=dtype)
        return (
            SGLD.from_settings(posterior, a0(posterior), settings),
            stationary_llc(target, posterior, settings),
            target,
        )

    return build


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_stationary_law_of_a_quadratic(case, build, sample_llc, is_within):
    sampler, truth, target = build(CASES[case])
    exact = target.exact_llc(float(sampler.posterior.nbeta), LOCALIZATION)
    estimate = sample_llc(sampler, NUM_STEPS, num_burn_in=5000, seed=1)
    assert is_within(estimate.llc, estimate.se, truth)
    assert estimate.se < 0.02 * truth
    # The test sees discretisation and minibatch noise, not only the posterior.
    assert not is_within(estimate.llc, estimate.se, exact)


def test_a_preconditioner_that_stays_as_it_is_shows_whether_chains_are_stationary(build):
    settings = CASES["rmsprop"].model_copy(update={"freeze": True, "num_steps": 4000, "square_decay": 0.99})
    sampler, _, _ = build(settings)
    assert settings.num_adapting == 1000
    states = init_chains(sampler, jax.random.key(0), jnp.zeros((16, 5)))
    chains = run_chains(sampler, jax.random.key(1), states, settings.num_steps)
    adapting, kept = chains.info.stationarity[:, :1000], chains.info.stationarity[:, 1000:]
    assert np.isnan(adapting).all()
    assert np.isfinite(kept).all()
    assert abs(kept.mean()) < 4 * mcse(kept)
    halfway = run_chains(sampler, jax.random.key(1), states, 1000).states
    np.testing.assert_array_equal(chains.states.second_moment, halfway.second_moment)
    moving = SGLD.from_settings(sampler.posterior, a0(sampler.posterior), settings.model_copy(update={"freeze": False}))
    assert np.isnan(run_chains(moving, jax.random.key(1), states, 1200).info.stationarity).all()


@pytest.mark.nightly
def test_float32_has_the_same_law(build, sample_llc, is_within):
    settings = CASES["minibatch"]
    sampler, truth, _ = build(settings, "float32")
    estimate = sample_llc(sampler, NUM_STEPS)
    assert is_within(estimate.llc, estimate.se, truth)


@pytest.mark.slow
def test_small_steps_on_the_full_data_sample_the_posterior(build, sample_llc, is_within):
    sampler, truth, target = build(SGLDSettings(initial_step_size=2e-4, batch_size=300))
    exact = target.exact_llc(float(sampler.posterior.nbeta), LOCALIZATION)
    assert truth == pytest.approx(exact, rel=0.01)
    estimate = sample_llc(sampler, NUM_STEPS, num_burn_in=2000)
    assert is_within(estimate.llc, estimate.se, truth)


@pytest.mark.slow
def test_annealed_readings_count_by_their_step_size(build, sample_llc, is_within, recast):
    # η falls by half in 1000 steps at the fastest, and the chain forgets in 2/η: it follows.
    settings = SGLDSettings(
        initial_step_size=2.0,
        annealing_exponent=1.0,
        annealing_offset=1000.0,
        batch_size=300,
        preconditioner="whitened",
    )
    sampler, _, target = build(settings)
    grid = np.geomspace(0.1, 1.0, 20)
    at = [settings.model_copy(update={"initial_step_size": float(eta)}) for eta in grid]
    eta = 2 / (1 + np.arange(1000, 1000 + NUM_STEPS) / 1000)
    law = np.interp(eta, grid, [stationary_llc(target, sampler.posterior, settings) for settings in at])
    weighted, unweighted = np.average(law, weights=eta), law.mean()
    estimate = sample_llc(sampler, NUM_STEPS, num_burn_in=1000)
    assert is_within(estimate.llc, estimate.se, weighted)
    assert abs(estimate.llc - unweighted) > 3 * estimate.se
    estimate = sample_llc(recast(sampler, InverselyWeighted), NUM_STEPS, num_burn_in=1000)
    assert not is_within(estimate.llc, estimate.se, weighted)


class InverselyWeighted(SGLD):
    """SGLD whose readings count the more, the smaller their step size."""

    def step(self, rng_key, state):
        after, info = super().step(rng_key, state)
        return after, info._replace(weight=1 / info.weight)


class Distorted(SGLD):
    """SGLD with its drift and its noise multiplied, or its loss read where the minibatch has already pushed it."""

    drift_factor: jax.Array
    noise_factor: jax.Array
    share_afterwards: jax.Array

    def step(self, rng_key, state):
        after, info = super().step(rng_key, state)
        noise = normals(rng_key, state.displacement.size, state.displacement.dtype)
        noise = jnp.sqrt(self.initial_step_size) * noise
        drift = after.displacement - state.displacement - noise
        displacement = state.displacement + self.drift_factor * drift + self.noise_factor * noise
        batch = self.posterior.take(indices(rng_key, self.batch_size, self.posterior.num_data))
        afterwards = self.posterior.paired_excess_loss(self.posterior.w0 + displacement, *batch)
        reading = info.excess_loss + self.share_afterwards * (afterwards - info.excess_loss)
        after = after._replace(displacement=displacement, squared_distance=displacement @ displacement)
        return after, info._replace(excess_loss=reading)


DISTORTIONS = {
    "none": (1.0, 1.0, 0.0),
    "drift without its half": (2.0, 1.0, 0.0),
    "drift uphill": (-1.0, 1.0, 0.0),
    "noise of twice the variance": (1.0, 2**0.5, 0.0),
    "noise 5 % too small": (1.0, 0.95, 0.0),
    "loss read after the step": (1.0, 1.0, 1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_distorted_kernels(distortion, build, sample_llc, is_within, recast):
    sampler, truth, _ = build(CASES["minibatch"])
    names = ("drift_factor", "noise_factor", "share_afterwards")
    distorted = recast(sampler, Distorted, **dict(zip(names, DISTORTIONS[distortion], strict=True)))
    estimate = sample_llc(distorted, NUM_STEPS)
    assert is_within(estimate.llc, estimate.se, truth) == (distortion == "none")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_missing_localization_is_noticed(case, build, sample_llc, is_within, without_localization):
    sampler, truth, _ = build(CASES[case])
    estimate = sample_llc(without_localization(sampler), NUM_STEPS, num_burn_in=5000)
    assert not is_within(estimate.llc, estimate.se, truth)


@pytest.mark.slow
@pytest.mark.parametrize("preconditioner", PRECONDITIONERS)
def test_steps_follow_the_formula(preconditioner, build):
    settings = SGLDSettings(
        initial_step_size=1e-3,
        annealing_exponent=0.5,
        annealing_offset=3.0,
        batch_size=32,
        preconditioner=preconditioner,
        gradient_decay=0.8,
        square_decay=0.9,
        damping=0.05,
    )
    sampler, _, target = build(settings)
    nbeta, hessian = float(sampler.posterior.nbeta), target.loss_fn.geometry.hessian
    start = np.linspace(-0.1, 0.2, 5)
    state = eqx.filter_jit(sampler.init)(jax.random.key(0), jnp.asarray(start))
    step = eqx.filter_jit(sampler.step)
    u, m, v = start, np.zeros(5), np.zeros(5)
    for t in range(6):
        key = jax.random.fold_in(jax.random.key(1), t)
        state, info = step(key, state)
        rows = target.data[0][np.asarray(indices(key, 32, 300))]
        gradient = hessian @ u + rows.mean(axis=0)
        m, v = 0.8 * m + 0.2 * gradient, 0.9 * v + 0.1 * gradient**2
        p, drift = np.ones(5), gradient
        if preconditioner in ("rmsprop", "adam"):
            p = 1 / (np.sqrt(v / (1 - 0.9 ** (t + 1))) + 0.05)
        if preconditioner == "adam":
            drift = m / (1 - 0.8 ** (t + 1))
        eta = 1e-3 * (1 + t / 3.0) ** -0.5
        np.testing.assert_allclose(info.excess_loss, 0.5 * u @ hessian @ u + rows.mean(axis=0) @ u, rtol=1e-10)
        np.testing.assert_allclose(info.squared_distance, u @ u, rtol=1e-10)
        np.testing.assert_allclose(info.weight, eta, rtol=1e-12)
        assert float(info.num_gradient_evaluations) == pytest.approx(32 / 300)
        noise = np.asarray(normals(key, 5, jnp.float64))
        force = nbeta * drift + LOCALIZATION * u
        if preconditioner == "whitened":
            a = np.asarray(sampler.whitening.matrix)
            u = u - 0.5 * eta * a @ a.T @ force + np.sqrt(eta) * a @ noise
        else:
            u = u - 0.5 * eta * p * force + np.sqrt(eta * p) * noise
        np.testing.assert_allclose(state.displacement, u, rtol=1e-6)  # the noise is of float32, and fused elsewhere
        u = np.asarray(state.displacement)


def test_a_batch_as_large_as_the_data_is_the_data(build):
    readings = []
    for batch_size in (300, 5000):
        sampler, _, _ = build(SGLDSettings(initial_step_size=4e-3, batch_size=batch_size))
        states = init_chains(sampler, jax.random.key(0), jnp.zeros((8, 5)))
        info = run_chains(sampler, jax.random.key(1), states, 50).info
        assert np.all(info.num_gradient_evaluations == 1.0)
        readings.append(info.excess_loss)
    np.testing.assert_array_equal(*readings)


def read_every(sampler: SGLD, interval: int, num_steps: int = 6000, chunk_size: int = 500) -> Info:
    """What four chains read whose second identity is read at every so many steps."""
    states = init_chains(sampler, jax.random.key(0), jnp.zeros((4, sampler.posterior.dim)))
    sampler = eqx.tree_at(lambda s: s.interval, sampler, jnp.asarray(interval, jnp.int32))
    return run_chains(sampler, jax.random.key(1), states, num_steps, chunk_size=chunk_size).info


def settings_of(preconditioner: str, batch_size: int) -> SGLDSettings:
    step_size = 0.2 if preconditioner == "whitened" else 2e-3
    return SGLDSettings(initial_step_size=step_size, batch_size=batch_size, preconditioner=preconditioner)


@pytest.mark.parametrize("preconditioner", ["none", "whitened"])
def test_identities_that_are_read_now_and_then_have_the_same_mean(build, preconditioner: str) -> None:
    """Chains and the first identity are the same, and so are corrected readings where the second one is due."""
    sampler, *_ = build(settings_of(preconditioner, 32))
    always, held = read_every(sampler, 1), read_every(sampler, 12)
    for name in ("excess_loss", "squared_distance", "virial", "stationarity"):
        np.testing.assert_array_equal(getattr(held, name), getattr(always, name))
    nbeta = float(sampler.posterior.nbeta)
    readings = [np.asarray(corrected_by_virial(info, nbeta)) for info in (held, always)]
    np.testing.assert_allclose(readings[0][:, ::12], readings[1][:, ::12], atol=1e-9)
    difference = (readings[0] - readings[1])[:, 1200:]
    assert abs(difference.mean()) < 4 * mcse(difference)
    assert mcse(readings[0]) < 2 * mcse(readings[1]), "twelve times fewer would make it 3.5"
    np.testing.assert_allclose(read_every(sampler, 12, chunk_size=130).curved_virial, held.curved_virial, atol=1e-9)


@pytest.mark.parametrize("preconditioner", ["none", "whitened"])
def test_without_minibatch_noise_every_reading_of_a_quadratic_is_its_llc(build, preconditioner: str) -> None:
    """However old the second identity is, and from the first step on."""
    sampler, _, target = build(settings_of(preconditioner, 10**9))
    exact = target.exact_llc(float(sampler.posterior.nbeta), LOCALIZATION)
    info = read_every(sampler, 7, num_steps=50)
    np.testing.assert_allclose(corrected_by_virial(info, float(sampler.posterior.nbeta)), exact, rtol=1e-8)


def test_a_twentieth_of_a_step_goes_into_the_identities() -> None:
    network = MLP((39, 39, 1), "tanh")
    w0, inputs = np.zeros(1600), np.ones((50, 39))
    posterior = build_posterior(
        SquaredError(network, 1.0), w0, (inputs, inputs[:, :1]), nbeta=10.0, localization=LOCALIZATION, dtype="float64"
    )
    large = DenseWhitening(np.eye(1600), np.eye(1600))
    diagonal = DiagonalWhitening(jnp.ones(1600))
    sampler = SGLD.from_settings(posterior, diagonal, SGLDSettings(batch_size=32), at_w0=large)
    assert int(sampler.interval) == 20
    assert int(SGLD.from_settings(posterior, diagonal, SGLDSettings(batch_size=32)).interval) == 1
