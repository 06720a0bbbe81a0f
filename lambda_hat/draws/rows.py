"""Losses of single rows at the draws of a run, and what they tell of rows and of parts of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lambda_hat.drawing import BLUE, GREY, new_axes
from lambda_hat.draws.criteria import MAX_RHAT_APPROXIMATE
from lambda_hat.draws.many import Measured, correlations, covariances, means

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["Observable", "RowLosses", "RowTraces"]


class RowTraces(NamedTuple):
    """What is recorded in a run, in float32: losses less those at w0.

    `rows` and `queries` have a last axis of T tokens where the loss tells those of each token.
    """

    steps: Int[np.ndarray, " draws"]  # of the run, burn-in not counted
    total: Float[np.ndarray, "chains draws"]  # L_n(w) − L_n(w0), on all the data
    rows: Float[np.ndarray, "chains draws rows *tokens"]
    queries: Float[np.ndarray, "chains draws queries *tokens"]


@dataclass(frozen=True, eq=False, repr=False)
class Observable:
    """Values with their Monte Carlo standard errors and R̂, in arrays of one shape.

    The errors are those of means over 20 blocks of each chain. R̂ compares the halves of chains; it is not
    rank-normalised. Values whose R̂ exceeds 1.05 are those that chains do not agree about.
    """

    name: str
    value: np.ndarray
    se: np.ndarray
    rhat: np.ndarray

    def __repr__(self) -> str:
        if not self.value.size:
            return f"{self.name}: none"
        return (
            f"{self.name} {self.value.shape}: {np.min(self.value):.3g} to {np.max(self.value):.3g}, "
            f"largest error {np.max(self.se):.2g}, largest R̂ {np.max(self.rhat):.3f}"
        )

    @property
    def is_converged(self) -> np.ndarray:
        """Where chains agree, R̂ ≤ 1.05, and an error is known."""
        return (self.rhat <= MAX_RHAT_APPROXIMATE) & np.isfinite(self.se)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Values with error bars, or a matrix as an image; a row with tokens is one run of points."""
        axes = new_axes() if axes is None else axes
        if self.value.ndim == 2:
            largest = max(float(np.max(np.abs(self.value), initial=0.0)), np.finfo(float).tiny)
            image = axes.imshow(
                self.value, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest", aspect="auto"
            )
            axes.figure.colorbar(image, ax=axes)
        else:
            values, errors = self.value.reshape(-1), self.se.reshape(-1)
            axes.errorbar(np.arange(values.size), values, errors, fmt="o", color=BLUE, capsize=2)
            axes.axhline(0.0, color=GREY, linewidth=0.8, zorder=0)
            axes.set_xlabel("row")
        axes.set_title(self.name)
        return axes


@dataclass(frozen=True, eq=False, repr=False)
class RowLosses:
    """Losses of chosen rows of the data, and of queries, at draws of the local posterior π, with what they tell.

    π(w) ∝ exp(−β Σ_i l_i(w) − (γ_loc/2)|w − w0|²). Losses count from w0 on. Where a loss is one of T tokens, a row's
    loss is their mean, and every token has values of its own: arrays have a last axis of T.
    """

    traces: RowTraces
    indices: Int[np.ndarray, " rows"]  # of the rows within the data
    beta: float  # β = nβ/n
    reasons: tuple[str, ...]  # against the draws, those of the run

    def __repr__(self) -> str:
        num_chains, num_draws = self.traces.total.shape
        queries = f" and {self.num_queries} queries" if self.num_queries else ""
        verdict = "" if not self.reasons else ", of a run that is not reliable"
        return f"losses of {self.indices.size} rows{queries} at {num_chains} × {num_draws} draws{verdict}"

    @property
    def num_queries(self) -> int:
        """Rows beside the data."""
        return self.traces.queries.shape[2]

    def contributions(self) -> Observable:
        """λ_i = β E_π[l_i(w) − l_i(w0)]: what each row adds to λ̂ before its correction by identities.

        Those of all rows add up to nβ E_π[L_n(w) − L_n(w0)]; a token adds a T-th of its own.
        """
        scale = self.beta * self._share
        return self._observable("contributions to λ̂", means(_flat(self.traces.rows)), scale, _sizes(self.traces.rows))

    def influence(self) -> Observable:
        """The Bayesian influence of rows on rows, or on queries where there are any: −β Cov_π(l_i, l_j).

        It is the derivative of E_π[l_j] by the weight of row i in the data, whose 1 becomes 1 + ε. Negative: more of
        row i makes the loss of row j smaller. As γ_loc → 0, of a regular model with many data, it becomes the classical
        influence −∇l_iᵀ (nH)⁻¹ ∇l_j, H the Hessian of L_n. A token counts with a T-th of its row's weight.
        """
        others = self.traces.queries if self.num_queries else self.traces.rows
        found = covariances(_flat(self.traces.rows), _flat(others))
        return self._observable("influence", found, -self.beta * self._share, _sizes(self.traces.rows) + _sizes(others))

    def susceptibilities(self) -> Observable:
        """χ_i = −Cov_π(L_n, l_i − L_n) of every row, and behind them of every query.

        The response of the loss L_n, over nβ, to data in which row i counts more and all else less. Of a run that
        samples a part of the network (`sampled`) it is the susceptibility of that part.
        """
        entries = np.concatenate([self.traces.rows, self.traces.queries], axis=2)
        total = np.asarray(self.traces.total, np.float64)[..., None]
        found = covariances(total, _flat(entries) - total)
        return self._observable("susceptibilities", found, -1.0, _sizes(entries))

    def kernel(self, *, normalised: bool = False) -> Observable:
        """The loss kernel K_ij = Cov_π(l_i, l_j) of all rows, and behind them all queries; or their correlations."""
        entries = np.concatenate([self.traces.rows, self.traces.queries], axis=2)
        flat, sizes = _flat(entries), _sizes(entries) * 2
        if normalised:
            return self._observable("correlations of losses", correlations(flat), 1.0, sizes)
        return self._observable("loss kernel", covariances(flat, flat), 1.0, sizes)

    def to_dataset(self) -> xr.Dataset:
        """The losses as xarray's data set, in float32: `total`, `rows` and `queries` by chain and draw."""
        import xarray as xr  # here: half a second

        names = {"total": (), "rows": ("row",), "queries": ("query",)}
        variables = {}
        for name, places in names.items():
            array: np.ndarray = getattr(self.traces, name)
            tokens = ("token",) * (array.ndim - 2 - len(places))
            variables[name] = (("chain", "draw", *places, *tokens), array)
        coords = {"row": self.indices, "step": ("draw", self.traces.steps)}
        return xr.Dataset(variables, coords, {"beta": self.beta})

    @property
    def _share(self) -> float:
        """What a loss counts within its row."""
        return 1.0 / math.prod(self.traces.rows.shape[3:])

    @staticmethod
    def _observable(name: str, found: Measured, scale: float, shape: tuple[int, ...]) -> Observable:
        return Observable(
            name,
            scale * found.value.reshape(shape),
            abs(scale) * found.se.reshape(shape),
            found.rhat.reshape(shape),
        )


def _flat(losses: np.ndarray) -> Float[np.ndarray, "chains draws entries"]:
    return losses.astype(np.float64).reshape(*losses.shape[:2], -1)


def _sizes(losses: np.ndarray) -> tuple[int, ...]:
    return losses.shape[2:]
