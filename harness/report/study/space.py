"""Figures of the space that a study searched: slices, parallel coordinates, contour.

What comes in: a `StudyResult`. What goes out: SVG bytes for a desk or a phone, the same bytes each
time. Every axis of a setting runs over its range from 0 to 1, in its logarithm where the search was
logarithmic, so that the three figures show the same distances.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.report.canvas import (
    HALO,
    INK,
    MUTED,
    RULE,
    SHADES,
    overlay,
    panel,
    sheet,
    short,
    svg,
    with_unit,
    write,
    x_title,
)
from harness.report.study.found import nothing, stopped
from harness.report.study.marks import (
    BEST_COLOR,
    DEAD_COLOR,
    Look,
    by_importance,
    dimension_axis,
    dimension_ticks,
    dots,
    frame,
    height_of,
    is_choice,
    key,
    key_height,
    look_of,
    looks_in,
    round_ticks,
    share_of,
    width_px,
)
from harness.report.wording import number, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.study import StudyResult, Trial

MOST_PANELS = 8
"""Settings drawn, those that matter most; the tables have them all."""
LEAST_FOR_CONTOUR = 6
SHADE_NAMES = ("worst fifth", "", "middle fifth", "", "best fifth")


def slices(result: StudyResult, narrow: bool = False) -> bytes:
    """The score against each setting, a panel for each."""
    names = by_importance(result)[:MOST_PANELS]
    across = 1 if narrow or len(names) == 1 else 2
    entries = looks_in(result, result.trials)
    top = key_height(entries, narrow) + 24
    panel_height = 150 if narrow else 170
    gap = 40
    room = (width_px(narrow) - 4 - gap * (across - 1)) / across
    rows = math.ceil(len(names) / across)
    each_height = panel_height + 74
    figure = sheet(width_px(narrow), top + rows * each_height - 18)
    limits = frame(result)
    for place, name in enumerate(names):
        left = 44 + (place % across) * (room + gap)
        y = top + (place // across) * each_height
        right = left + room - 52
        axes = panel(figure, left, y, right, y + panel_height)
        dimension = result.space[name]
        at = [
            (trial, share_of(dimension, trial.values.get(name)), height_of(result, trial, limits))
            for trial in result.trials
        ]
        if is_choice(dimension):
            at = _spread_out(at, len(dimension["options"]))
        dots(axes, result, [each for each in at if math.isfinite(each[1])])
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(*limits)
        axes.yaxis.set_major_locator(round_ticks(5))
        axes.grid(axis="y", color=RULE, lw=0.8)
        dimension_axis(axes.xaxis, dimension, right - left)
        if place % across == 0:
            write(axes, -36 / (right - left), 1 + 14 / panel_height, with_unit(result.metric),
                  transform=axes.transAxes, color=MUTED, fontsize=12)  # fmt: skip
        tail = " (log scale)" if dimension.get("log") else ""
        x_title(axes, short(name, 30) + tail, panel_height)
    key(figure, entries, narrow)
    return svg(figure)


def _spread_out(
    placed: Sequence[tuple[Trial, float, float]], options: int
) -> list[tuple[Trial, float, float]]:
    """Marks of one option side by side, in order of number."""
    seen: dict[float, int] = {}
    made = []
    for trial, x, y in placed:
        count = seen[x] = seen.get(x, -1) + 1
        # the golden ratio spreads any number of them evenly
        lift = ((count * 0.618034) % 1 - 0.5) * 0.5 / options
        made.append((trial, x + lift, y))
    return made


def parallel(result: StudyResult, narrow: bool = False) -> bytes:
    """Each trial a line over all settings to its score; on a phone the axes lie and lines fall."""
    names = by_importance(result)[:MOST_PANELS]
    entries = [
        Look("best trial", "", BEST_COLOR, dash="-"),
        *[Look(name, "", shade, dash="-") for name, shade in zip(SHADE_NAMES, SHADES) if name],
        *(
            [Look("pruned", "", MUTED, dash=":")]
            if any(map(_pruned(result), result.trials))
            else []
        ),
        *([Look("diverged", "", DEAD_COLOR, dash="--")] if _some_died(result) else []),
    ]
    top = key_height(entries, narrow)
    figure = sheet(width_px(narrow), top + (66 * (len(names) + 1) + 10 if narrow else 322))
    ground = overlay(figure)
    limits = frame(result)
    ends = _axes_between(names, narrow, top)
    for trial, color, dash, wide in _lines(result):
        shares = [share_of(result.space[name], trial.values.get(name)) for name in names]
        low, high = limits
        shares.append((height_of(result, trial, limits) - low) / (high - low))
        points = [
            (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
            for share, (x0, y0, x1, y1) in zip(shares, ends)
            if math.isfinite(share)
        ]
        ground.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=color,
            ls=dash,
            lw=wide,
            alpha=1.0 if wide > 2 else 0.75,
            marker="o" if wide > 2 else "",
            ms=6,
            mew=0,
            zorder=wide,
        )
    for place, line in enumerate(ends):
        name = names[place] if place < len(names) else ""
        _axis_line(ground, result, name, line, limits, narrow)
    key(figure, entries, narrow)
    return svg(figure)


def _axes_between(
    names: Sequence[str], narrow: bool, top: float
) -> list[tuple[float, float, float, float]]:
    """(x, y) of the low end and of the high end of each axis, the score's last."""
    count = len(names) + 1
    if narrow:
        right = width_px(narrow) - 24
        return [(24, top + 32 + 66 * row, right, top + 32 + 66 * row) for row in range(count)]
    gap = (width_px(narrow) - 150) / max(1, count - 1)
    return [(60 + gap * row, top + 286, 60 + gap * row, top + 38) for row in range(count)]


