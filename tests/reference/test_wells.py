"""Wells, plateaus and losses that are no number: certified and right, or refused with the true reason."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy import integrate

import lambda_hat
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.draws.importance import weighted_mean
from lambda_hat.posterior import LocalPosterior, build_posterior, hessian_whitening, identity_whitening
from lambda_hat.reference.descents import descend
from lambda_hat.reference.engine import sample_reference
from lambda_hat.reference.importance import (
    MAX_WIDE_DRAWS,
    estimate_by_importance,
    estimate_by_wide_draws,
    fit_mixture,
    mixture_around,
    scales_at,
)
from lambda_hat.reference.potential import potentials_at
from lambda_hat.reference.starts import start_positions
from lambda_hat.reference.survey import Survey, SurveyBudget, look_from_afar
from lambda_hat.reference.wells import Well, WellMap
from lambda_hat.samplers import hmc
from lambda_hat.samplers.work import Work

pytestmark = pytest.mark.usefixtures("float64")

NBETA = 100.0


def potentials(w):
    """U without the localization, in nats. The fourth and fifth are no number beyond an edge, soft or hard."""
    x, y = w
    three = jnp.stack(
        [
            -0.5 * ((x / 0.3) ** 2 + (y / 0.1) ** 2),
            -2 - 0.5 * ((x / 3.3) ** 2 + ((y - 1.1) / 0.1) ** 2),
            -9 - 0.5 * (((x + 4.2) / 1.2) ** 2 + (y / 0.1) ** 2),
        ]
    )
    plateau = 14 * (1 - jnp.exp(-(x**2 + y**2) / 2e-6))
    tilt = 5 * y**2 + 8 * x**2 * (x - 2) ** 2 - 1.2 * x**2
    undefined = 3 * (x - jnp.log1p(x)) + 3 * (y - jnp.log1p(y))  # no number beyond −1
    wall = jnp.where(x < 0.2, 2 * x**2 + 2 * y**2, jnp.nan)
    crate = 0.3 * (x**2 + y**2) + 10 * (2 - jnp.cos(3 * x) - jnp.cos(3 * y))
    hole = 10 * (1 - jnp.exp(-(x**2 + y**2) / 5e-3))
    away = (x - 4.5**0.5) ** 2 + (y - 4.5**0.5) ** 2  # from a point at distance 3
    far = jnp.stack([-0.5 * (x**2 + y**2) / 0.09, 2.894 - 0.5 * away / 0.04])
    wells = [-jax.nn.logsumexp(three), plateau, tilt, undefined, wall, crate, hole, -jax.nn.logsumexp(far)]
    return jnp.stack(wells)


CASES = ("three wells", "plateau", "tilt", "undefined", "wall", "crate", "hole", "far")


def loss_fn(position, batch):
    """One program for all: which of the potentials it is, the data say."""
    return potentials(position)[batch[0].astype(int)] / NBETA


def data_of(case: str) -> tuple[np.ndarray]:
    return (np.full(2, float(CASES.index(case))),)


def posterior_of(case: str, localization: float) -> LocalPosterior:
    return build_posterior(loss_fn, np.zeros(2), data_of(case), nbeta=NBETA, localization=localization, dtype="float64")


def expectation_of_undefined(localization: float) -> float:
    """E U = 2 E[3(u − log(1 + u))] over u > −1: the coordinates are independent."""

    def density(u: float) -> float:
        return math.exp(-3 * (u - math.log1p(u)) - 0.5 * localization * u * u)

    def mean(function) -> float:
        return integrate.quad(lambda u: function(u) * density(u), -1 + 1e-12, 30)[0]

    return 2 * mean(lambda u: 3 * (u - math.log1p(u))) / mean(lambda u: 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "localization", "truth"),
    [
        ("three wells", 0.05, 1.98116),
        ("plateau", 1.0, 12.89991),
        pytest.param("undefined", 0.1, expectation_of_undefined(0.1), marks=pytest.mark.nightly),
    ],
)
def test_wells_and_plateaus_are_certified_and_right(case: str, localization: float, truth: float) -> None:
    result = sample_reference(posterior_of(case, localization), ReferenceSpec(), deadline=math.inf)
    assert result.certificate.is_certified, result.reasons
    assert result.se < 0.01 * truth
    assert abs(result.llc - truth) < 4 * result.se
    assert result.survey.num_prior_draws == 4096


@pytest.mark.slow
def test_a_shallow_well_beside_a_deeper_one_is_no_minimum() -> None:
    """λ̂ = −3.907 is found, and refused: λ̂ is defined around a minimum."""
    result = sample_reference(posterior_of("tilt", 0.1), ReferenceSpec(), deadline=math.inf)
    assert abs(result.llc + 3.90727) < 4 * result.se
    assert {c.name for c in result.certificate.criteria if not c.is_met} == {
        "λ̂ over its standard error",
        "decrease still available at w0, over λ̂",
    }
    assert result.decrease_available == pytest.approx(4.76, abs=0.05)
    assert "there are several wells" in result.reasons[-1]


def test_draws_on_a_plateau_tell_though_one_of_them_sees_the_hole() -> None:
    """Nearly all weights are equal: no tail can be fitted to them, and a run that stays in the hole is 85 % off."""
    losses = np.full(4096, 12.0)
    losses[17] -= 0.2
    llc, se, k_hat, size = weighted_mean(losses, -losses)
    survey = Survey(prior_llc=llc, prior_se=se, prior_k_hat=k_hat, prior_size=size)
    criterion = survey.disagreement(1.746, 0.009)
    assert criterion is not None
    assert not criterion.is_met


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "localization", "reason"),
    [
        pytest.param(
            "three wells",
            0.05,
            "share of the posterior in other wells than that of w0",
            marks=pytest.mark.nightly,
        ),
        ("plateau", 1.0, "disagreement with draws of the localization's Gaussian"),
        pytest.param("tilt", 0.1, "decrease still available at w0", marks=pytest.mark.nightly),
    ],
)
def test_one_run_that_sees_its_own_well_alone_is_not_reliable(case: str, localization: float, reason: str) -> None:
    result = lambda_hat.estimate_llc(
        loss_fn, jnp.zeros(2), data_of(case), localization=localization, inverse_temperature=NBETA / 2
    )
    assert not result.is_reliable
    assert reason in " ".join(result.reasons)
    assert result.survey.describe() in repr(result)
    assert result.survey.num_descents >= 16


@pytest.mark.slow
def test_a_run_that_stays_in_a_hole_is_not_reliable() -> None:
    """λ̂ = 6.606, and 1.16 in the hole, which few draws of the localization's Gaussian fall into: they tell nothing."""
    result = lambda_hat.estimate_llc(
        loss_fn, jnp.zeros(2), data_of("hole"), sampler="hmc", localization=0.1, inverse_temperature=NBETA / 2
    )
    assert "disagreement with importance sampling" in " ".join(result.reasons) or abs(result.llc / 6.606 - 1) < 0.05


