"""The rows of a run's tables."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Self

from lambda_hat.draws.criteria import MAX_DECREASE, MAX_K_HAT, MAX_RHAT_APPROXIMATE, MAX_Z, minimum_criterion
from lambda_hat.records.base import Figure, Moment
from lambda_hat.records.columns import Arguments, Column, Hyperparameters, Row, Versions
from lambda_hat.records.metrics import Findings, Metrics
from lambda_hat.records.provenance import Provenance, Timings
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.state import State

__all__ = ["AcrossRow", "ConfirmedRow", "OutcomeRow", "RunRow", "TrialRow", "Verdict"]


class _Comparison(Row):
    """What an estimate is measured by, and how far it is from that."""

    llc_ref: Annotated[Figure, Column("λ of the reference")] = None
    """The problem's reference."""
    se_ref: Annotated[Figure, Column("its standard error")] = None
    """Standard error of the reference; 0 where it is exact."""
    error: Annotated[Figure, Column("error", spec="+.3g")] = None
    """llc_hat − llc_ref."""
    relative_error: Annotated[Figure, Column("relative", spec="+.1%")] = None
    """error / |llc_ref|."""
    z: Annotated[Figure, Column("z", spec="+.1f", bound=MAX_Z)] = None
    """error / √(se_hat² + se_ref²). Beyond ±2 the estimate is biased, or its standard error too small."""
    is_reference_certified: Annotated[bool | None, Column("certified")] = None
    """Whether the reference met every criterion of its certificate."""
    laplace_llc: Annotated[Figure, Column("Laplace")] = None
    """λ̂ if the posterior were Gaussian: the baseline, which costs one Hessian."""
    laplace_relative_error: Annotated[Figure, Column("Laplace's error", spec="+.1%")] = None
    """(laplace_llc − llc_ref) / |llc_ref|."""
    localization: Annotated[Figure, Column("γ_loc")] = None
    """γ_loc, the strength of the spring that holds the posterior around w0."""
    nbeta: Annotated[Figure, Column("nβ")] = None
    """nβ, the number of data times the inverse temperature."""


class _Making(Row):
    """Where, when and by what a run was made, and where its seconds went."""

    start_sec: Annotated[Figure, Column("start", "s", ".2f")] = None
    """Wall seconds in the worker for imports before the run, which only its first task pays."""
    load_sec: Annotated[Figure, Column("load", "s", ".2f")] = None
    """Wall seconds in the worker for loading target and posterior and building the sampler."""
    compile_sec: Annotated[Figure, Column("compile", "s", ".2f")] = None
    """Wall seconds in the worker for tracing and compiling."""
    sample_sec: Annotated[Figure, Column("sample", "s", ".2f")] = None
    """Wall seconds in the worker for everything else: what `trial_sec` bounds."""
    total_sec: Annotated[Figure, Column("seconds", "s", ".1f")] = None
    """Wall seconds in the worker: load, compile and sample."""
    executor: Annotated[str | None, Column("executor")] = None
    """Label of the executor that the run was on."""
    device: Annotated[str | None, Column("device")] = None
    """What JAX computed on."""
    host: Annotated[str | None, Column("host")] = None
    """Machine of the worker."""
    pid_worker: Annotated[int | None, Column("process", spec="d")] = None
    """Id of the worker's process."""
    seed: Annotated[int | None, Column("seed", spec="d")] = None
    """Seed of the run's random numbers."""
    versions: Versions = {}
    """Versions of lambda-hat and of the libraries that matter, as JSON."""
    git_commit: Annotated[str | None, Column("commit")] = None
    """Commit of the repository that the worker ran in."""
    started: Annotated[Moment | None, Column("started")] = None
    """When the run began."""
    finished: Annotated[Moment | None, Column("finished")] = None
    """When the result of the run was complete."""


class OutcomeRow(_Making, Findings, _Comparison):
    """What became of one run of a sampler, how far it is from the reference, and how it was made."""

    @classmethod
    def of(cls, metrics: Metrics | None, reference: ReferenceRecord, label: str, **columns: Any) -> Self:
        """The row of a run by its metrics, None of which are there before it has ended, and its problem's reference.

        `label` is the executor where the metrics do not say. `columns` are those of which neither knows.
        """
        found = {} if metrics is None else {name: getattr(metrics, name) for name in Findings.model_fields}
        timings = (metrics and metrics.timings) or Timings()
        origin = Provenance() if metrics is None else metrics.provenance
        return cls(
            **columns,
            **found,
            **_comparison(metrics, reference),
            start_sec=timings.start,
            load_sec=timings.load,
            compile_sec=timings.compile,
            sample_sec=timings.sample,
            total_sec=timings.total,
            executor=origin.executor_label or label,
            device=origin.device,
            host=origin.host,
            pid_worker=origin.pid,
            versions=origin.versions or {},
            git_commit=origin.git_commit,
            started=origin.started,
            finished=origin.finished,
        )


