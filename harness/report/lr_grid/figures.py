"""The pictures of a grid of learning rates, each drawn twice: for a desk and for a phone.

What comes in: `Found`. What goes out: SVG bytes, the same each time. `curves` is the U-curve of
every variant over a logarithmic axis of rates, with the usable range and the failed cells under
it; `paired` are the differences from the baseline, seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.lr_grid.plan import STEP_DECADES
from harness.lr_grid.record import VariantGrid
from harness.report.canvas import (
    BAND,
    INK,
    MUTED,
    NARROW_PX,
    RULE,
    WIDE_PX,
    Mark,
    fit_x,
    marks,
    panel,
    sheet,
    short,
    svg,
    ticks,
    with_unit,
    write,
    x_title,
)
from harness.report.figures import forest_row
from harness.report.lr_grid.found import MEASURES, Found
from harness.report.lr_grid.units import rate_text
from harness.report.wording import decimals, number, scale
from harness.stats_formulas import t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.stats import Contrast

ROW = 22
"""Pixels of a row under the curves."""
DODGE_DECADES = 0.05
MOST_DECADES = 4.6
"""A phone has room for the numbers of so many."""
LOG_FROM = 4.0
"""A metric whose largest value is this many times the smallest is drawn on a logarithmic axis."""
DRAWN = ("best", "stable", "usable", "best_rate", "width")


def curves(found: Found, narrow: bool = False) -> bytes:
    """Metric over learning rate; beneath it each usable range and how many seeds failed."""
    grid = found.grid
    looks = marks([each.name for each in grid.variants], grid.baseline)
    dead = [each for each in found.variants if each.failed]
    width = NARROW_PX if narrow else WIDE_PX
    left, right = (86, width - 12) if narrow else (132, width - 24)
    top, bottom = 30, 250 if narrow else 300
    rows_top = bottom + 34
    rows_bottom = rows_top + ROW * len(grid.variants)
    dead_top = rows_bottom + 34
    ends = dead_top + ROW * len(dead) if dead else rows_bottom
    figure = sheet(width, ends + 52)
    every = [math.log10(rate) for each in grid.variants for rate in each.rates]
    reach = (min(every) - 0.25, max(every) + 0.25)

    axes = panel(figure, left, top, right, bottom)
    _frame(axes, reach, narrow, labels=False)
    _curve_panel(axes, found, looks)
    axes.grid(axis="y", color=RULE, lw=0.8)
    title = with_unit(grid.metric) + (" (log scale)" if axes.get_yscale() == "log" else "")
    _heading(axes, title, bottom - top)

    usable = panel(figure, left, rows_top, right, rows_bottom)
    _frame(usable, reach, narrow, labels=not dead)
    usable.set_ylim(len(grid.variants) - 0.5, -0.5)
    _heading(usable, "usable range", rows_bottom - rows_top)
    for row, each in enumerate(found.variants):
        look = looks[each.name]
        low, high = (math.log10(end) for end in each.usable)
        _row_name(usable, row, each.name, look, narrow, left, right)
        if each.diverged < each.cells:
            usable.plot([low, high], [row] * 2, color=look.color, lw=7, alpha=0.5)
            if each.open_end > len(each.values) / 2:
                usable.plot(
                    [high + 0.12],
                    [row],
                    ls="",
                    marker=">",
                    ms=7,
                    mew=0,
                    color=look.color,
                    alpha=0.5,
                )
            at = [math.log10(each.best_rate)]
            usable.plot(at, [row], ls="", marker=look.marker, ms=8, mew=0, color=look.color)
    if dead:
        below = panel(figure, left, dead_top, right, ends)
        _frame(below, reach, narrow, labels=True)
        below.set_ylim(len(dead) - 0.5, -0.5)
        below.grid(visible=False)  # no line runs through a number
        _heading(below, f"diverged or at chance, of {len(grid.seeds)} seeds", ends - dead_top)
        for row, of in enumerate(dead):
            _row_name(below, row, of.name, looks[of.name], narrow, left, right)
            for rate, seeds in of.failed.items():
                write(below, math.log10(rate), row, str(len(seeds)), ha="center", fontsize=12)
    axes = below if dead else usable
    x_title(
        axes, "learning rate (log scale)", (ends - dead_top) if dead else rows_bottom - rows_top
    )
    return svg(figure)


def _curve_panel(axes: Axes, found: Found, looks: dict[str, Mark]) -> None:
    grid, factor = found.grid, scale(found.grid.metric).factor
    every = [
        value * factor for of in grid.variants for at in of.values.values() for value in at.values()
    ]
    _set_ylim(axes, grid.metric, every)
    count = len(grid.variants)
    for position, of in enumerate(grid.variants):
        look = looks[of.name]
        shift = (position - (count - 1) / 2) * min(DODGE_DECADES, 0.2 / count)
        xs = [math.log10(rate) + shift for rate in of.rates]
        means = [t_interval([v * factor for v in of.values[rate].values()]) for rate in of.rates]
        _seeds(axes, xs, of, look, factor)
        low_end = axes.get_ylim()[0]
        for x, at in zip(xs, means):
            if math.isfinite(at.low):
                ends = [max(at.low, low_end), at.high]
                axes.plot([x, x], ends, color=look.color, lw=2.4, alpha=0.45, zorder=3)
        line = [at.mean for at in means]
        axes.plot(xs, line, color=look.color, lw=2, ls=look.dash, zorder=4)
        axes.plot(xs, line, ls="", marker=look.marker, ms=5.5, mew=0, color=look.color, zorder=5)
        best = of.rates.index(found.variant(of.name).best_rate)
        axes.plot(
            xs[best], line[best], ls="", marker="o", ms=14, mfc="none", mec=look.color, mew=1.8,
            zorder=6,
        )  # fmt: skip


def _seeds(axes: Axes, xs: Sequence[float], of: VariantGrid, look: Mark, factor: float) -> None:
    """A dot for every seed, a cross for a diverged one."""
    alive: list[tuple[float, float]] = []
    dead: list[tuple[float, float]] = []
    for x, rate in zip(xs, of.rates):
        for seed, value in of.values[rate].items():
            (dead if seed in of.diverged.get(rate, ()) else alive).append((x, value * factor))
    color = look.color
    for points, marker, ms, mew, alpha in ((alive, ".", 5, 0, 0.55), (dead, "x", 6, 1.4, 1)):
        if points:
            across, up = zip(*points)
            axes.plot(across, up, ls="", marker=marker, ms=ms, mew=mew, color=color, alpha=alpha)


def paired(found: Found, narrow: bool = False) -> bytes:
    """Differences from the baseline in each measure: mean, 95% interval, a tick per seed."""
    shown = {measure: _drawable(found, measure) for measure in DRAWN}
    shown = {measure: each for measure, each in shown.items() if each}
    looks = marks([each.name for each in found.grid.variants], found.grid.baseline)
    width = NARROW_PX if narrow else WIDE_PX
    left, right = (4, width - 8) if narrow else (132, 540)
    step = 58 if narrow else 42
    tops, place = [], 34
    for each in shown.values():
        tops.append(place)
        place += step * len(each) + 86
    figure = sheet(width, place - 28)
    decades = [end for m, of in shown.items() if MEASURES[m].in_decades for end in _ends(of, 1.0)]
    for top, (measure, of) in zip(tops, shown.items()):
        bottom = top + step * len(of)
        axes = panel(figure, left, top, right, bottom)
        axes.set_ylim(-len(of) + 0.5, 0.5)
        axes.set_yticks([])
        in_decades = MEASURES[measure].in_decades
        factor = 1.0 if in_decades else scale(found.grid.metric).factor
        delta = STEP_DECADES if in_decades else (found.grid.smallest_effect or 0) * factor
        extent = [0.0, -delta, delta, *(decades if in_decades else _ends(of, factor))]
        fit_x(axes, extent)
        for row in range(len(of)):
            # on a phone the label stands above its row, and nothing may run through it
            low, high = -row - 0.5, -row + (0.16 if narrow else 0.5)
            axes.fill_between([-delta, delta], low, high, color=BAND, lw=0, zorder=0)
            axes.plot([0, 0], [low, high], color=MUTED, lw=1.2, zorder=1, solid_capstyle="butt")
        beside = axes.get_yaxis_transform()
        for row, contrast in enumerate(of):
            forest_row(axes, contrast, -row, looks[contrast.variant], factor, 12 / step)
            text, name = _short(contrast, factor, in_decades), short(contrast.variant)
            if narrow:
                write(axes, 0, -row + 0.34, name, transform=beside, weight="bold")
                write(axes, 1, -row + 0.34, text, transform=beside, ha="right", fontsize=12)
            else:
                edge, far = -(left - 4) / (right - left), (width - 4 - left) / (right - left)
                write(axes, edge, -row, name, transform=beside, weight="bold")
                write(axes, far, -row, text, transform=beside, ha="right")
        _heading(axes, MEASURES[measure].title, bottom - top)
        unit = "decades" if in_decades else with_unit(found.grid.metric, difference=True)
        x_title(axes, f"difference in {unit}", bottom - top)
    return svg(figure)


def drawable(found: Found) -> bool:
    """Whether there is any difference to draw."""
    return any(_drawable(found, measure) for measure in DRAWN)


def _drawable(found: Found, measure: str) -> list[Contrast]:
    if measure == "stable" and not any(each.failed for each in found.variants):
        return []
    return [each for each in found.contrasts[measure] if math.isfinite(each.difference)]


def _short(contrast: Contrast, factor: float, in_decades: bool) -> str:
    places = 2 if in_decades else decimals([contrast.se * factor], contrast.difference * factor)
    amount, low, high = (
        number(each * factor, places, signed=True) for each in (contrast.difference, *contrast.ci)
    )
    return f"{amount} [{low}, {high}]" if math.isfinite(contrast.ci[0]) else amount


def _ends(contrasts: Iterable[Contrast], factor: float) -> list[float]:
    return [
        value * factor
        for each in contrasts
        for value in (each.difference, *each.ci, *each.differences)
        if math.isfinite(value)
    ]


def _frame(axes: Axes, reach: tuple[float, float], narrow: bool, labels: bool) -> None:
    """The axis of rates: a line and a number at every power of ten."""
    axes.set_xlim(*reach)
    every = 2 if narrow and reach[1] - reach[0] > MOST_DECADES else 1
    powers = list(range(math.ceil(reach[0]), math.floor(reach[1]) + 1, every))
    axes.set_xticks(powers, [rate_text(10.0**power) if labels else "" for power in powers])
    axes.grid(axis="x", color=RULE, lw=0.8)
    axes.tick_params(axis="y", length=0)
    if not labels:
        axes.spines["bottom"].set_visible(False)


def _row_name(
    axes: Axes, row: int, name: str, look: Mark, narrow: bool, left: float, right: float
) -> None:
    axes.set_yticks([])
    edge = -(left - 4) / (right - left)
    beside = axes.get_yaxis_transform()
    axes.plot(
        [edge + 5 / (right - left)], [row], transform=beside, ls="", marker=look.marker, ms=7,
        mew=0, color=look.color, clip_on=False,
    )  # fmt: skip
    text = short(name, 9 if narrow else 14)
    write(axes, edge + 15 / (right - left), row, text, transform=beside, weight="bold", fontsize=12)


def _heading(axes: Axes, text: str, height_px: float) -> None:
    write(axes, 0, 1 + 15 / height_px, text, transform=axes.transAxes, weight="bold", color=INK)


def _set_ylim(axes: Axes, metric: str, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if not metric.endswith("accuracy") and low > 0 and high > LOG_FROM * low:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

        axes.set_yscale("log")
        subs = (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(low / 1.2, high * 1.2)
        return
    reach = (high - low) or abs(high) * 0.1 or 1.0
    axes.set_ylim(low - 0.06 * reach, high + 0.06 * reach)
    axes.yaxis.set_major_locator(ticks(5))
