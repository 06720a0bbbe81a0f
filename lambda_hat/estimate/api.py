"""The LLC of a model of one's own, by the code that the workflows run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float
from pydantic import ValidationError

from lambda_hat.config.base import Frozen
from lambda_hat.config.locate import dotted
from lambda_hat.config.methods import METHODS, HMCSettings, MCLMCSettings
from lambda_hat.config.problems import LocalizationRadius, PosteriorSpec
from lambda_hat.config.study import Budget, ReferenceSpec
from lambda_hat.config.suggest import did_you_mean, one_of
from lambda_hat.config.validation import findings_of
from lambda_hat.errors import Fault, InputError
from lambda_hat.estimate.certificate import Certificate, minimum_criterion
from lambda_hat.estimate.llc import LLCEstimate, estimate_llc_from_traces
from lambda_hat.estimate.model import Model, read_model
from lambda_hat.estimate.reference import sample_reference
from lambda_hat.estimate.reliability import NOT_A_MINIMUM, reasons_against
from lambda_hat.estimate.result import LLCResult
from lambda_hat.estimate.run import MethodRun, run_method
from lambda_hat.posterior import (
    Coordinates,
    LocalPosterior,
    hessian_whitening,
    identity_whitening,
    laplace_llc,
    localization_of,
    whitening_from_arrays,
)
from lambda_hat.samplers.base import Info
from lambda_hat.targets.minimum import build_local_model

__all__ = ["certify_llc", "estimate_llc"]

Localization: TypeAlias = float | Mapping[str, float] | LocalizationRadius
Spec = TypeVar("Spec", bound=Frozen)

DEFAULT_LOCALIZATION = LocalizationRadius()
MAX_DENSE_DIM = 2000  # above it no Hessian is computed for a sampler that can do without


def estimate_llc(
    loss_fn: Callable[[Any, Any], Any],
    params: Any,
    data: tuple[Any, ...],
    *,
    sampler: str = "hmc",
    num_chains: int = 4,
    localization: Localization = DEFAULT_LOCALIZATION,
    inverse_temperature: float | None = None,
    seed: int = 0,
    **settings: Any,
) -> LLCResult:
    """λ̂ = nβ (E_π[L_n(w)] − L_n(w0)) at `params`, by one run of hmc, mclmc, sgld or vi.

    Args:
        loss_fn: `loss_fn(params, batch)` gives the losses (B,) of a batch, neither summed nor averaged: negative
            log-likelihoods, for λ̂ to mean what the theory says. It is called in the precision of the run.
        params: any pytree, trained to a minimum; its floating arrays are sampled, other leaves stay as they are.
        data: arrays with one row per example; a batch is the same tuple with fewer rows.
        sampler: hmc and mclmc run in float64 with whitened coordinates, sgld and vi in float32 on minibatches.
        num_chains: independent chains, or fits of vi.
        localization: γ_loc, or {"radius": ρ} for γ_loc = d/(ρ|w0|)²; it is part of the answer.
        inverse_temperature: β; 1/log n unless given.
        seed: a run is a function of it.
        settings: those of the sampler, under the names of the YAML (`eta0`) or the long ones (`initial_step_size`).

    Raises:
        InputError: an argument that is not usable: which, what was found and what is expected.
    """
    start = time.monotonic()
    if sampler not in METHODS:
        raise InputError(
            _fault("sampler", f"found {sampler!r}, expected {one_of(METHODS)}", did_you_mean(sampler, METHODS))
        )
    method = _parse(METHODS[sampler], {"num_chains": num_chains, **settings}, f"setting of {sampler}")
    problem = _Problem.read(loss_fn, params, data, localization, inverse_temperature, seed)
    posterior = problem.checked_posterior(method.dtype)
    surroundings = _look_around(problem, posterior, is_whitened=isinstance(method, HMCSettings | MCLMCSettings))
    with _precision(method.dtype):
        run = run_method(posterior, method, coordinates=surroundings.coordinates, seed=problem.seed)
    reasons = reasons_against(run, method, surroundings.decrease_available)
    return problem.result(
        run.estimate,
        surroundings,
        sampler=sampler,
        reasons=reasons,
        num_gradient_evaluations=run.num_gradient_evaluations,
        num_hessian_evaluations=surroundings.num_hessian_evaluations,
        seconds=time.monotonic() - start,
        settings=method.to_dict(),
        extras=run.extras,
        loss_at_w0=float(posterior.loss_at_w0),
        **_traces(run, problem.nbeta),
    )


def certify_llc(
    loss_fn: Callable[[Any, Any], Any],
    params: Any,
    data: tuple[Any, ...],
    *,
    localization: Localization = DEFAULT_LOCALIZATION,
    inverse_temperature: float | None = None,
    seconds: float = 120.0,
    seed: int = 0,
    **settings: Any,
) -> LLCResult:
    """λ̂ by HMC in float64 that runs until its certificate is complete or `seconds` are spent.

    The arguments are those of `estimate_llc`, the settings those of `reference` in a study. `certificate` holds every
    criterion, `reasons` those that are not met.

    Raises:
        InputError: an argument that is not usable: which, what was found and what is expected.
    """
    start = time.monotonic()
    hmc_sec = _parse(Budget, {"hmc_sec": seconds}, "argument", {"hmc_sec": "seconds"}).hmc_sec
    problem = _Problem.read(loss_fn, params, data, localization, inverse_temperature, seed)
    if "on_uncertified" in settings:
        raise InputError(_fault("on_uncertified", "found here, where nothing fails; expected only in a study"))
    spec = _parse(ReferenceSpec, {**settings, "seed": problem.seed}, "setting of the reference")
    posterior = problem.checked_posterior("float64")
    surroundings = _look_around(problem, posterior, is_whitened=True)
    with _precision("float64"):
        reference = sample_reference(posterior, spec, deadline=start + hmc_sec)
    minimum = minimum_criterion(surroundings.decrease_available, reference.llc, spec.max_relative_mcse)
    certificate = Certificate((*reference.certificate.criteria, minimum))
    advice = {criterion.name: "Raise `seconds`, or make `localization` larger" for criterion in certificate.criteria}
    advice[minimum.name] = NOT_A_MINIMUM
    info = reference.info or Info(*(np.empty((spec.num_chains, 0)) for _ in Info._fields))
    return problem.result(
        estimate_llc_from_traces(info, problem.nbeta, has_minibatch_noise=False),
        surroundings,
        sampler="hmc",
        reasons=tuple(f"{c}. {advice[c.name]}." for c in certificate.criteria if not c.is_met),
        certificate=certificate,
        num_gradient_evaluations=reference.num_gradient_evaluations,
        num_hessian_evaluations=reference.num_hessian_evaluations + surroundings.num_hessian_evaluations,
        seconds=time.monotonic() - start,
        settings=spec.to_dict(),
        extras={"step_size": reference.step_size, "num_integration_steps": float(reference.num_integration_steps)},
        loss_at_w0=float(posterior.loss_at_w0),
        **_traces_of(info, problem.nbeta),
    )


@dataclass(frozen=True, eq=False)
class _Problem:
    """A model with the numbers that make its posterior."""

    model: Model
    nbeta: float
    localization: float
    seed: int

    @classmethod
    def read(
        cls, loss_fn: Any, params: Any, data: Any, localization: Any, inverse_temperature: Any, seed: Any
    ) -> _Problem:
        values = {"localization": localization, "inverse_temperature": inverse_temperature}
        spec = _parse(PosteriorSpec, values, "argument")
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**31:
            raise InputError(_fault("seed", f"found {seed!r}, expected a whole number from 0 to 2³¹ − 1"))
        model = read_model(loss_fn, params, data)
        return cls(model, spec.nbeta(model.num_data), localization_of(spec, model.w0), int(seed))

    def posterior(self, dtype: str) -> LocalPosterior:
        with _precision(dtype):
            return self.model.posterior(nbeta=self.nbeta, localization=self.localization, dtype=dtype)

    def checked_posterior(self, dtype: str) -> LocalPosterior:
        with _precision(dtype):
            return self.model.checked_posterior(nbeta=self.nbeta, localization=self.localization, dtype=dtype)

    def result(self, estimate: LLCEstimate, surroundings: _Surroundings, **fields: Any) -> LLCResult:
        return LLCResult(
            llc=estimate.llc,
            se=estimate.se,
            rhat=estimate.rhat,
            ess_bulk=estimate.ess_bulk,
            ess_tail=estimate.ess_tail,
            localization=self.localization,
            nbeta=self.nbeta,
            dim=self.model.w0.size,
            num_data=self.model.num_data,
            laplace_llc=surroundings.laplace_llc,
            decrease_available=surroundings.decrease_available,
            seed=self.seed,
            **fields,
        )


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """What float64 derivatives at w0 tell: coordinates, λ̂ of a Gaussian, and how good a minimum w0 is."""

    coordinates: Coordinates
    laplace_llc: float | None
    decrease_available: float
    num_hessian_evaluations: int


@eqx.filter_jit
def _gradient_at_w0(posterior: LocalPosterior) -> Float[Array, " d"]:
    return jax.grad(posterior.logdensity)(posterior.w0)


def _look_around(problem: _Problem, posterior: LocalPosterior, *, is_whitened: bool) -> _Surroundings:
    """Above `MAX_DENSE_DIM` parameters without a Hessian, unless the sampler needs its coordinates."""
    if posterior.dim > MAX_DENSE_DIM and not is_whitened:
        model, whitening = problem.model, identity_whitening(posterior)
        with _precision("float64"):
            columns = model.columns("float64")
            local = build_local_model(
                model.loss_fn, model.w0, columns, problem.nbeta, problem.localization, is_dense=False
            )
        decrease = max(local.decrease_available, local.saddle_gain)
        return _Surroundings(Coordinates(whitening, whitening), None, decrease, 0)
    with _precision("float64"):
        double = posterior if posterior.w0.dtype == "float64" else problem.posterior("float64")
        whitening, eigenvalues = hessian_whitening(double, double.w0[None])
        # One Newton step gains ½ |Aᵀ g|²; the most negative curvature h, at a distance of 1/√γ_loc, ½ |h|/γ_loc.
        newton = 0.5 * float(np.sum(np.square(whitening.pullback(_gradient_at_w0(double)))))
        saddle = 0.5 * max(0.0, -float(np.min(eigenvalues))) / problem.localization
        laplace = laplace_llc(eigenvalues, double.localization)
    with _precision(str(posterior.w0.dtype)):
        whitening = whitening_from_arrays(whitening.to_arrays(), str(posterior.w0.dtype))
    return _Surroundings(Coordinates(whitening, whitening), laplace, max(newton, saddle), 1)


def _precision(dtype: str) -> Any:
    return jax.enable_x64(dtype == "float64")


def _traces(run: MethodRun, nbeta: float) -> dict[str, Any]:
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


def _parse(
    spec: type[Spec], values: Mapping[str, Any], what: str, arguments: Mapping[str, str] = MappingProxyType({})
) -> Spec:
    """The values as `spec` declares them, NumPy's numbers as Python's; or every fault at once.

    `arguments` tells what the caller knows a field as, where that is another name.
    """
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    for name, field in spec.model_fields.items():
        if field.alias in plain and name in plain:
            raise InputError(_fault(name, f"found beside `{field.alias}`, which is the same; expected one of them"))
    try:
        return spec.model_validate(plain)
    except ValidationError as error:
        findings = findings_of(error, spec, plain)
    faults = [
        _fault(
            arguments.get(dotted(finding.path), dotted(finding.path)),
            finding.message.replace("unknown key", f"unknown {what}").replace(" or null", " or None"),
            finding.hint,
        )
        for finding in findings
    ]
    raise InputError("\n".join(faults))


def _fault(argument: str, message: str, hint: str = "") -> str:
    return str(Fault(key=argument, message=f"{message}.", hint=hint))
