"""Where, when and by what a result was made, and where its time went."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self

from lambda_hat.records.base import Beside, Figure, Moment, Part

__all__ = ["Origin", "Provenance", "Timings"]


class Provenance(Part):
    """Machine, process, executor, device and versions of what made a result, and when it began and ended."""

    started: Moment | None = None
    """When the task began."""
    finished: Moment | None = None
    """When its result was complete."""
    host: str | None = None
    """Name of the machine."""
    pid: int | None = None
    """Id of the worker's process."""
    executor_label: str | None = None
    """Executor that the worker belongs to; None outside one."""
    device: str | None = None
    """What JAX computes on."""
    versions: Mapping[str, str | None] | None = None
    """Versions of lambda-hat and of the libraries that matter, and under `git_commit` that of the working directory."""

    def between(self, started: datetime, finished: datetime) -> Self:
        """The provenance of what was made from `started` to `finished`."""
        return self.model_copy(update={"started": started, "finished": finished})

    @property
    def git_commit(self) -> str | None:
        """The commit of the repository that the worker ran in."""
        return (self.versions or {}).get("git_commit")


Origin = Annotated[Provenance, Beside(tuple(Provenance.model_fields))]
"""A provenance whose keys stand beside those of its record."""


class Timings(Part):
    """Wall seconds of a trial in its worker. `total` is the sum of `load`, `compile` and `sample`."""

    start: Figure = None
    """Importing what the worker needs, before the trial began: its first task only."""
    load: Figure = None
    """Loading target and posterior, and building the sampler."""
    compile: Figure = None
    """Tracing and compiling."""
    sample: Figure = None
    """Everything else, which `execution.budget.trial_sec` bounds."""
    total: Figure = None
    """The trial itself."""
