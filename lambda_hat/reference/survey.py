"""A look from afar: which wells and plateaus of the local posterior hold mass, as far as it can be seen without chains.

Two looks complement each other. Draws of the localization's Gaussian N(w0, 1/γ_loc), weighted by e^(−nβΔL), see
plateaus and wide basins; in many dimensions their weights die out, and their effective size says so. Descents from
such draws find narrow wells in any dimension, whose masses their depths and widths give.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.special
from jaxtyping import Float

from lambda_hat.draws.criteria import (
    MAX_DISAGREEMENT_OF_SURVEY,
    MAX_K_HAT,
    MAX_MASS_ELSEWHERE,
    MAX_MASS_UNSEEN,
    MIN_PRIOR_SIZE,
    RARE_WELLS,
    Criterion,
)
from lambda_hat.draws.importance import weighted_mean
from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.posterior.geometry import MAX_DENSE_DIM
from lambda_hat.posterior.local import LARGE_DIM
from lambda_hat.reference.descents import descend, max_iterations
from lambda_hat.reference.potential import LOSS_PER_GRADIENT, potentials_at
from lambda_hat.reference.wells import MANY_DIMENSIONS, NEAREST_WELLS, POINTS_ON_LINE, WellMap
from lambda_hat.samplers.work import Work

__all__ = ["MIN_SIZE_TO_RESAMPLE", "Survey", "SurveyBudget", "look_from_afar", "most_gradients_beside"]

NUM_PRIOR_DRAWS = 4096
NUM_PRIOR_DRAWS_OF_MANY = 512  # above so many dimensions, where hardly a weight survives
NUM_PRIOR_DRAWS_OF_LARGE = 32
MIN_SIZE_TO_RESAMPLE = 10.0  # effective draws of the prior, for some of them to be starts
NUM_RESAMPLED = 8
NUM_HEAVY = 256  # draws of the prior by weight, each of which has to be in sight of a well
SHARE_OF_SIGHT = 0.25  # of the gradients that a look has left, for that
MAX_UNEXPLAINED = 32  # of these, from which descents begin
NUM_DESCENTS = 48  # all of them miss a basin with a tenth of the Gaussian once in 150 times
NUM_DESCENTS_OF_MANY = 16  # above `MANY_DIMENSIONS`, where each costs as much as dozens there
NUM_DESCENTS_AMONG_WELLS = 96  # where another well that counts is known: then there may be more of them
MAX_DESCENTS = 128  # where wells that count keep turning up
MAX_GRADIENTS = 60_000  # of a look, after which it takes no more of them: a small part of what a reference takes

MIN_MASS = 1e-3  # share of the posterior that a well must hold to count: less changes no digit of λ̂

SHARE_OF_RUN = 0.05  # of the gradients of one run, for a look from afar, which are in float64 and one by one
FREE_WORK = 1e9  # floating-point operations of a look that no run is too short for: a part of a second
FREE_WORK_OF_MANY = 5e8  # above `MANY_DIMENSIONS`, where descents end in the first known well


def most_gradients_beside(dim: int, num_data: int, num_gradient_evaluations: float) -> float:
    """Gradients in float64 that a look may take beside a run of so many: a share of them, or what takes no time."""
    free = FREE_WORK if dim <= MANY_DIMENSIONS else FREE_WORK_OF_MANY
    return max(SHARE_OF_RUN * num_gradient_evaluations, free / (6 * num_data * dim))


class SurveyBudget(NamedTuple):
    """How far to look."""

    num_prior_draws: int
    num_descents: int
    max_gradients: float = math.inf  # that no further descent is expected to go beyond
    is_brief: bool = False  # whether a descent ends as soon as it is in a known well

    @classmethod
    def of_run(cls, dim: int, num_data: int, num_gradient_evaluations: float) -> Self:
        """For one run of a method, at most `most_gradients_beside` it."""
        most = most_gradients_beside(dim, num_data, num_gradient_evaluations)
        standard = cls.of_reference(dim)
        draws = min(standard.num_prior_draws, int(0.5 * most / LOSS_PER_GRADIENT))
        return cls(draws, standard.num_descents, most, is_brief=dim > MANY_DIMENSIONS)

    @classmethod
    def of_reference(cls, dim: int) -> Self:
        """As far as is worth it for a reference of `dim` parameters."""
        if dim <= MANY_DIMENSIONS:
            return cls(NUM_PRIOR_DRAWS, NUM_DESCENTS)
        return cls(NUM_PRIOR_DRAWS_OF_MANY if dim <= LARGE_DIM else NUM_PRIOR_DRAWS_OF_LARGE, NUM_DESCENTS_OF_MANY)


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
        masses: shares of the wells by their depths and widths; by e^(−U) alone where curvature costs too much.
        rare: share of the posterior in wells that one or two descents found when the search ended.
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
    rare: float = 0.0
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
        """How far other wells than that of w0 were searched for, and which were found, in words."""
        searched = (
            f"searched for other wells with {self.num_prior_draws} draws of the localization's Gaussian "
            f"({self.prior_size:.3g} effective) and {self.num_descents} descents from such draws"
        )
        if not len(self.masses):
            return searched
        found = [
            f"{mass:.3g} of the mass at distance {distance:.3g} and potential {potential:+.3g}"
            for mass, distance, potential in zip(self.masses, self.distances, self.potentials, strict=True)
            if mass >= MIN_MASS
        ]
        alone = len(found) == 1 and self.masses[self.own] >= MIN_MASS
        return f"{searched}; none found" if alone else f"{searched}; wells: {'; '.join(found)}"

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

    def mass_of_rare(self) -> Criterion | None:
        """The share of wells that one or two descents found; None where draws of the prior tell what these may miss.

        Where wells still turn up that few descents end in, there are others that none has ended in (Good 1953).
        """
        if self.is_prior_telling:
            return None
        return Criterion(RARE_WELLS, self.rare, MAX_MASS_UNSEEN)

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
        values: dict[str, Any] = {name: arrays[name] for name in cls.__dataclass_fields__ if name in arrays}
        return cls(**{name: value.item() if value.ndim == 0 else value for name, value in values.items()})


def look_from_afar(
    posterior: LocalPosterior, whitening: Whitening, rng: np.random.Generator, work: Work, budget: SurveyBudget
) -> Survey:
    """Weigh draws of the localization's Gaussian, then descend from some of them and from the heaviest; merge the ends.

    Descents begin, too, from draws that matter by their weight and are in no known well's sight. They go on, up to 96,
    if another well than that of w0 counts, and up to 128 as long as only one or two of them came to a well that counts.

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
    places = WellMap(posterior, whitening, work, begun + budget.max_gradients)
    places.add(0.0, np.zeros(d))
    num_descents, of_descents = 0, 0.0

    def descend_from(some: Iterable[Float[np.ndarray, " d"]]) -> None:
        nonlocal num_descents, of_descents
        for start in some:
            before = work.num_gradient_evaluations
            if before - begun + of_descents / max(num_descents, 1) > budget.max_gradients:
                break
            num_descents += 1
            has_arrived = places.takes_in if budget.is_brief else None
            num_ends = places.num_ends
            potential, end = descend(posterior, whitening, start, max_iterations(d), work, has_arrived=has_arrived)
            of_descents += work.num_gradient_evaluations - before
            if math.isfinite(potential) and places.num_ends == num_ends:
                places.add(potential, end)

    descend_from(itertools.islice(starts, min(budget.num_descents, len(finite)) + num_heavy))
    left = budget.max_gradients - (work.num_gradient_evaluations - begun)
    num_looked_at = int(min(NUM_HEAVY, SHARE_OF_SIGHT * left / (NEAREST_WELLS * POINTS_ON_LINE * LOSS_PER_GRADIENT)))
    if len(finite) and num_looked_at > 0:
        chosen = finite[_resampled(scipy.special.softmax(-losses[finite]), num_looked_at, rng)]
        chosen = chosen[~places.are_in_sight(draws[chosen], potentials[chosen])]
        descend_from(draws[chosen[:MAX_UNEXPLAINED]])
    while True:
        wells = places.wells()
        own = next(i for i, well in enumerate(wells) if well.holds_w0)
        masses = places.shares([well.lowest for well in wells])
        is_rare = np.array([well.num_ends <= 2 and not well.holds_w0 for well in wells])
        spent = work.num_gradient_evaluations - begun
        if np.any(masses[is_rare] >= MIN_MASS):
            most = MAX_DESCENTS
        else:
            most = NUM_DESCENTS_AMONG_WELLS if np.sum(masses >= MIN_MASS) > 1 else 0
        is_over = num_descents >= most or spent > min(budget.max_gradients, MAX_GRADIENTS)
        num_before = num_descents
        if not is_over and d <= MAX_DENSE_DIM:
            descend_from(itertools.islice(starts, max(0, min(num_descents, most - num_descents))))
        if num_descents == num_before:  # over, or another descent is not expected to fit, or no start is left
            break
    order = np.argsort(-masses, kind="stable")
    lowest = min([0.0, *potentials[finite], *(well.lowest.potential for well in wells)])
    return Survey(
        num_prior_draws=budget.num_prior_draws,
        prior_size=size,
        prior_llc=llc,
        prior_se=se,
        prior_k_hat=k_hat,
        resampled=draws[heavy] if size >= MIN_SIZE_TO_RESAMPLE else np.zeros((0, d)),
        num_descents=num_descents,
        displacements=np.array([wells[i].lowest.displacement for i in order]).reshape(-1, d),
        potentials=np.array([wells[i].lowest.potential for i in order]),
        masses=masses[order],
        rare=float(masses[is_rare].sum()),
        own=int(np.flatnonzero(order == own)[0]),
        lowest=float(lowest),
    )


def _resampled(weights: Float[np.ndarray, " draws"], number: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of at most `number` draws by weight, each once, in a random order: systematic resampling."""
    places = (rng.random() + np.arange(number)) / number
    indices = np.searchsorted(np.cumsum(weights), places).clip(max=len(weights) - 1)
    return rng.permutation(np.unique(indices))
