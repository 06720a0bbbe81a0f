"""One entry of the `problems:` of a study or the `targets:` of experiments."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from lambda_hat.config.base import Frozen, OneOf, as_tuple
from lambda_hat.config.numbers import Seed
from lambda_hat.config.problems.kinds.python import Builder, Patterns
from lambda_hat.config.problems.registry import TARGETS, find_kind, installed_names
from lambda_hat.errors import TargetError

__all__ = ["ProblemEntry"]

_OF_SOME_KINDS = ("model", "data", "teacher", "seed", "build", "arguments", "sampled")


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
    build: Builder | None = None
    """Function that builds the network, for `python`: `package.module:FUNCTION`, or `FILE.py:FUNCTION` with a FILE that
    lies in the folder of this file.
    """
    arguments: dict[str, object] = {}
    """Keyword arguments of the function, for `python`."""
    sampled: Patterns | None = None
    """Patterns over the places of parameters, for `python`: what is sampled. null samples all of them."""
    sweep: dict[str, Annotated[tuple[object, ...], Field(min_length=1), BeforeValidator(as_tuple)]] = {}
    """Arguments of the function with several values, for `python`: a problem for each value, and for each combination
    where there are several arguments.
    """
    overrides: dict[str, object] = {}
    """Values that replace those of the presets. Keys are dotted or nested."""

    @model_serializer(mode="wrap")
    def _without_unused_presets(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is written of the entry is an entry that can be read: a kind without presets refuses them."""
        values = handler(self)
        try:
            kind = find_kind(self.target)
        except TargetError:  # told where the entry is resolved
            return values
        taken = {*kind.presets, *kind.entry_fields, *(("seed",) if kind.takes_seed else ())}
        unused = {name for name in _OF_SOME_KINDS if name not in taken}
        if not self.sweep:
            unused.add("sweep")
        return {name: value for name, value in values.items() if name not in unused}

    def expanded(self) -> tuple[ProblemEntry, ...]:
        """An entry for every value of `sweep`, as one of `arguments`; the entry itself where there is none."""
        if not self.sweep or self.build is None:
            return (self,)
        values = self.model_dump(exclude={"sweep"}, exclude_unset=True)
        return tuple(
            ProblemEntry.model_validate(
                {**values, "arguments": {**self.arguments, **dict(zip(self.sweep, point, strict=True))}}
            )
            for point in itertools.product(*self.sweep.values())
        )

    @property
    def title(self) -> str:
        """The entry in one line.

        Raises:
            TargetError: its kind cannot be used.
        """
        kind = find_kind(self.target)
        overrides = [f"{key}={value}" for key, value in self.overrides.items()]
        if self.build is not None:
            module, _, function = self.build.rpartition(":")
            arguments = [f"{key}={value}" for key, value in self.arguments.items()]
            sampled = [f"sampled {' '.join(self.sampled)}"] if self.sampled else []
            return ", ".join([f"{module.rpartition('/')[2]}:{function}", *arguments, *sampled, *overrides])
        presets = [f"{preset} {getattr(self, preset)}" for preset in kind.presets]
        return ", ".join([self.target, *presets, f"seed {self.seed}", *overrides])
