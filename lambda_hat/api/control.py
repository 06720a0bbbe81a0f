"""The control of a sampler: a run at nβ = 0, where the posterior is known."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.api.arguments import choose, parse, parse_seed, read_settings
from lambda_hat.api.calls import DEFAULT_LOCALIZATION, Localization
from lambda_hat.config.methods import METHODS, MethodSettings
from lambda_hat.config.methods.base import Advised
from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.drawing import new_axes
from lambda_hat.draws.criteria import MAX_RELATIVE_BIAS, MAX_RHAT, MAX_RHAT_APPROXIMATE, MAX_VIRIAL, Criterion
from lambda_hat.draws.diagnostics import diagnose_trace
from lambda_hat.draws.llc import weighted_mean_error
from lambda_hat.errors import told_together
from lambda_hat.estimate.method import MethodResult, run_method
from lambda_hat.formatting import estimate, html_table, number
from lambda_hat.posterior import Coordinates, DiagonalWhitening, LocalPosterior, posterior_of
from lambda_hat.records.state import State
from lambda_hat.targets import read_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SamplerCheck", "check_sampler"]

MAX_ERROR = MAX_RELATIVE_BIAS / 2  # standard error of the ratio, so that a bias of twice as much would show
_LONGER = "Raise `steps`"


@dataclass(frozen=True)
class _NoLoss:
    """Losses that are 0 everywhere: whatever nβ is, the posterior is that of nβ = 0."""

    def __call__(self, position: Float[Array, " d"], batch: tuple[Array, ...]) -> Float[Array, " B"]:
        return jnp.zeros(batch[0].shape[0], position.dtype)


@dataclass(frozen=True, eq=False, repr=False)
class SamplerCheck:
    """What a sampler makes of the posterior at nβ = 0, N(w0, 1/γ_loc), of which E|w − w0|² = d/γ_loc.

    `ratio` is the mean of γ_loc |w − w0|²/d over the draws, which must be 1; `se` is its Monte Carlo standard error.
    `ratio_trace` is `(num_chains, num_draws)` and has no burn-in.
    """

    sampler: str
    ratio: float
    se: float
    llc: float  # 0, but for rounding
    rhat: float  # of |w − w0|²
    ess_bulk: float
    reasons: tuple[str, ...]  # a sentence each: what speaks against the sampler with these settings
    ratio_trace: Float[np.ndarray, "chains draws"]
    localization: float  # γ_loc
    dim: int  # d
    seconds: float
    seed: int

    @property
    def is_passed(self) -> bool:
        """Whether there is no reason against it."""
        return not self.reasons

    @property
    def _verdict(self) -> str:
        return f"{self.sampler}, {'passes' if self.is_passed else 'fails'} the control at nβ = 0"

    @property
    def _facts(self) -> dict[str, str]:
        return {
            "E|w − w0|²": number(self.ratio * self.dim / self.localization),
            "wanted": number(self.dim / self.localization),
            "λ̂": number(self.llc, ".3f"),
            "γ_loc": number(self.localization),
            "d": str(self.dim),
            "R̂": number(self.rhat, ".3f"),
            "bulk ESS": number(self.ess_bulk, ",.0f"),
            "seconds": number(self.seconds, ",.1f"),
        }

    def __repr__(self) -> str:
        lines = [
            f"γ_loc E|w − w0|²/d = {estimate(self.ratio, self.se)}  {self._verdict}",
            "  ".join(f"{name} {value}" for name, value in self._facts.items()),
            *(f"because {reason}" for reason in self.reasons),
        ]
        return "\n  ".join(lines)

    def _repr_html_(self) -> str:
        head = f"<b>γ_loc E|w − w0|²/d = {estimate(self.ratio, self.se)}</b> {html.escape(self._verdict)}"
        reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in self.reasons)
        return f"<div>{head}</div>{html_table([self._facts])}<ul>{reasons}</ul>"

    def plot(self, axes: Axes | None = None) -> Axes:
        """Running means of γ_loc |w − w0|²/d of each chain, beside 1."""
        axes = new_axes() if axes is None else axes
        counts = np.arange(1, self.ratio_trace.shape[1] + 1)
        for index, mean in enumerate(np.cumsum(self.ratio_trace, axis=1) / counts):
            axes.plot(counts, mean, linewidth=0.8, label=None if index else "chains, running mean")
        axes.axhline(1.0, color="black", linewidth=1.0, label="wanted")
        axes.set_xlabel("draw")
        axes.set_ylabel("γ_loc |w − w0|²/d")
        axes.set_title(self._verdict)
        axes.legend()
        return axes


def check_sampler(
    loss_fn: Callable[[Any, Any], Any],
    params: Any,
    data: Any,
    *,
    sampler: str,
    sampled: Any = None,
    num_chains: int = 4,
    localization: Localization = DEFAULT_LOCALIZATION,
    seed: int = 0,
    **settings: Any,
) -> SamplerCheck:
    """The control of a sampler: the same run as by `estimate_llc`, at nβ = 0, where the answer is known.

    Without the loss the posterior is the localization's Gaussian N(w0, 1/γ_loc): E|w − w0|² = d/γ_loc, and λ̂ = 0.
    Directions in which the loss is flat have this law at every nβ, so a sampler that fails here is wrong about them
    too. Below d/γ_loc, chains are too short, or their steps too small, to fill the neighbourhood of w0; above it, steps
    are too large even for the localization. The control does not see what steep directions and minibatches do to a
    sampler: passing is necessary, not enough. Take the settings over from `estimate_llc` as they are.

    Whitened samplers have the coordinates of this Gaussian, in which a step has the same size relative to the posterior
    as in the run. `rmsprop` and `adam`, without gradients, have P = 1/ε, the largest that they can have.

    Args:
        loss_fn: as in `estimate_llc`. It is not evaluated.
        params: its parameters w0.
        data: its data, of which only the number of rows matters.
        sampler: the method. Not `auto`, which finds and checks its own step size.
        sampled: what of `params` is sampled, as in `estimate_llc`.
        num_chains: independent chains, or fits of `vi`.
        localization: γ_loc, or {"radius": ρ} for γ_loc = d/(ρ|w0|)².
        seed: a run is a function of it.
        settings: those of the sampler, as in `estimate_llc`.

    Raises:
        InputError: an argument that is not usable: which, what was found and what is expected.
    """
    start = time.monotonic()

    def read_method() -> MethodSettings:
        kind = choose("sampler", sampler, {name: kind for name, kind in METHODS.items() if not kind.is_composite})
        return read_settings(kind, settings, f"setting of {sampler}", {"num_chains": num_chains})

    method, spec, seed, model = told_together(
        read_method,
        lambda: parse(PosteriorSpec, {"localization": localization}, "argument"),
        lambda: parse_seed(seed),
        lambda: read_model(loss_fn, params, data, sampled=sampled),
    )
    without_loss = replace(model, loss_fn=_NoLoss(), frozen=())
    with jax.enable_x64(method.dtype == "float64"):
        posterior = posterior_of(without_loss, spec, method.dtype)
        run = run_method(posterior, method, coordinates=_coordinates(posterior), seed=seed)
    traces, weights = _traces(run)
    localization, dim = float(posterior.localization), model.dim
    ratios = localization / dim * traces
    is_usable = ratios.size > 0 and bool(np.isfinite(ratios).all())
    ratio, se = weighted_mean_error(ratios, weights) if is_usable else (math.nan, math.inf)
    distance = diagnose_trace(ratios)
    check = SamplerCheck(
        sampler=sampler,
        ratio=ratio,
        se=se,
        llc=run.estimate.llc,
        rhat=distance.rhat,
        ess_bulk=distance.ess_bulk,
        reasons=(),
        ratio_trace=ratios,
        localization=localization,
        dim=dim,
        seconds=time.monotonic() - start,
        seed=seed,
    )
    return replace(check, reasons=_reasons(check, run, method))


def _coordinates(posterior: LocalPosterior) -> Coordinates:
    scale = jnp.full((posterior.dim,), 1 / jnp.sqrt(posterior.localization), posterior.w0.dtype)
    return Coordinates(DiagonalWhitening(scale), DiagonalWhitening(scale))


def _traces(run: MethodResult) -> tuple[np.ndarray, np.ndarray]:
    """|w − w0|² of the draws, and their weights."""
    if run.fit_draws is not None:
        distances = np.asarray(run.fit_draws.squared_distance, np.float64)
        return distances, np.ones_like(distances)
    return np.asarray(run.info.squared_distance, np.float64), np.asarray(run.info.weight, np.float64)


def _reasons(check: SamplerCheck, run: MethodResult, method: MethodSettings) -> tuple[str, ...]:
    if run.state is not State.COMPLETE:
        return (f"The run diverged: {run.reason}. {method.smaller_steps}.",)
    return tuple(f"{criterion}. {advice}." for criterion, advice in _criteria(check, method) if not criterion.is_met)


def _criteria(check: SamplerCheck, method: MethodSettings) -> Iterator[Advised]:
    """Chains that agree, a mean that is known well enough, and that it is 1: within its error, and a bias allowed."""
    yield Criterion("R̂ of |w − w0|²", check.rhat, MAX_RHAT if method.is_exact else MAX_RHAT_APPROXIMATE), _LONGER
    yield Criterion("standard error of γ_loc E|w − w0|²/d", check.se, MAX_ERROR), method.more_draws
    tolerated = max(MAX_VIRIAL * check.se, 0.0 if method.is_exact else MAX_RELATIVE_BIAS)
    advice = _LONGER + ", or the step size" if check.ratio < 1 and not method.is_exact else method.smaller_steps
    yield Criterion("distance of γ_loc E|w − w0|²/d from 1", abs(check.ratio - 1), tolerated), advice
