"""The certified reference: whitened HMC in float64, in rounds, until certified or out of time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float

from lambda_hat.config.methods.hmc import HMCSettings
from lambda_hat.config.methods.mclmc import MCLMCSettings
from lambda_hat.config.study import ReferenceSpec
from lambda_hat.draws.criteria import (
    DIVERGENCES,
    MAX_RHAT,
    MAX_RHAT_APPROXIMATE,
    MIN_ESS,
)
from lambda_hat.draws.diagnostics import DiagnosedDraws, TraceDiagnostics
from lambda_hat.draws.rows import RowLosses
from lambda_hat.posterior import (
    Coordinates,
    Geometry,
    LocalPosterior,
    Spectrum,
    Whitening,
    geometry_at_w0,
    identity_whitening,
)
from lambda_hat.reference.certificate import (
    Certificate,
    agreement,
    certify,
    certify_importance,
    is_diverging,
    is_refuted,
    judge_minimum,
    pooled,
)
from lambda_hat.reference.coordinates import LOG_STEP_SIZE_JITTER, find_coordinates, start_hmc
from lambda_hat.reference.descents import decrease_from_w0
from lambda_hat.reference.importance import (
    FEW_DIMENSIONS,
    MAX_DIM,
    MAX_WIDE_DRAWS,
    ImportanceEstimate,
    clusters_of,
    estimate_by_importance,
    estimate_by_wide_draws,
    fit_mixture,
    mixture_around,
    scales_at,
)
from lambda_hat.reference.potential import LOSS_PER_GRADIENT
from lambda_hat.reference.result import Reference, coordinates_from_arrays, prefixed, within
from lambda_hat.reference.starts import MAX_WELLS_WITH_CHAINS, start_positions
from lambda_hat.reference.survey import MIN_SIZE_TO_RESAMPLE, Survey, SurveyBudget, look_from_afar
from lambda_hat.samplers.growing import GrowingChains
from lambda_hat.samplers.hmc import HMC
from lambda_hat.samplers.mclmc import AdjustedMCLMC
from lambda_hat.samplers.pace import Guard, Moment
from lambda_hat.samplers.recorder import WatchedRows
from lambda_hat.samplers.work import OutOfTime, Progress, Work

__all__ = ["exact_reference", "laplace_reference", "sample_reference"]

OnRound: TypeAlias = Callable[[Callable[[], dict[str, np.ndarray]], Mapping[str, float]], None]

INITIAL_STEP_SIZE = 0.1
GROWTH = 0.25  # of what there is, at least a round: judging costs little then, and overshoots little
MAX_EARLY_HALVINGS = 3  # of a step size, for divergences that smaller steps may not cure
NUM_CHECK_WARMUP = 200
ROUNDS_BEFORE_IMPORTANCE = 2  # in which chains may find each other
ROUNDS_OF_SLOW_CHAINS = 8
NUM_SNAPSHOTS, STEPS_BETWEEN_SNAPSHOTS = 50, 10  # of every chain, to build a mixture of
MAX_K_HAT_OF_NO_ARMS = 0.5
MAX_DEVIATION = 2.0  # of chains from importance sampling, in standard errors, for their λ̂ to count
AIM_OF_IMPORTANCE = 0.2  # of the error that is wanted: five standard errors, beyond chance, are no more than that
NUM_CLUSTERS = (8, 64)  # of these, the fewer first


class _Keys:
    """Random keys, counted, so that going on uses none of them twice."""

    def __init__(self, seed: int, num_used: int = 0) -> None:
        self.num_used = num_used
        self._root = jax.random.key(seed)

    def __iter__(self) -> Iterator[Array]:
        return self

    def __next__(self) -> Array:
        self.num_used += 1
        return jax.random.fold_in(self._root, self.num_used - 1)


class _Engine:
    """One reference on its way: the coordinates, the chains that count, and those that they are checked by."""

    def __init__(
        self,
        posterior: LocalPosterior,
        spec: ReferenceSpec,
        work: Work,
        watched: WatchedRows | None = None,
        on_round: OnRound = lambda *_: None,
    ) -> None:
        self.watched = watched
        self.on_round = on_round
        self.posterior = posterior
        self.spec = spec
        self.work = work
        self.nbeta = float(posterior.nbeta)
        self.keys = _Keys(spec.seed)
        self.settings = HMCSettings(
            step_size=INITIAL_STEP_SIZE,
            num_integration_steps=spec.num_integration_steps,
            target_accept=spec.target_accept,
        )
        self.spectrum: Spectrum | None = None
        self.coordinates: Coordinates | None = None
        self.survey = Survey()
        self.importance: ImportanceEstimate | None = None
        self.share_missed = math.nan  # of draws that are known otherwise, by the mixture of `importance`
        self.num_done_at_importance = 0
        self.decrease_available = math.nan
        self.evaluation_error = 0.0
        self.num_early_halvings = 0
        self.chains: GrowingChains | None = None
        self.finer: GrowingChains | None = None
        self.cross_check: GrowingChains | None = None

    def look_at_w0(self) -> Geometry:
        """The curvature there, and whether it is a minimum."""
        self.work.tell("hessian")
        geometry = geometry_at_w0(self.posterior, next(self.keys))
        self.spectrum, self.coordinates = geometry.spectrum, Coordinates(geometry.whitening, geometry.whitening)
        self.work.num_curvature_passes += geometry.num_passes
        self.decrease_available = decrease_from_w0(self.posterior, geometry.whitening, next(self.keys), self.work)
        self.work.done("hessian")
        return geometry

    def prepare(self) -> GrowingChains:
        """Find coordinates and wells, and start chains that forget where they started."""
        geometry = self.look_at_w0()
        found = find_coordinates(self.posterior, geometry, self.settings, self.spec.num_chains, self.keys, self.work)
        self.posterior, self.evaluation_error = found.posterior, found.evaluation_error
        self.coordinates, whitening = found.coordinates, found.coordinates.averaged
        self.work.tell("wells")
        budget = SurveyBudget.of_reference(self.posterior.dim)
        self.survey = look_from_afar(self.posterior, whitening, self.random(), self.work, budget)
        self.decrease_available = max(self.decrease_available, -self.survey.lowest)
        self.work.done("wells")
        self.work.tell("warm-up")
        starts = start_positions(
            self.posterior, whitening, found.draws, self.survey, next(self.keys), self.spec.num_chains, self.work
        )
        return start_hmc(
            self.posterior, self.coordinates, self.settings, starts, self.keys, self.work, watched=self.watched
        )

    def sample(self) -> None:
        """Rounds until certified, by chains or by importance sampling; raises when out of time."""
        if self.chains is None:
            self.chains = self.prepare()
        while not self.judge_importance().is_certified:
            if not self.judge_chains().is_certified:
                self.extend_chains(self.chains)
                if self.is_importance_due():
                    self.sample_by_importance(self.chains)
                continue
            if self.finer is None:
                self.finer = self.chains.at_half_step_size(next(self.keys))
            if not self.judge_finer().is_certified:
                self.extend(self.finer, "half step size")
                if is_refuted(self.judge_finer()):
                    # The finer ones are the better: they are the chains from now on, checked by finer ones still.
                    self.replace_chains(self.finer)
                continue
            if not self.judge_cross_check().is_certified:
                if self.cross_check is None:
                    self.cross_check = self.start_cross_check(self.chains)
                self.extend(self.cross_check, "cross-check")
                continue
            is_seen = self.judge_survey(*self.estimate_of_chains()).is_certified
            if self.posterior.dim <= (FEW_DIMENSIONS if is_seen else MAX_DIM):
                is_corrected = self.is_corrected
                self.sample_by_importance(self.chains)
                if is_corrected and not self.is_corrected:
                    continue
            return

    def is_importance_due(self) -> bool:
        """Whether chains have not found each other by now: after two rounds, and whenever draws are four times as many.

        Chains that only mix slowly, R̂ ≤ 1.05, have eight rounds.
        """
        assert self.chains is not None
        rhat = max(trace.rhat for trace in self.diagnose())
        rounds = ROUNDS_BEFORE_IMPORTANCE if rhat > MAX_RHAT_APPROXIMATE else ROUNDS_OF_SLOW_CHAINS
        least = max(rounds * self.spec.draws_per_round, 4 * self.num_done_at_importance)
        return self.posterior.dim <= MAX_DIM and self.chains.num_done >= least and rhat > MAX_RHAT

    def sample_by_importance(self, chains: GrowingChains) -> None:
        """λ̂ over all wells, from a mixture around their ends and around clusters of draws, of chains and from afar."""
        self.work.tell("importance sampling")
        self.num_done_at_importance = chains.num_done
        rng, localization = self.random(), float(self.posterior.localization)
        points = np.asarray(chains.snapshots(self.keys, NUM_SNAPSHOTS, STEPS_BETWEEN_SNAPSHOTS), np.float64)
        from_afar = np.unique(self.survey.resampled, axis=0)  # which know of plateaus that no chain is on
        wells = self.survey.counting
        well_scales = [scales_at(self.posterior, well, self.work) for well in wells]
        masses = self.survey.masses[: len(wells)]
        for num_clusters in NUM_CLUSTERS:
            clusters = [clusters_of(points, num_clusters, rng)]
            if len(from_afar) > 1:
                clusters.append(clusters_of(from_afar, 1, rng))
            means, scales, log_shares = (np.concatenate(parts) for parts in zip(*clusters, strict=True))
            mixture = mixture_around(
                np.concatenate([wells.reshape(-1, self.posterior.dim), means]),
                np.concatenate([np.reshape(well_scales, (-1, *scales.shape[1:])), scales]),
                np.concatenate([np.log(masses), log_shares]),
                localization,
            )
            mixture = fit_mixture(self.posterior, mixture, rng, self.work)
            wanted = self.spec.max_relative_mcse
            self.importance = estimate_by_importance(
                self.posterior, mixture, rng, self.work, max_relative_error=wanted, aim=AIM_OF_IMPORTANCE * wanted
            )
            self.share_missed = self.share_missed_of(self.importance, points, from_afar)
            if self.judge_importance().is_certified:
                break
        else:
            self.sample_widely(rng, points, wells)
        self.work.done("importance sampling")

    def sample_widely(self, rng: np.random.Generator, *known: Float[np.ndarray, "draws d"]) -> None:
        """λ̂ from draws as wide as the localization, if these certify it at no more work than chains have taken so far.

        `known` are draws of chains and ends of wells, which the wide draws must not have missed.
        """
        num_draws = self.num_wide_draws_needed()
        if num_draws > MAX_WIDE_DRAWS or LOSS_PER_GRADIENT * num_draws > self.work.num_gradient_evaluations:
            return
        before = self.importance, self.share_missed
        self.importance = estimate_by_wide_draws(
            self.posterior, rng, self.work, max_relative_error=self.spec.max_relative_mcse
        )
        self.share_missed = self.share_missed_of(self.importance, *known)
        if not self.judge_importance().is_certified:
            self.importance, self.share_missed = before

    def share_missed_of(self, importance: ImportanceEstimate, *known: Float[np.ndarray, "draws d"]) -> float:
        """The largest share of points that are known otherwise, of any kind, that the estimate has missed."""
        return max(importance.share_missed(self.posterior, points, self.work) for points in known if len(points))

    def num_wide_draws_needed(self) -> float:
        """Draws of the localization's width that would tell λ̂ as precisely as is wanted, by how many count from afar.

        nβ(L_n(w) − L_n(w0)) of d = 1 effective parameter has the variance 2λ², of more a smaller one.
        """
        if self.survey.prior_size < MIN_SIZE_TO_RESAMPLE:
            return math.inf
        return 2 / self.spec.max_relative_mcse**2 * self.survey.num_prior_draws / self.survey.prior_size

    def random(self) -> np.random.Generator:
        """NumPy's random numbers, from the next key."""
        return np.random.default_rng(np.asarray(jax.random.key_data(next(self.keys))).tolist())

    def extend_chains(self, chains: GrowingChains) -> None:
        """One more round; then longer trajectories, or smaller steps, where those are what is missing."""
        num_before = chains.num_done
        self.extend(chains, "rounds")
        latest = DiagnosedDraws(chains.since(num_before), self.nbeta)
        loss, distance = latest.loss, latest.distance
        if self.diagnose()[1].ess_bulk < MIN_ESS and distance.ess_bulk < loss.ess_bulk / 4:
            # r² mixes more slowly than the loss: longer trajectories serve it better than more of them.
            chains.lengthen(next(self.keys))
        unmet = [criterion.name for criterion in self.judge_chains().criteria if not criterion.is_met]
        is_early = (
            is_diverging(None if chains.retained is None else chains.retained.info)
            and self.num_early_halvings < MAX_EARLY_HALVINGS
        )
        if is_early or unmet == [DIVERGENCES]:
            self.num_early_halvings += is_early
            self.replace_chains(chains.at_half_step_size(next(self.keys)))

    def replace_chains(self, chains: GrowingChains) -> None:
        """Other chains that count, by nothing checked yet: interrupted on the way, the old ones go unchecked too."""
        self.finer = self.cross_check = None
        self.chains = chains

    def extend(self, chains: GrowingChains, stage: str) -> None:
        """More draws of some chains, and word of it."""
        if chains is not self.chains or chains.info is None:
            self.tell(stage)
        chains.extend(next(self.keys), max(self.spec.draws_per_round, int(GROWTH * chains.num_done)))
        self.work.book(stage)
        self.tell(stage)
        self.on_round(self.to_arrays, self.work.seconds)
        self.work.check()

    def tell(self, stage: str) -> None:
        """Word of what is known by now."""
        loss, distance = self.diagnose()
        llc, se = self.estimate()
        criteria = self.certificate().criteria
        self.work.tell(
            stage,
            llc=llc,
            se=se,
            rhat=max(loss.rhat, distance.rhat),
            ess=min(loss.ess_bulk, distance.ess_bulk),
            num_met=sum(criterion.is_met for criterion in criteria),
            num_criteria=len(criteria),
        )

    def start_cross_check(self, chains: GrowingChains) -> GrowingChains:
        """Chains of another sampler, from where these are."""
        check = GrowingChains(self.build_cross_check(), next(self.keys), chains.displacements, self.work)
        check.advance(next(self.keys), NUM_CHECK_WARMUP, num_warmup=NUM_CHECK_WARMUP)
        return check

    def build_chains(self) -> Any:
        """The sampler of the chains that count."""
        return HMC.from_settings(
            self.posterior,
            self.whitening,
            self.settings,
            at_w0=self.whitening_at_w0,
            log_step_size_jitter=LOG_STEP_SIZE_JITTER,
        )

    def build_cross_check(self) -> Any:
        """The sampler of the second opinion."""
        settings = MCLMCSettings(step_size=INITIAL_STEP_SIZE, target_accept=self.spec.target_accept)
        return AdjustedMCLMC.from_settings(self.posterior, self.whitening, settings, at_w0=self.whitening_at_w0)

    @property
    def whitening(self) -> Whitening:
        """A1."""
        return identity_whitening(self.posterior) if self.coordinates is None else self.coordinates.averaged

    @property
    def whitening_at_w0(self) -> Whitening | None:
        """A0."""
        return None if self.coordinates is None else self.coordinates.at_w0

    def diagnose(self) -> tuple[TraceDiagnostics, TraceDiagnostics]:
        """Diagnostics of nβ (L_n(w) − L_n(w0)) and of r², of the draws that count."""
        draws = None if self.chains is None else self.chains.retained
        if draws is None:
            nothing = TraceDiagnostics(math.nan, math.inf, math.inf, 0.0, 0.0)
            return nothing, nothing
        return draws.loss, draws.distance

    @property
    def is_corrected(self) -> bool:
        """Whether λ̂ of chains is corrected by identities.

        Where a few parameters are too many for importance sampling, the posterior has far arms or the like. There the
        corrected readings hide what chains have not seen: raw ones count.
        """
        is_strange = self.importance is not None and not self.importance.k_hat <= MAX_K_HAT_OF_NO_ARMS
        return not (is_strange and self.posterior.dim <= FEW_DIMENSIONS)

    def draws_of(self, chains: GrowingChains | None) -> DiagnosedDraws | None:
        """Those that count, of some chains."""
        draws = None if chains is None else chains.retained
        return draws if draws is None or self.is_corrected else draws.uncorrected

    def judge_chains(self) -> Certificate:
        return certify(
            self.draws_of(self.chains),
            target_accept=self.spec.target_accept,
            max_relative_mcse=self.spec.max_relative_mcse,
        )

    def judge_finer(self) -> Certificate:
        return self._agreement(self.finer, "half the step size")

    def judge_importance(self) -> Certificate:
        return certify_importance(self.importance, self.share_missed, max_relative_mcse=self.spec.max_relative_mcse)

    def judge_survey(self, llc: float, se: float) -> Certificate:
        """What the look from afar, the sign and w0 say of an estimate by chains."""
        criteria = [
            self.survey.disagreement(llc, se),
            self.survey.mass_beyond(MAX_WELLS_WITH_CHAINS),
            self.survey.mass_of_rare(),
            None if self.importance is None else self.importance.disagreement(llc, se),
        ]
        return Certificate(tuple(criterion for criterion in criteria if criterion is not None))

    def estimate_of_chains(self) -> tuple[float, float]:
        """λ̂ and its standard error by the draws that count, those at half the step size among them once they agree."""
        counting = [self.chains, self.finer if self.judge_finer().is_certified else None]
        draws = [self.draws_of(chains) for chains in counting]
        return pooled([(part.corrected.mean, part.corrected.mcse) for part in draws if part is not None])

    def judge_cross_check(self) -> Certificate:
        return Certificate(()) if self.spec.cross_check is None else self._agreement(self.cross_check, "mclmc")

    def _agreement(self, others: GrowingChains | None, name: str) -> Certificate:
        return agreement(
            self.draws_of(self.chains),
            self.draws_of(others),
            name,
            max_relative_mcse=self.spec.max_relative_mcse,
        )

    @property
    def is_by_importance(self) -> bool:
        """Whether λ̂ is that of importance sampling, which then has a whole certificate of its own.

        It is where chains do not stand, and where these are farther from it than two standard errors: its draws are
        independent, and their error holds.
        """
        if not self.judge_importance().is_certified or self.importance is None:
            return False
        llc, se = self.estimate_of_chains()
        deviation = abs(llc - self.importance.llc) / math.hypot(se, self.importance.se)
        return not (self.do_chains_stand and deviation <= MAX_DEVIATION)

    @property
    def do_chains_stand(self) -> bool:
        """Whether chains are certified by everything, their agreement with importance sampling included."""
        by_chains = (self.judge_chains(), self.judge_finer(), self.judge_cross_check())
        return all(part.is_certified for part in (*by_chains, self.judge_survey(*self.estimate_of_chains())))

    def estimate(self) -> tuple[float, float]:
        """λ̂ and its standard error, by importance sampling or by chains."""
        if self.importance is not None and self.is_by_importance:
            return self.importance.llc, self.importance.se
        return self.estimate_of_chains()

    def certificate(self) -> Certificate:
        """Every criterion there is, of the estimate that counts."""
        llc, se = self.estimate()
        judgements = [judge_minimum(self.decrease_available, llc, se, self.spec.max_relative_mcse)]
        if self.is_by_importance:
            rare = self.survey.mass_of_rare()
            judgements = [self.judge_importance(), Certificate(() if rare is None else (rare,)), *judgements]
        else:
            chains = (self.judge_chains(), self.judge_finer(), self.judge_cross_check())
            judgements = [*chains, self.judge_survey(llc, se), *judgements]
        return Certificate(tuple(criterion for judgement in judgements for criterion in judgement.criteria))

    def result(self) -> Reference:
        """What is known by now."""
        llc, se = self.estimate()
        loss, distance = self.diagnose()
        chains, spectrum = self.chains, self.spectrum
        laplace_llc, laplace_se = (
            (math.nan, math.nan) if spectrum is None else spectrum.laplace_llc(float(self.posterior.localization))
        )
        return Reference(
            llc=llc,
            se=se,
            certificate=self.certificate(),
            diagnostics={"loss": loss, "distance": distance},
            spectrum=spectrum,
            laplace_llc=laplace_llc,
            laplace_se=laplace_se,
            decrease_available=self.decrease_available,
            survey=self.survey,
            importance=self.importance,
            coordinates=self.coordinates,
            info=None if chains is None or chains.retained is None else chains.retained.info,
            step_size=math.nan if chains is None else float(chains.sampler.step_size),
            num_integration_steps=0 if chains is None else int(chains.sampler.num_integration_steps),
            evaluation_dtype=self.posterior.evaluation_dtype,
            evaluation_error=self.evaluation_error,
            num_gradient_evaluations=self.work.num_gradient_evaluations,
            num_curvature_passes=self.work.num_curvature_passes,
            seconds=self.work.seconds,
            arrays=self.to_arrays(),
            row_losses=self.row_losses(),
        )

    def row_losses(self) -> RowLosses | None:
        """Of the watched rows at the chains' draws, with what speaks against those."""
        losses = None if self.chains is None else self.chains.row_losses
        if losses is None or not self.is_by_importance:
            return losses
        return replace(losses, reasons=("λ̂ is by importance sampling: the chains visit wells by other shares.",))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What `restore` goes on from; coordinates and spectrum also serve the trials."""
        arrays = {
            "num_keys": np.asarray(self.keys.num_used),
            "num_gradient_evaluations": np.asarray(self.work.num_gradient_evaluations),
            "num_curvature_passes": np.asarray(self.work.num_curvature_passes),
            "decrease_available": np.asarray(self.decrease_available),
            "evaluation_error": np.asarray(self.evaluation_error),
            "evaluation_dtype": np.asarray(self.posterior.evaluation_dtype),
            **prefixed(self.survey.to_arrays(), "survey."),
        }
        if self.coordinates is not None and self.spectrum is not None:
            arrays |= {"spectrum.values": self.spectrum.values, "spectrum.weights": self.spectrum.weights}
            arrays |= {"spectrum.is_exact": np.asarray(self.spectrum.is_exact)}
            arrays |= prefixed(self.coordinates.at_w0.to_arrays(), "at_w0.")
            arrays |= prefixed(self.coordinates.averaged.to_arrays(), "averaged.")
        for prefix, chains in (("chains.", self.chains), ("finer.", self.finer), ("cross_check.", self.cross_check)):
            if chains is not None:
                arrays |= prefixed(chains.to_arrays(), prefix)
        return arrays

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `to_arrays` put down, unless it had not got as far as chains."""
        if not any(name.startswith("chains.") for name in arrays):
            return
        self.keys.num_used = int(arrays["num_keys"])
        self.work.num_gradient_evaluations = float(arrays["num_gradient_evaluations"])
        self.work.num_curvature_passes = int(arrays["num_curvature_passes"])
        self.decrease_available = float(arrays["decrease_available"])
        self.evaluation_error = float(arrays["evaluation_error"])
        if (evaluation_dtype := str(arrays["evaluation_dtype"])) != self.posterior.evaluation_dtype:
            self.posterior = self.posterior.evaluated_in(evaluation_dtype)
        self.survey = Survey.from_arrays(within(arrays, "survey."))
        spectrum = within(arrays, "spectrum.")
        self.spectrum = Spectrum(spectrum["values"], spectrum["weights"], bool(spectrum["is_exact"]))
        self.coordinates = coordinates_from_arrays(arrays, str(self.posterior.w0.dtype))
        restored = [
            GrowingChains.restore(build(), next(self.keys), stored, self.work) if stored else None
            for build, prefix in (
                (self.build_chains, "chains."),
                (self.build_chains, "finer."),
                (self.build_cross_check, "cross_check."),
            )
            for stored in (within(arrays, prefix),)
        ]
        self.chains, self.finer, self.cross_check = restored


