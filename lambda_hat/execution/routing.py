"""Which executor label each task goes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lambda_hat.config.card import AnyCard, InlineCard, LocalCard
from lambda_hat.config.methods import METHODS
from lambda_hat.config.study import ExecutorMap
from lambda_hat.config.suggest import did_you_mean
from lambda_hat.errors import ConfigError, Fault

__all__ = ["Route", "check_labels", "effective_map", "executor_for", "labels_of", "single_executor_warning"]

Role = Literal["hmc", "method"]

_REFERENCE = "hmc"  # what `executor_map` calls the references
_POOLS = {"double": "htex64", "single": "htex32"}
_BY_PRECISION = "`--set execution.executor_map={}` names no executors: each is chosen by precision."
_WITHOUT_BOUNDS = "`--set optuna.concurrency.per_executor={}` sets no bounds."


@dataclass(frozen=True)
class Route:
    """Where a task goes and why: the YAML names the label (explicit) or the rules found it (AUTO)."""

    label: str
    is_explicit: bool
    reason: str


def labels_of(card: AnyCard) -> tuple[str, ...]:
    """The executor labels of `card`, in its order."""
    if isinstance(card, InlineCard):
        return card.labels
    if isinstance(card, LocalCard):
        return tuple(executor.label for executor in card.executors)
    return (card.label,)


def executor_for(role: Role, method: str, executor_map: ExecutorMap, labels: Sequence[str]) -> Route:
    """The executor of a reference (`role="hmc"`, `method` is ignored) or of a trial of `method`.

    `executor_map` wins. Where there is one executor, everything goes there. Else references, and methods that go with
    them, go to htex64; where htex64 and htex32 both exist, the other methods go to the one of their precision.

    Raises:
        ConfigError: the named label does not exist, or no rule applies to these labels.
    """
    route = _route(role, method, executor_map, labels)
    if isinstance(route, Fault):
        raise ConfigError([route])
    return route


def effective_map(executor_map: ExecutorMap, methods: Iterable[str], labels: Sequence[str]) -> dict[str, Route]:
    """Every route of a study under its key in `executor_map`: `hmc`, `methods.sgld`, ...

    Raises:
        ConfigError: as `executor_for`.
    """
    routes = {_REFERENCE: executor_for(_REFERENCE, _REFERENCE, executor_map, labels)}
    for method in methods:
        routes[f"methods.{method}"] = executor_for("method", method, executor_map, labels)
    return routes


def check_labels(
    executor_map: ExecutorMap, per_executor: Mapping[str, int], methods: Iterable[str], labels: Sequence[str]
) -> list[Fault]:
    """All faults of the labels that a study names, and of what AUTO cannot decide, against the card's `labels`."""
    every_method = dict.fromkeys([*methods, *executor_map.methods])
    routes = [_route(_REFERENCE, _REFERENCE, executor_map, labels)]
    routes += [_route("method", method, executor_map, labels) for method in every_method]
    faults = [route for route in routes if isinstance(route, Fault)]
    faults += [
        _unknown_label(f"optuna.concurrency.per_executor.{label}", label, labels, _WITHOUT_BOUNDS)
        for label in per_executor
        if label not in labels
    ]
    return faults


def single_executor_warning(routes: Mapping[str, Route], labels: Sequence[str]) -> str | None:
    """One sentence, where AUTO had no choice because there is one executor; None otherwise."""
    automatic = [key for key, route in routes.items() if not route.is_explicit]
    if len(labels) != 1 or not automatic:
        return None
    return f"The card has one executor, `{labels[0]}`: {', '.join(automatic)} go there."


def _route(role: Role, method: str, executor_map: ExecutorMap, labels: Sequence[str]) -> Route | Fault:
    if role == _REFERENCE:
        method, key, explicit = _REFERENCE, f"execution.executor_map.{_REFERENCE}", executor_map.hmc
    else:
        by_method = {str(name): label for name, label in executor_map.methods.items()}
        key, explicit = f"execution.executor_map.methods.{method}", by_method.get(method)
    if explicit is not None:
        return Route(explicit, True, key) if explicit in labels else _unknown_label(key, explicit, labels)
    if len(labels) == 1:
        return Route(labels[0], False, "the only executor")
    is_double_enough = role == _REFERENCE or METHODS[method].goes_with_references
    precision = "double" if is_double_enough else METHODS[method].precision
    wanted = _POOLS[precision]
    needed = {wanted} if is_double_enough else {*_POOLS.values()}
    if needed <= set(labels):
        return Route(wanted, False, f"{precision} precision")
    return Fault(
        key=key,
        message=f"not given, and AUTO needs {_listed(sorted(needed))} or a single executor; found {_listed(labels)}.",
        hint=f"Name one of them: `--set {key}=LABEL`.",
    )


def _unknown_label(key: str, label: str, labels: Sequence[str], way_out: str = _BY_PRECISION) -> Fault:
    return Fault(
        key=key,
        message=f"`{label}` is no executor of the Parsl card; found {_listed(labels)}.",
        hint=did_you_mean(label, labels) or way_out,
    )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels) or "none"
