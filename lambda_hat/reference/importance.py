"""Importance sampling from a mixture of Student-t densities that is adapted to the posterior.

This is population Monte Carlo. No chain has to cross from one well to another, and k̂ and the effective size say when
it cannot be trusted.
The adaptation is weighted EM on fresh draws of each round (Cappé et al. 2008, arXiv 0710.4242); the estimate comes from
draws of the mixture that the adaptation ended with, so that no draw counts that the mixture was fitted to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.cluster.vq
import scipy.linalg
import scipy.special
from jaxtyping import Array, Float

from lambda_hat.draws.criteria import MAX_DISAGREEMENT_OF_SURVEY, MAX_K_HAT, Criterion
from lambda_hat.draws.importance import weighted_mean
from lambda_hat.posterior import LocalPosterior
from lambda_hat.reference.potential import LOSS_PER_GRADIENT, potentials_at
from lambda_hat.samplers.work import Work

__all__ = [
    "FEW_DIMENSIONS",
    "MAX_DIM",
    "MAX_WIDE_DRAWS",
    "ImportanceEstimate",
    "Mixture",
    "clusters_of",
    "estimate_around",
    "estimate_by_importance",
    "estimate_by_wide_draws",
    "fit_mixture",
    "mixture_around",
    "scales_at",
    "summarise",
]

FEW_DIMENSIONS = 10  # in which it always checks chains, which may never leave a hole
MAX_DIM = 60  # beyond it too few draws of the mixture matter
DEGREES_OF_FREEDOM = 5.0
WIDE_SHARE = 0.05  # of the component that is as wide as the localization: no region is without draws
DRAWS_PER_ROUND = 4096
MAX_ROUNDS = 12
MIN_IMPROVEMENT = 1.05  # of the effective size, for another round
MIN_SHARE = 1e-4  # of a component that is kept
MIN_SHARE_TO_SPLIT = 0.01
MAX_DRAWS = 131_072
DRAWS_AT_ONCE = 131_072
MAX_WIDE_DRAWS = 4_194_304  # as much work as 1,400,000 gradients
MIN_EFFECTIVE_SHARE = 0.01  # of the draws, below which more of them are no use
SHARE_OF_ONE_DRAW = 0.01  # a draw of the chains that alone would weigh more than this was missed by the mixture

Points = Float[np.ndarray, "draws d"]


@dataclass(frozen=True, eq=False)
class Mixture:
    """q(x) = Σ_k p_k t₅(x; m_k, S_k S_kᵀ), x = w − w0; the last component, as wide as the localization, never moves."""

    shares: Float[np.ndarray, " k"]
    means: Float[np.ndarray, "k d"]
    factors: Float[np.ndarray, "k d d"]  # S_k, lower triangular

    @property
    def dim(self) -> int:
        """Number of parameters d."""
        return self.means.shape[1]

    def sample(self, rng: np.random.Generator, num_draws: int) -> Points:
        """Independent draws."""
        which = rng.choice(len(self.shares), num_draws, p=self.shares)
        normal = rng.standard_normal((num_draws, self.dim))
        scale = np.sqrt(DEGREES_OF_FREEDOM / rng.chisquare(DEGREES_OF_FREEDOM, num_draws))
        draws = np.empty((num_draws, self.dim))
        for k in np.unique(which):
            at = which == k
            draws[at] = self.means[k] + scale[at, None] * (normal[at] @ self.factors[k].T)
        return draws

    def distances(self, points: Points) -> Float[np.ndarray, "k draws"]:
        """Squared Mahalanobis distance of every point from every component."""
        return np.stack(
            [
                np.sum(scipy.linalg.solve_triangular(factor, (points - mean).T, lower=True) ** 2, axis=0)
                for mean, factor in zip(self.means, self.factors, strict=True)
            ]
        )

    def component_log_densities(self, distances: Float[np.ndarray, "k draws"]) -> Float[np.ndarray, "k draws"]:
        """log(p_k t₅(x)) of every component, from squared distances."""
        nu, d = DEGREES_OF_FREEDOM, self.dim
        constant = math.lgamma((nu + d) / 2) - math.lgamma(nu / 2) - 0.5 * d * math.log(nu * math.pi)
        log_dets = np.sum(np.log(np.diagonal(self.factors, axis1=1, axis2=2)), axis=1)
        with np.errstate(divide="ignore"):
            log_shares = np.log(self.shares)
        return (log_shares - log_dets + constant)[:, None] - 0.5 * (nu + d) * np.log1p(distances / nu)

    def log_density(self, points: Points) -> Float[np.ndarray, " draws"]:
        """log q(x)."""
        return np.asarray(scipy.special.logsumexp(self.component_log_densities(self.distances(points)), axis=0))

    def refitted(self, points: Points, weights: Float[np.ndarray, " draws"]) -> Mixture:
        """One step of EM towards weighted draws, whose weights sum to 1.

        A component that too few draws belong to keeps its place and shape. What only the widest one explains, if it is
        more than a hundredth of the weight, begins a component of its own.
        """
        distances = self.distances(points)
        log_densities = self.component_log_densities(distances)
        memberships = weights * np.exp(log_densities - scipy.special.logsumexp(log_densities, axis=0))
        shares = memberships.sum(axis=1)
        shares, means, factors = list(shares), list(self.means), list(self.factors)
        for k, membership in enumerate(memberships):
            fitted = self._fitted(points, membership, distances[k])
            if fitted is None:
                continue
            if k < len(memberships) - 1:
                means[k], factors[k] = fitted
            elif shares[k] > MIN_SHARE_TO_SPLIT:
                shares.insert(k, shares[k])
                means.insert(k, fitted[0])
                factors.insert(k, fitted[1])
        is_kept = np.array([*(share >= MIN_SHARE for share in shares[:-1]), True])
        return _with_wide_share(Mixture(*(np.array(values)[is_kept] for values in (shares, means, factors))))

    def _fitted(
        self, points: Points, membership: Float[np.ndarray, " draws"], distances: Float[np.ndarray, " draws"]
    ) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]] | None:
        """Mean and scale of a t₅ fitted to what belongs to it; None where that is too little."""
        nu, d = DEGREES_OF_FREEDOM, self.dim
        total = membership.sum()
        if total**2 < (2 * d + 4) * np.sum(membership**2):
            return None
        inner = membership * (nu + d) / (nu + distances)
        mean = inner @ points / inner.sum()
        centred = points - mean
        covariance = (inner[:, None] * centred).T @ centred / total
        try:
            return mean, np.linalg.cholesky(covariance + 1e-9 * np.trace(covariance) / d * np.eye(d))
        except np.linalg.LinAlgError:
            return None


def _with_wide_share(mixture: Mixture) -> Mixture:
    shares = mixture.shares / mixture.shares.sum()
    if shares[-1] < WIDE_SHARE:
        shares = np.append(shares[:-1] * (1 - WIDE_SHARE) / shares[:-1].sum(), WIDE_SHARE)
    return Mixture(shares, mixture.means, mixture.factors)


def mixture_around(
    means: Points, factors: Float[np.ndarray, "k d d"], log_masses: Float[np.ndarray, " k"], localization: float
) -> Mixture:
    """Components around given points, by mass but none below a hundredth, and one as wide as the localization."""
    d = means.shape[1]
    masses = np.exp(log_masses - np.max(log_masses, initial=-np.inf)) if len(log_masses) else np.zeros(0)
    masses = np.maximum(masses / max(masses.sum(), 1e-300), 0.01)
    wide = np.eye(d)[None] / math.sqrt(localization)
    shares = np.append(masses / max(masses.sum(), 1e-300) * 0.8, 0.2) if len(masses) else np.ones(1)
    return Mixture(shares, np.concatenate([means, np.zeros((1, d))]), np.concatenate([factors, wide]))


@eqx.filter_jit
def _hessian(posterior: LocalPosterior, displacement: Array) -> Array:
    return posterior.hessian(posterior.w0 + displacement)


def scales_at(posterior: LocalPosterior, displacement: Float[np.ndarray, " d"], work: Work) -> Float[np.ndarray, "d d"]:
    """The Cholesky factor of (|H| + γ)⁻¹, H the Hessian of nβL_n there: the local scale of the posterior."""
    work.num_curvature_passes += posterior.dim
    hessian = np.asarray(_hessian(posterior, jnp.asarray(displacement, posterior.w0.dtype)), np.float64)
    localization = float(posterior.localization)
    if not np.isfinite(hessian).all():
        return np.eye(posterior.dim) / math.sqrt(localization)
    values, vectors = np.linalg.eigh(hessian)
    return np.linalg.cholesky((vectors / (np.abs(values) + localization)) @ vectors.T)


def clusters_of(
    points: Points, num_clusters: int, rng: np.random.Generator
) -> tuple[Points, Float[np.ndarray, "k d d"], Float[np.ndarray, " k"]]:
    """Means, scales and log-masses of clusters of draws, by k-means on standardised coordinates.

    A cluster of few points leans on the covariance within all clusters.
    """
    d = points.shape[1]
    spread = points.std(axis=0)
    scaled = points / np.where(spread > 0, spread, 1.0)
    _, label = scipy.cluster.vq.kmeans2(scaled, min(num_clusters, len(points)), minit="++", rng=rng)
    _, label = np.unique(label, return_inverse=True)
    counts = np.bincount(label)
    means = np.stack([points[label == k].mean(axis=0) for k in range(len(counts))])
    centred = points - means[label]
    within = centred.T @ centred / len(points)
    within += 1e-9 * max(np.trace(within), 1e-300) / d * np.eye(d)
    factors = []
    for k, count in enumerate(counts):
        own = centred[label == k]
        factors.append(np.linalg.cholesky((own.T @ own + (d + 2) * within) / (count + d + 2)))
    return means, np.stack(factors), np.log(counts / len(points))


@dataclass(frozen=True, eq=False)
class ImportanceEstimate:
    """λ̂ = nβ(E_π[L_n(w)] − L_n(w0)) by Pareto-smoothed importance sampling, and what speaks for it."""

    llc: float
    se: float
    k_hat: float  # above 0.7 neither value nor error can be trusted
    effective_size: float
    num_draws: int
    mixture: Mixture
    log_evidence: float  # log of the mean weight: ∫ e^(−U) dw by these draws

    def disagreement(self, llc: float, se: float, *, tolerance: float = 0.0) -> Criterion | None:
        """λ̂ of chains beside this one, in combined standard errors; None where the weights mean nothing.

        A share `tolerance` of λ̂ is no disagreement.
        """
        if self.k_hat > MAX_K_HAT:
            return None
        systematic = tolerance * abs(self.llc) / MAX_DISAGREEMENT_OF_SURVEY
        value = abs(llc - self.llc) / math.hypot(se, self.se, systematic)
        return Criterion("disagreement with importance sampling, in standard errors", value, MAX_DISAGREEMENT_OF_SURVEY)

    def left_open(self, llc: float) -> float:
        """How far another λ̂ is off by more than the error of this one; 0 where the weights mean nothing."""
        return 0.0 if self.k_hat > MAX_K_HAT else max(0.0, abs(llc - self.llc) - self.se)

    def share_missed(self, posterior: LocalPosterior, points: Points, work: Work) -> float:
        """Share of `points`, draws of π by other means, that alone would each weigh more than 1 % of the estimate."""
        potentials, _ = potentials_at(posterior, points, work)
        log_weights = -potentials - self.mixture.log_density(points)
        limit = self.log_evidence + math.log(SHARE_OF_ONE_DRAW * self.num_draws)
        return float(np.mean(log_weights > limit))


def fit_mixture(posterior: LocalPosterior, mixture: Mixture, rng: np.random.Generator, work: Work) -> Mixture:
    """Rounds of fresh draws and EM until the effective size no longer grows; the best mixture on the way.

    Raises:
        OutOfTime: the deadline came first.
    """
    best, best_size = mixture, 0.0
    for _ in range(MAX_ROUNDS):
        points = mixture.sample(rng, DRAWS_PER_ROUND)
        potentials, _ = potentials_at(posterior, points, work)
        log_weights = -potentials - mixture.log_density(points)
        weights = scipy.special.softmax(log_weights)
        size = 1.0 / float(np.sum(weights**2))
        if size <= best_size * MIN_IMPROVEMENT and best_size > DRAWS_PER_ROUND / 50:
            break
        if size > best_size:
            best, best_size = mixture, size
        truncated = np.minimum(weights, 1.0 / math.sqrt(len(weights)))  # Ionides 2008: no single draw decides
        mixture = mixture.refitted(points, truncated / truncated.sum())
    return best


def estimate_by_importance(
    posterior: LocalPosterior,
    mixture: Mixture,
    rng: np.random.Generator,
    work: Work,
    *,
    max_relative_error: float,
    aim: float | None = None,
    max_draws: int = MAX_DRAWS,
    min_effective_share: float = MIN_EFFECTIVE_SHARE,
) -> ImportanceEstimate:
    """Draw from `mixture` until the standard error is below a share of λ̂, or until `max_draws`, or until fewer than a
    share of the draws are effective.

    Once they suffice, draws go on to `aim`, a smaller share of λ̂, for as much work as was done before at most.
    Where the posterior is not a number its density counts as zero.

    Raises:
        OutOfTime: the deadline came first.
    """
    log_weights, values = np.empty(0), np.empty(0)
    num_draws = DRAWS_PER_ROUND
    affordable = min(int(work.num_gradient_evaluations / LOSS_PER_GRADIENT), MAX_WIDE_DRAWS)
    while True:
        points = mixture.sample(rng, num_draws)
        potentials, losses = potentials_at(posterior, points, work)
        log_weights = np.append(log_weights, -potentials - mixture.log_density(points))
        values = np.append(values, losses)
        estimate = summarise(values, log_weights, mixture)
        relative_error = estimate.se / abs(estimate.llc) if estimate.llc else math.inf
        is_precise = relative_error <= max_relative_error and estimate.effective_size >= 1000
        most = max_draws
        if is_precise:
            if aim is None or relative_error <= aim:
                return estimate
            most = affordable
        if len(values) >= most or estimate.effective_size < min_effective_share * len(values):
            return estimate
        num_draws = min(len(values), most - len(values), DRAWS_AT_ONCE)


def estimate_by_wide_draws(
    posterior: LocalPosterior, rng: np.random.Generator, work: Work, *, max_relative_error: float
) -> ImportanceEstimate:
    """λ̂ from draws of a t₅ as wide as the localization, alone.

    Few of them count, but around a minimum no weight is much above that at w0: no arm, hole or plateau is missed by
    chance where enough draws count.

    Raises:
        OutOfTime: the deadline came first.
    """
    nowhere = np.zeros((0, posterior.dim))
    factors = np.zeros((0, posterior.dim, posterior.dim))
    wide = mixture_around(nowhere, factors, np.zeros(0), float(posterior.localization))
    return estimate_by_importance(
        posterior, wide, rng, work,
        max_relative_error=max_relative_error, max_draws=MAX_WIDE_DRAWS, min_effective_share=0.0,
    )  # fmt: skip


def estimate_around(
    posterior: LocalPosterior,
    wells: Points,
    masses: Float[np.ndarray, " wells"],
    rng: np.random.Generator,
    work: Work,
    *,
    max_relative_error: float,
    max_draws: int = MAX_DRAWS,
) -> ImportanceEstimate:
    """λ̂ from a mixture that starts around wells of known masses, w − w0, and knows of no chains."""
    scales = np.stack([scales_at(posterior, well, work) for well in wells])
    start = mixture_around(wells, scales, np.log(masses), float(posterior.localization))
    mixture = fit_mixture(posterior, start, rng, work)
    return estimate_by_importance(
        posterior, mixture, rng, work, max_relative_error=max_relative_error, max_draws=max_draws
    )


def summarise(
    values: Float[np.ndarray, " draws"], log_weights: Float[np.ndarray, " draws"], mixture: Mixture
) -> ImportanceEstimate:
    """The estimate from values nβ(L_n(w) − L_n(w0)) and log-weights −U − log q."""
    llc, se, k_hat, effective_size = weighted_mean(values, log_weights)
    evidence = float(np.asarray(scipy.special.logsumexp(log_weights))) - math.log(len(log_weights))
    return ImportanceEstimate(llc, se, k_hat, effective_size, len(values), mixture, evidence)