def sample_reference(
    posterior: LocalPosterior,
    spec: ReferenceSpec,
    *,
    deadline: Moment,
    on_progress: Callable[[Progress], None] = lambda _: None,
    stored: Mapping[str, np.ndarray] | None = None,
    guard: Guard = contextlib.nullcontext,
    watched: WatchedRows | None = None,
    on_round: OnRound = lambda *_: None,
) -> Reference:
    """Whiten and sample in rounds until the certificate is complete or `deadline` has passed.

    Coordinates come from the curvature at w0 (A0), then from that over the draws of pilots (A1). The final chains start
    over-dispersed, around every well that descents from the localization's Gaussian find. Every round adds draws to
    them; once all else holds, chains at half the step size must agree, and those of another sampler where
    `spec.cross_check` says so. Chains at half the step size that do not agree replace the first ones.

    `stored` are the `arrays` of an earlier reference of the same posterior by the same `spec`, but for budget and
    bounds: it is gone on from. `guard` may raise `OutOfTime` anywhere in the sampling; what there is by then counts.
    The losses of `watched` rows are recorded; of chains that are gone on with nothing is. `on_round` is called after
    every round with a function that gives the `arrays` there are by then, and with the seconds by stage.
    """
    work = Work(deadline, on_progress)
    sampling = _Engine(posterior, spec, work, watched, on_round)
    if stored is not None:
        sampling.restore(stored)
    try:
        with guard():
            sampling.sample()
    except OutOfTime:
        work.book("unfinished")
    return sampling.result()


def laplace_reference(posterior: LocalPosterior) -> Reference:
    """What the curvature at w0 says alone: the Laplace value, and coordinates, where A0 stands for A1 too."""
    sampling = _Engine(posterior, ReferenceSpec(method="laplace"), Work())
    sampling.look_at_w0()
    return replace(sampling.result(), certificate=Certificate(()))


def exact_reference(posterior: LocalPosterior, llc: float) -> Reference:
    """A λ̂ that is known as a reference without error: nothing is sampled, and A0 stands for A1 too."""
    sampling = _Engine(posterior, ReferenceSpec(method="exact"), Work())
    sampling.look_at_w0()
    return replace(sampling.result(), llc=llc, se=0.0, certificate=Certificate(()))
