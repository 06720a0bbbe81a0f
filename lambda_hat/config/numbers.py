"""The numbers that settings may be: those that what they are used for can hold.

JAX counts in 32 bits and computes in float32. A number beyond these bounds would fail, or become another, only there.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

__all__ = [
    "LARGEST",
    "LARGEST_WHOLE",
    "SMALLEST",
    "AnyFloat",
    "AnyInt",
    "NaturalInt",
    "NonNegativeFloat",
    "PositiveFloat",
    "PositiveInt",
    "Seconds",
    "Seed",
    "Size",
]

LARGEST_WHOLE = 2**31 - 1
"""The largest whole number of 32 bits."""
LARGEST = 1e30
"""Largest magnitude of a number: its products with others are still finite in float32."""
SMALLEST = 1e-30
"""Smallest positive number: float32 does not take it for 0."""

AnyInt: TypeAlias = Annotated[int, Field(ge=-LARGEST_WHOLE, le=LARGEST_WHOLE)]
NaturalInt: TypeAlias = Annotated[int, Field(ge=0, le=LARGEST_WHOLE)]
PositiveInt: TypeAlias = Annotated[int, Field(gt=0, le=LARGEST_WHOLE)]
Seed: TypeAlias = NaturalInt
Size: TypeAlias = Annotated[int, Field(gt=0, le=1_000_000)]
"""One side of an array."""
AnyFloat: TypeAlias = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
NonNegativeFloat: TypeAlias = Annotated[float, Field(ge=0, le=LARGEST)]
PositiveFloat: TypeAlias = Annotated[float, Field(ge=SMALLEST, le=LARGEST)]
Seconds: TypeAlias = Annotated[float, Field(ge=SMALLEST, le=1e9)]
"""A time that timers take: up to thirty years."""