def _comparison(metrics: Metrics | None, reference: ReferenceRecord) -> dict[str, Any]:
    """The columns of `_Comparison`."""
    llc_hat, se_hat = (None, None) if metrics is None else (metrics.llc_hat, metrics.se_hat)
    llc_ref, se_ref = reference.llc, reference.se
    error = None if llc_hat is None or llc_ref is None else llc_hat - llc_ref
    spread = math.nan if se_hat is None or se_ref is None else math.hypot(se_hat, se_ref)
    return {
        "llc_ref": llc_ref,
        "se_ref": se_ref,
        "error": error,
        "relative_error": error / abs(llc_ref) if error is not None and llc_ref else None,
        "z": error / spread if error is not None and spread > 0 else None,
        "is_reference_certified": reference.is_certified,
        "laplace_llc": reference.laplace_llc,
        "laplace_relative_error": reference.laplace_relative_error,
        "localization": reference.localization,
        "nbeta": reference.nbeta,
    }


class _Trial(Row):
    pid: Annotated[str, Column("problem")]
    """Id of the problem."""
    title: Annotated[str | None, Column("what it is")] = None
    """The problem in one line, as the file has it."""
    arguments: Arguments = {}
    """Arguments of the function that builds the network, such as the checkpoint of a sweep, as JSON."""
    method: Annotated[str, Column("method")]
    """Method of the trial."""
    run_id: Annotated[str | None, Column("run")] = None
    """Id of the trial, and name of its folder; empty where it never got one."""
    number: Annotated[int, Column("trial", spec="d")]
    """Number of the trial in its study, from 0."""
    state: Annotated[State, Column("state")]
    """COMPLETE, PRUNED, FAIL, or RUNNING where it has not ended."""
    reason: Annotated[str | None, Column("reason")] = None
    """Why the trial is not complete, or was cut short."""
    origin: Annotated[str | None, Column("origin")] = None
    """Where the hyperparameters come from: `preset`, `enqueued` or `search`."""
    hyperparameters: Hyperparameters = {}
    """What was sampled, as JSON; one by one in the columns `param_<name>`."""
    objective: Annotated[Figure, Column("objective")] = None
    """What the search makes small: what was told of the trial, or last reported before it was stopped."""
    violation: Annotated[Figure, Column("violation")] = None
    """By how much it breaks the gates of the search, in shares of their bounds, summed; 0 where it keeps them."""


class TrialRow(OutcomeRow, _Trial):
    """A trial of a search: a row of `optuna_trials.parquet`."""

    KEY: ClassVar[tuple[str, ...]] = ("pid", "method")


class _Run(Row):
    pid: Annotated[str, Column("problem")]
    """Id of the problem."""
    title: Annotated[str | None, Column("what it is")] = None
    """The problem in one line, as the file has it."""
    arguments: Arguments = {}
    """Arguments of the function that builds the network, such as the checkpoint of a sweep, as JSON."""
    sampler: Annotated[str, Column("sampler")]
    """Name of the sampler in the file of experiments."""
    method: Annotated[str, Column("method")]
    """Method of the sampler."""
    run_id: Annotated[str | None, Column("run")] = None
    """Id of the run, and name of its folder."""
    state: Annotated[State, Column("state")]
    """COMPLETE, PRUNED, FAIL, or RUNNING where it has not ended."""
    reason: Annotated[str | None, Column("reason")] = None
    """Why the run is not complete, or was cut short."""
    origin: Annotated[str | None, Column("origin")] = None
    """Empty: the settings of a run are given."""
    hyperparameters: Hyperparameters = {}
    """All settings of the run, those of a preset included, as JSON; one by one in the columns `param_<name>`."""


def by_laplace(reference: ReferenceRecord) -> float | None:
    """The Laplace value, where it stands in for a reference."""
    return reference.laplace_llc if reference.method == "laplace" else None


class _Point(Row):
    """What the curvature around w0 says of a checkpoint, whatever was sampled there."""

    loss_at_w0: Annotated[Figure, Column("loss at w0")] = None
    """L_n(w0)."""
    decrease_available: Annotated[Figure, Column("decrease left", spec=".2g")] = None
    """What the local potential nβ(L_n(w) − L_n(w0)) + γ_loc r²/2 can still lose near w0, in units of λ̂."""
    is_minimum: Annotated[bool | None, Column("minimum")] = None
    """Whether w0 is a minimum: decrease_available is at most 1 % of the reference, or with `reference: laplace` of the
    Laplace value, or else of llc_hat. At no minimum λ̂ is no local learning coefficient.
    """

    @staticmethod
    def of_reference(reference: ReferenceRecord, llc_hat: float | None) -> dict[str, Any]:
        """The columns by a reference, and by a run where there is no value to compare with."""
        llc = next((value for value in (reference.llc, by_laplace(reference), llc_hat) if value is not None), None)
        decrease = reference.decrease_available
        is_minimum = None
        if decrease is not None and llc is not None:
            is_minimum = minimum_criterion(decrease, llc, MAX_DECREASE).is_met
        return {
            "loss_at_w0": reference.loss_at_w0,
            "decrease_available": decrease,
            "is_minimum": None if is_minimum is None else bool(is_minimum),
        }


