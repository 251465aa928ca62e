"""The learning curves of a report: small multiples over epochs, a line per seed, mean and band.

What comes in: a `Summary` with its curves. What goes out: SVG bytes, the same bytes each time. The
lines end in their own names, so that no legend has to be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from harness.report.canvas import (
    NARROW_PX,
    RULE,
    WIDE_PX,
    Mark,
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
from harness.report.wording import scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.report.curves import Curve
    from harness.report.summary import Summary

Point = TypeVar("Point")
POINTS_IN_ALL = 9_000
"""Points of single-seed lines in one figure; keeps a report far below 2 MB."""
MEAN_POINTS = 200
"""Points of a mean and of its band; more than a line on a screen can show."""


def learning(summary: Summary, narrow: bool = False, points: int = POINTS_IN_ALL) -> bytes:
    """Small multiples over epochs: thin line per seed, mean, pointwise 95% t band.

    `points` is how many the single-seed lines may have together; with 0 there are none.
    """
    columns = list(dict.fromkeys(curve.column for curve in summary.curves))
    width = NARROW_PX if narrow else WIDE_PX
    boxes = _stacked_boxes(len(columns)) if narrow else _desk_boxes(len(columns))
    figure = sheet(width, max(box[3] for box in boxes) + 48)
    seeds = max(1, sum(len(each.seeds) for each in summary.curves))
    budget = max(12, points // seeds) if points else 0
    for column, box in zip(columns, boxes, strict=True):
        axes = panel(figure, *box)
        drawn = [curve for curve in summary.curves if curve.column == column]
        _learning_panel(axes, summary, column, drawn, budget, box)
    return svg(figure)


def _learning_panel(
    axes: Axes,
    summary: Summary,
    column: str,
    drawn: Sequence[Curve],
    budget: int,
    box: tuple[float, float, float, float],
) -> None:
    factor = scale(column).factor
    looks = marks([each.name for each in summary.variants], summary.baseline)
    axes.grid(axis="y", color=RULE, lw=0.8)
    _set_ylim(axes, column, drawn, factor)
    for curve in drawn:
        look = looks[curve.variant]
        for points in curve.seeds.values() if budget else ():
            axes.plot(*_xy(points, factor, budget), color=look.color, lw=0.7, alpha=0.3, zorder=2)
        mean = list(zip(curve.epochs, curve.mean, curve.low, curve.high))
        floor = axes.get_ylim()[0] if axes.get_yscale() == "log" else -math.inf
        banded = _thinned([each for each in mean if math.isfinite(each[2])], MEAN_POINTS)
        if banded:
            xs, _, lows, highs = zip(*banded)
            axes.fill_between(
                xs,
                [max(low * factor, floor) for low in lows],
                [high * factor for high in highs],
                color=look.color,
                alpha=0.16,
                lw=0,
                zorder=1,
            )
        line = _xy([(epoch, value) for epoch, value, *_ in mean], factor, MEAN_POINTS)
        axes.plot(*line, color=look.color, lw=2, ls=look.dash, zorder=3)
        _crosses(axes, curve, factor, look)
    last = max(curve.epochs[-1] for curve in drawn)
    axes.set_xlim(0, max(last, 1))
    axes.xaxis.set_major_locator(ticks(5, whole=True))
    height = box[3] - box[1]
    x_title(axes, "epoch", height)
    write(
        axes,
        0,
        1 + 16 / height,
        with_unit(column) + (" (log scale)" if axes.get_yscale() == "log" else ""),
        transform=axes.transAxes,
        weight="bold",
    )
    _end_labels(axes, drawn, looks, factor, box)


def _crosses(axes: Axes, curve: Curve, factor: float, look: Mark) -> None:
    low, high = axes.get_ylim()
    for seed, epoch in curve.died.items():
        value = curve.seeds[seed][-1][1] * factor
        axes.plot(
            [epoch],
            [min(max(value, low), high)],
            marker="x",
            ms=8,
            mew=2,
            color=look.color,
            clip_on=False,
            zorder=6,
        )


def _end_labels(
    axes: Axes,
    drawn: Sequence[Curve],
    looks: dict[str, Mark],
    factor: float,
    box: tuple[float, float, float, float],
) -> None:
    """Names at the ends of the lines, pushed apart where they would overlap."""
    height, width = box[3] - box[1], box[2] - box[0]
    to_axes = axes.transData + axes.transAxes.inverted()
    last = axes.get_xlim()[1]
    ends = []
    for curve in drawn:
        known = [(e, m) for e, m in zip(curve.epochs, curve.mean) if math.isfinite(m)]
        if known and known[-1][0] == last:
            y = float(to_axes.transform((last, known[-1][1] * factor))[1]) * height
            ends.append((min(max(y, 0.0), height), curve.variant))
    ends.sort()
    for (y, variant), place in zip(ends, spread([y for y, _ in ends], 15.0, height)):
        look = looks[variant]
        axes.plot(
            [1, 1 + 10 / width, 1 + 16 / width],
            [y / height, place / height, place / height],
            transform=axes.transAxes,
            color=look.color,
            lw=1,
            clip_on=False,
        )
        axes.plot(
            [1 + 20 / width],
            [place / height],
            transform=axes.transAxes,
            ls="",
            marker=look.marker,
            ms=6,
            mew=0,
            color=look.color,
            clip_on=False,
        )
        write(
            axes,
            1 + 27 / width,
            place / height,
            short(variant, 9),
            transform=axes.transAxes,
            fontsize=12,
        )


def spread(places: Sequence[float], gap: float, height: float) -> list[float]:
    """Sorted positions moved to be `gap` apart, below `height`."""
    moved = list(places)
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    if moved and moved[-1] > height:
        moved[-1] = height
        for index in range(len(moved) - 2, -1, -1):
            moved[index] = min(moved[index], moved[index + 1] - gap)
    return moved


def _stacked_boxes(count: int) -> list[tuple[float, float, float, float]]:
    return [(46, 30 + 252 * row, NARROW_PX - 92, 196 + 252 * row) for row in range(count)]


def _desk_boxes(count: int) -> list[tuple[float, float, float, float]]:
    first = (40.0, 30.0, WIDE_PX - 96.0, 260.0)
    half = [(40.0, 350.0, 300.0, 520.0), (436.0, 350.0, WIDE_PX - 96.0, 520.0)]
    return [first, *half][:count]


def _set_ylim(axes: Axes, column: str, drawn: Sequence[Curve], factor: float) -> None:
    """Fitted to runs that lived, after the first tenth: the steep start would flatten the rest."""
    values = [
        value * factor
        for curve in drawn
        for seed, points in curve.seeds.items()
        if seed not in curve.died
        for epoch, value in points
        if epoch >= points[-1][0] / 10
    ] or [
        value * factor for curve in drawn for points in curve.seeds.values() for _, value in points
    ]
    low, high = min(values), max(values)
    logarithmic = not column.endswith("accuracy") and low > 0 and high > 4 * low
    if logarithmic:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

        axes.set_yscale("log")
        subs = (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(low / 1.15, high * 1.15)
    else:
        reach = (high - low) or abs(high) * 0.1 or 1.0
        axes.set_ylim(low - 0.04 * reach, high + 0.04 * reach)
        axes.yaxis.set_major_locator(ticks(5))


def _xy(
    points: Sequence[tuple[int, float]], factor: float, budget: int
) -> tuple[list[int], list[float]]:
    kept = _thinned(points, budget)
    return [epoch for epoch, _ in kept], [value * factor for _, value in kept]


def _thinned(points: Sequence[Point], budget: int) -> list[Point]:
    """About `budget` evenly chosen points, first and last kept."""
    stride = max(1, math.ceil(len(points) / budget))
    return [*points[:-1:stride], *points[-1:]]
