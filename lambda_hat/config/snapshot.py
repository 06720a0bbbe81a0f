"""The configuration that a run keeps of its last command, read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lambda_hat.config.experiments import Experiments
from lambda_hat.config.interpolate import resolve_interpolations
from lambda_hat.config.study import Study

__all__ = ["parse_snapshot"]


def parse_snapshot(values: Mapping[str, Any]) -> Study | Experiments | None:
    """The study or the experiments that `meta/resolved_config.yaml` holds; None where it follows another schema."""
    file: TypeAdapter[Study | Experiments] = TypeAdapter(Study | Experiments)
    try:
        return file.validate_python(resolve_interpolations(dict(values))[0])
    except ValidationError:
        return None
