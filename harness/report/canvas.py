"""The drawing ground of the figures: colours, sizes, and deterministic SVG.

What comes in: a matplotlib `Figure` laid out in pixels. What goes out: SVG bytes that are the same
each time, with a transparent ground, text as text, and a style sheet of their own that swaps every
ink for its light twin under `prefers-color-scheme: dark` (an SVG in an <img> answers it by itself).
Nothing touches pyplot or its global state.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report.wording import clean, metric_title, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

WIDE_PX, NARROW_PX = 780, 350
INK = "#1f2328"
MUTED = "#59636e"
RULE = "#d0d7de"
BAND = "#e9edf1"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
NAME_LENGTH = 18
"""Longer variant names are shortened in figures; the tables have them whole."""


@dataclass(frozen=True)
class Mark:
    """How a variant looks in every figure: never by colour alone."""

    color: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]


BASELINE_MARK = Mark("#6b7580", "o", "-")
MARKS = (  # Okabe-Ito hues, darkened where the original has less than 3:1 contrast on white
    Mark("#0072b2", "s", "-"),
    Mark("#d55e00", "^", (0, (5, 1.5))),
    Mark("#008f68", "D", (0, (1.2, 1.2))),
    Mark("#b5588a", "v", (0, (6, 1.5, 1.2, 1.5))),
    Mark("#b07300", "P", (0, (3, 1.2))),
    Mark("#7a6f00", "X", (0, (8, 2))),
)
DARK = {
    INK: "#e6edf3",
    MUTED: "#9da7b3",
    RULE: "#3d444d",
    BAND: "#2a3038",
    BASELINE_MARK.color: "#9aa4af",
    "#0072b2": "#56b4e9",
    "#d55e00": "#f28a3c",
    "#008f68": "#2fc79a",
    "#b5588a": "#dc8fbb",
    "#b07300": "#e69f00",
    "#7a6f00": "#f0e442",
}
SHADES = ("#b9d3e6", "#86b4d6", "#4f93c4", "#2070a8", "#0b4a78")
"""From the least to the most, in lightness: the order stays in grey and, reversed, by night."""
HALO = "#fdfdfe"
"""The page's own colour, around what stands on a filled ground."""
DARK_SHADES = {
    HALO: "#0f1318",
    **dict(zip(SHADES, ("#24445c", "#2f638a", "#4088bb", "#6fb2e0", "#b5dcfa"))),
}


def marks(variants: Sequence[str], baseline: str) -> dict[str, Mark]:
    """Each variant's mark: the baseline grey, the others in order."""
    others = [name for name in variants if name != baseline]
    return {baseline: BASELINE_MARK} | {
        name: MARKS[position % len(MARKS)] for position, name in enumerate(others)
    }


def sheet(width_px: float, height_px: float) -> Figure:
    """An empty figure; one SVG unit is one CSS pixel at full size."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_px / 72, height_px / 72), dpi=72, facecolor="none")


def panel(figure: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    """Axes between pixel positions measured from the figure's top left corner."""
    width, height = (float(side) * 72 for side in figure.get_size_inches())
    axes = figure.add_axes(
        (left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height)
    )
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=MUTED, labelcolor=MUTED, labelsize=12, length=0, pad=6)
    axes.set_axisbelow(True)
    return axes


def overlay(figure: Figure) -> Axes:
    """Invisible axes over the whole figure, in pixels from its top left corner."""
    width, height = (float(side) * 72 for side in figure.get_size_inches())
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return axes


def write(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    """Text at data or (`transform=`) other coordinates; never read as mathematics."""
    settings = {"fontsize": 13, "color": INK, "va": "center", "parse_math": False, **options}
    axes.text(x, y, clean(text), **settings)


def short(name: str, length: int = NAME_LENGTH) -> str:
    """A name that fits a figure's margin."""
    bare = clean(name)
    return bare if len(bare) <= length else f"{bare[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def fit_x(axes: Axes, values: Iterable[float]) -> None:
    """Limits of x that leave a little room around the values."""
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    reach = (high - low) or abs(high) * 0.1 or 1.0
    axes.set_xlim(low - 0.06 * reach, high + 0.06 * reach)
    axes.xaxis.set_major_locator(ticks(6))


def x_title(axes: Axes, title: str, height_px: float) -> None:
    """The name of the x axis, under its numbers."""
    write(
        axes,
        0.5,
        -38 / height_px,
        title,
        transform=axes.transAxes,
        ha="center",
        color=MUTED,
        fontsize=12.5,
    )


def with_unit(metric: str, difference: bool = False) -> str:
    """`test accuracy, %`, or with the unit of its differences."""
    unit = scale(metric)
    name = unit.difference_unit if difference else unit.value_unit
    return f"{metric_title(metric)}, {name}" if name else metric_title(metric)


def ticks(count: int, *, whole: bool = False) -> MaxNLocator:
    """At most `count` round numbers on an axis."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count, integer=whole)


def svg(figure: Figure) -> bytes:
    """The figure as SVG; the same figure gives the same bytes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    drawn = io.BytesIO()
    with rc_context(
        {"svg.hashsalt": "harness", "svg.fonttype": "none", "font.family": "DejaVu Sans"}
    ):
        FigureCanvasSVG(figure)
        # `Date` None: the time of drawing is not a property of the result
        figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
    return _finished(drawn.getvalue().decode()).encode()


def _finished(text: str) -> str:
    # drawn with the metrics of the font that comes with matplotlib, shown in the reader's own
    text = re.sub(r"(?:'DejaVu Sans'|&quot;DejaVu Sans&quot;|DejaVu Sans)", FONTS, text)
    text = re.sub(r'(?<= d=")[^"]+', lambda found: _rounded(found.group()), text)
    shades = {light: dark for light, dark in DARK_SHADES.items() if light in text}
    swapped = DARK | shades
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark} !important}}'
        for light, dark in swapped.items()
        for what in ("fill", "stroke")
    )
    style = f"<style>@media screen and (prefers-color-scheme:dark){{{rules}}}</style>"
    text = re.sub(r'(?<=[0-9])pt"', '"', text)  # one unit is one CSS pixel
    return re.sub(r"(<svg[^>]*>)", lambda found: found.group() + style, text, count=1)


def _rounded(path: str) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found.group()):.2f}", path)
