"""A search that tries every point of a grid, for maps of settings rather than for the best of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from lambda_hat.config.study import CategoricalDist, Distribution, FloatDist, IntDist

__all__ = ["GridSearch"]

_MOST_POINTS = 1_000_000
_FIXED = "fixed_params"  # where Optuna keeps the parameters of trials that were enqueued


class GridSearch(optuna.samplers.BaseSampler):
    """Trials take the points of the grid in an order that `seed` shuffles, and begin anew after the last one.

    A number takes `points` values from `low` to `high`, evenly spaced, in logarithm where the distribution is `log`. An
    integer takes all of its values where there are fewer. Categories take all choices. Trials that were enqueued take
    no point. Since every trial has its own seed, a grid that begins anew repeats its points under other seeds.

    Raises:
        ValueError: `points` is below 2, or the grid has more than a million points.
    """

    def __init__(self, space: Mapping[str, Distribution], points: int = 5, seed: int | None = None) -> None:
        if points < 2:
            raise ValueError(f"`points` is {points}, at least 2 wanted")
        self._values = {name: _values_of(distribution, points) for name, distribution in space.items()}
        self._shape = tuple(map(len, self._values.values()))
        if self.num_points > _MOST_POINTS:
            raise ValueError(f"the grid has {self.num_points} points; give fewer `points`, or search fewer settings")
        self._order = np.random.default_rng(seed).permutation(self.num_points)

    @property
    def num_points(self) -> int:
        """Points of the grid."""
        return math.prod(self._shape)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing is sampled together: a point is looked up by the number of its trial."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value that this trial's point has."""
        earlier = (other for other in study.get_trials(deepcopy=False) if other.number < trial.number)
        place = sum(_FIXED not in other.system_attrs for other in earlier) % self.num_points
        index = np.unravel_index(self._order[place], self._shape)[list(self._values).index(param_name)]
        return self._values[param_name][int(index)]


def _values_of(distribution: Distribution, points: int) -> Sequence[Any]:
    match distribution:
        case CategoricalDist(choices=choices):
            return choices
        case FloatDist(low=low, high=high, log=log):
            values = np.geomspace(low, high, points) if log else np.linspace(low, high, points)
            return [low, *map(float, values[1:-1]), high]  # without a last digit outside of the range
        case IntDist(low=low, high=high, step=step, log=log):
            num = (high - low) // step + 1
            places = range(num)
            if num > points:
                ends = np.geomspace(low, high, points) if log else np.linspace(low, low + step * (num - 1), points)
                places = sorted({round((float(value) - low) / step) for value in ends})
            return [low + step * min(place, num - 1) for place in places]
