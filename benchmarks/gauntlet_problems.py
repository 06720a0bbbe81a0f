"""Local posteriors whose λ̂ is known by other means than the product's, fixed ones and random families.

A problem is what `lambda_hat.certify_llc` takes: a loss function, w0, data, nβ and γ_loc. Most losses are potentials,
U = nβ (L_n(w) − L_n(w0)) in nats: their parameters are the data, two equal rows, so that one loss function serves many
problems and is compiled once for each shape. λ̂ = E U under exp(−U − (γ_loc/2)|w − w0|²).

Every problem names the way to its truth:

- quadrature: the trapezoidal rule in t, w = w0 + s sinh t, doubled until the value stays the same to 2·10⁻⁵;
- closed form: quadratic losses, and quadratic factors of a loss, which leave an integral over the other parameters;
- mixture: the posterior is a Gaussian mixture, whose entropy is closed but for a small term of plain Monte Carlo;
- importance sampling: from a Student-t density around the one mode of a regression;
- pool: annealed importance sampling with moves (SMC), or long converged runs, whose figures are stored here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.special

from lambda_hat.targets.losses import SquaredError
from lambda_hat.targets.networks import MLP

__all__ = ["FAMILIES", "Problem", "Truth", "fixed_problems", "random_problems", "smc"]

NBETA = 100.0
NUM_ROWS = 2  # of a potential's data, all equal
TOLERANCE = 2e-5  # of a quadrature, at a doubling of its points
REACH = 9.0  # in units of 1/√γ_loc: beyond, the localization leaves less than 1e-17

Kind = Literal["one mode", "wells", "plateau", "curved", "edge", "no minimum"]


@dataclass(frozen=True)
class Truth:
    """λ̂ and how well it is known."""

    llc: float
    error: float = 0.0


@dataclass(frozen=True, eq=False)
class Problem:
    """A local posterior and the way to its λ̂."""

    name: str
    family: str
    kind: Kind
    loss_fn: Callable[[Any, Any], Any]
    w0: np.ndarray
    data: tuple[np.ndarray, ...]
    localization: float
    find_truth: Callable[[Problem], Truth]
    nbeta: float = NBETA

    @property
    def dim(self) -> int:
        return self.w0.size

    @property
    def inverse_temperature(self) -> float:
        """β = nβ/n."""
        return self.nbeta / self.data[0].shape[0]

    @property
    def program(self) -> tuple[Any, ...]:
        """Problems of one program run one after the other."""
        return self.loss_fn.__name__ if hasattr(self.loss_fn, "__name__") else "", self.dim, self.data[0].shape

    @cached_property
    def truth(self) -> Truth:
        """λ̂, found when it is asked for."""
        return self.find_truth(self)

    def excess(self, points: np.ndarray) -> np.ndarray:
        """U = nβ (L_n(w) − L_n(w0)) at points (m, d), by the loss itself in float64."""
        with jax.enable_x64(True):
            arguments = [tuple(map(jnp.asarray, self.data)), jnp.asarray(self.w0)]
            chunks = [
                _mean_losses(self.loss_fn, jnp.asarray(points[start : start + 2**18]), *arguments)
                for start in range(0, len(points), 2**18)
            ]
            return self.nbeta * np.concatenate([np.asarray(chunk) for chunk in chunks])


@jax.jit(static_argnums=0)
def _mean_losses(loss_fn: Callable[[Any, Any], Any], points: jax.Array, data: Any, w0: jax.Array) -> jax.Array:
    losses = jax.vmap(lambda point: jnp.mean(loss_fn(point, data)))(points)
    return losses - jnp.mean(loss_fn(w0, data))


def _rows(*values: Any) -> np.ndarray:
    """Two equal rows."""
    return np.stack([np.asarray(values[0] if len(values) == 1 else values, np.float64)] * NUM_ROWS)


# ---------------------------------------------------------------------------------------------------------------------
# Quadrature


def sinh_grid(num_points: int, reach: float, scale: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
    """Offsets from w0, dense near 0 on all scales down to `scale`, and their weights."""
    t = np.linspace(-1.0, 1.0, num_points + 1) * math.asinh(reach / scale)
    return scale * np.sinh(t), scale * np.cosh(t) * (t[1] - t[0])


def doubled(mean: Callable[[int], float], numbers: Sequence[int]) -> Truth:
    """`mean` at more and more points until it stays the same."""
    value = math.nan
    for number in numbers:
        before, value = value, mean(number)
        if abs(value - before) <= TOLERANCE * abs(value):
            return Truth(value, abs(value - before))
    return Truth(value, abs(value - before))


def weighted(values: np.ndarray, log_density: np.ndarray, weights: np.ndarray) -> float:
    """Σ v e^l w / Σ e^l w; where either is no number there is no mass."""
    is_known = np.isfinite(values) & np.isfinite(log_density)
    values, log_density = np.where(is_known, values, 0.0), np.where(is_known, log_density, -np.inf)
    mass = weights * np.exp(log_density - np.max(log_density))
    return float(np.sum(values * mass) / np.sum(mass))


def on_a_line(excess: Callable[[np.ndarray], np.ndarray], localization: float) -> Truth:
    """E U for one parameter, `excess` of its offsets from w0."""

    def mean(num_points: int) -> float:
        x, weights = sinh_grid(num_points, REACH / math.sqrt(localization))
        values = excess(x)
        return weighted(values, -values - 0.5 * localization * x**2, weights)

    return doubled(mean, [2**k for k in range(10, 18)])


def in_the_plane(problem: Problem) -> Truth:
    """E U for two parameters, on a tensor grid."""

    def mean(num_points: int) -> float:
        x, weights = sinh_grid(num_points, REACH / math.sqrt(problem.localization))
        numerator = denominator = 0.0
        for part, part_weights in zip(np.array_split(x, 64), np.array_split(weights, 64), strict=True):
            offsets = np.stack(np.meshgrid(part, x, indexing="ij"), axis=-1).reshape(-1, 2)
            values = problem.excess(problem.w0 + offsets)
            values[~np.isfinite(values)] = np.inf
            exponent = -values - 0.5 * problem.localization * np.sum(offsets**2, axis=1) - lowest
            mass = np.outer(part_weights, weights).reshape(-1) * np.exp(exponent)
            numerator += np.sum(np.where(mass > 0, values, 0.0) * mass)
            denominator += np.sum(mass)
        return float(numerator / denominator)

    lowest = 20.0  # U − that is never below −700, and masses never overflow
    return doubled(mean, [256, 512, 1024, 2048, 4096])


# ---------------------------------------------------------------------------------------------------------------------
# Potentials of two parameters


def _three_wells(x, y, a, b):
    """The middle one, at w0, is not the heaviest."""
    wells = jnp.stack(
        [
            -0.5 * ((x / 0.3) ** 2 + (y / 0.1) ** 2),
            -2 - 0.5 * ((x / 3.3) ** 2 + ((y - 1.1) / 0.1) ** 2),
            -9 - 0.5 * (((x + 4.2) / 1.2) ** 2 + (y / 0.1) ** 2),
        ]
    )
    return -jax.nn.logsumexp(wells)


def _hole(x, y, a, b):
    """A hole of width b and depth a in a plain."""
    return a * (1 - jnp.exp(-(x**2 + y**2) / (2 * b**2)))


def _hole_in_a_bowl(x, y, a, b):
    return 0.5 * (x**2 + y**2) + a * (1 - jnp.exp(-(x**2 + y**2) / (2 * b**2)))


def _tilt(x, y, a, b):
    """Wells at 0 and near 2; the second is the lower one for a < 0."""
    return 5 * y**2 + 8 * x**2 * (x - 2) ** 2 + a * x**2


def _log_edges(x, y, a, b):
    """No number beyond −1."""
    return a * (x - jnp.log1p(x)) + b * (y - jnp.log1p(y))


def _ring(x, y, a, b):
    return a * (x**2 + b * y**2 - 1) ** 2


def _monomial(x, y, a, b):
    """1000 x²ᵃ y²ᵇ for a, b of 1, 2 or 3."""

    def power(square, k):
        return square * jnp.where(k > 1.5, square, 1.0) * jnp.where(k > 2.5, square, 1.0)

    return 1000 * power(x**2, a) * power(y**2, b)


def _hyperbola(x, y, a, b):
    return a * (x * y - b) ** 2


def _four_hyperbolas(x, y, a, b):
    return a * ((x * y) ** 2 - b) ** 2


def _kinked_hyperbola(x, y, a, b):
    return a * jnp.abs(x * y - b)


def _banana(x, y, a, b):
    return b * x**2 + a * (y - x**2) ** 2


def _funnel(x, y, a, b):
    return b * x**2 + a * y**2 * jnp.exp(2 * x)


def _cusp(x, y, a, b):
    """A cone of slope a, rounded within b."""
    return a * (jnp.sqrt(x**2 + y**2 + b**2) - b)


def _corner(x, y, a, b):
    return a * jnp.abs(x) + b * jnp.abs(y)


def _egg_crate(x, y, a, b):
    """Dozens of wells, w0's the deepest."""
    return b * (x**2 + y**2) + a * (2 - jnp.cos(3 * x) - jnp.cos(3 * y))


