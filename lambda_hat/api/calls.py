"""The LLC of a model of one's own, by the code that the workflows run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from lambda_hat.api.arguments import choose, parse, parse_seed, read_settings
from lambda_hat.api.progress import CallProgress, ProgressArgument, reporting
from lambda_hat.api.result import LLCResult
from lambda_hat.api.rounding import certified_rounding_reasons, ends_of, inner_rounding_reasons
from lambda_hat.api.rows import check_method, watched_rows
from lambda_hat.api.surroundings import Look, look_around
from lambda_hat.config.methods import METHODS, MethodSettings
from lambda_hat.config.problems import LocalizationRadius, PosteriorSpec
from lambda_hat.config.study import Budget, ReferenceSpec
from lambda_hat.draws.criteria import (
    MAX_DECREASE,
    MAX_RELATIVE_MCSE,
    MAX_ROUNDING,
    MINIMUM,
    RARE_WELLS,
    SIGN,
    TOLERATED_DISAGREEMENT,
    Criterion,
    minimum_criterion,
)
from lambda_hat.draws.info import Info
from lambda_hat.draws.llc import LLCEstimate, estimate_llc_from_traces
from lambda_hat.draws.rows import RowLosses
from lambda_hat.errors import InputError, told_together
from lambda_hat.estimate.method import MethodResult, RunProgress, run_method
from lambda_hat.estimate.reliability import NOT_A_MINIMUM, reasons_against
from lambda_hat.posterior import LocalPosterior, checked_posterior_of, scales_of
from lambda_hat.reference.engine import sample_reference
from lambda_hat.reference.potential import potentials_at
from lambda_hat.samplers.work import Progress, Work
from lambda_hat.targets import Model, read_model

__all__ = ["certify_llc", "estimate_llc", "read_arguments"]

Localization: TypeAlias = float | Mapping[str, float] | LocalizationRadius

DEFAULT_LOCALIZATION = LocalizationRadius()


def estimate_llc(
    loss_fn: Callable[[Any, Any], Any],
    params: Any,
    data: Any,
    *,
    sampler: str = "auto",
    sampled: Any = None,
    num_chains: int = 4,
    localization: Localization = DEFAULT_LOCALIZATION,
    inverse_temperature: float | None = None,
    rows: Any = None,
    queries: Any = None,
    progress: ProgressArgument = None,
    seed: int = 0,
    **settings: Any,
) -> LLCResult:
    """λ̂ = nβ (E_π[L_n(w)] − L_n(w0)) at `params`, by one run of a method.

    Args:
        loss_fn: `loss_fn(params, batch)` gives the losses (B,) of a batch, neither summed nor averaged: negative
            log-likelihoods, for λ̂ to mean what the theory says. It is called in the precision of the run.
            Losses (B, T), of T tokens of each row, count with their mean over T; n is the number of rows.
        params: any pytree, trained to a minimum. Its floating arrays are sampled, but for those that Flax knows as no
            parameters (`batch_stats` of linen, variables of nnx other than `Param`); other leaves stay as they are.
        data: any pytree of arrays with one row per example; a batch is the same pytree with fewer rows.
        sampler: the method. `auto` chooses by itself between HMC and self-checked SGLD, and runs until the 95 %
            interval `llc` ± 1.96 `se` is within `tolerance` (5 %) of λ̂ or `seconds` (120) are spent. `hmc` and `mclmc`
            run in float64 on all the data, those with minibatches in float32.
        sampled: what of `params` is sampled; the rest stays as it is. Patterns over the places of leaves
            (`"layers/0/*"`, or a list of them), a function `(place, leaf) -> bool | boolean array`, or a pytree of
            booleans or boolean arrays. d, the radius and the Laplace value belong to what is sampled.
        num_chains: independent chains, or fits of `vi`.
        localization: γ_loc, or {"radius": ρ} for γ_loc = d/(ρ|w0|)²; it is part of the answer.
        inverse_temperature: β; 1/log n unless given.
        rows: rows of the data whose losses are kept at the draws, as numbers, a slice or booleans; `row_losses` of the
            result tells what each of them adds to λ̂, and of their influence. It changes no draw, and costs a pass over
            the data at each of up to 1000 draws of a chain. Not for `vi`, nor for annealed steps.
        queries: other rows, a pytree like `data`, whose losses are kept too: what `rows` have influence on.
        progress: a function that is called with a `CallProgress` at every stage; or whether to show a line of it on
            stderr, which happens on a terminal and in a notebook unless it is False.
        seed: a run is a function of it.
        settings: those of the sampler, under the names of the YAML (`eta0`) or the long ones (`initial_step_size`);
            `dtype` among them, the precision of the run.

    Raises:
        InputError: an argument that is not usable: which, what was found and what is expected.
    """
    start = time.monotonic()
    (method, spec, seed), model = told_together(
        lambda: read_arguments(
            sampler=sampler,
            num_chains=num_chains,
            localization=localization,
            inverse_temperature=inverse_temperature,
            seed=seed,
            **settings,
        ),
        lambda: read_model(loss_fn, params, data, sampled=sampled),
    )
    if rows is not None:
        check_method(method)
    watched = watched_rows(model, rows, queries, method.dtype)
    problem = _Problem.build(model, spec, method.dtype)
    with reporting(progress) as tell:
        tell(CallProgress("hessian", time.monotonic() - start))
        around = look_around(problem.model, spec, problem.posterior, method, seed=seed)
        tell(CallProgress("sampling", time.monotonic() - start))

        def on_progress(run: RunProgress) -> None:
            seconds = time.monotonic() - start
            tell(CallProgress("sampling", seconds, run.fraction, run.llc, run.se, run.num_met, run.num_criteria))

        with jax.enable_x64(method.dtype == "float64"):
            run = run_method(
                problem.posterior,
                method,
                coordinates=around.coordinates,
                seed=seed,
                on_progress=on_progress,
                watched=watched,
            )
        tell(CallProgress("wells", time.monotonic() - start, llc=run.estimate.llc, se=run.estimate.se))
        look = Look.nowhere()
        if minimum_criterion(around.decrease_available, run.estimate.llc, MAX_DECREASE).is_met:
            look = around.look_farther(run.num_gradient_evaluations, seed)
    decrease_available = max(around.decrease_available, -look.survey.lowest)
    return problem.result(
        _widened(run.estimate, look),
        sampler=sampler,
        reasons=(
            *reasons_against(run, method, decrease_available),
            *_reasons_of(look, run.estimate),
            *_rounding_reasons(problem.posterior, around.double, run),
            *inner_rounding_reasons(problem.model, problem.posterior, lambda: ends_of(run), run.estimate.llc),
        ),
        laplace_llc=around.laplace_llc,
        decrease_available=decrease_available,
        survey=look.survey,
        num_gradient_evaluations=run.num_gradient_evaluations
        + around.num_gradient_evaluations
        + look.work.num_gradient_evaluations,
        num_curvature_passes=around.num_curvature_passes + look.work.num_curvature_passes,
        seconds=time.monotonic() - start,
        seed=seed,
        settings=method.to_dict(),
        extras=run.extras,
        row_losses=run.row_losses,
        **_traces(run, problem.nbeta),
    )


def certify_llc(
    loss_fn: Callable[[Any, Any], Any],
    params: Any,
    data: Any,
    *,
    sampled: Any = None,
    localization: Localization = DEFAULT_LOCALIZATION,
    inverse_temperature: float | None = None,
    dtype: str = "float64",
    seconds: float = 120.0,
    rows: Any = None,
    queries: Any = None,
    progress: ProgressArgument = None,
    seed: int = 0,
    **settings: Any,
) -> LLCResult:
    """λ̂ by HMC in float64 that runs until its certificate is complete or `seconds` are spent.

    The arguments are those of `estimate_llc`, the settings those of `reference` in a study. `dtype` is the precision
    that losses and gradients are evaluated in; positions and sums over rows are float64 in any case. `certificate`
    holds every criterion, `reasons` those that are not met.

    Raises:
        InputError: an argument that is not usable: which, what was found and what is expected.
    """
    start = time.monotonic()
    budget, reference_spec, spec, model = told_together(
        lambda: parse(Budget, {"hmc_sec": seconds}, "argument", {"hmc_sec": "seconds"}),
        lambda: _reference_spec(settings, seed, dtype),
        lambda: _posterior_spec(localization, inverse_temperature),
        lambda: read_model(loss_fn, params, data, sampled=sampled),
    )
    watched = watched_rows(model, rows, queries, "float64")
    problem = _Problem.build(model, spec, "float64")
    with reporting(progress) as tell, jax.enable_x64(True):

        def on_progress(known: Progress) -> None:
            tell(_progress_of(known, time.monotonic() - start))

        posterior = problem.posterior if dtype == "float64" else problem.posterior.evaluated_in(dtype)
        reference = sample_reference(
            posterior,
            reference_spec,
            deadline=start + budget.hmc_sec,
            on_progress=on_progress,
            watched=watched,
        )
    certificate = reference.certificate
    advice = {criterion.name: "Raise `seconds`, or make `localization` larger" for criterion in certificate.criteria}
    advice |= {MINIMUM: NOT_A_MINIMUM, SIGN: NOT_A_MINIMUM, RARE_WELLS: "Make `localization` larger"}
    info = reference.info or Info(*(np.empty((reference_spec.num_chains, 0)) for _ in Info._fields))
    estimate = estimate_llc_from_traces(info, problem.nbeta, has_minibatch_noise=False, correction="regression")
    estimate = replace(estimate, llc=reference.llc, se=reference.se)  # which may be by importance sampling
    return problem.result(
        estimate,
        sampler="hmc",
        reasons=tuple(f"{c}. {advice[c.name]}." for c in certificate.criteria if not c.is_met)
        + reference.reasons[len(certificate.reasons) :]
        + certified_rounding_reasons(problem.model, problem.posterior, posterior, reference),
        certificate=certificate,
        laplace_llc=reference.laplace_llc,
        decrease_available=reference.decrease_available,
        survey=reference.survey,
        num_gradient_evaluations=reference.num_gradient_evaluations,
        num_curvature_passes=reference.num_curvature_passes,
        seconds=time.monotonic() - start,
        seed=reference_spec.seed,
        settings=reference_spec.model_dump(mode="json", exclude={"on_uncertified", "method"}),
        row_losses=reference.row_losses,
        extras={"step_size": reference.step_size, "num_integration_steps": float(reference.num_integration_steps)},
        **_traces_of(info, problem.nbeta),
    )


def _progress_of(known: Progress, seconds: float) -> CallProgress:
    return CallProgress(
        known.stage,
        seconds,
        llc=known.llc,
        se=known.se,
        num_met=known.num_met,
        num_criteria=known.num_criteria,
    )


def _widened(estimate: LLCEstimate, look: Look) -> LLCEstimate:
    """With an error that reaches as far as independent draws leave open: one run may not know what it misses."""
    if look.importance is None or not math.isfinite(estimate.llc):
        return estimate
    return replace(estimate, se=max(estimate.se, look.importance.left_open(estimate.llc)))


def _reasons_of(look: Look, estimate: LLCEstimate) -> tuple[str, ...]:
    """What a look from afar has against an estimate by chains that all start near w0."""
    if not math.isfinite(estimate.llc):
        return ()
    survey, importance, (llc, se) = look.survey, look.importance, (estimate.llc, estimate.se)
    criteria = [survey.disagreement(llc, se), survey.mass_elsewhere()]
    if importance is not None:
        criteria.append(importance.disagreement(llc, se, tolerance=TOLERATED_DISAGREEMENT))
        left_open = importance.left_open(llc) / abs(llc) if llc else math.inf
        criteria.append(
            Criterion("difference from importance sampling beyond its error, over λ̂", left_open, MAX_RELATIVE_MCSE)
        )
    advice = "Use `certify_llc`, which looks at every well, or make `localization` larger"
    return tuple(f"{c}. {advice}." for c in criteria if c and not c.is_met)


def _rounding_reasons(posterior: LocalPosterior, double: LocalPosterior, run: MethodResult) -> tuple[str, ...]:
    """What single precision costs, at the places where the chains ended."""
    if posterior.w0.dtype == double.w0.dtype or not math.isfinite(run.estimate.llc) or run.is_diverged:
        return ()
    with jax.enable_x64(False):
        ends = np.asarray(jax.vmap(run.chains.sampler.displacement)(run.chains.states))
        _, rounded = potentials_at(posterior, ends, Work())
    with jax.enable_x64(True):
        _, exact = potentials_at(double, ends, Work())
    error, llc = float(np.sqrt(np.mean((rounded - exact) ** 2))), abs(run.estimate.llc)
    error = (
        error / llc if llc > 0 else (math.inf if error > 0 else 0.0)
    )  # λ̂ is 0 where float32 sees no difference at all
    criterion = Criterion("rounding of float32, over λ̂", error, MAX_ROUNDING)
    return () if criterion.is_met else (f'{criterion}. Set dtype="float64".',)


class Arguments(NamedTuple):
    """The arguments of `estimate_llc` that are settings."""

    method: MethodSettings
    spec: PosteriorSpec
    seed: int


def read_arguments(
    *,
    sampler: str = "auto",
    num_chains: int = 4,
    localization: Any = DEFAULT_LOCALIZATION,
    inverse_temperature: float | None = None,
    seed: int = 0,
    **settings: Any,
) -> Arguments:
    """The settings of a call of `estimate_llc`.

    Raises:
        InputError: every one of them that is not usable.
    """

    def read_method() -> MethodSettings:
        kind = choose("sampler", sampler, METHODS)
        return read_settings(kind, settings, f"setting of {sampler}", {"num_chains": num_chains})

    return Arguments(
        *told_together(
            read_method, lambda: _posterior_spec(localization, inverse_temperature), lambda: parse_seed(seed)
        )
    )


def _reference_spec(settings: Mapping[str, Any], seed: Any, dtype: Any) -> ReferenceSpec:
    of_studies = [name for name in ("on_uncertified", "method") if name in settings]

    def refuse_settings_of_studies() -> None:
        if of_studies:
            raise InputError("\n".join(f"{name}: found here; expected only in a study." for name in of_studies))

    own = {name: value for name, value in settings.items() if name not in of_studies}
    _, spec, seed, _ = told_together(
        refuse_settings_of_studies,
        lambda: read_settings(ReferenceSpec, own, "setting of the reference"),
        lambda: parse_seed(seed),
        lambda: choose("dtype", dtype, dict.fromkeys(("float32", "float64"))),
    )
    return spec.model_copy(update={"seed": seed})


def _posterior_spec(localization: Any, inverse_temperature: Any) -> PosteriorSpec:
    return parse(PosteriorSpec, {"localization": localization, "inverse_temperature": inverse_temperature}, "argument")


@dataclass(frozen=True, eq=False)
class _Problem:
    """A model with the numbers that make its posterior."""

    model: Model
    nbeta: float
    localization: float
    posterior: LocalPosterior

    @classmethod
    def build(cls, model: Model, spec: PosteriorSpec, dtype: str) -> _Problem:
        with jax.enable_x64(dtype == "float64"):
            posterior = checked_posterior_of(model, spec, dtype)
        return cls(model, *scales_of(model, spec), posterior)

    def result(
        self, estimate: LLCEstimate, *, reasons: tuple[str, ...], row_losses: RowLosses | None, **fields: Any
    ) -> LLCResult:
        return LLCResult(
            reasons=reasons,
            row_losses=None if row_losses is None else replace(row_losses, reasons=(*reasons, *row_losses.reasons)),
            llc=estimate.llc,
            se=estimate.se,
            raw_llc=estimate.raw_llc,
            rhat=estimate.rhat,
            ess_bulk=estimate.ess_bulk,
            ess_tail=estimate.ess_tail,
            localization=self.localization,
            nbeta=self.nbeta,
            dim=self.model.dim,
            num_data=self.model.num_data,
            loss_at_w0=float(self.posterior.loss_at_w0),
            sampled=tuple(place for place, _ in self.model.sampled),
            num_frozen=self.model.num_frozen,
            **fields,
        )


def _traces(run: MethodResult, nbeta: float) -> dict[str, Any]:
    if run.fit_draws is None:
        return _traces_of(run.info, nbeta)
    draws = run.fit_draws
    return {
        "loss_trace": nbeta * np.asarray(draws.excess_loss, np.float64),
        "distance_trace": np.asarray(draws.squared_distance, np.float64),
        "sample_stats": {"log_importance_weight": np.asarray(draws.log_weights, np.float64)},
    }


def _traces_of(info: Info, nbeta: float) -> dict[str, Any]:
    with np.errstate(over="ignore"):  # a diverged chain
        loss_trace = nbeta * np.asarray(info.excess_loss, np.float64)
    return {
        "loss_trace": loss_trace,
        "distance_trace": np.asarray(info.squared_distance, np.float64),
        "sample_stats": {
            "acceptance_rate": np.asarray(info.acceptance_rate, np.float64),
            "diverging": np.asarray(info.is_divergent) > 0,
            "energy": np.asarray(info.energy, np.float64),
            "weight": np.asarray(info.weight, np.float64),
        },
    }
