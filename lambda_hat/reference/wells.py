"""Wells of the local posterior: which places lie in one, and how much of the posterior each of them holds.

The mass of a well is e^(−U) at its end times its widths along the eigenvectors of the Hessian there. These are by
Laplace's formula first. In up to fifty dimensions wells that may count get integrals along the lines, which hold where
the loss has no curvature, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float

from lambda_hat.posterior import LocalPosterior, Whitening
from lambda_hat.posterior.geometry import GRADIENTS_PER_PASS, MAX_DENSE_DIM
from lambda_hat.posterior.local import LARGE_DIM
from lambda_hat.reference.descents import descend
from lambda_hat.reference.potential import potentials_at
from lambda_hat.samplers.work import Work

__all__ = ["MANY_DIMENSIONS", "NEAREST_WELLS", "POINTS_ON_LINE", "WellMap"]

MANY_DIMENSIONS = 50
NEAREST_WELLS = 3  # that a draw is looked at from
SAME_PLACE = 0.05  # whitened distance of two ends of one well, between which nothing is looked at
MAX_BARRIER = 2.0  # nats along a path between two ends, for them to lie in one well
POINTS_ON_LINE = 16
MAX_BENDS = 3  # halvings of a path, each of which lets it bend towards lower ground
ITERATIONS_OF_BEND = 10
POINTS_OF_WIDTH = 16  # on each side of an end, ever further apart
NEAREST_OF_WIDTH, FARTHEST_OF_WIDTH = 1e-3, 5.0  # where the first and the last of them lie, in Gaussian widths
LEAST_MASS_TO_MEASURE = 1e-8  # by Laplace's formula, which may be wrong by orders where the loss has no curvature
NEGLIGIBLE_MASS = 1e-4  # of a place that may as well be a well of its own


@eqx.filter_jit
def _curvature(posterior: LocalPosterior, position: Array) -> tuple[Array, Array]:
    """|h| for every eigenvalue h of the Hessian of nβL_n, zero where that is not finite, and the eigenvectors."""
    hessian = posterior.hessian(position)
    values, vectors = jnp.linalg.eigh(jnp.where(jnp.all(jnp.isfinite(hessian)), hessian, 0.0))
    return jnp.abs(values), vectors


class Widths(NamedTuple):
    """Of a well, along the eigenvectors of the Hessian at its end, as standard deviations."""

    scales: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "d d"]  # in rows

    @classmethod
    def by_laplace(cls, posterior: LocalPosterior, end: Float[np.ndarray, " d"], work: Work) -> Self:
        """1/√(|h| + γ)."""
        work.check()
        work.num_curvature_passes += posterior.dim
        curvatures, vectors = _curvature(posterior, posterior.w0 + jnp.asarray(end))
        precisions = np.asarray(curvatures, np.float64) + float(posterior.localization)
        return cls(1 / np.sqrt(precisions), np.asarray(vectors, np.float64).T)

    def measured(self, posterior: LocalPosterior, end: Float[np.ndarray, " d"], potential: float, work: Work) -> Self:
        """∫ e^(U(end) − U(end + tv)) dt / √(2π) along each direction v, as far as the first barrier on either side."""
        spacing = math.asinh(FARTHEST_OF_WIDTH / NEAREST_OF_WIDTH) / POINTS_OF_WIDTH
        reach = spacing * np.arange(1, POINTS_OF_WIDTH + 1)
        steps = self.scales[:, None] * NEAREST_OF_WIDTH * np.sinh(reach)  # (d, points)
        offsets = np.stack([-steps, steps])[..., None] * self.directions[:, None]
        rises, _ = potentials_at(posterior, (end + offsets).reshape(-1, posterior.dim), work)
        rises = (rises - potential).reshape(2, *steps.shape)
        highest = np.maximum.accumulate(np.maximum(rises, 0.0), axis=2)
        is_beyond = np.logical_or.accumulate(rises < highest - MAX_BARRIER, axis=2)
        densities = np.where(is_beyond, 0.0, np.exp(-np.maximum(rises, -MAX_BARRIER))).sum(axis=0)
        integrals = spacing * NEAREST_OF_WIDTH * (1.0 + densities @ np.cosh(reach))
        return self._replace(scales=self.scales * integrals / math.sqrt(2 * math.pi))

    @property
    def log_volume(self) -> float:
        """Log of their product."""
        return float(np.sum(np.log(self.scales)))


class Place(NamedTuple):
    """Where descents end."""

    potential: float
    displacement: Float[np.ndarray, " d"]  # w − w0
    coordinates: Float[np.ndarray, " d"]  # whitened

    def distance(self, other: Place) -> float:
        """In whitened coordinates."""
        return float(np.linalg.norm(self.coordinates - other.coordinates))


class Well(NamedTuple):
    """Places that paths without a barrier connect."""

    lowest: Place
    num_ends: int  # of descents, and w0 itself
    holds_w0: bool


class WellMap:
    """The places where descents end, of which w0 is the first, and which of them lie in one well.

    Places lie in one well if a path between them rises by at most two nats above the higher one. It is a straight line,
    or bends downhill in its middle. What is known of two places is not looked at again. Widths are left out, or are by
    Laplace's formula, where the `work` would come to more than `max_gradients`.
    """

    def __init__(
        self, posterior: LocalPosterior, whitening: Whitening, work: Work, max_gradients: float = math.inf
    ) -> None:
        self._posterior, self._whitening, self._work, self._max_gradients = posterior, whitening, work, max_gradients
        self._places: list[Place] = []
        self._num_ends: list[int] = []
        self._passes: dict[tuple[int, int], float] = {}  # between two places
        self._by_laplace: dict[bytes, Widths] = {}  # by displacement
        self._measured: dict[bytes, Widths] = {}
        self._bends = MAX_BENDS if posterior.dim <= LARGE_DIM else 0

    def add(self, potential: float, displacement: Float[np.ndarray, " d"]) -> None:
        """One more end of a descent."""
        place = self._place(potential, displacement)
        if (known := self._find(place)) is None:
            self._places.append(place)
            self._num_ends.append(1)
        else:
            self._num_ends[known] += 1
            if known and potential < self._places[known].potential:
                self._places[known] = place

    @property
    def num_ends(self) -> int:
        """Of all places, w0 among them."""
        return sum(self._num_ends)

    def wells(self) -> list[Well]:
        """Every well by its lowest place, the lowest first.

        A place that holds next to nothing is a well of its own: whether it belongs to another one changes nothing. A
        place from which the ways down lead to two wells belongs to the lower one. It makes them one only if it lies,
        with both ways, at most two nats above the higher end.
        """
        masses = self._rough_masses()
        order = sorted(range(len(self._places)), key=lambda i: self._places[i].potential)
        groups: list[list[int]] = []
        for i in order:
            ways = [(self._pass(i, g[0]), g) for g in groups if min(masses[i], masses[g[0]]) >= NEGLIGIBLE_MASS]
            ways = [(height, group) for height, group in ways if math.isfinite(height)]
            if not ways:
                groups.append([i])
                continue
            (highest, home), *others = ways
            home.append(i)
            for height, group in others:
                if max(height, highest) <= self._places[group[0]].potential + MAX_BARRIER:
                    home += group
                    groups.remove(group)
        return [
            Well(self._places[group[0]], sum(self._num_ends[i] for i in group), holds_w0=0 in group) for group in groups
        ]

    def are_in_sight(
        self, displacements: Float[np.ndarray, "draws d"], potentials: Float[np.ndarray, " draws"]
    ) -> np.ndarray:
        """Whether from each draw the straight line to the end of one of the nearest wells rises by at most two nats."""
        share = np.linspace(0.0, 1.0, POINTS_ON_LINE + 2)[1:-1, None]
        is_seen = np.zeros(len(displacements), bool)
        wells = self.wells()
        ends, depths = np.array([well.lowest.displacement for well in wells]), [well.lowest.potential for well in wells]
        nearest = np.argsort(((displacements[:, None] - ends) ** 2).sum(axis=2), axis=1)[:, :NEAREST_WELLS]
        for wells_of_draws in nearest.T:
            left = np.flatnonzero(~is_seen)
            towards = wells_of_draws[left]
            lines = (1 - share) * displacements[left, None] + share * ends[towards, None]
            along, _ = potentials_at(self._posterior, lines.reshape(-1, self._posterior.dim), self._work)
            highest = np.maximum(potentials[left], np.array(depths)[towards]) + MAX_BARRIER
            is_seen[left] = along.reshape(len(left), POINTS_ON_LINE).max(axis=1, initial=-math.inf) <= highest
        return is_seen

    def takes_in(self, potential: float, displacement: Float[np.ndarray, " d"]) -> bool:
        """Count a place as one more end of a known one, if the straight line to that is open, and say whether it is.

        Only a place counts that is at most two nats above the lowest of all: from higher up ways may lead elsewhere.
        """
        if potential > min(place.potential for place in self._places) + MAX_BARRIER:
            return False
        place = self._place(potential, displacement)
        nearest = sorted(range(len(self._places)), key=lambda i: place.distance(self._places[i]))[:NEAREST_WELLS]
        for i in nearest:
            if math.isfinite(self._highest_between(place, self._places[i], bends=0)):
                self._num_ends[i] += 1
                return True
        return False

    def _rough_masses(self) -> Float[np.ndarray, " places"]:
        """Shares of the places; all of them one where these cost much."""
        if self._posterior.dim > MANY_DIMENSIONS:
            return np.ones(len(self._places))
        return self.shares(self._places)

    def shares(self, places: Sequence[Place]) -> Float[np.ndarray, " places"]:
        """Of the posterior by depths and widths; by e^(−U) alone where curvature costs too much."""
        log_masses = np.array([-place.potential for place in places])
        d = self._posterior.dim
        if len(places) == 1 or d > MAX_DENSE_DIM or not self._can_pay_for_widths(places):
            return np.asarray(scipy.special.softmax(log_masses))
        by_laplace = np.array([self._widths_by_laplace(place).log_volume for place in places])
        masses = np.asarray(scipy.special.softmax(log_masses + by_laplace))
        if d > MANY_DIMENSIONS:
            return masses
        volumes = [
            self._measured_widths(place).log_volume if mass >= LEAST_MASS_TO_MEASURE else volume
            for place, mass, volume in zip(places, masses, by_laplace, strict=True)
        ]
        return np.asarray(scipy.special.softmax(log_masses + volumes))

    def _can_pay_for_widths(self, places: Sequence[Place]) -> bool:
        num_new = sum(place.displacement.tobytes() not in self._by_laplace for place in places)
        left = self._max_gradients - self._work.num_gradient_evaluations
        return self._posterior.dim <= MANY_DIMENSIONS or GRADIENTS_PER_PASS * self._posterior.dim * num_new <= left

    def _widths_by_laplace(self, place: Place) -> Widths:
        key = place.displacement.tobytes()
        if key not in self._by_laplace:
            self._by_laplace[key] = Widths.by_laplace(self._posterior, place.displacement, self._work)
        return self._by_laplace[key]

    def _measured_widths(self, place: Place) -> Widths:
        key = place.displacement.tobytes()
        if key not in self._measured:
            widths = self._widths_by_laplace(place)
            if self._work.num_gradient_evaluations >= self._max_gradients:
                return widths
            self._measured[key] = widths.measured(self._posterior, place.displacement, place.potential, self._work)
        return self._measured[key]

    def _place(self, potential: float, displacement: Float[np.ndarray, " d"]) -> Place:
        coordinates = self._whitening.coordinates(jnp.asarray(displacement))
        return Place(potential, displacement, np.asarray(coordinates, np.float64))

    def _find(self, place: Place) -> int | None:
        """Which of the known places it is."""
        return next((i for i, known in enumerate(self._places) if known.distance(place) < SAME_PLACE), None)

    def _pass(self, i: int, j: int) -> float:
        """The highest potential on a path between two places; ∞ where none stays within two nats of the higher one."""
        key = min(i, j), max(i, j)
        if key not in self._passes:
            self._passes[key] = math.inf  # for paths that come back to these two
            self._passes[key] = self._highest_between(self._places[i], self._places[j], self._bends)
        return self._passes[key]

    def _highest_between(self, one: Place, other: Place, bends: int) -> float:
        share = np.linspace(0.0, 1.0, POINTS_ON_LINE + 2)[1:-1, None]
        line = (1 - share) * one.displacement + share * other.displacement
        potentials, _ = potentials_at(self._posterior, line, self._work)
        ends = max(one.potential, other.potential)
        if (highest := max(ends, float(np.max(potentials)))) <= ends + MAX_BARRIER:
            return highest
        if bends == 0:
            return math.inf
        halfway = 0.5 * (one.displacement + other.displacement)
        middle = self._place(*descend(self._posterior, self._whitening, halfway, ITERATIONS_OF_BEND, self._work))
        nearest = min(middle.distance(one), middle.distance(other))
        if not math.isfinite(middle.potential) or nearest < 0.1 * one.distance(other):
            return math.inf  # the middle fell to one of the two
        if middle.potential > ends + MAX_BARRIER:
            return math.inf
        known = [self._find(place) for place in (middle, one, other)]
        if None not in known:
            m, i, j = (index for index in known if index is not None)
            return max(self._pass(i, m), self._pass(m, j))
        return max(self._highest_between(middle, end, bends - 1) for end in (one, other))
