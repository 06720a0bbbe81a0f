"""One entry of the `problems:` of a study or the `targets:` of experiments."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from lambda_hat.config.base import Frozen, OneOf
from lambda_hat.config.numbers import Seed
from lambda_hat.config.problems.registry import TARGETS, find_kind, installed_names
from lambda_hat.errors import TargetError

__all__ = ["ProblemEntry"]


class ProblemEntry(Frozen):
    """One entry of `problems:` as the file has it: names of presets, a seed, overrides (dotted or nested)."""

    target: Annotated[str, OneOf(tuple(TARGETS), installed_names)] = next(iter(TARGETS))
    """Kind of target."""
    model: str = "small"
    """Preset of the network, for `mlp`."""
    data: str = "small"
    """Preset of the data, for `mlp`."""
    teacher: str = "_null"
    """Preset of the network that labels the data, for `mlp`."""
    seed: Seed = 0
    """Seed of the data, the training and everything else that is random in the target."""
    overrides: dict[str, object] = {}
    """Values that replace those of the presets. Keys are dotted or nested."""

    @model_serializer(mode="wrap")
    def _without_unused_presets(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is written of the entry is an entry that can be read: a kind without presets refuses them."""
        values = handler(self)
        try:
            unused = {"model", "data", "teacher"} - set(find_kind(self.target).presets)
        except TargetError:  # told where the entry is resolved
            return values
        return {name: value for name, value in values.items() if name not in unused}

    @property
    def title(self) -> str:
        """The entry in one line.

        Raises:
            TargetError: its kind cannot be used.
        """
        presets = [f"{preset} {getattr(self, preset)}" for preset in find_kind(self.target).presets]
        overrides = [f"{key}={value}" for key, value in self.overrides.items()]
        return ", ".join([self.target, *presets, f"seed {self.seed}", *overrides])
