"""Batch sizes that no data can fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lambda_hat.config.load import LoadedExperiments, LoadedFile, LoadedStudy
from lambda_hat.config.methods import METHODS
from lambda_hat.config.study import CategoricalDist, Distribution, IntDist

__all__ = ["oversized_batches"]

_Sizes = tuple[int, ...] | range


def oversized_batches(loaded: LoadedFile) -> str:
    """One sentence that names the batch sizes above a problem's number of rows, and that number; empty if none is.

    All of them mean the same run. Sizes that a preset gives, and nobody wrote, are left out.
    """
    sizes = dict(_written_sizes(loaded))
    parts = []
    for index, problem in zip(loaded.places, loaded.problems, strict=True):
        num_rows = problem.num_rows
        names = [] if num_rows is None else [_named(key, values, num_rows) for key, values in sizes.items()]
        if found := ", ".join(filter(None, names)):
            parts.append(f"{found}, where `{loaded.entries_name}.{index}` has {num_rows} rows")
    return f"A batch size above the number of rows takes all of them: {'; '.join(parts)}." if parts else ""


def _written_sizes(loaded: LoadedFile) -> Iterator[tuple[str, _Sizes]]:
    if isinstance(loaded, LoadedExperiments):
        for index, sampler in enumerate(loaded.samplers):
            yield from _fixed(sampler.method, sampler.overrides, f"samplers.{index}.overrides")
    elif isinstance(loaded, LoadedStudy):
        samplers: Mapping[str, Mapping[str, object]] = {**loaded.study.samplers}
        for method in loaded.methods:
            yield from _searched(method, loaded.study.space(method))
            yield from _fixed(method, samplers.get(method, {}), f"samplers.{method}")


def _searched(method: str, space: Mapping[str, Distribution]) -> Iterator[tuple[str, _Sizes]]:
    name = _batch_name(method)
    match space.get(name):
        case CategoricalDist(choices=choices):
            yield f"search_space.{method}.{name}", tuple(int(size) for size in choices if isinstance(size, int | float))
        case IntDist(low=low, high=high, step=step):
            yield f"search_space.{method}.{name}", range(low, high + 1, step)
        case _:
            pass


def _fixed(method: str, settings: Mapping[str, object], place: str) -> Iterator[tuple[str, _Sizes]]:
    name = _batch_name(method)
    if isinstance(size := settings.get(name), int | float):
        yield f"{place}.{name}", (int(size),)


def _batch_name(method: str) -> str:
    """YAML's name of the method's batch size; empty where it has none."""
    field = METHODS[method].model_fields.get("batch_size")
    return "" if field is None else field.alias or "batch_size"


def _named(key: str, sizes: _Sizes, num_rows: int) -> str:
    if isinstance(sizes, range):
        above = [sizes[0], sizes[-1]] if sizes[0] > num_rows else [num_rows + 1, sizes[-1]]
        return f"`{key}` {above[0]} to {above[1]}" if sizes[-1] > num_rows else ""
    above = [size for size in sizes if size > num_rows]
    return f"`{key}` {', '.join(map(str, above))}" if above else ""