@pytest.mark.slow
def test_a_step_beyond_an_edge_is_turned_down_and_no_divergence() -> None:
    """E[2x² | x < 0.2] + E[2y²], normals of precision 4 + γ."""
    result = lambda_hat.estimate_llc(
        loss_fn,
        jnp.zeros(2),
        data_of("wall"),
        sampler="hmc",
        localization=0.1,
        inverse_temperature=NBETA / 2,
        steps=3000,
    )
    edge = 0.2 * math.sqrt(4.1)
    hazard = scipy.stats.norm.pdf(edge) / scipy.stats.norm.cdf(edge)
    truth = 2 / 4.1 * (2 - edge * hazard)
    assert result.extras["divergence_rate"] == 0.0
    assert result.extras["undefined_rate"] > 0.05
    assert not any("divergent" in reason for reason in result.reasons)
    assert abs(result.llc - truth) < 4 * result.se


@pytest.mark.slow
@pytest.mark.parametrize(("offset", "is_lost"), [(0.0, False), (3e7, True)])
def test_what_float32_costs_is_part_of_the_verdict(offset: float, is_lost: bool) -> None:
    """Losses that are small differences of large numbers are rounding in float32."""

    def shifted(position, batch):
        return (quadratic(position, batch) + batch[0][:, 0]) - batch[0][:, 0]

    rows = (np.full((200, 1), offset),)
    settings = {"sampler": "sgld", "precond_type": "whitened", "eta0": 0.05, "steps": 500}
    result = lambda_hat.estimate_llc(
        shifted, jnp.zeros(3), rows, localization=1.0, inverse_temperature=NBETA / 200, **settings
    )
    assert ("rounding of float32" in " ".join(result.reasons)) == is_lost, result.reasons


