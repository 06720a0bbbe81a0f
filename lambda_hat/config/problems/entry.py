"""One entry of the `problems:` of a study or the `targets:` of experiments."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lambda_hat.config.base import Frozen, OneOf
from lambda_hat.config.problems.registry import TARGETS, find_kind, installed_names

__all__ = ["ProblemEntry"]


class ProblemEntry(Frozen):
    """One entry of `problems:` as the file has it: names of presets, a seed, overrides (dotted or nested)."""

    target: Annotated[str, OneOf(tuple(TARGETS), installed_names)] = next(iter(TARGETS))
    """Kind of target."""
    model: str = "small"
    """Preset of the network (mlp)."""
    data: str = "small"
    """Preset of the data (mlp)."""
    teacher: str = "_null"
    """Preset of the network that labels them (mlp)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of data, training and everything random in the target."""
    overrides: dict[str, object] = {}
    """Values over the presets', dotted or nested."""

    @property
    def title(self) -> str:
        """The entry in one line.

        Raises:
            TargetError: its kind cannot be used.
        """
        presets = [f"{preset} {getattr(self, preset)}" for preset in find_kind(self.target).presets]
        overrides = [f"{key}={value}" for key, value in self.overrides.items()]
        return ", ".join([self.target, *presets, f"seed {self.seed}", *overrides])
