"""What a worker that is probed says of itself. It goes to the controller and into no file."""

from __future__ import annotations

from collections.abc import Mapping

from lambda_hat.records.base import Part
from lambda_hat.records.provenance import Provenance

__all__ = ["Probe"]


class Probe(Part):
    """Where a worker runs, on what, in which precisions, and whether it sees the controller's files."""

    provenance: Provenance
    """Machine, process, executor and device."""
    sees_controller: bool
    """Whether a file of the controller's was there."""
    errors: Mapping[str, float]
    """Error of a computation, by precision."""
    num_cores: int | None
    """Cores that the worker may use."""
    devices: tuple[str, ...]
    """What JAX found."""