def _two_wells(x, y, a, b):
    """Equal ones at x = ±1, a saddle between."""
    return a * (x**2 - 1) ** 2 + b * y**2


def _one_sided(x, y, a, b):
    """Flat for x < 0."""
    return a * jax.nn.relu(x) ** 2 + b * y**2


def _flat_bottom(x, y, a, b):
    return a * jax.nn.relu((x**2 + y**2) / b**2 - 1) ** 2


def _rotated_quadratic(x, y, a, b):
    return 0.25 * (a * (x + y) ** 2 + b * (x - y) ** 2)


def _quartic_valley(x, y, a, b):
    return a * (x + y) ** 4 + b * (x - y) ** 2


def _tanh_unit(x, y, a, b):
    """y tanh(xt) fitted to tanh t, bt at nine points: two wells, by the sign of both."""
    t = jnp.linspace(-2.0, 2.0, 9).astype(x.dtype)
    return a * jnp.mean((y * jnp.tanh(x * t) - jnp.tanh(b * t)) ** 2)


def _relu_unit(x, y, a, b):
    """y relu(x) fitted to 1: dead, and a plateau, for x < 0."""
    return a * (y * jax.nn.relu(x) - b) ** 2


PLANE = (
    _three_wells, _hole, _hole_in_a_bowl, _tilt, _log_edges, _ring, _monomial, _hyperbola, _four_hyperbolas,
    _kinked_hyperbola, _banana, _funnel, _cusp, _corner, _egg_crate, _two_wells, _one_sided, _flat_bottom,
    _rotated_quadratic, _quartic_valley, _tanh_unit, _relu_unit,
)  # fmt: skip


def plane_loss(position: jax.Array, batch: tuple[jax.Array]) -> jax.Array:
    """U(x, y; a, b)/100, rows (which potential, a, b)."""
    rows = batch[0]
    which, a, b = rows[0]
    value = jax.lax.switch(which.astype(jnp.int32), PLANE, *position, a, b)
    return jnp.broadcast_to(value / NBETA, rows.shape[:1])


def plane(
    name: str,
    kind: Kind,
    potential: Any,
    localization: float,
    a: float = 1.0,
    b: float = 1.0,
    w0: tuple[float, float] = (0.0, 0.0),
    find_truth: Callable[[Problem], Truth] = in_the_plane,
) -> Problem:
    data = (_rows(PLANE.index(potential), a, b),)
    return Problem(name, "plane", kind, plane_loss, np.array(w0), data, localization, find_truth)


def _of_rotated_quadratic(problem: Problem) -> Truth:
    """Closed form: ½ Σ h/(h + γ)."""
    stiffness = problem.data[0][0, 1:]
    return Truth(0.5 * float(np.sum(stiffness / (stiffness + problem.localization))))


def _of_banana(problem: Problem) -> Truth:
    """y is Gaussian given x; a quadrature over x."""
    (a, b), localization = problem.data[0][0, 1:], problem.localization

    def mean(num_points: int) -> float:
        x, weights = sinh_grid(num_points, REACH / math.sqrt(localization))
        values, log_integral = _given_a_factor(np.ones_like(x), x[:, None] ** 2, 0.0, a, np.zeros(1), localization)
        values, log_integral = values + a * x**4 + b * x**2, log_integral - a * x**4 - b * x**2
        return weighted(values, log_integral - 0.5 * localization * x**2, weights)

    return doubled(mean, [2**k for k in range(10, 18)])


# ---------------------------------------------------------------------------------------------------------------------
# Sums of functions of one parameter each