def _axis_line(
    ground: Axes,
    result: StudyResult,
    name: str,
    line: tuple[float, float, float, float],
    limits: tuple[float, float],
    narrow: bool,
) -> None:
    x0, y0, x1, y1 = line
    ground.plot([x0, x1], [y0, y1], color=MUTED, lw=1.2, zorder=8)
    if name:
        labels = dimension_ticks(result.space[name], abs(x1 - x0) if narrow else 260)
    else:
        low, high = limits
        found = round_ticks(5).tick_values(low, high)
        labels = [((v - low) / (high - low), f"{v:g}") for v in found if low <= v <= high]
    # lines run behind the numbers
    behind = {"facecolor": HALO, "edgecolor": "none", "pad": 1.0, "alpha": 0.8}
    plain = {"color": MUTED, "fontsize": 11, "zorder": 9, "bbox": behind}
    for share, text in labels:
        x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
        if narrow:
            ground.plot([x, x], [y - 3, y + 3], color=MUTED, lw=1.2, zorder=8)
            write(ground, x, y + 12, text, ha="center", **plain)
        else:
            ground.plot([x - 3, x + 3], [y, y], color=MUTED, lw=1.2, zorder=8)
            write(ground, x + 7, y, text, **plain)
    title = short(name, 40 if narrow else 20) if name else with_unit(result.metric)
    tail = " (log)" if name and result.space[name].get("log") else ""
    if narrow:
        write(ground, 4, y0 - 15, title + tail, **plain | {"color": INK, "weight": "bold"})
    else:
        write(ground, x0, y1 - 18, title + tail, weight="bold", fontsize=12, ha="center", zorder=9)