@pytest.mark.slow
def test_chains_never_start_where_the_loss_is_no_number() -> None:
    posterior = posterior_of("undefined", 0.1)
    sampler = hmc.HMC.from_settings(posterior, identity_whitening(posterior), hmc.HMCSettings())
    state = sampler.init(jax.random.key(0), jnp.array([-8.0, 2.0]))
    assert np.isfinite(state.chain.logdensity)
    assert state.chain.logdensity > -100
    assert sampler.displacement(state).tolist() == [-0.5, 0.125]


def quadratic(position, batch):
    return 0.5 * jnp.sum(jnp.array([1.0, 4.0, 100.0]) * position**2) + 0 * batch[0][:, 0]


def test_importance_sampling_of_a_gaussian() -> None:
    """λ̂ = ½ Σ nβh/(nβh + γ), from a mixture that starts much too wide."""
    posterior = build_posterior(
        quadratic, np.zeros(3), (np.zeros((2, 1)),), nbeta=NBETA, localization=1.0, dtype="float64"
    )
    stiffness = NBETA * np.array([1.0, 4.0, 100.0])
    truth = 0.5 * np.sum(stiffness / (stiffness + 1.0))
    rng, work = np.random.default_rng(0), Work()
    start = mixture_around(np.zeros((1, 3)), 0.5 * np.eye(3)[None], np.zeros(1), 1.0)
    mixture = fit_mixture(posterior, start, rng, work)
    estimate = estimate_by_importance(posterior, mixture, rng, work, max_relative_error=0.01)
    assert estimate.k_hat < 0.7
    assert estimate.effective_size > 1000
    assert abs(estimate.llc - truth) < 4 * estimate.se
    assert estimate.se < 0.01 * truth
    volume = 0.5 * (3 * math.log(2 * math.pi) - np.sum(np.log(stiffness + 1.0)))
    assert estimate.log_evidence == pytest.approx(volume, abs=0.1)
    assert work.num_gradient_evaluations > 0
    inside = rng.standard_normal((500, 3)) / np.sqrt(stiffness + 1.0)
    assert estimate.share_missed(posterior, inside, work) == 0.0


def test_draws_go_on_to_less_than_the_error_that_is_wanted_where_they_are_cheap() -> None:
    posterior = build_posterior(
        quadratic, np.zeros(3), (np.zeros((2, 1)),), nbeta=NBETA, localization=1.0, dtype="float64"
    )
    mixture = mixture_around(np.zeros((1, 3)), scales_at(posterior, np.zeros(3), Work())[None], np.zeros(1), 1.0)

    def error_of(spent: float, aim: float | None) -> float:
        work = Work()
        work.num_gradient_evaluations = spent
        rng = np.random.default_rng(0)
        estimate = estimate_by_importance(posterior, mixture, rng, work, max_relative_error=0.01, aim=aim)
        assert work.num_gradient_evaluations <= max(2 * spent, 10_000)
        return estimate.se / estimate.llc

    assert 0.004 < error_of(0.0, 0.002) <= 0.01  # as precise as is wanted, whatever was done before
    assert 0.004 < error_of(100_000.0, None) <= 0.01
    assert error_of(100_000.0, 0.002) <= 0.002


