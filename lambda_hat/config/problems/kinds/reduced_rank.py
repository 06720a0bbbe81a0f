"""Reduced-rank regression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from lambda_hat.config.locate import Finding
from lambda_hat.config.numbers import Size
from lambda_hat.config.problems.kinds.linear_network import LinearNetworkProblem, inconsistencies_of

__all__ = ["ReducedRankProblem"]


class ReducedRankProblem(LinearNetworkProblem):
    """Reduced-rank regression: a linear network with one hidden layer."""

    order: ClassVar[int] = 5

    target: Literal["reduced_rank"] = "reduced_rank"
    """Kind of target."""
    in_dim: Size = 5
    """Inputs."""
    hidden_dim: Size = 3
    """Hidden units."""
    out_dim: Size = 5
    """Outputs."""

    @property
    def widths(self) -> tuple[int, int, int]:
        """Inputs, hidden units, outputs."""
        return self.in_dim, self.hidden_dim, self.out_dim

    def inconsistencies(self) -> Iterator[Finding]:
        """What does not fit the widths."""
        yield from inconsistencies_of(self, self.widths)
