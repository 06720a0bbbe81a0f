"""λ̂ along a series of checkpoints: one call, one compilation, a table and a figure."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lambda_hat.api.calls import estimate_llc, read_arguments
from lambda_hat.api.progress import OnProgress, ProgressArgument, reporting
from lambda_hat.api.result import LLCResult
from lambda_hat.artifacts.files import read_json, write_json_atomic
from lambda_hat.drawing import BLUE, GREY, new_axes
from lambda_hat.draws.criteria import MAX_DECREASE, minimum_criterion
from lambda_hat.errors import InputError
from lambda_hat.formatting import estimate, html_table, number
from lambda_hat.targets import Model, read_model
from lambda_hat.targets.fingerprint import model_content
from lambda_hat.targets.pytrees import PytreeLoss
from lambda_hat.targets.selection import kind_of_value

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["LLCSeries", "SeriesPoint", "estimate_llc_series"]

Step: TypeAlias = int | float | str

_FORMAT = 1
_SHARE_BELOW_ZERO = 0.2  # of the largest value, that the figure shows
_MARKS = {  # of a verdict in a figure: shape, face, and what the legend calls it
    "reliable": ("o", BLUE, "λ̂"),
    "not reliable": ("x", BLUE, "λ̂, not reliable"),
    "no minimum": ("o", "white", "λ̂ at no minimum"),
}


@dataclass(frozen=True, repr=False)
class SeriesPoint:
    """What was found at one checkpoint."""

    step: Step
    llc: float
    se: float
    is_reliable: bool
    is_minimum: bool  # whether it may be called a local learning coefficient at all
    reasons: tuple[str, ...]
    loss_at_w0: float
    laplace_llc: float | None
    decrease_available: float  # what the local potential can still lose near the checkpoint, in nats
    rhat: float
    localization: float
    nbeta: float
    dim: int
    num_data: int
    num_gradient_evaluations: float
    seconds: float
    seed: int

    def __repr__(self) -> str:
        reason = f": {self.reasons[0]}" if self.reasons and self.is_minimum else ""
        verdict = "" if self.is_reliable else f", {self.verdict}{reason}"
        return (
            f"{self.step}: λ̂ = {estimate(self.llc, self.se)}, Laplace {number(self.laplace_llc)}, "
            f"loss {number(self.loss_at_w0)}{verdict}"
        )

    @property
    def verdict(self) -> str:
        """What may be said of the number, in two words."""
        return "reliable" if self.is_reliable else "not reliable" if self.is_minimum else "no minimum"

    @classmethod
    def of(cls, step: Step, result: LLCResult) -> SeriesPoint:
        """The figures of a result."""
        return cls(
            step=step,
            llc=result.llc,
            se=result.se,
            is_reliable=result.is_reliable,
            is_minimum=minimum_criterion(result.decrease_available, result.llc, MAX_DECREASE).is_met,
            reasons=result.reasons,
            loss_at_w0=result.loss_at_w0,
            laplace_llc=result.laplace_llc,
            decrease_available=result.decrease_available,
            rhat=result.rhat,
            localization=result.localization,
            nbeta=result.nbeta,
            dim=result.dim,
            num_data=result.num_data,
            num_gradient_evaluations=result.num_gradient_evaluations,
            seconds=result.seconds,
            seed=result.seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as data that JSON can hold; what is no number is null."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        } | {"reasons": list(self.reasons)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SeriesPoint:
        """The point that `to_dict` gave."""
        read: dict[str, Any] = {**values, "reasons": tuple(values["reasons"])}
        read |= {name: math.nan for name, value in values.items() if value is None and name != "laplace_llc"}
        return cls(**read)


@dataclass(frozen=True, repr=False)
class LLCSeries:
    """λ̂ at every checkpoint, in the order in which they were given."""

    points: tuple[SeriesPoint, ...]

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[SeriesPoint]:
        return iter(self.points)

    @property
    def caution(self) -> str:
        """Why the points do not compare; empty where they do."""
        scales = [point.localization for point in self.points]
        if not scales or max(scales) <= 1.01 * min(scales):
            return ""
        return (
            f"γ_loc goes from {number(min(scales))} to {number(max(scales))}, since a radius is relative to |w0|. λ̂ of "
            "different γ_loc do not compare: give `localization` as a number."
        )

    def __repr__(self) -> str:
        caution = [self.caution] if self.caution else []
        return "\n  ".join([f"λ̂ at {len(self.points)} checkpoints", *map(repr, self.points), *caution])

    def _repr_html_(self) -> str:
        caution = f"<p>{self.caution}</p>" if self.caution else ""
        return caution + html_table(
            [
                {
                    "step": str(point.step),
                    "λ̂": estimate(point.llc, point.se),
                    "Laplace": number(point.laplace_llc),
                    "loss": number(point.loss_at_w0),
                    "verdict": point.verdict,
                }
                for point in self.points
            ]
        )

    def to_frame(self) -> pd.DataFrame:
        """A row for every checkpoint, with the fields of `SeriesPoint` as columns and `step` as the index."""
        import pandas as pd  # here: many who call from a notebook want the figures alone

        rows = [{name: getattr(point, name) for name in SeriesPoint.__dataclass_fields__} for point in self.points]
        return pd.DataFrame(rows, columns=list(SeriesPoint.__dataclass_fields__)).set_index("step")

    def plot(self, axes: Axes | None = None) -> Axes:
        """λ̂ ± its standard error against the step, and the Laplace value: a cross where λ̂ is not reliable, a hollow
        circle where the checkpoint is no minimum.

        What is far below zero, as λ̂ can be at no minimum, is a triangle at the lower edge.
        """
        axes = new_axes() if axes is None else axes
        steps = _positions([point.step for point in self.points])
        floor = -_SHARE_BELOW_ZERO * max([1.0, *(point.llc for point in self.points if math.isfinite(point.llc))])
        drawn = list(zip(steps, self.points, strict=True))
        low = [x for x, point in drawn if point.llc < floor]
        for verdict, (mark, face, label) in _MARKS.items():
            chosen = [(x, point) for x, point in drawn if point.verdict == verdict and not point.llc < floor]
            if chosen:
                places, values, errors = zip(*((x, point.llc, point.se) for x, point in chosen), strict=True)
                axes.errorbar(places, values, errors, fmt=mark, color=BLUE, mfc=face, capsize=2, label=label)
        if low:
            below = "far below zero, at no minimum"
            axes.plot(low, [floor] * len(low), "v", color=BLUE, mfc="white", label=below)
        laplace = [math.nan if point.laplace_llc is None else point.laplace_llc for point in self.points]
        if not np.isnan(laplace).all():
            axes.plot(steps, laplace, color=GREY, linestyle="--", linewidth=1.0, zorder=0, label="Laplace")
        if any(isinstance(point.step, str) for point in self.points):
            axes.set_xticks(steps, [str(point.step) for point in self.points])
        axes.set_xlabel("step" if not self.caution else "step (γ_loc differs: these do not compare)")
        axes.set_ylabel("λ̂")
        axes.legend()
        return axes


def estimate_llc_series(
    loss_fn: Callable[[Any, Any], Any],
    checkpoints: Mapping[Step, Any] | Iterable[tuple[Step, Any]],
    data: Any,
    *,
    resume_from: str | Path | None = None,
    on_point: Callable[[SeriesPoint], object] = lambda _: None,
    progress: ProgressArgument = None,
    **arguments: Any,
) -> LLCSeries:
    """λ̂ at each of several checkpoints of one network, by `estimate_llc`, which compiles once for all of them.

    A checkpoint that is no minimum gets its number too, and the mark that it is none.

    Args:
        loss_fn: as for `estimate_llc`.
        checkpoints: parameters by step, or pairs (step, parameters); parameters may be a function without arguments
            that loads them, which is called when their turn comes. Steps are numbers or names.
        data: as for `estimate_llc`.
        resume_from: a file that keeps every point as soon as it is there. A later call with the same file goes on with
            the points that are missing; those of other parameters, data or arguments are computed again.
        on_point: called with every point as soon as it is there.
        progress: as for `estimate_llc`; what is told says the step.
        arguments: those of `estimate_llc`; all points share the same `seed`, and with it their random numbers.

    Raises:
        InputError: an argument that is not usable, a step given twice, or a checkpoint that cannot be loaded or used,
            or is of another architecture: which step, and how it differs from the first one. Points that are there by
            then are in `resume_from`.
    """
    if "rows" in arguments or "queries" in arguments:
        raise InputError("rows: found here, expected only in `estimate_llc` and `certify_llc`: points keep no draws.")
    read_arguments(**{name: value for name, value in arguments.items() if name != "sampled"})
    kept = _Kept.read(resume_from)
    points: list[SeriesPoint] = []
    first: tuple[Step, PytreeLoss] | None = None
    for step, given in _pairs(checkpoints):
        if any(point.step == step for point in points):
            raise InputError(f"checkpoints: found step {step!r} twice, expected steps that differ.")
        params = _loaded(step, given)
        with _naming(step):
            model = read_model(loss_fn, params, data, sampled=arguments.get("sampled"))
        loss = model.loss_fn
        assert isinstance(loss, PytreeLoss)
        if first is None:
            first = step, loss
        elif difference := loss.difference(first[1]):
            raise InputError(
                f"checkpoints[{step!r}]: found another architecture than at step {first[0]!r}: {difference}. Give the "
                "checkpoints of one network."
            )
        key = _key(model, arguments)
        point = kept.point(step, key)
        if point is None:
            with _naming(step), reporting(progress) as tell:  # cleared before `on_point` writes something itself
                result = estimate_llc(loss_fn, params, data, progress=_at_step(tell, step), **arguments)
            point = SeriesPoint.of(step, result)
            kept.keep(point, key)
        points.append(point)
        on_point(point)
    if not points:
        raise InputError("checkpoints: found none, expected at least one.")
    return LLCSeries(tuple(points))


def _loaded(step: Step, given: Any) -> Any:
    """The parameters, loaded if they are given as a function."""
    if not isinstance(given, FunctionType | MethodType | functools.partial):
        return given
    try:
        return given()
    except Exception as error:  # whatever it does
        raise InputError(f"checkpoints[{step!r}]: cannot be loaded: {type(error).__name__}: {error}") from error


@contextmanager
def _naming(step: Step) -> Generator[None]:
    """Have every error of the block name the step."""
    try:
        yield
    except InputError as error:
        raise InputError(f"checkpoints[{step!r}]: {error}") from error
    except Exception as error:
        error.add_note(f"This was checkpoints[{step!r}].")
        raise


def _at_step(tell: OnProgress, step: Step) -> OnProgress:
    """`tell`, with the step in what it is told."""
    return lambda known: tell(dataclasses.replace(known, step=step))


def _pairs(checkpoints: Any) -> Iterator[tuple[Step, Any]]:
    """Steps with their parameters, one after the other."""
    expected = "expected {step: params} or pairs (step, params)"
    if isinstance(checkpoints, Mapping):
        yield from checkpoints.items()
        return
    if not isinstance(checkpoints, Iterable):
        raise InputError(f"checkpoints: found {kind_of_value(checkpoints)}, {expected}.")
    for index, pair in enumerate(checkpoints):
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], int | float | str | np.integer)):
            raise InputError(f"checkpoints[{index}]: found {kind_of_value(pair)}, {expected}.")
        yield pair[0].item() if isinstance(pair[0], np.integer) else pair[0], pair[1]


def _positions(steps: list[Step]) -> list[float]:
    """Where steps stand on an axis: at their numbers, or one after the other where one of them is a name."""
    numbers = [float(step) for step in steps if not isinstance(step, str)]
    return numbers if len(numbers) == len(steps) else [float(index) for index in range(len(steps))]


def _key(model: Model, arguments: Mapping[str, Any]) -> str:
    """What a kept point has to agree in: the model's content and the arguments."""
    told = {name: repr(value) for name, value in arguments.items() if name != "sampled"}
    return hashlib.sha256(f"{model_content(model)}{sorted(told.items())}".encode()).hexdigest()