ALONE: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "quadratic": lambda x, a, b: 0.5 * a * x**2,
    "quartic": lambda x, a, b: a * x**4,
    "sextic": lambda x, a, b: a * x**6,
    "abs": lambda x, a, b: a * jnp.abs(x),
    "infinite curvature": lambda x, a, b: a * jnp.abs(x) ** 1.5,
    "logcosh": lambda x, a, b: a * (jnp.logaddexp(b * x, -b * x) - math.log(2)),
    "skew": lambda x, a, b: a * (jnp.exp(jnp.minimum(b * x, 40.0)) - b * x - 1),
    "heavy": lambda x, a, b: a * jnp.log1p((x / b) ** 2),
    "flat": lambda x, a, b: a * jax.nn.relu(jnp.abs(x) - b) ** 2,
    "one-sided": lambda x, a, b: a * jax.nn.relu(x) ** 2,
    "hole": lambda x, a, b: a * (1 - jnp.exp(-0.5 * (x / b) ** 2)),
    # Wells at 0 and 2b with a barrier of a between; the second one is as low, or up by a nat.
    "twins": lambda x, a, b: a * (x * (x - 2 * b) / b**2) ** 2,
    "second": lambda x, a, b: a * (x * (x - 2 * b) / b**2) ** 2 + 0.25 * (x / b) ** 2,
    "saddle": lambda x, a, b: a * ((x / b) ** 2 - 1) ** 2,
    "wall": lambda x, a, b: jnp.where(x < b, 0.5 * a * x**2, jnp.nan),
    "log edge": lambda x, a, b: a * (x - jnp.log1p(x)),
}  # fmt: skip
KIND_OF: dict[str, Kind] = {
    "flat": "plateau", "one-sided": "plateau", "hole": "plateau", "twins": "wells", "second": "wells",
    "saddle": "no minimum", "wall": "edge", "log edge": "edge",
}  # fmt: skip


def _alone(x: jax.Array, row: jax.Array) -> jax.Array:
    which, a, b = row
    return jax.lax.switch(which.astype(jnp.int32), tuple(ALONE.values()), x, a, b)


def separable_loss(position: jax.Array, batch: tuple[jax.Array]) -> jax.Array:
    """Σ_j U_j(w_j; a_j, b_j)/100, rows (d, 3) of (which function, a_j, b_j)."""
    rows = batch[0]
    return jnp.broadcast_to(jnp.sum(jax.vmap(_alone)(position, rows[0])) / NBETA, rows.shape[:1])


def _of_separable(problem: Problem) -> Truth:
    """A quadrature for each parameter."""
    parts: dict[tuple[float, ...], Truth] = {}
    rows = [tuple(row) for row in problem.data[0][0]]
    function = jax.jit(jax.vmap(_alone, (0, None)))
    for row in set(rows):
        with jax.enable_x64(True):
            at = jnp.asarray(row)
            at_zero = function(jnp.zeros(1), at)[0]
            parts[row] = on_a_line(
                lambda x, at=at, at_zero=at_zero: np.asarray(function(jnp.asarray(x), at) - at_zero),
                problem.localization,
            )
    return Truth(sum(parts[row].llc for row in rows), sum(parts[row].error for row in rows))


def separable(name: str, localization: float, *parts: tuple[Any, ...], family: str = "separable") -> Problem:
    """`parts`: (name of a function, a, b = 1, how many = 1)."""
    rows: list[tuple[float, float, float]] = []
    kinds: set[Kind] = set()
    for which, a, *more in parts:
        b, count = [*more, *(1.0, 1)[len(more) :]]
        rows += [(float(list(ALONE).index(which)), a, b)] * int(count)
        kinds.add(KIND_OF.get(which, "one mode"))
    order: tuple[Kind, ...] = ("no minimum", "wells", "plateau", "edge", "one mode")
    kind = next(kind for kind in order if kind in kinds)
    data = (_rows(rows),)
    return Problem(name, family, kind, separable_loss, np.zeros(len(rows)), data, localization, _of_separable)


# ---------------------------------------------------------------------------------------------------------------------
# Functions of the radius

RADIAL: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {  # of r²
    "hole": lambda s, a, b: a * (1 - jnp.exp(-s / (2 * b**2))),
    "flat": lambda s, a, b: a * jax.nn.relu(s / b**2 - 1) ** 2,
    "volcano": lambda s, a, b: a * jnp.log1p(s / b**2),
    "quartic": lambda s, a, b: a * s**2,
    "hole in a bowl": lambda s, a, b: 2 * s + a * (1 - jnp.exp(-s / (2 * b**2))),
}


def _radial(squared: jax.Array, row: jax.Array) -> jax.Array:
    which, a, b = row
    return jax.lax.switch(which.astype(jnp.int32), tuple(RADIAL.values()), squared, a, b)


def radial_loss(position: jax.Array, batch: tuple[jax.Array]) -> jax.Array:
    """U(r²; a, b)/100, rows (which function, a, b)."""
    rows = batch[0]
    return jnp.broadcast_to(_radial(jnp.sum(position**2), rows[0]) / NBETA, rows.shape[:1])