def test_importance_sampling_goes_where_only_its_widest_component_is() -> None:
    """A hole in a line, seven nats deep, in which chains stay; a fifteenth of the posterior is beside it."""

    def line_of_holes(position, batch):
        hole = 7.0 * (1 - jnp.exp(-0.5 * (position[0] / 0.03) ** 2))
        return (hole + 5.0 * jnp.sum(position[1:] ** 2)) / NBETA + 0 * batch[0][:, 0]

    posterior = build_posterior(
        line_of_holes, np.zeros(3), (np.zeros((2, 1)),), nbeta=NBETA, localization=0.5, dtype="float64"
    )

    def mean_and_mass(x: float) -> tuple[float, float]:
        value = 7.0 * -math.expm1(-0.5 * (x / 0.03) ** 2)
        return value, math.exp(-value - 0.25 * x * x)

    edges = [-20, -1, -0.1, 0, 0.1, 1, 20]
    first, mass = (
        sum(integrate.quad(f, a, b, limit=200)[0] for a, b in itertools.pairwise(edges))
        for f in (lambda x: math.prod(mean_and_mass(x)), lambda x: mean_and_mass(x)[1])
    )
    truth = first / mass + 10.0 / 10.5
    rng, work = np.random.default_rng(0), Work()
    start = mixture_around(np.zeros((1, 3)), scales_at(posterior, np.zeros(3), work)[None], np.zeros(1), 0.5)
    estimate = estimate_by_importance(
        posterior, fit_mixture(posterior, start, rng, work), rng, work, max_relative_error=0.01
    )
    assert estimate.k_hat < 0.5
    assert abs(estimate.llc - truth) < 4 * estimate.se


def hyperbola(position, batch):
    """(w₁w₂ − 1)² around (1, 1)."""
    return (jnp.prod(1 + position) - 1) ** 2 + 0 * batch[0][:, 0]


def hyperbola_of(localization: float) -> tuple[LocalPosterior, float]:
    """The posterior, and its λ̂ by quadrature over w₁: given that, w₂ is Gaussian."""
    posterior = build_posterior(
        hyperbola, np.zeros(2), (np.zeros((2, 1)),), nbeta=NBETA, localization=localization, dtype="float64"
    )

    def mean_and_mass(w: float) -> tuple[float, float]:
        # nβ (w v − 1)² + γ/2 (v − 1)², v Gaussian of this mean and variance
        variance = 1 / (2 * NBETA * w * w + localization)
        mean = (2 * NBETA * w + localization) * variance
        least = NBETA * (w * mean - 1) ** 2
        mass = math.sqrt(variance) * math.exp(-least - 0.5 * localization * ((mean - 1) ** 2 + (w - 1) ** 2))
        return least + NBETA * w * w * variance, mass

    parts = [(-40, -1), (-1, 0), (0, 1), (1, 3), (3, 40)]
    first, mass = (
        sum(integrate.quad(f, a, b, limit=500)[0] for a, b in parts)
        for f in (lambda w: math.prod(mean_and_mass(w)), lambda w: mean_and_mass(w)[1])
    )
    return posterior, first / mass


def test_wide_draws_miss_no_arm() -> None:
    posterior, truth = hyperbola_of(1.0)
    rng, work = np.random.default_rng(0), Work()
    estimate = estimate_by_wide_draws(posterior, rng, work, max_relative_error=0.02)
    assert estimate.k_hat < 0.3
    assert estimate.se < 0.02 * truth
    assert abs(estimate.llc - truth) < 4 * estimate.se
    assert estimate.num_draws < MAX_WIDE_DRAWS
    assert work.num_gradient_evaluations == pytest.approx(estimate.num_draws / 3, rel=0.01)


def test_draws_in_a_hole_tell_that_wide_draws_have_missed_it() -> None:
    posterior, work = posterior_of("plateau", 1.0), Work()
    estimate = estimate_by_wide_draws(posterior, np.random.default_rng(0), work, max_relative_error=0.01)
    assert estimate.share_missed(posterior, np.zeros((1, 2)), work) == 1.0


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [0, 1])
def test_far_arms_are_certified_and_right(seed: int) -> None:
    """Chains alone take more than 60 million gradients, and no mixture of a few components covers the arms."""
    posterior, truth = hyperbola_of(0.1)
    result = sample_reference(posterior, ReferenceSpec(seed=seed), deadline=math.inf)
    assert result.certificate.is_certified, result.reasons
    assert abs(result.llc - truth) < 4 * result.se
    assert result.num_gradient_evaluations < 2e7


@pytest.mark.slow  # a hundred descents
def test_descents_go_on_while_wells_turn_up() -> None:
    """Sixteen descents find some six of nine wells that hold more than a hundredth each."""
    posterior = posterior_of("crate", 0.1)
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    budget = SurveyBudget.of_reference(2)
    survey = look_from_afar(posterior, whitening, np.random.default_rng(0), Work(), budget)
    assert np.sum(survey.masses > 0.01) == 9
    assert 16 < survey.num_descents <= 128
    assert survey.own == 0


