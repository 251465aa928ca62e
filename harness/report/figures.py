"""The pictures of a report, each drawn twice: for a desk (780 px) and for a phone (350 px).

What comes in: a `Summary`. What goes out: SVG bytes, the same bytes each time. The forest plot is
the verdict rule drawn, the strip plot shows every value and which belong together. Words and
numbers stay in the page around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.report.canvas import (
    BAND,
    INK,
    MUTED,
    NAME_LENGTH,
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
    with_unit,
    write,
    x_title,
)
from harness.report.headline import by_effect, short_size, value_places
from harness.report.learning import learning
from harness.report.wording import number, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.report.summary import Summary
    from harness.stats import Contrast

DOTS_ACROSS = {False: 80, True: 28}
"""Dots that fit side by side in a strip; closer ones are stacked."""


def forest(summary: Summary, narrow: bool = False) -> bytes:
    """Paired differences: mean, 95% interval, one tick per seed, the band of no interest, zero."""
    unit = scale(summary.metric)
    shown = by_effect(summary)
    looks = marks([each.name for each in summary.variants], summary.baseline)
    step, top = (62, 18) if narrow else (46, 10)
    width = NARROW_PX if narrow else WIDE_PX
    left, right = (4, width - 8) if narrow else (132, 540)
    bottom = top + step * len(shown)
    figure = sheet(width, bottom + 78)
    axes = panel(figure, left, top, right, bottom)
    axes.set_ylim(-len(shown) + 0.5, 0.5)
    axes.set_yticks([])
    delta = (summary.smallest_effect or 0) * unit.factor
    extent = [0.0, *_ends(shown, unit.factor)]
    fit_x(axes, [*extent, *((-delta, delta) if delta < 4 * (_span(extent) or delta) else ())])
    # on a phone the label stands above its row, and nothing may run through it
    ground = [(-row - 0.5, -row + 0.16) for row in range(len(shown))]
    for low, high in ground if narrow else [(-len(shown) + 0.5, 0.5)]:
        axes.fill_between([-delta, delta], low, high, color=BAND, lw=0, zorder=0)
        axes.plot([0, 0], [low, high], color=MUTED, lw=1.2, zorder=1, solid_capstyle="butt")
    for row, contrast in enumerate(shown):
        forest_row(axes, contrast, -row, looks[contrast.variant], unit.factor, 12 / step)
        text = short_size(summary, contrast)
        beside = axes.get_yaxis_transform()
        if narrow:
            write(axes, 0, -row + 0.34, short(contrast.variant), transform=beside, weight="bold")
            write(axes, 1, -row + 0.34, text, transform=beside, ha="right", fontsize=12)
        else:
            edge = -(left - 4) / (right - left)
            write(axes, edge, -row, short(contrast.variant), transform=beside, weight="bold")
            far = (width - 4 - left) / (right - left)
            write(axes, far, -row, text, transform=beside, ha="right")
    x_title(axes, f"difference in {with_unit(summary.metric, difference=True)}", bottom - top)
    _favours(axes, summary, bottom - top)
    return svg(figure)


def strip(summary: Summary, narrow: bool = False) -> bytes:
    """Every seed's value in a row per variant; a line joins the values of one seed."""
    unit = scale(summary.metric)
    shown = [each for each in summary.variants if each.n]
    looks = marks([each.name for each in summary.variants], summary.baseline)
    step, top = (46, 10) if narrow else (52, 10)
    width = NARROW_PX if narrow else WIDE_PX
    left, right = (96, width - 70) if narrow else (132, 640)
    bottom = top + step * len(shown)
    figure = sheet(width, bottom + 56)
    axes = panel(figure, left, top, right, bottom)
    axes.set_ylim(-len(shown) + 0.5, 0.5)
    axes.set_yticks([])
    axes.grid(axis="x", color=RULE, lw=0.8)
    fit_x(axes, [value * unit.factor for each in shown for value in each.values.values()])
    low, high = axes.get_xlim()
    places_at = {
        each.name: {
            seed: -row + lift
            for seed, lift in lifted(
                each.values, (high - low) / (DOTS_ACROSS[narrow] * unit.factor)
            ).items()
        }
        for row, each in enumerate(shown)
    }
    for seed in summary.seeds:
        joined = [
            (each.values[seed] * unit.factor, places_at[each.name][seed])
            for each in shown
            if seed in each.values
        ]
        axes.plot([x for x, _ in joined], [y for _, y in joined], color=MUTED, lw=0.9, alpha=0.55)
    places = value_places(summary)
    beside = axes.get_yaxis_transform()
    for row, each in enumerate(shown):
        look = looks[each.name]
        for seed, value in each.values.items():
            at = ([value * unit.factor], [places_at[each.name][seed]])
            if seed in each.diverged_seeds:
                axes.plot(*at, ls="", marker="x", ms=8, mew=2, color=look.color, zorder=5)
            else:
                _dots(axes, *at, look, 6.5, alpha=0.85)
        mean = each.mean * unit.factor
        axes.plot([mean] * 2, [-row - 0.26, -row + 0.26], color=INK, lw=2.2, zorder=4)
        text = number(mean, places) + (f" {unit.value_unit}" if unit.value_unit else "")
        edge, far = -(left - 4) / (right - left), (width - 4 - left) / (right - left)
        name = short(each.name, 11 if narrow else NAME_LENGTH)
        write(axes, edge, -row, name, transform=beside, weight="bold")
        text = text if narrow else f"mean {text}"
        write(axes, far, -row, text, transform=beside, ha="right")
    x_title(axes, with_unit(summary.metric), bottom - top)
    return svg(figure)


