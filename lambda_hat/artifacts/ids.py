"""Names of problems and trials, derived from their content."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from lambda_hat.errors import InputError

__all__ = ["canonical_json", "derive_seed", "problem_id", "run_id"]

_LARGEST_EXACT_INTEGER = 2.0**53
_NUM_HEX_DIGITS = 12


def canonical_json(obj: Any) -> str:
    """The one JSON text of plain data: keys sorted, no spaces, shortest decimal form of floats.

    Equal numbers give equal texts: `1.0` is written `1` (as RFC 8785 does), because YAML, pydantic and Optuna differ in
    which of the two they return. Whole floats from 2**53 on keep their exponent, so there `10**16` and `1e16` differ.
    Booleans are never numbers; tuples are lists.

    Raises:
        InputError: NaN, an infinity, a key that is not text, or an object that JSON does not know.
    """
    return json.dumps(
        _normalized(obj, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def problem_id(resolved: Mapping[str, Any]) -> str:
    """`p_` and the first 12 hexadecimal digits of the SHA-256 of the canonical JSON of a resolved problem."""
    return f"p_{_digest(resolved)}"


def run_id(manifest: Mapping[str, Any]) -> str:
    """`r_` and the first 12 hexadecimal digits of the SHA-256 of the canonical JSON of a manifest."""
    return f"r_{_digest(manifest)}"


def derive_seed(*parts: str | int) -> int:
    """A seed in [0, 2**31) that depends on every part, so that no two uses of one seed share their random numbers."""
    return int(hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:8], 16) >> 1


def _digest(obj: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()[:_NUM_HEX_DIGITS]


def _normalized(obj: Any, key: str) -> Any:
    if obj is None or isinstance(obj, bool | str | int):
        return obj
    if isinstance(obj, float):
        if not math.isfinite(obj):
            raise InputError(f"{key}: {obj} cannot be part of an id; only finite numbers can.")
        return int(obj) if obj.is_integer() and abs(obj) < _LARGEST_EXACT_INTEGER else float(obj)
    if isinstance(obj, Mapping):
        if not all(isinstance(name, str) for name in obj):
            raise InputError(f"{key}: all keys must be text, found {list(obj)!r}.")
        return {name: _normalized(value, f"{key}.{name}") for name, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_normalized(value, f"{key}.{index}") for index, value in enumerate(obj)]
    raise InputError(f"{key}: {type(obj).__name__} cannot be part of an id; only plain data can.")