@pytest.mark.slow
def test_a_narrow_well_that_a_few_draws_lie_in_is_found() -> None:
    """It holds a tenth of the posterior, three standard deviations of the localization away: few descents end there."""
    posterior = posterior_of("far", 1.0)
    whitening, _ = hessian_whitening(posterior, posterior.w0[None])
    budget = SurveyBudget.of_reference(2)
    for seed in range(6):
        work = Work()
        survey = look_from_afar(posterior, whitening, np.random.default_rng(seed), work, budget)
        np.testing.assert_allclose(survey.masses[:2], [0.9, 0.1], atol=0.02)
        assert survey.distances[1] == pytest.approx(2.88, abs=0.02)
        assert work.num_gradient_evaluations < 15_000


@pytest.mark.slow
def test_wells_that_few_descents_found_speak_for_others() -> None:
    criterion = Survey(rare=0.02).mass_of_rare()
    assert criterion is not None
    assert not criterion.is_met
    assert "one or two descents" in str(criterion)
    assert Survey(rare=0.02, prior_k_hat=0.3, prior_size=100.0).mass_of_rare() is None  # these draws see all


def test_a_loss_without_curvature_at_w0_is_whitened_by_the_localization() -> None:

    def without_curvature(position, batch):
        return jnp.sum(jnp.abs(position) ** 1.5) / 10 + 0 * batch[0]

    data = data_of("wall")
    posterior = build_posterior(without_curvature, np.zeros(2), data, nbeta=NBETA, localization=4.0, dtype="float64")
    whitening, eigenvalues = hessian_whitening(posterior, posterior.w0[None])
    assert eigenvalues.tolist() == [0.0, 0.0]
    assert np.allclose(jax.vmap(whitening.displacement)(jnp.eye(2)), 0.5 * np.eye(2))
    elsewhere = jnp.array([[0.0, 0.0], [0.25, 0.25]])  # the mean over draws leaves out those without
    _, eigenvalues = hessian_whitening(posterior, elsewhere)
    assert eigenvalues == pytest.approx(10 * 0.75 / 0.5)


def test_a_look_from_afar_costs_what_it_is_given() -> None:
    posterior = posterior_of("three wells", 0.05)
    work = Work()
    survey = look_from_afar(
        posterior, identity_whitening(posterior), np.random.default_rng(0), work, SurveyBudget(90, 16, 100.0)
    )
    assert survey.num_prior_draws == 90
    assert survey.num_descents < 16
    assert work.num_gradient_evaluations < 2 * 100.0
    assert SurveyBudget.of_run(10_000, 100_000, 400.0) == (30, 16, 20.0, True)


def test_a_look_from_afar_ends_whatever_it_is_given(monkeypatch) -> None:
    """Also where something is left of a budget, but less than a descent is expected to take."""
    posterior, looks, wells = posterior_of("three wells", 0.05), itertools.count(), WellMap.wells

    def counted(places: WellMap) -> list[Well]:
        assert next(looks) < 1000
        return wells(places)

    monkeypatch.setattr(WellMap, "wells", counted)
    for max_gradients in range(60, 1500, 60):
        budget, rng = SurveyBudget(90, 16, float(max_gradients)), np.random.default_rng(0)
        survey = look_from_afar(posterior, identity_whitening(posterior), rng, Work(), budget)
        assert survey.num_descents <= 96


def test_brief_descents_know_the_same_wells_for_less() -> None:
    """They end where the straight line to a known end is open; in another well they go on to its end."""

    def loss(position, batch):  # wells at 0 and 2 in the first of 52 coordinates
        stiffness = jnp.linspace(1.0, 100.0, 51)
        return (8.0 * (position[0] * (position[0] - 2.0)) ** 2 + stiffness @ position[1:] ** 2) / NBETA + 0 * batch[0]

    posterior = build_posterior(loss, np.zeros(52), (np.zeros(2),), nbeta=NBETA, localization=0.1, dtype="float64")
    found = {}
    for is_brief in (False, True):
        work = Work()
        budget = SurveyBudget(32, 8, is_brief=is_brief)
        rng = np.random.default_rng(0)
        survey = look_from_afar(posterior, identity_whitening(posterior), rng, work, budget)
        found[is_brief] = survey, work.num_gradient_evaluations
        assert survey.num_descents >= 8
        assert survey.distances[:2] == pytest.approx([0.0, 2.0], abs=0.1)
    (whole, work_of_whole), (brief, work_of_brief) = found[False], found[True]
    assert work_of_brief < 0.8 * work_of_whole
    np.testing.assert_allclose(brief.masses[:2], whole.masses[:2], atol=0.02)


