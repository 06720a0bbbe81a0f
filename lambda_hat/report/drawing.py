"""Figures as the pages show them: one style, and SVG that can stand in an HTML page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from markupsafe import Markup, escape

from lambda_hat.config.methods import METHODS

if TYPE_CHECKING:  # half a second, for which only a page with figures has a use
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "GREY",
    "REFERENCE_COLOUR",
    "Picture",
    "colour_of",
    "decimal",
    "drawn",
    "log_scale",
    "reference_band",
    "value_ticks",
]

# As those of the methods, colours that most people can tell apart (Okabe and Ito, Tol).
_OTHERS = ("#e69f00", "#56b4e9", "#882255", "#117733")
REFERENCE_COLOUR = "#555555"
GREY = "#999999"

_STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.2,
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "svg.fonttype": "none",  # text stays text: smaller, and it can be searched
    "svg.hashsalt": "lambda-hat",
}

_METADATA = {  # of times and programs, which no file has to tell
    "png": ("Software",),
    "svg": ("Date", "Creator", "Format", "Type"),
    "pdf": ("CreationDate", "Creator", "Producer"),
}
_SVG_CLEANING = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (r"<metadata>.*?</metadata>|<!--.*?-->", ""),
        (r'<g id="[^"]*_\d+">', "<g>"),  # the ids of all figures would be the same
        (r"xlink:href", "href"),
        (r"[ \t]*\n\s*", "\n"),
    )
)
_MOST_VALUES = 8  # up to which each has a tick of its own
_SHORT = 5  # characters of a round number
_GAP, _CHARACTER = 0.02, 0.04  # between labels, and of one character of them, in lengths of the axis
_COORDINATES = re.compile(r' (?:d|x|y|transform|points)="[^"]*"')
_DECIMALS = re.compile(r"(\d\.\d\d)\d+")


def colour_of(name: str) -> str:
    """The colour of a method; of anything else, one that its name chooses."""
    colour = METHODS[name].colour if name in METHODS else None
    return colour or _OTHERS[sum(name.encode()) % len(_OTHERS)]


@contextmanager
def drawn(width: float, height: float) -> Generator[Figure]:
    """A figure of so many inches in this project's style; no window and no global state is involved."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(cast(Any, _STYLE)):
        yield Figure(figsize=(width, height), layout="constrained")


def log_scale(axis: Axis, low: float, high: float) -> None:
    """A logarithmic axis from `low` to `high` with a few ticks, in plain decimals where those are short."""
    from matplotlib.axis import XAxis
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    which = "x" if isinstance(axis, XAxis) else "y"
    axis.axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    decades = math.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < 1.5 else (1.0, 3.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: decimal(value)))


def value_ticks(axis: Axis, values: Sequence[float], num: int = 5) -> None:
    """Ticks at the values there are, where these are few and whole, or round and come again; else about `num` ticks.

    Whole numbers have whole ticks. A logarithmic axis with other values keeps its ticks.
    """
    from matplotlib.axis import XAxis
    from matplotlib.ticker import FixedFormatter, MaxNLocator

    there = sorted(set(values))
    is_whole = all(float(value).is_integer() for value in there)
    is_round = all(len(decimal(value)) <= _SHORT and float(decimal(value)) == value for value in there)
    if len(there) <= _MOST_VALUES and (is_whole or (is_round and 2 * len(there) <= len(values))):
        low, high = axis.get_transform().transform(axis.get_view_interval())
        shown: dict[float, str] = {}  # labels by their values
        end = -math.inf  # of the last label, in lengths of the axis
        for place, value in zip((axis.get_transform().transform(there) - low) / (high - low), there, strict=True):
            half = _CHARACTER * (len(decimal(value)) if isinstance(axis, XAxis) else 1) / 2
            if place - half > end:
                shown[value], end = decimal(value), place + half + _GAP
        axis.set_ticks(list(shown))
        axis.set_major_formatter(FixedFormatter(list(shown.values())))
    elif axis.get_scale() == "linear":
        axis.set_major_locator(MaxNLocator(num, integer=is_whole))


def decimal(value: float) -> str:
    """A number that fits under a tick: `0.03`, `2000`, `3e5`."""
    if value == 0 or 1e-4 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    mantissa, _, exponent = f"{value:.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def reference_band(axes: Axes, value: float | None, se: float | None, label: str = "reference ± 2 s.e.") -> None:
    """A line at the reference and a band of two standard errors around it."""
    if value is None:
        return
    axes.axhline(value, color=REFERENCE_COLOUR, linewidth=1.0, linestyle="--", label=label, zorder=1)
    if se:
        axes.axhspan(value - 2 * se, value + 2 * se, color=REFERENCE_COLOUR, alpha=0.15, linewidth=0, zorder=0)


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure that is done; a template shows it as `<svg>`. `alt` is what those who cannot see it are told."""

    figure: Figure
    alt: str

    def __html__(self) -> Markup:
        return self.svg()

    def svg(self) -> Markup:
        """An `<svg>` element that scales with its page, and has no background of its own."""
        from matplotlib import rc_context

        buffer = io.StringIO()
        with rc_context(cast(Any, _STYLE)):
            self.figure.savefig(buffer, format="svg", metadata=dict.fromkeys(_METADATA["svg"]), transparent=True)
        inside = buffer.getvalue().partition("<svg")[2].partition(">")[2]
        for pattern, replacement in _SVG_CLEANING:
            inside = pattern.sub(replacement, inside)
        inside = _COORDINATES.sub(lambda match: _DECIMALS.sub(r"\1", match[0]), inside)
        width, height = 72 * self.figure.get_figwidth(), 72 * self.figure.get_figheight()
        head = f'role="img" aria-label="{escape(self.alt)}" viewBox="0 0 {width:g} {height:g}"'
        return Markup(f'<svg {head} style="max-width:{1.4 * width:.0f}px">{inside}')

    def png(self, *, dpi: int = 130) -> bytes:
        """A PNG file."""
        return self.file("png", dpi=dpi)

    def file(self, kind: str, *, dpi: int = 300) -> bytes:
        """A file of its own: `png`, `svg` or `pdf`. The same figure gives the same bytes; `dpi` is that of pixels."""
        from matplotlib import rc_context

        buffer = io.BytesIO()
        with rc_context(cast(Any, _STYLE)):
            self.figure.savefig(buffer, format=kind, dpi=dpi, metadata=dict.fromkeys(_METADATA[kind]))
        return buffer.getvalue()