def _lines(result: StudyResult) -> list[tuple[Trial, str, str | tuple[Any, ...], float]]:
    """(trial, colour, dash, width), the best drawn last; shades go by fifths of the ranking."""
    ranked = [each for each in result.ranked if not each.diverged]
    total = max(1, len(ranked))
    shade = {
        each.number: SHADES[len(SHADES) - 1 - (place * len(SHADES)) // total]
        for place, each in enumerate(ranked)
    }
    found: list[tuple[Trial, str, str | tuple[Any, ...], float]] = []
    for trial in result.trials:
        if trial.diverged:
            found.append((trial, DEAD_COLOR, "--", 1.0))
        elif trial.number in shade:
            found.append((trial, shade[trial.number], "-", 1.3))
        else:
            found.append((trial, MUTED, ":", 1.1))
    rank = {trial.number: place for place, trial in enumerate(ranked)}
    found.sort(key=lambda each: -rank.get(each[0].number, total + 1))
    if not nothing(result):
        found.append((result.best, BEST_COLOR, "-", 3.0))
    return found


def contour(result: StudyResult, narrow: bool = False) -> bytes:
    """The score over the two numeric settings that matter most, between the trials' points."""
    surface = surface_of(result)
    if surface is None:
        raise ValueError("no surface to draw")
    names, trials, xs, ys, zs = surface
    entries = looks_in(result, trials)
    bands = _bands(zs)
    top = key_height(entries, narrow) + 6
    width = width_px(narrow)
    right = width - 16 if narrow else width - 190
    height = 260 if narrow else 340
    figure = sheet(width, top + height + (52 + (22 * 3 if narrow else 0)))
    axes = panel(figure, 58, top, right, top + height)
    axes.tricontourf(xs, ys, zs, levels=bands, colors=SHADES[: len(bands) - 1], zorder=1)
    placed = {trial.number: (x, y) for trial, x, y in zip(trials, xs, ys)}
    for trial, x, y in zip(trials, xs, ys):
        wide = 20.0 if look_of(result, trial) == "best" else 9.5
        axes.plot([x], [y], marker="o", ms=wide, mew=0, color=HALO, zorder=3, clip_on=False)
    dots(axes, result, [(trial, *placed[trial.number]) for trial in trials])
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    first, second = (result.space[name] for name in names)
    dimension_axis(axes.xaxis, first, right - 58)
    dimension_axis(axes.yaxis, second, height)
    logs = [" (log scale)" if each.get("log") else "" for each in (first, second)]
    x_title(axes, short(names[0], 30) + logs[0], height)
    write(axes, -46 / (right - 58), 0.5, short(names[1], 30) + logs[1], transform=axes.transAxes,
          rotation=90, ha="center", color=MUTED, fontsize=12.5)  # fmt: skip
    _band_key(figure, result, bands, (width, top, height), narrow)
    key(figure, entries, narrow)
    return svg(figure)


def surface_of(
    result: StudyResult,
) -> tuple[list[str], list[Trial], list[float], list[float], list[float]] | None:
    """The two settings, and the complete trials with their places and scores in shown units.

    None where there are fewer than two numeric settings, too few trials, or no surface between
    them. Scores outside the frame count at its edge, so that a few trials at chance leave room.
    """
    import numpy as np

    names = [name for name in by_importance(result) if not is_choice(result.space[name])][:2]
    if len(names) < 2:
        return None
    limits = frame(result)
    at: dict[tuple[float, float], tuple[Trial, float]] = {}
    for trial in result.complete:
        x, y = (share_of(result.space[name], trial.values.get(name)) for name in names)
        if math.isfinite(x) and math.isfinite(y):
            at[x, y] = (trial, height_of(result, trial, limits))  # one mark for equal settings
    if len(at) < LEAST_FOR_CONTOUR:
        return None
    cloud = np.array(list(at))
    spread = np.linalg.svd(cloud - cloud.mean(axis=0), compute_uv=False)
    zs = [z for _, z in at.values()]
    if spread[1] < 1e-3 or not max(zs) > min(zs):
        return None
    return names, [t for t, _ in at.values()], list(cloud[:, 0]), list(cloud[:, 1]), zs


def _bands(zs: Sequence[float]) -> list[float]:
    """Limits of five bands of equal width over the scores, the ends a little outside."""
    low, high = min(zs), max(zs)
    step = (high - low) / len(SHADES)
    inner = [low + step * place for place in range(1, len(SHADES))]
    return [low - 1e-6 * step, *inner, high + 1e-6 * step]


def _band_key(
    figure: Figure,
    result: StudyResult,
    bands: Sequence[float],
    box: tuple[float, float, float],
    narrow: bool,
) -> None:
    width, top, height = box
    ground = overlay(figure)
    step = bands[2] - bands[1]
    places = min(6, max(0, 1 - math.floor(math.log10(step))))
    unit = scale(result.metric).value_unit
    texts = [
        f"{number(low, places)} to {number(high, places)}{unit}"
        for low, high in itertools.pairwise(bands)
    ]
    x0, y0 = (8.0, top + height + 58.0) if narrow else (width - 168.0, top + 18.0)
    if not narrow:
        write(ground, x0, y0 - 12, with_unit(result.metric), fontsize=12, weight="bold")
        y0 += 12
    for place, (text, shade) in enumerate(zip(reversed(texts), reversed(SHADES))):
        x = x0 + (place % 2) * 170 if narrow else x0
        y = y0 + (place // 2 if narrow else place) * 22
        ground.fill_between([x, x + 18], y - 7, y + 7, color=shade, lw=0)
        write(ground, x + 26, y, text, fontsize=12, color=INK)


def _pruned(result: StudyResult) -> Any:
    return lambda trial: stopped(result, trial) and not trial.diverged


def _some_died(result: StudyResult) -> bool:
    return any(trial.diverged for trial in result.trials)
