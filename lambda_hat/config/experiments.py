"""What an experiments file (`config/experiments.yaml`) may say: targets times samplers with fixed settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lambda_hat.config.base import Expected, Frozen
from lambda_hat.config.methods import Method
from lambda_hat.config.numbers import Seed
from lambda_hat.config.problems import PosteriorSpec, ProblemEntry
from lambda_hat.config.study import Execution, FolderName, ReferenceSpec, RelativeTo, Store

__all__ = ["Experiments", "FixedSampler", "SamplerEntry"]


class ExperimentsStore(Store):
    """Where the runs lie: in `root/namespace/layout_version`."""

    namespace: FolderName = "llc"
    """Name of this file's run. Another name is another run."""


class SamplerEntry(Frozen):
    """One entry of `samplers:`: a method with fixed settings, which its preset and `overrides` give."""

    name: FolderName
    """A name of your own, different from the other entries'."""
    method: Method | None = None
    """The method; null takes it from `name`."""
    overrides: dict[str, object] = {}
    """Settings over those of the preset, under the method's own names. `preset` names a file of presets/sampler."""
    seed: Seed = 0
    """Seed from which each run derives its own."""


class FixedSampler(Frozen):
    """An entry of `samplers:` with every setting that its preset and its overrides give."""

    name: str
    method: Method
    overrides: dict[str, object]
    settings: dict[str, object]
    seed: int


class Experiments(Frozen):
    """Every one of `samplers` on every one of `targets`."""

    targets: Annotated[tuple[ProblemEntry, ...], Field(min_length=1)]
    """Targets to sample."""
    samplers: Annotated[tuple[SamplerEntry, ...], Field(min_length=1)]
    """Methods with fixed settings. Each runs on every target."""
    execution: Execution = Execution()
    """Where tasks run and how long they may take."""
    store: ExperimentsStore = ExperimentsStore()
    """Where results lie."""
    posterior: PosteriorSpec | None = None
    """Posterior of every target; null keeps each target's own default."""
    reference: Annotated[ReferenceSpec, Expected("`hmc`, `exact`, `laplace`, `none` or a mapping")] = ReferenceSpec()
    """What samplers are judged against."""
    relative_to: RelativeTo = "cwd"
    """Where relative paths of this file begin: in the folder where the command runs (`cwd`), or in its own (`file`)."""

    @property
    def entries(self) -> tuple[ProblemEntry, ...]:
        """The targets, one for every value of a sweep."""
        return tuple(entry for written in self.targets for entry in written.expanded())

    @property
    def per_executor(self) -> dict[str, int]:
        """Bounds on the tasks in flight, by label. Fixed runs have none: only the number of workers limits them."""
        return {}
