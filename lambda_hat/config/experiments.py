"""What an experiments file (`config/experiments.yaml`) may say: targets times samplers with fixed settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lambda_hat.config.base import Expected, Frozen
from lambda_hat.config.methods import Method
from lambda_hat.config.problems import PosteriorSpec, ProblemEntry
from lambda_hat.config.study import Execution, FolderName, ReferenceSpec, Store

__all__ = ["Experiments", "FixedSampler", "SamplerEntry"]


class ExperimentsStore(Store):
    """Where the runs lie: `root/namespace/layout_version`."""

    namespace: FolderName = "llc"


class SamplerEntry(Frozen):
    """One entry of `samplers:`: a label, the method that it stands for, and settings over those of the preset."""

    name: FolderName
    """Of your own, different from the others."""
    method: Method | None = None
    """null: the name is the method."""
    overrides: dict[str, object] = {}
    """Under the method's own names; `preset` names one of presets/sampler."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Each run derives its own from it."""


class FixedSampler(Frozen):
    """What an entry of `samplers:` becomes: every setting that its preset and its overrides give."""

    name: str
    method: Method
    overrides: dict[str, object]
    settings: dict[str, object]
    seed: int


class Experiments(Frozen):
    """Every one of `samplers` on every one of `targets`."""

    targets: Annotated[tuple[ProblemEntry, ...], Field(min_length=1)]
    """What is sampled."""
    samplers: Annotated[tuple[SamplerEntry, ...], Field(min_length=1)]
    """Each runs on every target."""
    execution: Execution = Execution()
    """Where and how long."""
    store: ExperimentsStore = ExperimentsStore()
    """Where results lie."""
    posterior: PosteriorSpec | None = None
    """null: each target's own default."""
    reference: Annotated[ReferenceSpec, Expected("`hmc`, `exact` or a mapping")] = ReferenceSpec()
    """What samplers are judged against."""

    @property
    def entries(self) -> tuple[ProblemEntry, ...]:
        """The targets as the file has them."""
        return self.targets

    @property
    def per_executor(self) -> dict[str, int]:
        """Bounds on the tasks in flight, by label: a file of fixed runs has none but the workers."""
        return {}
