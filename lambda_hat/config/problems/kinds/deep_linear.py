"""Deep linear networks of any depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lambda_hat.config.base import Expected
from lambda_hat.config.locate import Finding
from lambda_hat.config.numbers import Size
from lambda_hat.config.problems.kinds.linear_network import LinearNetworkProblem, inconsistencies_of

__all__ = ["DeepLinearProblem"]


class DeepLinearProblem(LinearNetworkProblem):
    """A deep linear network: inputs, hidden layers and outputs of the given widths."""

    order: ClassVar[int] = 4

    target: Literal["deep_linear"] = "deep_linear"
    """Kind of target."""
    widths: Annotated[
        tuple[Size, ...],
        Field(min_length=3),
        Expected("a list of at least three whole numbers greater than 0"),
    ] = (5, 5, 5, 5)
    """Inputs, units of each hidden layer, outputs."""

    def inconsistencies(self) -> Iterator[Finding]:
        """What does not fit the widths."""
        yield from inconsistencies_of(self, self.widths)
