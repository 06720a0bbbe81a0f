"""What derivatives at w0 tell before anything is sampled: coordinates, the Laplace value, whether w0 is a minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import jax
import numpy as np

from lambda_hat.config.methods.base import MethodSettings
from lambda_hat.config.problems import PosteriorSpec
from lambda_hat.posterior import (
    Coordinates,
    LocalPosterior,
    Whitening,
    factored_whitening,
    geometry_at_w0,
    posterior_of,
    whitening_from_arrays,
)
from lambda_hat.posterior.geometry import GRADIENTS_PER_PASS, MAX_DENSE_DIM
from lambda_hat.reference.descents import decrease_from_w0
from lambda_hat.reference.importance import FEW_DIMENSIONS, ImportanceEstimate, estimate_around
from lambda_hat.reference.survey import Survey, SurveyBudget, look_from_afar, most_gradients_beside
from lambda_hat.samplers.work import Work
from lambda_hat.targets import Model

__all__ = ["Look", "Surroundings", "look_around"]


MAX_DRAWS_OF_IMPORTANCE = 32_768
GRADIENTS_OF_IMPORTANCE = 27_000.0  # that it takes at most: it is left out where a look may not cost as much
MAX_ERROR_OF_IMPORTANCE = 0.0025  # relative: four of them are the disagreement that is tolerated


class Look(NamedTuple):
    """What was seen from afar, and what that cost."""

    survey: Survey
    importance: ImportanceEstimate | None  # around the wells of the survey, in few dimensions
    work: Work

    @classmethod
    def nowhere(cls) -> Self:
        """None at all."""
        return cls(Survey(), None, Work())


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What float64 derivatives near w0 tell: coordinates, λ̂ of a Gaussian, and how good a minimum w0 is."""

    coordinates: Coordinates
    double: LocalPosterior  # in float64
    whitening: Whitening  # A0 in float64
    laplace_llc: float | None
    decrease_available: float
    num_gradient_evaluations: float
    num_curvature_passes: int

    def look_farther(self, num_gradient_evaluations: float, seed: int) -> Look:
        """A look for other wells that costs at most a share of what a run has cost."""
        posterior, work, rng = self.double, Work(), np.random.default_rng(seed)
        budget = SurveyBudget.of_run(posterior.dim, posterior.num_data, num_gradient_evaluations)
        with jax.enable_x64(True):
            survey = look_from_afar(posterior, self.whitening, rng, work, budget)
            importance, left = None, budget.max_gradients - work.num_gradient_evaluations
            if posterior.dim <= FEW_DIMENSIONS and left >= GRADIENTS_OF_IMPORTANCE:
                wells = survey.counting
                importance = estimate_around(
                    posterior,
                    wells,
                    survey.masses[: len(wells)],
                    rng,
                    work,
                    max_relative_error=MAX_ERROR_OF_IMPORTANCE,
                    max_draws=MAX_DRAWS_OF_IMPORTANCE,
                )
        return Look(survey, importance, work)


def look_around(
    model: Model, spec: PosteriorSpec, posterior: LocalPosterior, method: MethodSettings, *, seed: int
) -> Surroundings:
    """From derivatives in float64, whatever the precision of `posterior`, which the coordinates then have.

    `posterior` is the one that `spec` describes around the model's w0.

    A Hessian gives coordinates and the Laplace value where it costs at most a share of what `method` is about to do,
    or where the method needs it. Else coordinates are by Kronecker factors, and there is no Laplace value.
    """
    dtype, work = str(posterior.w0.dtype), Work()
    geometry_key, nudge_key = jax.random.split(jax.random.key(seed))
    with jax.enable_x64(True):
        double = posterior
        if dtype != "float64":
            double = posterior_of(model, spec, "float64")
        laplace = None
        if not _is_worth_a_hessian(double, method):
            whitening, num_passes = factored_whitening(double, double.w0[None], geometry_key)
            work.num_curvature_passes += num_passes
        else:
            geometry = geometry_at_w0(double, geometry_key)
            whitening, laplace = geometry.whitening, geometry.spectrum.laplace_llc(float(double.localization))[0]
            work.num_curvature_passes += geometry.num_passes
        decrease = decrease_from_w0(double, whitening, nudge_key, work)
    whitening_of_double = whitening
    with jax.enable_x64(dtype == "float64"):
        whitening = whitening_from_arrays(whitening.to_arrays(), dtype)
    coordinates = Coordinates(whitening, whitening)
    return Surroundings(
        coordinates,
        double,
        whitening_of_double,
        laplace,
        decrease,
        work.num_gradient_evaluations,
        work.num_curvature_passes,
    )


def _is_worth_a_hessian(posterior: LocalPosterior, method: MethodSettings) -> bool:
    """Or, above `MAX_DENSE_DIM` parameters, what is estimated in its place."""
    if posterior.dim > MAX_DENSE_DIM:
        return method.is_whitened and not method.is_composite
    if method.is_whitened:
        return True
    expected = method.num_gradient_evaluations(posterior.num_data)
    return posterior.dim * GRADIENTS_PER_PASS <= most_gradients_beside(posterior.dim, posterior.num_data, expected)
