"""What the problems of every kind of target have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from lambda_hat.config.base import Frozen
from lambda_hat.config.locate import Finding
from lambda_hat.config.numbers import PositiveFloat

__all__ = ["LocalizationRadius", "PosteriorSpec", "ProblemSpec"]


class LocalizationRadius(Frozen):
    """Localization from a radius relative to |w0|: γ_loc = d / (ρ |w0|)²."""

    radius: PositiveFloat = 0.1
    """Radius ρ, relative to |w0|."""


class PosteriorSpec(Frozen):
    """The local posterior π(w) ∝ exp(−nβ L_n(w) − (γ_loc/2) |w − w0|²)."""

    localization: PositiveFloat | LocalizationRadius = LocalizationRadius()
    """γ_loc, or a radius that it follows from."""
    inverse_temperature: PositiveFloat | None = None
    """β; null means 1/log n."""

    def nbeta(self, num_data: int) -> float:
        """n·β, the factor of L_n in the local posterior."""
        return num_data * (self.inverse_temperature or 1 / math.log(num_data))

    def localization_at(self, dim: int, w0_norm: float) -> float:
        """γ_loc at a w0 of `dim` entries; a radius around the origin counts as relative to |w0| = 1."""
        if isinstance(self.localization, LocalizationRadius):
            return dim / (self.localization.radius * (w0_norm or 1.0)) ** 2
        return self.localization


class ProblemSpec(Frozen):
    """The schema of a kind of target: a subclass with the fields `target`, `posterior` and `seed` and those of its own.

    `target` is a literal with one value, which is also its default: the name of the kind.
    """

    built_by: ClassVar[str]
    """Where the `lambda_hat.targets.TargetKind` is that makes a model of such a problem: `module:name`. Configuration
    is read without importing it."""
    order: ClassVar[int] = 100
    """Place among the kinds wherever they are listed; the first one is the default of `target`."""
    presets: ClassVar[tuple[str, ...]] = ()
    """Fields that an entry of `problems` fills from a preset."""
    entry_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that stand in an entry of `problems` itself, and not among its `overrides`."""
    takes_seed: ClassVar[bool] = True
    """Whether the `seed` of an entry changes anything."""
    has_exact_llc: ClassVar[bool] = False
    """Whether λ̂ is known without sampling, so that `reference: exact` can be asked for."""

    if TYPE_CHECKING:  # each kind declares it, with its own default and at its own place among the fields
        posterior: PosteriorSpec

    @classmethod
    def name(cls) -> str:
        """What `target` calls the kind."""
        return cls.model_fields["target"].default

    @property
    def num_rows(self) -> int | None:
        """Rows of data n; None for a kind whose settings do not say it as `num_data`."""
        return getattr(self, "num_data", None)

    def identity(self) -> Mapping[str, Any]:
        """What the problem's id is made of."""
        return self.to_dict()

    def inconsistencies(self) -> Iterator[Finding]:
        """What is wrong with fields that are each right alone; the findings' paths are those of the problem."""
        yield from ()
