"""References and trials whose draws are on the disk, to be looked at closely."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lambda_hat.artifacts.files import read_arrays
from lambda_hat.artifacts.paths import MANIFEST_JSON, METRICS_JSON, REFERENCE_NPZ, TRACES_NPZ
from lambda_hat.errors import InputError
from lambda_hat.estimate.traces import Traces
from lambda_hat.formatting import estimate
from lambda_hat.records.base import Value
from lambda_hat.records.manifest import Manifest
from lambda_hat.records.metrics import Metrics
from lambda_hat.records.reference import ReferenceRecord
from lambda_hat.records.state import State
from lambda_hat.report.analysis import best_trial
from lambda_hat.report.run_files import RunFiles

__all__ = ["Subject", "find_subjects"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """A reference or a trial: its draws, and what they are measured by. `method` is what sampled them."""

    name: str
    pid: str
    method: str
    title: str
    traces: Traces | None  # None of an exact reference
    record: ReferenceRecord | Metrics
    llc: float | None  # its own λ̂
    se: float | None
    sampling_seconds: float | None  # wall seconds that the draws took, without what came before and after them
    settings: Mapping[str, Value] = field(default_factory=dict)  # of a trial, under YAML's names
    llc_ref: float | None = None  # of the problem; None for the reference itself and where there is none
    se_ref: float | None = None

    @property
    def is_reference(self) -> bool:
        """Whether it is a reference."""
        return isinstance(self.record, ReferenceRecord)


def find_subjects(run: RunFiles, names: Sequence[str] = (), *, with_all: bool = False) -> list[Subject]:
    """Those called `names` (ids, or beginnings of one id); all; or else every reference and every study's best trial.

    Raises:
        InputError: a name fits nothing, or more than one; it has no traces; or nothing in the run has any.
    """
    references = {pid: run.paths.problem_dir(pid) for pid in run.references}
    trials = {folder.name: folder for folder in sorted(run.paths.trials_dir.glob("*/*/*/")) if folder.name[0] != "."}
    if names:
        chosen = [_chosen(name, [*references, *trials]) for name in names]
    elif with_all:
        chosen = [*references, *trials]
    else:
        best = [best_trial(rows) for rows in run.studies.values()]
        chosen = [*references, *(row.run_id for row in best if row is not None and row.run_id in trials)]
    found = [
        _reference(run, name) if name in references else _trial(run, trials[name]) for name in dict.fromkeys(chosen)
    ]
    if names:
        _refuse_without_traces(found)
    found = [subject for subject in found if subject.is_reference or subject.traces is not None]
    if not found:
        raise InputError(f"Nothing in {run.paths.root} has draws to look at: no reference, and no trial with traces.")
    return found


def _chosen(name: str, known: Sequence[str]) -> str:
    fitting = [one for one in known if one == name] or [one for one in known if one.startswith(name)]
    if not fitting:
        raise InputError(f"No reference and no trial of this run is called {name}.")
    if len(fitting) > 1:
        raise InputError(f"{name} fits {len(fitting)} names: {', '.join(fitting[:4])}. Give more of it.")
    return fitting[0]


def _refuse_without_traces(subjects: Iterable[Subject]) -> None:
    without = [subject.name for subject in subjects if not subject.is_reference and subject.traces is None]
    if without:
        raise InputError(f"{', '.join(without)}: there are no draws; the trial failed, or has not ended.")


def _reference(run: RunFiles, pid: str) -> Subject:
    reference = run.references[pid]
    path = run.paths.problem_dir(pid) / REFERENCE_NPZ
    arrays = read_arrays(path) if path.is_file() else {}
    value = estimate(reference.llc, reference.se)
    return Subject(
        name=pid,
        pid=pid,
        method=reference.method,
        title=f"reference of {pid}: λ = {value}",
        traces=Traces.of_reference(arrays, reference.nbeta) if reference.nbeta is not None else None,
        record=reference,
        llc=reference.llc,
        se=reference.se,
        sampling_seconds=reference.stages.get("rounds"),
    )


def _trial(run: RunFiles, folder: Path) -> Subject:
    pid, method = folder.parent.parent.name, folder.parent.name
    metrics = Metrics.read(folder / METRICS_JSON) or Metrics(state=State.RUNNING)
    manifest = Manifest.read(folder / MANIFEST_JSON)
    traces = Traces.load(folder / TRACES_NPZ)
    reference = run.references.get(pid)
    return Subject(
        name=folder.name,
        pid=pid,
        method=method,
        title=f"{method} {folder.name}: λ̂ = {estimate(metrics.llc_hat, metrics.se_hat)}",
        traces=traces if traces is not None and traces.num_kept else None,
        record=metrics,
        llc=metrics.llc_hat,
        se=metrics.se_hat,
        sampling_seconds=metrics.timings.sample if metrics.timings else None,
        settings=manifest.settings if manifest else {},
        llc_ref=reference.llc if reference else None,
        se_ref=reference.se if reference else None,
    )
