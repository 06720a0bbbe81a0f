"""What is kept of a run's draws: thin enough for the disk, and exact in λ̂."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from lambda_hat.artifacts.files import read_bytes, write_bytes_atomic
from lambda_hat.draws.control import readings_of
from lambda_hat.draws.criteria import Correction
from lambda_hat.draws.info import Info
from lambda_hat.draws.llc import weighted_mean_error
from lambda_hat.errors import RunStateError
from lambda_hat.samplers.method import FitDraws

__all__ = ["RunningLLC", "Traces"]

MAX_DRAWS = 1000  # kept of each chain
_MIN_DRAWS = 8  # of each chain, before a standard error means anything


@dataclass(frozen=True, eq=False)
class RunningLLC:
    """λ̂ and its standard error from the draws so far, against the gradient evaluations so far."""

    work: np.ndarray
    llc: np.ndarray
    se: np.ndarray


@dataclass(frozen=True, eq=False)
class Traces:
    """Traces `(num_chains, num_kept)` without burn-in: the last draw of every block of `thinning` draws.

    `mean_excess_loss` is the mean over a block, corrected by the identities as the estimate is, and `weight` the
    block's weight over `thinning` (the first block may be shorter), so that λ̂ is that of all draws; `is_divergent` says
    whether any step of the block was. `work` are gradient evaluations of all chains on the full-data scale up to the
    end of each block, burn-in included. Of a VI run these are steps of the fit, and `draw_*` draws of the fitted
    densities.
    """

    nbeta: float
    thinning: int
    work: Float[np.ndarray, " kept"]
    excess_loss: Float[np.ndarray, "chains kept"]
    mean_excess_loss: Float[np.ndarray, "chains kept"]
    squared_distance: Float[np.ndarray, "chains kept"]
    acceptance_rate: Float[np.ndarray, "chains kept"]
    energy: Float[np.ndarray, "chains kept"]
    is_divergent: Float[np.ndarray, "chains kept"]
    weight: Float[np.ndarray, "chains kept"]
    draw_excess_loss: Float[np.ndarray, "fits draws"] | None = None
    draw_squared_distance: Float[np.ndarray, "fits draws"] | None = None
    draw_log_weights: Float[np.ndarray, "fits draws"] | None = None

    @classmethod
    def of_draws(
        cls,
        info: Info,
        nbeta: float,
        *,
        work_before: float,
        correction: Correction = "none",
        fit_draws: FitDraws | None = None,
    ) -> Self:
        """Thinned to at most `MAX_DRAWS` a chain; `work_before` the first draw of `info`."""
        readings = readings_of(info, nbeta, correction) / nbeta
        num_draws = np.shape(info.excess_loss)[1]
        thinning = max(1, -(-num_draws // MAX_DRAWS))
        ends = np.arange(num_draws, 0, -thinning)[::-1]  # the first block may be shorter
        starts = np.concatenate(([0], ends[:-1])).astype(int)

        def last(trace: Any) -> np.ndarray:
            return _single(np.asarray(trace)[:, ends - 1])

        def total(trace: Any) -> np.ndarray:
            trace = np.asarray(trace, np.float64)
            return np.add.reduceat(trace, starts, axis=1) if num_draws else trace

        sizes = ends - starts
        weights = total(info.weight)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a diverged chain
            mean_loss = total(np.asarray(info.weight, np.float64) * readings) / weights
        draws = {} if fit_draws is None else _thinned_draws(fit_draws)
        return cls(
            nbeta=float(nbeta),
            thinning=thinning,
            work=work_before + np.cumsum(total(info.num_gradient_evaluations).sum(axis=0)),
            excess_loss=last(info.excess_loss),
            mean_excess_loss=_single(mean_loss),
            squared_distance=last(info.squared_distance),
            acceptance_rate=_single(total(info.acceptance_rate) / sizes),
            energy=last(info.energy),
            is_divergent=_single(total(info.is_divergent) > 0),
            weight=_single(weights / thinning),
            **draws,
        )

    @classmethod
    def of_reference(cls, arrays: Mapping[str, np.ndarray], nbeta: float) -> Self | None:
        """Traces of the chains in `ref.npz`, without their first quarter; None where there are none.

        `work` is that of these chains alone, since they were warm.
        """
        if "chains.excess_loss" not in arrays:
            return None
        info = Info(*(np.asarray(arrays[f"chains.{name}"], np.float64) for name in Info._fields))
        num_burn_in = info.excess_loss.shape[1] // 4
        before = float(np.sum(info.num_gradient_evaluations[:, :num_burn_in]))
        kept = Info(*(trace[:, num_burn_in:] for trace in info))
        return cls.of_draws(kept, nbeta, work_before=before, correction="regression")

    @property
    def num_chains(self) -> int:
        """Number of chains, or of VI's fits."""
        return self.excess_loss.shape[0]

    @property
    def num_kept(self) -> int:
        """Draws kept of each chain."""
        return self.excess_loss.shape[1]

    def running_llc(self, num_points: int = 40) -> RunningLLC:
        """λ̂ = nβ E[L_n(w) − L_n(w0)] at `num_points` moments, the last of them the end."""
        moments = np.unique(np.linspace(min(_MIN_DRAWS, self.num_kept), self.num_kept, num_points).astype(int))
        moments = moments[moments > 0]
        readings = self.nbeta * np.asarray(self.mean_excess_loss, np.float64)
        weights = np.asarray(self.weight, np.float64)
        values = [weighted_mean_error(readings[:, :end], weights[:, :end]) for end in moments]
        llc, se = np.array(values).reshape(-1, 2).T
        return RunningLLC(self.work[moments - 1], llc, se)

    def save(self, path: Path) -> None:
        """Write all arrays to a compressed NumPy archive at once."""
        buffer = io.BytesIO()
        arrays = {name: np.asarray(value) for name, value in vars(self).items() if value is not None}
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_bytes_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """What `save` wrote; None where there is no file.

        Raises:
            RunStateError: the file is torn, or not one of these.
        """
        content = read_bytes(path)
        if content is None:
            return None
        names = {field.name for field in fields(cls)}
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays: dict[str, Any] = {name: archive[name] for name in archive.files if name in names}
            return cls(nbeta=float(arrays.pop("nbeta")), thinning=int(arrays.pop("thinning")), **arrays)
        except Exception as error:  # NumPy, zipfile and zlib each have errors of their own for a torn file
            raise RunStateError(f"{path} holds no traces ({error}). Remove it.") from error


def _single(trace: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return trace.astype(np.float32)


def _thinned_draws(fit_draws: FitDraws) -> dict[str, np.ndarray]:
    """The first of a fit's draws, which are independent."""
    traces = {"draw_excess_loss": "excess_loss", "draw_squared_distance": "squared_distance"}
    traces["draw_log_weights"] = "log_weights"
    return {ours: _single(np.asarray(getattr(fit_draws, theirs))[:, :MAX_DRAWS]) for ours, theirs in traces.items()}
