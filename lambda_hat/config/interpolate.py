"""Resolves OmegaConf's `${...}` in a study file. In cards `${...}` belongs to the shell and stays."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from lambda_hat.config.locate import Finding, KeyPath

__all__ = ["resolve_interpolations"]

_PLAIN = r"Write `\${` where the text itself has `${`."


def resolve_interpolations(data: dict[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """The data with every interpolation replaced, and findings on those that lead nowhere."""
    texts = dict(_interpolated(data, ()))
    if not texts:
        return data, []
    from omegaconf import OmegaConf  # takes longer to import than all else here, and few files need it
    from omegaconf.errors import OmegaConfBaseException

    resolved, readable, findings = deepcopy(data), deepcopy(data), []
    for path, text in texts.items():
        try:
            OmegaConf.create([text])
        except OmegaConfBaseException:
            findings.append(
                Finding(path, f"`{text}` is not a valid interpolation", f"Expected `${{section.key}}`. {_PLAIN}")
            )
            _put(readable, path, None)
    broken = {finding.path for finding in findings}
    configuration = OmegaConf.create(readable)
    for path in texts.keys() - broken:
        try:
            value = _at(configuration, path)
            _put(resolved, path, OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value)
        except (OmegaConfBaseException, RecursionError) as error:
            reason = str(error).splitlines()[0] if not isinstance(error, RecursionError) else "it refers to itself"
            findings.append(Finding(path, f"`{texts[path]}` cannot be resolved: {reason}", _PLAIN))
    return resolved, findings


def _interpolated(data: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(data, str) and "${" in data:
        yield path, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from _interpolated(value, (*path, key))


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = data[part]
    return data


def _put(data: Any, path: KeyPath, value: object) -> None:
    _at(data, path[:-1])[path[-1]] = value
