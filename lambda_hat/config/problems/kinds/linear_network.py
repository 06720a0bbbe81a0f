"""What the kinds of linear networks have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lambda_hat.config.locate import Finding
from lambda_hat.config.numbers import NaturalInt, PositiveFloat, Seed
from lambda_hat.config.problems.base import PosteriorSpec, ProblemSpec

__all__ = ["LinearNetworkProblem", "inconsistencies_of"]


class LinearNetworkProblem(ProblemSpec):
    """f(w, x) = x W₁⋯W_L, labelled without noise by a product of low rank, of which w0 is one factorisation."""

    built_by: ClassVar[str] = "lambda_hat.targets.linear_network:KIND"

    rank: NaturalInt = 2
    """Rank of the product of the layers."""
    fibre: Literal["lowest", "full_rank"] = "lowest"
    """Where w0 lies among the factorisations of the product: `lowest` where the learning coefficient is lowest,
    `full_rank` where all layers but the last have full rank."""
    num_data: Annotated[NaturalInt, Field(ge=2)] = 1000
    """Rows of data n."""
    noise_scale: PositiveFloat = 0.1
    """Scale σ of the loss |f − y|²/(2σ²)."""
    posterior: PosteriorSpec = PosteriorSpec(localization=1.0)
    """The local posterior around w0."""
    seed: Seed = 0
    """Seed of everything that is random in the target."""


def inconsistencies_of(problem: LinearNetworkProblem, widths: tuple[int, ...]) -> Iterator[Finding]:
    """A rank that layers of these `widths` cannot have, or too few examples to fix their product."""
    smallest, in_dim = min(widths), widths[0]
    if problem.rank > smallest:
        message = f"found {problem.rank}, expected at most {smallest}, the smallest of the widths"
        yield Finding(("rank",), message, "No product of such layers has a higher rank.")
    if problem.num_data < in_dim:
        message = f"found {problem.num_data}, expected at least {in_dim}, the number of inputs"
        yield Finding(("num_data",), message, "Fewer examples leave a part of the product free.")