class RunRow(OutcomeRow, _Point, _Run):
    """A run of fixed settings: a row of `llc_runs.parquet`."""

    KEY: ClassVar[tuple[str, ...]] = ("pid", "sampler")


class Verdict(Row):
    """How far runs of the same settings under new seeds were from the reference; unknown where none has an estimate."""

    rmse: Annotated[Figure, Column("rmse", spec=".3g")] = None
    """Root mean squared error over the seeds."""
    rmse_se: Annotated[Figure, Column("its standard error", spec=".2g")] = None
    """Standard error of rmse by the delta method, sd(e²) / √n / (2 rmse), which needs two runs."""
    mean_error: Annotated[Figure, Column("mean error", spec="+.3g")] = None
    """Mean error over the seeds."""
    relative_rmse: Annotated[Figure, Column("relative rmse", spec=".1%")] = None
    """rmse / |llc_ref|."""
    rms_z: Annotated[Figure, Column("rms z", spec=".1f", bound=MAX_Z)] = None
    """Root mean square of z over the seeds: about 1 where the runs' own standard errors tell how far off they are."""
    worst_rhat: Annotated[Figure, Column("worst R̂", spec=".3f", bound=MAX_RHAT_APPROXIMATE)] = None
    """Largest R̂ of the runs."""
    worst_k_hat: Annotated[Figure, Column("worst k̂", spec=".2f", bound=MAX_K_HAT)] = None
    """Largest Pareto k of the runs."""
    num_gradient_evaluations: Annotated[Figure, Column("gradients", "full-data gradients", ",.0f")] = None
    """Mean work of the runs."""
    seconds: Annotated[Figure, Column("seconds", "s", ".2f")] = None
    """Mean wall seconds of the runs."""
    num_seeds: Annotated[int, Column("seeds", spec="d")]
    """Runs, each under a seed of its own."""
    num_failed: Annotated[int, Column("failed", spec="d")]
    """Runs without an estimate, diverged ones included."""

    @property
    def rank_key(self) -> tuple[float, ...]:
        """Smaller is better: settings that fail are not to be relied upon, however good they are otherwise."""
        return self.num_failed, math.inf if self.rmse is None else self.rmse


class _Confirmed(Row):
    pid: Annotated[str, Column("problem")]
    """Id of the problem."""
    method: Annotated[str, Column("method")]
    """Method that was tuned."""
    rank: Annotated[int, Column("rank", spec="d")]
    """1 is the best: by the number of failures, then by rmse."""
    run_id: Annotated[str | None, Column("run")] = None
    """Id of the trial that found the settings."""
    number: Annotated[int | None, Column("trial", spec="d")] = None
    """Number of that trial in its study."""
    hyperparameters: Hyperparameters = {}
    """The settings that were found, as JSON; one by one in the columns `param_<name>`."""
    search_objective: Annotated[Figure, Column("objective in the search")] = None
    """Objective of the trial that found them."""
    search_error: Annotated[Figure, Column("error in the search", spec="+.3g")] = None
    """Error of the trial that found them."""
    llc_ref: Annotated[Figure, Column("λ of the reference")] = None
    """The problem's reference."""
    se_ref: Annotated[Figure, Column("its standard error")] = None
    """Standard error of the reference; 0 where it is exact."""


class ConfirmedRow(Verdict, _Confirmed):
    """Settings that a search found, run again under new seeds: a row of `confirmed.parquet`."""

    KEY: ClassVar[tuple[str, ...]] = ("pid", "method")


class _Across(Row):
    method: Annotated[str, Column("method")]
    """Method that was tuned."""
    found_on: Annotated[str, Column("found on")]
    """Id of the problem that the settings are the best for."""
    pid: Annotated[str, Column("run on")]
    """Id of the problem that they were run on."""
    run_id: Annotated[str | None, Column("run")] = None
    """Id of the trial that found the settings."""
    hyperparameters: Hyperparameters = {}
    """The settings, as JSON; one by one in the columns `param_<name>`."""
    loss: Annotated[Figure, Column("loss", spec="+.1%")] = None
    """relative_rmse less that of this problem's own best settings."""
    mean_relative_rmse: Annotated[Figure, Column("mean relative", spec=".1%")] = None
    """Mean of relative_rmse over all problems; empty where a run failed."""
    worst_relative_rmse: Annotated[Figure, Column("worst relative", spec=".1%")] = None
    """Largest relative_rmse of all problems; empty where a run failed."""
    is_best_mean: Annotated[bool | None, Column("best mean")] = None
    """Whether no other settings have a smaller mean."""
    is_best_worst: Annotated[bool | None, Column("best worst")] = None
    """Whether no other settings have a smaller worst one."""


class AcrossRow(Verdict, _Across):
    """A problem's best settings on a problem of the study: a row of `across_problems.parquet`."""

    KEY: ClassVar[tuple[str, ...]] = ("method",)