def _of_radial(problem: Problem) -> Truth:
    """A quadrature over the radius."""

    def mean(num_points: int) -> float:
        r, weights = sinh_grid(num_points, (REACH + math.sqrt(problem.dim)) / math.sqrt(problem.localization), 1e-4)
        r, weights = r[num_points // 2 + 1 :], weights[num_points // 2 + 1 :]
        with jax.enable_x64(True):
            values = np.asarray(jax.vmap(_radial, (0, None))(jnp.asarray(r**2), jnp.asarray(problem.data[0][0])))
        log_density = -values - 0.5 * problem.localization * r**2 + (problem.dim - 1) * np.log(r)
        return weighted(values, log_density, weights)

    return doubled(mean, [2**k for k in range(10, 19)])


def radial(
    name: str, dim: int, which: str, localization: float, a: float, b: float = 1.0, family: str = "radial"
) -> Problem:
    kind: Kind = "one mode" if which == "quartic" else "plateau"
    data = (_rows(list(RADIAL).index(which), a, b),)
    return Problem(name, family, kind, radial_loss, np.zeros(dim), data, localization, _of_radial)


# ---------------------------------------------------------------------------------------------------------------------
# Factors: hyperbolas of more dimensions


def factors_loss(position: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """a |u vᵀ − M|²/100, w = (u, v), rows M (m, k) and a."""
    matrix, scale = batch[0][0], batch[1][0, 0]
    u, v = position[: matrix.shape[0]], position[matrix.shape[0] :]
    value = scale * jnp.sum((jnp.outer(u, v) - matrix) ** 2)
    return jnp.broadcast_to(value / NBETA, batch[0].shape[:1])


def _given_a_factor(
    squared: np.ndarray, linear: np.ndarray, constant: float, scale: float, w0: np.ndarray, localization: float
) -> tuple[np.ndarray, np.ndarray]:
    """E U and log ∫ e^(−U − γ|u − u0|²/2) du of U = a Σ_i (p u_i² − 2 q_i u_i) + a c, at p (points,), q (points, m)."""
    precision = 2 * scale * squared + localization
    mean = (2 * scale * linear + localization * w0) / precision[:, None]
    expected = scale * np.sum(squared[:, None] * (mean**2 + 1 / precision[:, None]) - 2 * linear * mean, axis=1)
    log_integral = 0.5 * np.sum(
        precision[:, None] * mean**2 - np.log(precision)[:, None] - localization * w0**2, axis=1
    )
    return expected + scale * constant, log_integral - scale * constant


def _of_factors(problem: Problem) -> Truth:
    """u is Gaussian given v; a quadrature over v, which has one entry or two."""
    matrix, scale, localization = problem.data[0][0], float(problem.data[1][0, 0]), problem.localization
    u0, v0 = problem.w0[: len(matrix)], problem.w0[len(matrix) :]

    def mean(num_points: int) -> float:
        x, weights = sinh_grid(num_points, REACH / math.sqrt(localization))
        offsets = np.stack(np.meshgrid(*[x] * len(v0), indexing="ij"), axis=-1).reshape(-1, len(v0))
        all_weights = weights if len(v0) == 1 else np.outer(weights, weights).reshape(-1)
        v = v0 + offsets
        values, log_integral = _given_a_factor(
            np.sum(v**2, axis=1), v @ matrix.T, float(np.sum(matrix**2)), scale, u0, localization
        )
        return weighted(values, log_integral - 0.5 * localization * np.sum(offsets**2, axis=1), all_weights)

    return doubled(mean, [2**k for k in (range(10, 18) if len(v0) == 1 else range(7, 12))])


def factors(
    name: str, localization: float, scale: float, u0: Any, v0: Any, family: str = "factors", kind: Kind = "curved"
) -> Problem:
    """M = u0 v0ᵀ, so that w0 = (u0, v0) is a minimum."""
    data = (_rows(np.outer(u0, v0)), _rows([scale]))
    w0 = np.concatenate([u0, v0]).astype(float)
    return Problem(name, family, kind, factors_loss, w0, data, localization, _of_factors)


def three_factors_loss(position: jax.Array, batch: tuple[jax.Array]) -> jax.Array:
    """a (xyz − 1)²/100."""
    value = batch[0][0, 0] * (jnp.prod(position) - 1) ** 2
    return jnp.broadcast_to(value / NBETA, batch[0].shape[:1])


def _of_three_factors(problem: Problem) -> Truth:
    """x is Gaussian given y and z; a quadrature over these."""
    scale, localization = float(problem.data[0][0, 0]), problem.localization

    def mean(num_points: int) -> float:
        x, weights = sinh_grid(num_points, REACH / math.sqrt(localization))
        y, z = (1 + grid.reshape(-1) for grid in np.meshgrid(x, x, indexing="ij"))
        values, log_integral = _given_a_factor((y * z) ** 2, (y * z)[:, None], 1.0, scale, np.ones(1), localization)
        log_density = log_integral - 0.5 * localization * ((y - 1) ** 2 + (z - 1) ** 2)
        return weighted(values, log_density, np.outer(weights, weights).reshape(-1))

    return doubled(mean, [256, 512, 1024, 2048, 4096])


def three_factors(name: str, localization: float, scale: float) -> Problem:
    return Problem(
        name, "factors", "curved", three_factors_loss, np.ones(3), (_rows([scale]),), localization, _of_three_factors
    )


# ---------------------------------------------------------------------------------------------------------------------
# Wells: the posterior is a mixture of three Gaussians


@dataclass(frozen=True, eq=False)
class Wells:
    """Σ_k q_k N(w; m_k, R diag(s_k²) Rᵀ): axes that all share, widths of their own."""

    log_shares: np.ndarray  # (K,)
    means: np.ndarray  # (K, d)
    scales: np.ndarray  # (K, d)
    axes: np.ndarray  # (d, d), orthogonal

    def log_terms(self, points: np.ndarray) -> np.ndarray:
        """log q_k N_k, (K, m)."""
        z = np.einsum("kmd,de->kme", points - self.means[:, None], self.axes) / self.scales[:, None]
        constant = (
            self.log_shares - np.sum(np.log(self.scales), axis=1) - 0.5 * self.means.shape[1] * math.log(2 * np.pi)
        )
        return constant[:, None] - 0.5 * np.sum(z**2, axis=2)

    def climb(self, points: np.ndarray, num_steps: int = 200) -> np.ndarray:
        """The modes that mean shift leads to."""
        means, precisions = self.means @ self.axes, self.scales**-2.0
        for _ in range(num_steps):
            shares = scipy.special.softmax(self.log_terms(points), axis=0)
            points = (shares.T @ (precisions * means)) / (shares.T @ precisions) @ self.axes.T
        return points

    def basins(self, w0: np.ndarray, localization: float, rng: np.random.Generator) -> np.ndarray:
        """Shares of the localization's Gaussian from which one climbs to each component's neighbourhood."""
        draws = w0 + rng.standard_normal((500, w0.size)) / math.sqrt(localization)
        nearest = np.argmax(self.log_terms(self.climb(draws)), axis=0)
        return np.bincount(nearest, minlength=len(self.means)) / 500


def wells_loss(position: jax.Array, batch: tuple[jax.Array, ...]) -> jax.Array:
    """(−log Σ_k q_k N_k(w) − (γ/2)|w − w0|²)/100; rows (log q), (m_k), (s_k), the axes, and (γ, w0)."""
    log_shares, means, scales, axes, centre = (column[0] for column in batch)
    z = (position - means) @ axes / scales
    log_density = jax.nn.logsumexp(log_shares - jnp.sum(jnp.log(scales), axis=1) - 0.5 * jnp.sum(z**2, axis=1))
    value = -log_density - 0.5 * centre[0] * jnp.sum((position - centre[1:]) ** 2)
    return jnp.broadcast_to(value / NBETA, batch[0].shape[:1])


def _of_wells(wells: Wells, w0: np.ndarray, localization: float, seed: int, num_draws: int = 2**17) -> Truth:
    """E[−log π] = H(k) + H(w|k) − H(k|w); the last, between 0 and log K, is by exact draws."""
    shares, d = np.exp(wells.log_shares), w0.size
    entropy = -np.sum(shares * wells.log_shares)
    entropy += np.sum(shares * (0.5 * d * math.log(2 * np.pi * np.e) + np.sum(np.log(wells.scales), axis=1)))
    rng = np.random.default_rng(seed)
    k = rng.choice(len(shares), num_draws, p=shares / shares.sum())
    points = wells.means[k] + (rng.standard_normal((num_draws, d)) * wells.scales[k]) @ wells.axes.T
    terms = wells.log_terms(points)
    doubt = scipy.special.logsumexp(terms, axis=0) - terms[k, np.arange(num_draws)]
    squared = shares @ (np.sum((wells.means - w0) ** 2, axis=1) + np.sum(wells.scales**2, axis=1))
    at_w0 = float(scipy.special.logsumexp(wells.log_terms(w0[None]), axis=0)[0])
    llc = entropy - doubt.mean() + at_w0 - 0.5 * localization * squared
    return Truth(float(llc), float(doubt.std() / math.sqrt(len(doubt))))


def wells_problem(name: str, wells: Wells, home: int, localization: float, seed: int, family: str = "wells") -> Problem:
    """w0 is the mode near component `home`."""
    w0 = wells.climb(wells.means[home][None], 2000)[0]
    modes = wells.climb(wells.means, 2000)
    heights = scipy.special.logsumexp(wells.log_terms(modes), axis=0)
    is_lowest = heights[home] >= np.max(heights) - 1e-6
    is_one = bool(np.all(np.linalg.norm(modes - w0, axis=1) < 1e-3 * np.min(wells.scales)))
    kind: Kind = "one mode" if is_one else "wells" if is_lowest else "no minimum"
    centre = np.concatenate([[localization], w0])
    data = tuple(map(_rows, (wells.log_shares, wells.means, wells.scales, wells.axes, centre)))

    def find_truth(problem: Problem) -> Truth:
        return _of_wells(wells, problem.w0, localization, seed)

    return Problem(name, family, kind, wells_loss, w0, data, localization, find_truth)


def _random_axes(dim: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((dim, dim)))[0]


def random_wells(dim: int, rng: np.random.Generator, min_basin: float) -> tuple[Wells, int]:
    """Three wells at γ_loc = 1 whose basins each hold `min_basin` of the localization's Gaussian, and where w0 is.

    Widths of 0.03 to 0.5 in each direction, those of wells within a factor of two of each other in few dimensions and
    closer in many. w0 lies in the deepest well four times out of five, and λ̂ is at least 0.3.
    """
    while True:
        scales = np.exp(rng.uniform(math.log(0.03), math.log(0.5), dim))
        scales = scales * np.exp(rng.uniform(-0.35, 0.35, (3, dim)) / max(1.0, dim / 4))
        offsets = rng.standard_normal((3, dim)) * rng.uniform(0.3, 1.5, (3, 1))
        log_shares = scipy.special.log_softmax(rng.uniform(-3, 3, 3))
        wells = Wells(log_shares, offsets, scales, _random_axes(dim, rng))
        heights = scipy.special.logsumexp(wells.log_terms(wells.means), axis=0)
        home = int(np.argmax(heights)) if rng.random() < 0.8 else int(rng.integers(3))
        wells = Wells(log_shares, offsets - offsets[home], scales, wells.axes)
        if _of_wells(wells, wells.means[home], 1.0, 0, 2**10).llc < 0.3:  # where 1 % is next to nothing
            continue
        others = np.delete(wells.basins(wells.means[home], 1.0, rng), home)
        heavy = np.delete(np.exp(log_shares), home) > 1e-3
        if np.all(others[heavy] >= min_basin):
            return wells, home


def two_wells(name: str, dim: int, distance: float, scale: float, other_scale: float, share: float) -> Problem:
    """γ_loc = 1; w0's well has `scale` and all but `share` of the mass, another `other_scale` at `distance`."""
    means = np.zeros((3, dim))
    means[1:] += distance / math.sqrt(dim)
    scales = np.array([[scale], [other_scale], [other_scale]]) * np.ones((3, dim))
    log_shares = np.log([1 - share, 0.5 * share, 0.5 * share])  # two components make one well
    return wells_problem(name, Wells(log_shares, means, scales, np.eye(dim)), 0, 1.0, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Regressions and networks


def linear_loss(position: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    return 0.5 * (batch[0] @ position - batch[1]) ** 2


def logistic_loss(position: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    return jnp.logaddexp(0.0, -batch[1] * (batch[0] @ position)).astype(position.dtype)


def student_loss(position: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    return 2.0 * jnp.log1p((batch[0] @ position - batch[1]) ** 2 / 3)


def softmax_loss(position: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Three classes, the logits of the first one zero."""
    logits = batch[0] @ position.reshape(batch[0].shape[1], 2)
    logits = jnp.concatenate([jnp.zeros_like(logits[:, :1]), logits], axis=1)
    labels = batch[1].astype(jnp.int32)
    return jax.nn.logsumexp(logits, axis=1) - jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]


def offset_loss(position: jax.Array, batch: tuple[jax.Array]) -> jax.Array:
    """A quadratic on top of a large number, which is taken off again: rounding."""
    value = 0.5 * jnp.sum(jnp.array([1.0, 4.0, 100.0], position.dtype) * position**2)
    return (value + batch[0][:, 0]) - batch[0][:, 0]


def tanh_net_loss(position: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Two tanh units without biases, σ = 0.2."""
    return 12.5 * (jnp.tanh(batch[0][:, :1] * position[:2]) @ position[2:] - batch[1]) ** 2


def relu_net_loss(position: jax.Array, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Two ReLU units without biases, σ = 0.2."""
    return 12.5 * (jax.nn.relu(batch[0][:, :1] * position[:2]) @ position[2:] - batch[1]) ** 2


def _trained(loss_fn: Any, dim: int, data: tuple[np.ndarray, ...]) -> np.ndarray:
    """The minimum of a convex loss, or a nearby one of another, by Newton's method from BFGS's end."""
    with jax.enable_x64(True):
        arrays = tuple(map(jnp.asarray, data))

        def mean(w: jax.Array) -> jax.Array:
            return jnp.mean(loss_fn(w, arrays))

        gradient, hessian = jax.jit(jax.grad(mean)), jax.jit(jax.hessian(mean))
        w = scipy.optimize.minimize(jax.jit(mean), np.zeros(dim), jac=gradient, method="BFGS").x
        for _ in range(5):
            w = w - np.linalg.solve(np.asarray(hessian(w)), np.asarray(gradient(w)))
    return w


def _by_regression(problem: Problem) -> Truth:
    """½ Σ nβh/(nβh + γ), h of XᵀX/n."""
    stiffness = problem.nbeta * np.linalg.eigvalsh(problem.data[0].T @ problem.data[0] / len(problem.data[0]))
    return Truth(0.5 * float(np.sum(stiffness / (stiffness + problem.localization))))


def _of_offset(problem: Problem) -> Truth:
    stiffness = problem.nbeta * np.array([1.0, 4.0, 100.0])
    return Truth(0.5 * float(np.sum(stiffness / (stiffness + problem.localization))))


def _by_importance(problem: Problem) -> Truth:
    """2¹⁸ draws of a Student-t density, ν = 5, with the curvature at w0 and a third more width."""
    d, rng, nu = problem.dim, np.random.default_rng(0), 5.0
    with jax.enable_x64(True):
        arrays = tuple(map(jnp.asarray, problem.data))
        curvature = jax.hessian(lambda w: jnp.mean(problem.loss_fn(w, arrays)))(jnp.asarray(problem.w0))
    precision = problem.nbeta * np.asarray(curvature) + problem.localization * np.eye(d)
    factor = 1.33 * np.linalg.cholesky(np.linalg.inv(precision))
    normal = rng.standard_normal((2**18, d)) / np.sqrt(rng.chisquare(nu, (2**18, 1)) / nu)
    offsets = normal @ factor.T
    values = problem.excess(problem.w0 + offsets)
    log_weights = -values - 0.5 * problem.localization * np.sum(offsets**2, axis=1)
    log_weights += 0.5 * (nu + d) * np.log1p(np.sum(normal**2, axis=1) / nu)
    weights = scipy.special.softmax(log_weights)
    mean = float(weights @ values)
    return Truth(mean, float(np.sqrt(np.sum(weights**2 * (values - mean) ** 2))))


def smc(problem: Problem, num_particles: int, num_moves: int, num_runs: int, seed: int) -> Truth:
    """λ̂ by annealing particles from the localization's Gaussian to the posterior, the error from independent runs.

    Temperatures are chosen for half the particles to survive in effect, and each is followed by random-walk Metropolis
    moves, on scales drawn anew for every particle. After the last one all moves count.
    """
    means = []
    for run in range(num_runs):
        rng = np.random.default_rng([seed, run])
        x = rng.standard_normal((num_particles, problem.dim)) / math.sqrt(problem.localization)
        values, inverse_temperature = problem.excess(problem.w0 + x), 0.0
        readings: list[float] = []
        halves = np.arange(num_particles // 2), np.arange(num_particles // 2, num_particles)
        while inverse_temperature < 1 or len(readings) < 8 * num_moves:
            if inverse_temperature < 1:
                step = _next_temperature(values, inverse_temperature) - inverse_temperature
                inverse_temperature += step
                kept = rng.choice(num_particles, num_particles, p=scipy.special.softmax(-step * values))
                x, values = x[kept], values[kept]
            for _ in range(num_moves):
                for half, others in (halves, halves[::-1]):
                    _move(problem, x, values, half, others, inverse_temperature, rng)
                if inverse_temperature >= 1:
                    readings.append(float(values.mean()))
        means.append(np.mean(readings))
    return Truth(float(np.mean(means)), float(np.std(means, ddof=1) / math.sqrt(num_runs)))


def _move(
    problem: Problem, x: Any, values: Any, half: Any, others: Any, inverse_temperature: float, rng: np.random.Generator
) -> None:
    """One Metropolis move of half the particles, along differences of the others: these have the posterior's shape."""
    one, other = rng.permutation(others)[: len(half)], rng.permutation(others)[: len(half)]
    scale = np.exp(rng.uniform(math.log(0.02), math.log(1.2), (len(half), 1)))
    proposed = x[half] + scale * (x[one] - x[other]) + 1e-6 * rng.standard_normal((len(half), problem.dim))
    proposed_values = problem.excess(problem.w0 + proposed)
    change = inverse_temperature * (values[half] - proposed_values)
    change += 0.5 * problem.localization * (np.sum(x[half] ** 2, axis=1) - np.sum(proposed**2, axis=1))
    taken = np.log(rng.random(len(half))) < change
    x[half[taken]], values[half[taken]] = proposed[taken], proposed_values[taken]


def _next_temperature(values: np.ndarray, now: float) -> float:
    def size(inverse_temperature: float) -> float:
        weights = scipy.special.softmax(-(inverse_temperature - now) * values)
        return 1 / float(np.sum(weights**2)) / len(values) - 0.5

    return 1.0 if size(1.0) >= 0 else float(scipy.optimize.brentq(size, now, 1.0, xtol=1e-12))


# `smc(problem, 4096, 40, 16, seed=0)`, CPU minutes each.
STORED: dict[str, tuple[float, float]] = {
    "two tanh units": (1.1454, 0.0016),
    "two tanh units, γ=10": (0.79056, 0.00095),
    "two ReLU units": (1.0073, 0.0010),
    "two ReLU units, γ=10": (0.9602, 0.0010),
}
# Pools of converged runs of five algorithms on the network of tests/data/relu45.npz.
RELU45 = {100.0: (15.637, 0.007), 10.0: (17.41, 0.05), 1.0: (18.23, 0.07)}


def _stored(problem: Problem) -> Truth:
    return Truth(*STORED[problem.name])


def _network(name: str, loss_fn: Any, localization: float, u0: Any, v0: Any) -> Problem:
    """Data without noise, so that w0, the teacher, is a minimum."""
    x = np.random.default_rng(1).standard_normal((40, 1))
    w0 = np.concatenate([u0, v0]).astype(float)
    activation = np.tanh if loss_fn is tanh_net_loss else lambda x: np.maximum(x, 0.0)
    y = activation(x * w0[:2]) @ w0[2:]
    return Problem(name, "networks", "curved", loss_fn, w0, (x, y), localization, _stored, nbeta=40 / math.log(40))


def _relu45(localization: float) -> Problem:
    with np.load(Path(__file__).parents[1] / "tests/data/relu45.npz") as arrays:
        loss_fn = SquaredError(MLP(tuple(int(size) for size in arrays["sizes"]), "relu"), 0.5 / 0.05**2)
        data, w0 = (arrays["X"], arrays["Y"]), np.asarray(arrays["w0"], np.float64)
    name = f"relu45 γ={localization:g}"
    truth = Truth(*RELU45[localization])
    nbeta = len(data[0]) / math.log(len(data[0]))
    return Problem(name, "networks", "curved", loss_fn, w0, data, localization, lambda _: truth, nbeta=nbeta)


def _regression(name: str, loss_fn: Any, num_data: int, dim: int, localization: float, truth: Any = None) -> Problem:
    """Data of the model itself, w0 trained to the minimum, β = 1/log n."""
    rng = np.random.default_rng(dim)
    is_softmax = loss_fn is softmax_loss
    x = rng.standard_normal((num_data, dim // 2 if is_softmax else dim))
    teacher = rng.standard_normal(dim)
    if is_softmax:
        logits = np.concatenate([np.zeros((num_data, 1)), x @ teacher.reshape(-1, 2)], axis=1)
        y = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1).astype(float)
    elif loss_fn is logistic_loss:
        y = np.where(rng.logistic(size=num_data) < x @ teacher, 1.0, -1.0)
    else:
        y = x @ teacher + (rng.standard_t(3, num_data) if loss_fn is student_loss else rng.standard_normal(num_data))
    w0, nbeta = _trained(loss_fn, dim, (x, y)), num_data / math.log(num_data)
    find_truth = truth or _by_importance
    return Problem(name, "regressions", "one mode", loss_fn, w0, (x, y), localization, find_truth, nbeta=nbeta)


# ---------------------------------------------------------------------------------------------------------------------
# All of them


def fixed_problems() -> list[Problem]:
    """The same at every call."""
    plane_problems = [
        plane("three wells", "wells", _three_wells, 0.05),
        plane("hole 0.001", "plateau", _hole, 1.0, 14, 1e-3),
        plane("hole 0.01", "plateau", _hole, 1.0, 6, 0.01),
        plane("hole 0.05", "plateau", _hole, 0.1, 10, 0.05),
        plane("hole in a bowl", "plateau", _hole_in_a_bowl, 0.1, 9, 0.01),
        plane("wide hole in a bowl", "plateau", _hole_in_a_bowl, 0.1, 5, 0.1),
        plane("tilt", "no minimum", _tilt, 0.1, -1.2),
        plane("tilt the other way", "wells", _tilt, 0.1, 0.3),
        plane("log edges", "edge", _log_edges, 0.1, 3, 3),
        plane("log edges, unequal", "edge", _log_edges, 1.0, 1, 30),
        plane("ring γ=10", "curved", _ring, 10.0, 100, 1, (1.0, 0.0)),
        plane("ring γ=1", "curved", _ring, 1.0, 100, 1, (1.0, 0.0)),
        plane("ring γ=0.1", "curved", _ring, 0.1, 30, 1, (1.0, 0.0)),
        plane("ellipse", "curved", _ring, 1.0, 100, 4, (1.0, 0.0)),
        plane("w₁²w₂² γ=1", "curved", _monomial, 1.0, 1, 1),
        plane("w₁²w₂² γ=10", "curved", _monomial, 10.0, 1, 1),
        plane("w₁²w₂² γ=100", "one mode", _monomial, 100.0, 1, 1),
        plane("w₁²w₂⁴", "curved", _monomial, 1.0, 1, 2),
        plane("w₁⁴w₂⁴", "curved", _monomial, 1.0, 2, 2),
        plane("w₁²w₂⁶", "curved", _monomial, 1.0, 1, 3),
        plane("hyperbola γ=10", "curved", _hyperbola, 10.0, 100, 1, (1.0, 1.0)),
        plane("hyperbola γ=1", "curved", _hyperbola, 1.0, 100, 1, (1.0, 1.0)),
        plane("hyperbola γ=0.1", "curved", _hyperbola, 0.1, 100, 1, (1.0, 1.0)),
        plane("hyperbola γ=0.03", "curved", _hyperbola, 0.03, 100, 1, (1.0, 1.0)),
        plane("hyperbola (2, ½)", "curved", _hyperbola, 1.0, 100, 1, (2.0, 0.5)),
        plane("four hyperbolas", "wells", _four_hyperbolas, 1.0, 100, 1, (1.0, 1.0)),
        plane("kinked hyperbola", "curved", _kinked_hyperbola, 1.0, 20, 1, (1.0, 1.0)),
        plane("banana", "curved", _banana, 0.1, 30, 1),
        plane("sharp banana", "curved", _banana, 0.1, 1000, 0.2, find_truth=_of_banana),
        plane("funnel", "curved", _funnel, 0.5, 1, 0.5),
        plane("cusp", "one mode", _cusp, 0.1, 20, 0.01),
        plane("sharp cusp", "one mode", _cusp, 0.1, 200, 1e-4),
        plane("corner", "one mode", _corner, 0.1, 5, 100),
        plane("egg crate", "wells", _egg_crate, 0.1, 3, 0.3),
        plane("deep egg crate", "wells", _egg_crate, 0.1, 10, 0.3),
        plane("two wells", "wells", _two_wells, 0.1, 10, 5, (1.0, 0.0)),
        plane("between two wells", "no minimum", _two_wells, 0.1, 10, 5),
        plane("one-sided", "plateau", _one_sided, 0.1, 100, 10),
        plane("flat bottom", "plateau", _flat_bottom, 0.1, 10, 2),
        plane("quadratic 10⁶", "one mode", _rotated_quadratic, 1.0, 1e6, 1, find_truth=_of_rotated_quadratic),
        plane("quartic valley", "one mode", _quartic_valley, 0.1, 100, 1e4),
        plane("tanh unit", "curved", _tanh_unit, 0.3, 100, 1, (1.0, 1.0)),
        plane("ReLU unit", "plateau", _relu_unit, 0.3, 4, 1, (1.0, 1.0)),
    ]
    separable_problems = [
        separable("spectrum of 10³", 1.0, ("quadratic", 1.0), ("quadratic", 30.0), ("quadratic", 1000.0)),
        separable("quartic, sextic, kink", 0.1, ("quartic", 10.0), ("sextic", 10.0), ("abs", 10.0)),
        separable("no curvature at w0", 0.1, ("infinite curvature", 10.0, 1.0, 2), ("quadratic", 30.0)),
        separable("skewed", 0.1, ("skew", 3.0, 1.0), ("skew", 1.0, -2.0), ("heavy", 3.0, 0.3)),
        separable("flat, one-sided, kink", 0.1, ("flat", 10.0, 2.0), ("one-sided", 20.0), ("abs", 3.0)),
        separable("twins", 0.1, ("twins", 8.0, 1.5), ("quadratic", 10.0, 1.0, 2)),
        separable("eight wells", 0.1, ("twins", 8.0, 1.0, 3)),
        separable("second well", 0.1, ("second", 12.0, 1.0), ("quadratic", 100.0, 1.0, 2)),
        separable("walls", 0.1, ("wall", 4.0, 0.2), ("wall", 10.0, 0.5), ("log edge", 5.0)),
        separable("on a saddle", 0.1, ("saddle", 5.0, 1.0), ("quadratic", 10.0, 1.0, 2)),
        separable("next to nothing", 1.0, ("quadratic", 1e-3, 1.0, 2), ("quadratic", 1e-2)),
        separable("line of holes", 0.5, ("hole", 8.0, 0.03), ("quadratic", 10.0, 1.0, 2)),
        separable(
            "ten quadratics", 1.0, *(("quadratic", float(a)) for a in np.geomspace(1e-1, 1e6, 10))
        ),
        separable("ten of all kinds", 0.3, ("quadratic", 30.0, 1.0, 3), ("quartic", 10.0), ("logcosh", 5.0, 3.0),
                  ("skew", 5.0), ("heavy", 4.0, 0.5), ("abs", 20.0), ("sextic", 3.0), ("quadratic", 1000.0)),
        separable("ten with twins", 0.3, ("twins", 8.0, 1.0), ("second", 8.0, 0.8), ("quadratic", 30.0, 1.0, 8)),
        separable("ten with plateaus", 0.3, ("flat", 20.0, 1.0, 2), ("one-sided", 20.0, 1.0, 2),
                  ("quadratic", 30.0, 1.0, 6)),
    ]  # fmt: skip
    wells_problems = [
        two_wells("equal wells, d=2", 2, 1.0, 0.1, 0.1, 0.499),
        two_wells("deep and wide, d=2", 2, 1.5, 0.03, 0.3, 0.6),
        two_wells("far, d=2", 2, 3.0, 0.3, 0.2, 0.1),
        two_wells("close, d=2", 2, 0.5, 0.2, 0.2, 0.4),
        two_wells("equal wells, d=5", 5, 2.0, 0.2, 0.2, 0.499),
        two_wells("deep and wide, d=5", 5, 1.5, 0.15, 0.25, 0.6),
        two_wells("equal wells, d=10", 10, 2.0, 0.2, 0.2, 0.499),
        two_wells("equal wells, d=40", 40, 3.0, 0.2, 0.2, 0.499),
    ]
    radial_problems = [
        radial("hole, d=3", 3, "hole", 1.0, 12, 0.02),
        radial("hole in a bowl, d=3", 3, "hole in a bowl", 1.0, 12, 0.05),
        radial("volcano, d=3", 3, "volcano", 0.1, 4, 0.3),
        radial("flat bottom, d=3", 3, "flat", 1.0, 10, 1.5),
        radial("quartic, d=6", 6, "quartic", 0.1, 10),
        radial("hole, d=6", 6, "hole", 1.0, 20, 0.1),
    ]
    factor_problems = [
        factors("u v = 1", 1.0, 100.0, [1.0], [1.0]),
        factors("u v = 1, γ=0.1", 0.1, 100.0, [1.0], [1.0]),
        factors("2 x 2, rank 1", 1.0, 50.0, [1.0, 0.5], [1.0, -1.0]),
        factors("2 x 2, rank 1, γ=10", 10.0, 50.0, [1.0, 0.5], [1.0, -1.0]),
        three_factors("u v w = 1", 1.0, 100.0),
        three_factors("u v w = 1, γ=10", 10.0, 100.0),
    ]
    network_problems = [
        _regression("linear, n=50", linear_loss, 50, 10, 1.0, _by_regression),
        _regression("linear, n=4", linear_loss, 4, 3, 0.3, _by_regression),
        _regression("logistic", logistic_loss, 60, 5, 1.0),
        _regression("Student-t", student_loss, 60, 5, 1.0),
        _regression("cross-entropy", softmax_loss, 60, 6, 1.0),
        Problem("rounding", "regressions", "one mode", offset_loss, np.zeros(3), (np.full((200, 1), 3e7),), 1.0,
                _of_offset),
        _network("two tanh units", tanh_net_loss, 1.0, [1.0, 2.0], [1.0, -1.5]),
        _network("two tanh units, γ=10", tanh_net_loss, 10.0, [1.0, 2.0], [1.0, -1.5]),
        _network("two ReLU units", relu_net_loss, 1.0, [1.0, -1.0], [1.0, 0.5]),
        _network("two ReLU units, γ=10", relu_net_loss, 10.0, [1.0, -1.0], [1.0, 0.5]),
        *(_relu45(localization) for localization in (100.0, 10.0, 1.0)),
    ]  # fmt: skip
    return [
        *plane_problems, *separable_problems, *wells_problems, *radial_problems, *factor_problems, *network_problems,
    ]  # fmt: skip


def _wells_family(seed: int, count: int) -> Iterator[Problem]:
    """Wells of random depth, width and place, in 1 to 20 dimensions."""
    for i in range(count):
        rng = np.random.default_rng([seed, 1, i])
        dim = (1, 2, 2, 5, 5, 10, 20)[i % 7]
        wells, home = random_wells(dim, rng, 0.1)
        yield wells_problem(f"wells {seed}.{i}, d={dim}", wells, home, 1.0, i, "random wells")


def _needles_family(seed: int, count: int) -> Iterator[Problem]:
    """As `_wells_family`, but basins may be so small that no search is sure to find them."""
    for i in range(count):
        rng = np.random.default_rng([seed, 2, i])
        dim = (2, 5, 10)[i % 3]
        wells, home = random_wells(dim, rng, 0.0)
        yield wells_problem(f"needle {seed}.{i}, d={dim}", wells, home, 1.0, i, "needles")


def _plateaus_family(seed: int, count: int) -> Iterator[Problem]:
    """Holes, flat bottoms and heavy tails of random width and depth around w0, in 2 to 6 dimensions."""
    for i in range(count):
        rng = np.random.default_rng([seed, 3, i])
        dim = (2, 3, 6)[i % 3]
        which = ("hole", "hole in a bowl", "flat", "volcano")[int(rng.integers(4))]
        a, b = math.exp(rng.uniform(math.log(2), math.log(30))), math.exp(rng.uniform(math.log(0.01), math.log(2)))
        if which == "volcano":  # of a tail that the localization does not leave to single draws
            a = math.exp(rng.uniform(math.log(0.5), math.log(8)))
        yield radial(f"{which} {seed}.{i}, d={dim}", dim, which, 1.0, a, b, "random plateaus")


def _hyperbolas_family(seed: int, count: int) -> Iterator[Problem]:
    """uvᵀ = M of rank one, u of 1 or 2 entries and v too, at random scales and localizations."""
    for i in range(count):
        rng = np.random.default_rng([seed, 4, i])
        m = (1, 2)[i % 2]
        u0, v0 = rng.standard_normal(m), rng.standard_normal(m)
        localization = math.exp(rng.uniform(math.log(0.1), math.log(10)))
        scale = math.exp(rng.uniform(math.log(10), math.log(300)))
        yield factors(f"hyperbola {seed}.{i}, d={2 * m}", localization, scale, u0, v0, "random hyperbolas")


def _separable_family(seed: int, count: int) -> Iterator[Problem]:
    """Three or ten parameters with functions of their own, of random kinds and scales."""
    for i in range(count):
        rng = np.random.default_rng([seed, 5, i])
        dim = (3, 10)[i % 2]
        names = [name for name in ALONE if name != "saddle"]
        parts = []
        for which in rng.choice(names, dim):
            a, b = math.exp(rng.uniform(math.log(2), math.log(40))), math.exp(rng.uniform(math.log(0.3), math.log(2)))
            parts.append((str(which), a, b))
        yield separable(f"sum {seed}.{i}, d={dim}", 0.5, *parts, family="random sums")


FAMILIES: dict[str, Callable[[int, int], Iterator[Problem]]] = {
    "wells": _wells_family,
    "plateaus": _plateaus_family,
    "hyperbolas": _hyperbolas_family,
    "sums": _separable_family,
    "needles": _needles_family,
}


def random_problems(family: str, seed: int, count: int) -> list[Problem]:
    """The first `count` problems of a family; each is a function of the seed and its own number."""
    return list(FAMILIES[family](seed, count))
