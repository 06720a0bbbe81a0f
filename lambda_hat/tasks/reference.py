"""The reference of one problem: target, sampling, certificate, files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import jax

from lambda_hat.artifacts.files import read_arrays
from lambda_hat.artifacts.paths import (
    FAILURE_JSON,
    PARTIAL_NPZ,
    PROGRESS_JSONL,
    REFERENCE_JSON,
    REFERENCE_NPZ,
    TARGET_NPZ,
)
from lambda_hat.clock import now
from lambda_hat.config.problems import LocalizationRadius
from lambda_hat.config.study import Budget, ReferenceSpec
from lambda_hat.draws.criteria import Criterion
from lambda_hat.draws.diagnostics import TraceDiagnostics
from lambda_hat.errors import InputError, StorageError, TargetError
from lambda_hat.records.base import append_line
from lambda_hat.records.progress import TRAINING, Stage
from lambda_hat.records.provenance import Provenance
from lambda_hat.records.reference import (
    CriterionRecord,
    ImportanceRecord,
    ReferenceFailure,
    ReferenceRecord,
    SpectrumRecord,
    TraceRecord,
    WellsRecord,
)
from lambda_hat.reference.engine import exact_reference, laplace_reference, sample_reference
from lambda_hat.reference.importance import ImportanceEstimate
from lambda_hat.reference.result import Reference
from lambda_hat.samplers.pace import OutOfTime
from lambda_hat.samplers.stopwatch import compiling, setting_up
from lambda_hat.samplers.work import Progress
from lambda_hat.targets import build_target, load_target
from lambda_hat.tasks.budget import Limits, end_busy_worker, log_ended, log_started, watchdog
from lambda_hat.tasks.partial import BOUNDS, Keeper, Partial, added, write_arrays
from lambda_hat.tasks.problem import LoadedProblem, read_problem
from lambda_hat.tasks.provenance import provenance

__all__ = ["run_reference"]

# For what comes after the sampling: diagnostics, coordinates and traces to disk. A share of the budget, up to so much.
RESERVE = 0.1
_NO_CERTIFICATE = {
    "laplace": "the Laplace value was asked for, which is no reference",
    "none": "no reference was asked for",
}
MAX_RESERVE_SEC = 30.0


def run_reference(
    problem_dir: str, spec: ReferenceSpec, hmc_sec: float, setup_sec: float | None = None
) -> ReferenceRecord | ReferenceFailure:
    """Train or load the target of a problem, sample its reference and write both: `lambda_hat.tasks.reference_task`."""
    folder, started = Path(problem_dir), now()
    setup = Budget().setup_sec if setup_sec is None else setup_sec
    limits = Limits("hmc_sec", hmc_sec, min(RESERVE * hmc_sec, MAX_RESERVE_SEC), setup)
    (folder / FAILURE_JSON).unlink(missing_ok=True)
    log_started(folder)

    def stuck(reason: str) -> ReferenceFailure:
        made_by = provenance(may_wait=False).between(started, now())
        return ReferenceFailure.failed(reason, short_of=limits.short_of, provenance=made_by)

    try:
        with (
            watchdog(limits, folder / FAILURE_JSON, stuck),
            jax.enable_x64(True),
        ):
            result = _reference(folder, spec, limits, started)
        result.write(folder / REFERENCE_JSON)
        (folder / PARTIAL_NPZ).unlink(missing_ok=True)  # all of it is in the reference now
    except StorageError:
        raise  # of the machine, not of this task
    except (Exception, OutOfTime) as error:
        made_by = provenance().between(started, now())
        short_of = limits.short_of if isinstance(error, OutOfTime) else None
        result = ReferenceFailure.failed(error, reason=_reason(limits, short_of), short_of=short_of, provenance=made_by)
        result.write(folder / FAILURE_JSON)
    log_ended(folder, result.state)
    end_busy_worker()
    return result


def _reason(limits: Limits, budget: str | None) -> str | None:
    if budget is None:
        return None
    return (
        f"out of time before there was a reference: raise execution.budget.{budget}, "
        f"which is {limits.seconds_of(budget):g} s"
    )


def _reference(folder: Path, spec: ReferenceSpec, limits: Limits, started: datetime) -> ReferenceRecord:
    """What `ref.json` will say; what it stands on is saved."""
    made_by, clock = provenance(), time.monotonic()
    progress_path = folder / PROGRESS_JSONL
    append_line(progress_path, Stage(stage=TRAINING))
    with setting_up.running():
        loaded = _load_or_train(folder, limits)
    training_sec = time.monotonic() - clock
    earlier = _earlier(folder, spec)
    partial = Partial.read(folder, spec)  # if there is one, it has all that is in an earlier reference
    stages = partial.stages if partial else dict(earlier.stages) if earlier else {}
    keeper = Keeper(folder, spec, added(stages, {TRAINING: training_sec}))
    compiled_before = compiling.seconds

    def on_progress(progress: Progress) -> None:
        stage = Stage(**vars(progress))
        append_line(progress_path, stage.model_copy(update={"seconds": limits.counted_seconds}))

    posterior = loaded.posterior("float64")
    if spec.method == "exact":
        with limits.sampling_guard():
            reference = exact_reference(posterior, _exact_llc(loaded))
    elif not spec.is_certifiable:
        with limits.sampling_guard():
            reference = laplace_reference(posterior)
    else:
        stored = partial.arrays if partial else read_arrays(folder / REFERENCE_NPZ) if earlier else None
        reference = sample_reference(
            posterior,
            spec,
            deadline=limits.deadline,
            on_progress=on_progress,
            stored=stored,
            guard=limits.sampling_guard,
            on_round=keeper,
        )
    stages = added(stages, {TRAINING: training_sec, **reference.seconds})
    compile_sec = (0.0 if earlier is None else earlier.compile_sec or 0.0) + compiling.seconds - compiled_before
    write_arrays(folder / REFERENCE_NPZ, reference.arrays)
    num_extensions = 0 if earlier is None else earlier.num_extensions + 1
    made_by = made_by.between(started, now())
    return _record(loaded, reference, spec, stages, compile_sec, num_extensions, made_by)


def _load_or_train(folder: Path, limits: Limits) -> LoadedProblem:
    problem = read_problem(folder)
    try:
        target = load_target(folder / TARGET_NPZ, problem)
    except TargetError:
        with limits.sampling_guard():
            target = build_target(problem)
        target.save(folder / TARGET_NPZ)
    return LoadedProblem(problem, target)


def _exact_llc(loaded: LoadedProblem) -> float:
    llc = loaded.target.exact_llc(loaded.nbeta, loaded.localization)
    if llc is None:
        raise InputError(f"the exact value of target `{loaded.problem.name()}` is not known")
    return llc


def _earlier(folder: Path, spec: ReferenceSpec) -> ReferenceRecord | None:
    """What an earlier call wrote, if this one can go on from it."""
    stored = ReferenceRecord.read_current(folder / REFERENCE_JSON)
    if stored is None or not (folder / REFERENCE_NPZ).is_file():
        return None
    return stored if stored.spec.model_dump(exclude=BOUNDS) == spec.model_dump(exclude=BOUNDS) else None


def _record(
    loaded: LoadedProblem,
    reference: Reference,
    spec: ReferenceSpec,
    stages: Mapping[str, float],
    compile_sec: float,
    num_extensions: int,
    made_by: Provenance,
) -> ReferenceRecord:
    target, localization = loaded.target, loaded.problem.posterior.localization
    spectrum, survey, info = reference.spectrum, reference.survey, reference.info
    return ReferenceRecord(
        method=spec.method,
        llc=reference.llc
        if spec.is_certifiable
        else None,  # the Laplace value is no reference: it has a field of its own
        se=reference.se if spec.is_certifiable else None,
        is_certified=spec.is_certifiable and reference.certificate.is_certified,
        reasons=reference.reasons if spec.is_certifiable else (_NO_CERTIFICATE[spec.method],),
        certificate=tuple(map(_criterion, reference.certificate.criteria)),
        diagnostics={name: _trace(trace) for name, trace in reference.diagnostics.items()},
        exact_llc=target.exact_llc(loaded.nbeta, loaded.localization),
        laplace_llc=reference.laplace_llc,
        laplace_se=reference.laplace_se,
        spectrum=None
        if spectrum is None
        else SpectrumRecord(smallest=spectrum.smallest, largest=spectrum.largest, is_exact=spectrum.is_exact),
        decrease_available=reference.decrease_available,
        wells=WellsRecord(
            num_prior_draws=survey.num_prior_draws,
            prior_effective_size=survey.prior_size,
            prior_llc=survey.prior_llc,
            num_descents=survey.num_descents,
            masses=tuple(survey.masses.tolist()),
            distances=tuple(survey.distances.tolist()),
            potentials=tuple(survey.potentials.tolist()),
        ),
        importance=None if reference.importance is None else _importance(reference.importance),
        whitening=None if reference.coordinates is None else type(reference.coordinates.averaged).__name__,
        localization=loaded.localization,
        radius=localization.radius if isinstance(localization, LocalizationRadius) else None,
        nbeta=loaded.nbeta,
        num_data=target.num_data,
        dim=target.dim,
        loss_at_w0=float(loaded.posterior("float64").loss_at_w0),
        target={key: value for key, value in target.info.items() if isinstance(value, bool | int | float | str)},
        num_chains=0 if info is None else int(info.excess_loss.shape[0]),
        num_draws=0 if info is None else int(info.excess_loss.size),
        step_size=reference.step_size,
        num_integration_steps=reference.num_integration_steps,
        num_gradient_evaluations=reference.num_gradient_evaluations,
        num_curvature_passes=reference.num_curvature_passes,
        dtype="float64",
        evaluation_dtype=reference.evaluation_dtype,
        evaluation_error=reference.evaluation_error,
        stages=stages,
        seconds=sum(seconds for stage, seconds in stages.items() if stage != TRAINING),
        compile_sec=compile_sec,
        num_extensions=num_extensions,
        spec=spec,
        provenance=made_by,
    )


def _criterion(criterion: Criterion) -> CriterionRecord:
    return CriterionRecord(
        name=criterion.name,
        value=criterion.value,
        bound=criterion.bound,
        is_upper=criterion.is_upper,
        is_met=bool(criterion.is_met),
    )


def _importance(estimate: ImportanceEstimate) -> ImportanceRecord:
    return ImportanceRecord(
        llc=estimate.llc,
        se=estimate.se,
        k_hat=estimate.k_hat,
        effective_size=estimate.effective_size,
        num_draws=estimate.num_draws,
    )


def _trace(trace: TraceDiagnostics) -> TraceRecord:
    return TraceRecord(rhat=trace.rhat, ess_bulk=trace.ess_bulk, ess_tail=trace.ess_tail, mcse=trace.mcse)
