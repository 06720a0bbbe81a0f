"""Where the values of a hyperparameter stand in a figure: one order of categories for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lambda_hat.config.study import CategoricalDist, Distribution, FloatDist, IntDist
from lambda_hat.records.base import Value
from lambda_hat.report.analysis import as_numbers

__all__ = ["Scale", "scale_of"]


@dataclass(frozen=True)
class Scale:
    """The place of every value; of categories also the name of each place, which are 0, 1, 2, …"""

    places: tuple[float, ...]
    categories: tuple[str, ...]
    is_logarithmic: bool

    @property
    def shares(self) -> tuple[float, ...]:
        """The places from the lowest, 0, to the highest, 1."""
        places = [math.log(place) for place in self.places] if self.is_logarithmic else self.places
        low, high = min(places), max(places)
        return tuple(0.5 if high == low else (place - low) / (high - low) for place in places)


def scale_of(values: Sequence[Value], distribution: Distribution | None) -> Scale:
    """The scale of the values that trials took; `distribution` is None where the search space is not known.

    Categories stand in the order of the search space, those that are not in it after them.
    """
    choices = distribution.choices if isinstance(distribution, CategoricalDist) else ()
    numbers = as_numbers(values)
    if numbers is not None and not choices:
        is_logarithmic = isinstance(distribution, FloatDist | IntDist) and distribution.log and min(numbers) > 0
        return Scale(tuple(numbers), (), is_logarithmic)
    taken = dict.fromkeys(values)
    known = [choice for choice in choices if choice in taken]
    order = [*known, *sorted((value for value in taken if value not in known), key=str)]
    return Scale(tuple(float(order.index(value)) for value in values), tuple(map(str, order)), False)