def lifted(values: Mapping[int, float], near: float) -> dict[int, float]:
    """Seed -> how far its dot moves off its row (in rows) so that near values do not hide it."""
    lifts: dict[int, float] = {}
    group: list[int] = []
    ordered = sorted(values, key=lambda seed: (values[seed], seed))
    for seed, following in zip(ordered, [*ordered[1:], None]):
        group.append(seed)
        if following is None or values[following] - values[group[0]] > near:
            middle = (len(group) - 1) / 2
            step = min(0.13, 0.5 / len(group))
            lifts |= {each: (place - middle) * step for place, each in enumerate(group)}
            group = []
    return lifts


def forest_row(
    axes: Axes, contrast: Contrast, y: float, look: Mark, factor: float, unit: float
) -> None:
    """A contrast at `y`: interval, a tick per seed, the mean; `unit` is 12 pixels in rows."""
    low, high = (end * factor for end in contrast.ci)
    if math.isfinite(low):
        axes.plot([low, high], [y, y], color=look.color, lw=6, alpha=0.42, solid_capstyle="butt")
    for each in contrast.differences:
        axes.plot([each * factor] * 2, [y - 1.35 * unit, y - 0.75 * unit], color=look.color, lw=1.4)
    _dots(axes, [contrast.difference * factor], [y], look, 10)


def _dots(
    axes: Axes, xs: Sequence[float], ys: Sequence[float], look: Mark, size: float, alpha: float = 1
) -> None:
    axes.plot(
        xs, ys, ls="", marker=look.marker, ms=size, color=look.color, mew=0, alpha=alpha, zorder=5
    )


def _favours(axes: Axes, summary: Summary, height_px: float) -> None:
    names = [each.variant for each in summary.contrasts]
    variant = short(names[0]) if len(names) == 1 else "the variant"
    left, right = short(summary.baseline), variant
    if summary.goal == "min":
        left, right = right, left
    y = -62 / height_px
    options = {"transform": axes.transAxes, "color": MUTED, "fontsize": 12.5}
    write(axes, 0, y, f"\N{LEFTWARDS ARROW} favours {left}", ha="left", **options)
    write(axes, 1, y, f"favours {right} \N{RIGHTWARDS ARROW}", ha="right", **options)


def _ends(contrasts: Iterable[Contrast], factor: float) -> list[float]:
    return [
        value * factor
        for each in contrasts
        for value in (each.difference, *each.ci, *each.differences)
        if math.isfinite(value)
    ]


def _span(values: Sequence[float]) -> float:
    return max(values) - min(values)


FIGURES: dict[str, Callable[[Summary, bool], bytes]] = {
    "forest": forest,
    "strip": strip,
    "learning": learning,
}