class _Kept:
    """Points in a file, written one by one."""

    def __init__(self, path: Path | None, points: dict[str, dict[str, Any]]) -> None:
        self._path = path
        self._points = points  # by step as text

    @classmethod
    def read(cls, path: str | Path | None) -> _Kept:
        if path is None:
            return cls(None, {})
        found = Path(path).expanduser()
        content = read_json(found)
        if content is None:
            if found.is_file() and found.stat().st_size:
                raise InputError(
                    f"resume_from: found {found}, which holds no series; expected a new file or one of a series."
                )
            return cls(found, {})
        if content.get("format") != _FORMAT or not isinstance(content.get("points"), dict):
            raise InputError(
                f"resume_from: found {found}, which holds no series; expected a new file or one of a series."
            )
        return cls(found, content["points"])

    def point(self, step: Step, key: str) -> SeriesPoint | None:
        """The point of a step if it was made of the same."""
        kept = self._points.get(repr(step))
        return SeriesPoint.from_dict(kept["point"]) if kept is not None and kept.get("key") == key else None

    def keep(self, point: SeriesPoint, key: str) -> None:
        """Write the point beside the others."""
        self._points[repr(point.step)] = {"key": key, "point": point.to_dict()}
        if self._path is not None:
            write_json_atomic(self._path, {"format": _FORMAT, "points": self._points})