def test_masses_hold_where_the_loss_has_no_curvature_and_where_descents_stop_early() -> None:
    """∏ ∫ e^(−U): a well at 2 with curvature beside one of w⁶; a place up the slope speaks for all of its well."""

    def loss(position, batch):  # of a, b: wells at a = 0 and a = 2, eight nats of barrier; b is a sextic
        a, b = position
        barrier = 8.0 * (a * (a - 2.0)) ** 2
        return (barrier + jnp.where(a < 1, 200 * b**6, 20 * b**2) + 0 * batch[0][:, 0]) / NBETA

    data = (np.zeros((1, 1)),)
    posterior = build_posterior(loss, np.zeros(2), data, nbeta=NBETA, localization=0.1, dtype="float64")
    grid = np.linspace(-4.0, 5.0, 1801)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    potentials = 8 * (a * (a - 2)) ** 2 + np.where(a < 1, 200 * b**6, 20 * b**2) + 0.05 * (a**2 + b**2)
    masses = np.exp(-potentials)
    truth = masses[a < 1].sum() / masses.sum()
    places = WellMap(posterior, identity_whitening(posterior), Work())
    places.add(0.0, np.zeros(2))
    (at_two,) = potentials_at(posterior, np.array([[2.0, 0.0]]), Work())[0]
    places.add(at_two, np.array([2.0, 0.0]))
    (up,) = potentials_at(posterior, np.array([[0.9, 0.0]]), Work())[0]
    places.add(up, np.array([0.9, 0.0]))  # from where both wells are within two nats
    wells = places.wells()
    assert len(wells) == 2
    shares = places.shares([well.lowest for well in wells])
    assert shares[0] == pytest.approx(truth, abs=0.03)


def test_a_descent_goes_on_from_beside_an_edge() -> None:

    def loss(position, batch):
        bowl = 0.5 * jnp.sum(jnp.array([1.0, 30.0, 1000.0]) * position**2)
        return jnp.where(position[0] < 0.01, bowl, jnp.nan) / NBETA + 0 * batch[0][:, 0]

    posterior = build_posterior(loss, np.zeros(3), (np.zeros((1, 1)),), nbeta=NBETA, localization=0.1, dtype="float64")
    rng = np.random.default_rng(0)
    for _ in range(10):
        start = -np.abs(rng.standard_normal(3)) * 3
        potential, end = descend(posterior, identity_whitening(posterior), start, 200, Work())
        assert potential < 1e-6
        assert np.linalg.norm(end) < 1e-2


def test_no_chain_starts_at_absurd_heights():
    """Pilots at ±1, whose draws spread out by half more lie on walls of 10⁹ nats; those at 3 lie on one themselves."""

    def walls(position, batch):
        return 1e7 * jnp.sum((position**2 - 1) ** 2) + batch[0][:, 0]

    posterior = build_posterior(walls, np.ones(2), (np.zeros((2, 1)),), nbeta=NBETA, localization=1.0, dtype="float64")
    draws = jnp.asarray(np.concatenate([np.ones((6, 2)), -np.ones((6, 2)), [[3.0, 3.0]]])) - 1.0
    survey = Survey(displacements=np.zeros((1, 2)), masses=np.ones(1), resampled=np.zeros((0, 2)))
    starts = start_positions(
        posterior, identity_whitening(posterior), draws, survey, jax.random.key(0), len(draws) - 1, Work()
    )
    heights, _ = potentials_at(posterior, np.asarray(starts), Work())
    assert np.all(heights <= 1000.0 * posterior.dim)
    assert len(np.unique(starts, axis=0)) == len(starts)
