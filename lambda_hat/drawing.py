"""What the figures of results have in common; Matplotlib is loaded when the first one is drawn."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BLUE", "GREY", "new_axes"]

BLUE = "#0072b2"
GREY = "#999999"


def new_axes(width: float = 6.4, height: float = 3.6) -> Axes:
    """Axes of a figure of so many inches of its own, which no window and no global state is involved in.

    In a notebook it is one of pyplot's, which the notebook shows below the cell.
    """
    if "ipykernel" in sys.modules:
        from matplotlib import pyplot

        return pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").subplots()
