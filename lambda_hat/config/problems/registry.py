"""The kinds of targets by name: those that ship, a file each in `kinds/`, and those of installed packages.

A package adds kinds by entry points of the group `lambda_hat.targets`, each of which names a subclass of `ProblemSpec`:

    [project.entry-points."lambda_hat.targets"]
    cubic = "my_package.cubic:CubicProblem"

They are looked up for a name that does not ship, and where kinds are listed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeGuard

from lambda_hat.config.problems import kinds
from lambda_hat.config.problems.base import ProblemSpec
from lambda_hat.config.suggest import one_of
from lambda_hat.errors import TargetError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["TARGETS", "find_kind", "installed_names", "parse_problem"]

GROUP = "lambda_hat.targets"


def _is_kind(value: object) -> TypeGuard[type[ProblemSpec]]:
    if not (isinstance(value, type) and issubclass(value, ProblemSpec)):
        return False
    return value.model_fields.keys() >= {"target", "posterior", "seed"} and hasattr(value, "built_by")


def _shipped() -> dict[str, type[ProblemSpec]]:
    names = [f"{kinds.__name__}.{file.name}" for file in pkgutil.iter_modules(kinds.__path__)]
    modules = map(importlib.import_module, names)
    found = {value for module in modules for value in vars(module).values() if _is_kind(value)}
    return {kind.name(): kind for kind in sorted(found, key=lambda kind: (kind.order, kind.name()))}


TARGETS: dict[str, type[ProblemSpec]] = _shipped()
"""The kinds that ship, in the order in which they are listed."""


def installed_names() -> tuple[str, ...]:
    """The kinds that installed packages add."""
    return tuple(sorted({entry_point.name for entry_point in _entry_points()} - TARGETS.keys()))


def find_kind(name: str) -> type[ProblemSpec]:
    """The schema of the kind that `target: name` names.

    Raises:
        TargetError: there is no such kind, or the package that declares it cannot be used.
    """
    if name in TARGETS:
        return TARGETS[name]
    found = {entry_point.value: entry_point for entry_point in _entry_points() if entry_point.name == name}
    if len(found) == 1:
        return _load(*found.values())
    if found:
        values = ", ".join(f"`{value}`" for value in sorted(found))
        raise TargetError(f"target `{name}` is declared more than once: {values}. Uninstall all but one.")
    names = (*TARGETS, *installed_names())
    raise TargetError(f"target `{name}` is not known here; expected {one_of(names)}.")


def parse_problem(values: object) -> ProblemSpec:
    """A resolved problem from the plain data that its `to_dict` gives.

    Raises:
        TargetError: there is no kind, or none that can be used here.
        pydantic.ValidationError: the data do not fit the kind.
    """
    name = values.get("target") if isinstance(values, Mapping) else None
    if not isinstance(name, str):
        raise TargetError("found data without a `target`, expected a problem.")
    return find_kind(name).model_validate(values)


def _entry_points() -> Iterable[EntryPoint]:
    from importlib import metadata  # here, since only names that do not ship need it

    return metadata.entry_points(group=GROUP)


def _load(entry_point: EntryPoint) -> type[ProblemSpec]:
    package = f" of {entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else ""
    where = f"target `{entry_point.name}`: `{entry_point.value}`{package}"
    try:
        kind = entry_point.load()
    except Exception as error:  # whatever the package does when it is imported
        raise TargetError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    if not (_is_kind(kind) and kind.name() == entry_point.name):
        raise TargetError(
            f"{where} is no subclass of ProblemSpec with `built_by` and the fields `posterior`, `seed` and "
            f"`target: Literal['{entry_point.name}'] = '{entry_point.name}'`."
        )
    return kind
