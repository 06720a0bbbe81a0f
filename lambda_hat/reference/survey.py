"""A look from afar: which wells and plateaus of the local posterior hold mass, as far as it can be seen without chains.

Two looks complement each other. Draws of the localization's Gaussian N(w0, 1/γ_loc), weighted by e^(−nβΔL), see
plateaus and wide basins; in many dimensions their weights die out, and their effective size says so. Descents from
such draws find narrow wells in any dimension, whose masses Laplace's formula gives.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float

from lambda_hat.draws.criteria import (
    MAX_DISAGREEMENT_OF_SURVEY,
    MAX_K_HAT,
    MAX_MASS_ELSEWHERE,
    MAX_MASS_UNSEEN,
    MIN_PRIOR_SIZE,
    Criterion,
)
from lambda_hat.draws.importance import weighted_mean
from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.posterior.geometry import MAX_DENSE_DIM
from lambda_hat.posterior.local import LARGE_DIM
from lambda_hat.reference.descents import descend, max_iterations
from lambda_hat.reference.potential import LOSS_PER_GRADIENT, potentials_at
from lambda_hat.samplers.work import Work

__all__ = ["Survey", "SurveyBudget", "look_from_afar"]

NUM_PRIOR_DRAWS = 4096
NUM_PRIOR_DRAWS_OF_MANY = 512  # above so many dimensions, where hardly a weight survives
MANY_DIMENSIONS = 50
NUM_PRIOR_DRAWS_OF_LARGE = 32
MIN_SIZE_TO_RESAMPLE = 10.0  # effective draws of the prior, for some of them to be starts
NUM_RESAMPLED = 8
NUM_DESCENTS = 16
MAX_DESCENTS = 128  # where wells that count keep turning up
MAX_GRADIENTS = 60_000  # of a look, after which it takes no more of them: a small part of what a reference takes

SAME_PLACE = 0.05  # whitened distance of two ends of one well, between which nothing is looked at
MAX_BARRIER = 2.0  # nats along a path between two ends, for them to lie in one well
POINTS_ON_LINE = 16
MAX_BENDS = 3  # halvings of a path, each of which lets it bend towards lower ground
ITERATIONS_OF_BEND = 10

MIN_MASS = 1e-3  # share of the posterior that a well must hold to count: less changes no digit of λ̂


SHARE_OF_RUN = 0.25  # of the gradients of one run, for a look from afar
FREE_WORK = 1e9  # floating-point operations of a look that no run is too short for: about a second


class SurveyBudget(NamedTuple):
    """How far to look."""

    num_prior_draws: int
    num_descents: int
    max_gradients: float = math.inf  # after so much work no further descent begins

    @classmethod
    def of_run(cls, dim: int, num_data: int, num_gradient_evaluations: float) -> Self:
        """For one run of a method: at most a quarter of its gradients, or about a second where that is more."""
        most = max(SHARE_OF_RUN * num_gradient_evaluations, FREE_WORK / (6 * num_data * dim))
        standard = cls.of_reference(dim)
        draws = min(standard.num_prior_draws, int(0.5 * most / LOSS_PER_GRADIENT))
        return cls(draws, standard.num_descents, most)

    @classmethod
    def of_reference(cls, dim: int) -> Self:
        """As far as is worth it for a reference of `dim` parameters."""
        if dim > LARGE_DIM:
            return cls(NUM_PRIOR_DRAWS_OF_LARGE, NUM_DESCENTS)
        return cls(NUM_PRIOR_DRAWS if dim <= MANY_DIMENSIONS else NUM_PRIOR_DRAWS_OF_MANY, NUM_DESCENTS)


@dataclass(frozen=True, eq=False)
class Survey:
    """What was looked at and what was seen, the heaviest well first.

    Attributes:
        num_prior_draws: draws of N(w0, 1/γ_loc) whose potentials were computed.
        prior_size: effective number of them under the weights e^(−nβΔL).
        prior_llc: λ̂ by these weights.
        prior_se: its standard error.
        prior_k_hat: Pareto k of the weights; above 0.7 the value means nothing.
        resampled: draws of the prior by weight, (≤ 8, d); none where too few weights matter.
        num_descents: descents that ended.
        displacements: w − w0 at the lowest end of each well, (wells, d).
        potentials: U there, zero at w0.
        masses: shares of the wells by Laplace's formula; by e^(−U) alone where curvature costs too much.
        own: which well w0 lies in.
        lowest: the lowest U seen anywhere.
    """

    num_prior_draws: int = 0
    prior_size: float = 0.0
    prior_llc: float = math.nan
    prior_se: float = math.inf
    prior_k_hat: float = math.inf
    resampled: Float[np.ndarray, "draws d"] = field(default_factory=lambda: np.zeros((0, 0)))
    num_descents: int = 0
    displacements: Float[np.ndarray, "wells d"] = field(default_factory=lambda: np.zeros((0, 0)))
    potentials: Float[np.ndarray, " wells"] = field(default_factory=lambda: np.zeros(0))
    masses: Float[np.ndarray, " wells"] = field(default_factory=lambda: np.zeros(0))
    own: int = 0
    lowest: float = 0.0

    @property
    def counting(self) -> Float[np.ndarray, "wells d"]:
        """The ends of the wells that hold at least a thousandth of the posterior."""
        return self.displacements[self.masses >= MIN_MASS]

    @property
    def distances(self) -> Float[np.ndarray, " wells"]:
        """|w − w0| of each well."""
        return np.linalg.norm(self.displacements, axis=1)

    @property
    def is_prior_telling(self) -> bool:
        """Whether the draws of the prior say something about λ̂."""
        return self.prior_k_hat <= MAX_K_HAT and self.prior_size >= MIN_PRIOR_SIZE

    def describe(self) -> str:
        """How far the look went and which wells it found, in words."""
        looked = (
            f"looked at {self.num_prior_draws} draws of the localization's Gaussian ({self.prior_size:.3g} effective) "
            f"and {self.num_descents} descents from it"
        )
        wells = "; ".join(
            f"{mass:.3g} of the mass at distance {distance:.3g} and potential {potential:+.3g}"
            for mass, distance, potential in zip(self.masses, self.distances, self.potentials, strict=True)
            if mass >= MIN_MASS
        )
        return f"{looked}: {wells}" if wells else looked

    def disagreement(self, llc: float, se: float) -> Criterion | None:
        """λ̂ beside that of the prior's draws, in combined standard errors; None where these tell nothing."""
        if not self.is_prior_telling:
            return None
        error = math.hypot(se, self.prior_se)
        value = abs(llc - self.prior_llc) / error if error > 0 and math.isfinite(error) else math.nan
        name = "disagreement with draws of the localization's Gaussian, in standard errors"
        return Criterion(name, value, MAX_DISAGREEMENT_OF_SURVEY)

    def mass_beyond(self, num_seen: int) -> Criterion:
        """The share of the wells after the `num_seen` heaviest ones, in which there are no chains."""
        unseen = float(self.masses[num_seen:].sum())
        return Criterion("share of the posterior in wells without a chain", unseen, MAX_MASS_UNSEEN)

    def mass_elsewhere(self) -> Criterion:
        """The share of the wells that w0 does not lie in."""
        elsewhere = float(self.masses.sum() - self.masses[self.own]) if len(self.masses) else 0.0
        return Criterion("share of the posterior in other wells than that of w0", elsewhere, MAX_MASS_ELSEWHERE)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` restores."""
        return {name: np.asarray(getattr(self, name)) for name in self.__dataclass_fields__}

    def to_dict(self) -> dict[str, Any]:
        """Every figure but positions, as plain data."""
        figures = {name: value.tolist() for name, value in self.to_arrays().items() if value.ndim < 2}
        return {**figures, "distances": self.distances.tolist()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The survey that `to_arrays` put down."""
        values: dict[str, Any] = {name: arrays[name] for name in cls.__dataclass_fields__}
        return cls(**{name: value.item() if value.ndim == 0 else value for name, value in values.items()})


@eqx.filter_jit
def _log_width(posterior: LocalPosterior, position: Array) -> Array:
    """−½ Σ log((|h| + γ)/γ): log of the Gaussian volume at `position` beside that of the localization.

    It counts as that of the localization where the loss has no curvature.
    """
    hessian = posterior.hessian(position)
    curvatures = jnp.linalg.eigvalsh(jnp.where(jnp.all(jnp.isfinite(hessian)), hessian, 0.0))
    return -0.5 * jnp.sum(jnp.log((jnp.abs(curvatures) + posterior.localization) / posterior.localization))


def look_from_afar(
    posterior: LocalPosterior, whitening: Whitening, rng: np.random.Generator, work: Work, budget: SurveyBudget
) -> Survey:
    """Weigh draws of the localization's Gaussian, then descend from some of them and from the heaviest; merge the ends.

    Descents go on, up to 128, as long as there is a well that counts and that only one or two of them came to.

    Raises:
        OutOfTime: the deadline came first.
    """
    d, begun = posterior.dim, work.num_gradient_evaluations
    draws = rng.standard_normal((budget.num_prior_draws, d)) / math.sqrt(float(posterior.localization))
    potentials, losses = potentials_at(posterior, draws, work)
    llc, se, k_hat, size = weighted_mean(losses, -losses)
    finite = np.flatnonzero(np.isfinite(losses))
    heavy = np.zeros(0, int)
    if len(finite):
        heavy = rng.choice(finite, NUM_RESAMPLED, p=scipy.special.softmax(-losses[finite]))
    num_heavy = len(np.unique(heavy))
    starts = iter(
        [*draws[finite[: budget.num_descents]], *draws[np.unique(heavy)], *draws[finite[budget.num_descents :]]]
    )
    ends: list[_End] = [(0.0, np.zeros(d))]  # the first of them is w0
    num_descents, wanted = 0, min(budget.num_descents, len(finite)) + num_heavy
    while True:
        for start in itertools.islice(starts, wanted):
            if work.num_gradient_evaluations - begun > budget.max_gradients:
                break
            num_descents += 1
            ends.append(descend(posterior, whitening, start, max_iterations(d), work))
        ends = [end for end in ends if math.isfinite(end[0])]
        kept, wells = _merge(posterior, whitening, ends, work)
        masses = _masses(posterior, kept, work)
        # A well that only one or two descents came to speaks for others that none has come to (Good 1953).
        is_rare = np.bincount(wells) <= 2
        is_rare[wells[0]] = False
        spent = work.num_gradient_evaluations - begun
        is_over = num_descents >= MAX_DESCENTS or spent > min(budget.max_gradients, MAX_GRADIENTS)
        if is_over or d > MAX_DENSE_DIM or wanted == 0 or not np.any(masses[is_rare] >= MIN_MASS):
            break
        wanted = min(num_descents, MAX_DESCENTS - num_descents, len(finite) - num_descents + num_heavy)
    own = wells[0]
    order = np.argsort(-masses, kind="stable")
    lowest = min([0.0, *potentials[finite], *(potential for potential, _ in kept)])
    return Survey(
        num_prior_draws=budget.num_prior_draws,
        prior_size=size,
        prior_llc=llc,
        prior_se=se,
        prior_k_hat=k_hat,
        resampled=draws[heavy] if size >= MIN_SIZE_TO_RESAMPLE else np.zeros((0, d)),
        num_descents=num_descents,
        displacements=np.array([kept[i][1] for i in order]).reshape(-1, d),
        potentials=np.array([kept[i][0] for i in order]),
        masses=masses[order],
        own=int(np.flatnonzero(order == own)[0]),
        lowest=float(lowest),
    )


_End = tuple[float, Float[np.ndarray, " d"]]


def _masses(posterior: LocalPosterior, kept: list[_End], work: Work) -> Float[np.ndarray, " wells"]:
    """Shares of the wells by Laplace's formula; by e^(−U) alone where curvature costs too much."""
    log_masses = np.array([-potential for potential, _ in kept])
    if posterior.dim <= MAX_DENSE_DIM:
        for i, (_, end) in enumerate(kept):
            work.check()
            work.num_curvature_passes += posterior.dim
            log_masses[i] += float(_log_width(posterior, posterior.w0 + jnp.asarray(end)))
    return np.asarray(scipy.special.softmax(log_masses))


def _merge(
    posterior: LocalPosterior, whitening: Whitening, ends: list[_End], work: Work
) -> tuple[list[_End], list[int]]:
    """The lowest end of every well, and the well of each of `ends`.

    Ends lie in one well if a path between them rises by at most two nats.
    """
    bends = MAX_BENDS if posterior.dim <= LARGE_DIM else 0
    coordinates = np.stack([np.asarray(whitening.coordinates(jnp.asarray(end))) for _, end in ends])
    kept: list[int] = []
    wells = [0] * len(ends)
    for i in sorted(range(len(ends)), key=lambda i: ends[i][0]):
        distances = np.linalg.norm(coordinates[kept] - coordinates[i], axis=1)
        if len(kept) and distances.min() < SAME_PLACE:
            wells[i] = int(distances.argmin())
            continue
        connected = (_is_connected(posterior, whitening, ends[i], ends[other], bends, work) for other in kept)
        wells[i] = next((k for k, is_connected in enumerate(connected) if is_connected), len(kept))
        if wells[i] == len(kept):
            kept.append(i)
    return [ends[i] for i in kept], wells


def _is_connected(
    posterior: LocalPosterior, whitening: Whitening, one: _End, other: _End, bends: int, work: Work
) -> bool:
    """Whether the straight line, or one that may bend downhill in its middle, has no barrier."""
    share = np.linspace(0.0, 1.0, POINTS_ON_LINE + 2)[1:-1, None]
    line = (1 - share) * one[1] + share * other[1]
    potentials, _ = potentials_at(posterior, line, work)
    if np.max(potentials) <= max(one[0], other[0]) + MAX_BARRIER:
        return True
    if bends == 0:
        return False
    middle = descend(posterior, whitening, 0.5 * (one[1] + other[1]), ITERATIONS_OF_BEND, work)
    nearest = min(_distance(whitening, middle, one), _distance(whitening, middle, other))
    if not math.isfinite(middle[0]) or nearest < 0.1 * _distance(whitening, one, other):
        return False  # the middle fell to one of the two
    if middle[0] > max(one[0], other[0]) + MAX_BARRIER:
        return False
    return all(_is_connected(posterior, whitening, middle, end, bends - 1, work) for end in (one, other))


def _distance(whitening: Whitening, one: _End, other: _End) -> float:
    return float(jnp.linalg.norm(whitening.coordinates(jnp.asarray(one[1] - other[1]))))
