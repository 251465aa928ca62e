"""Figures of a study in time: when each trial ran, and how each one learned.

What comes in: a `StudyResult`. What goes out: SVG bytes for a desk or a phone, the same bytes each
time. A trial without times has no bar, one without a curve no line.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.report.canvas import (
    INK,
    MUTED,
    RULE,
    SHADES,
    panel,
    sheet,
    svg,
    ticks,
    with_unit,
    write,
    x_title,
)
from harness.report.study.found import nothing, state
from harness.report.study.marks import (
    BEST_COLOR,
    DEAD_COLOR,
    LOOKS,
    Look,
    key,
    key_height,
    mark,
    round_ticks,
    width_px,
)
from harness.report.wording import scale

if TYPE_CHECKING:
    from harness.study import StudyResult, Trial

POINTS = 9_000
"""Points of all lines together; more than a screen can show."""
MINUTES_FROM_S = 300.0


def timed(result: StudyResult) -> list[Trial]:
    """Trials whose start and end are known."""
    return [
        trial
        for trial in result.trials
        if math.isfinite(trial.started_at) and trial.ended_at >= trial.started_at
    ]


def timeline(result: StudyResult, narrow: bool = False) -> bytes:
    """A bar per trial from start to end: filled, hollow where pruned, crossed where diverged."""
    shown = timed(result)
    end = max(trial.ended_at for trial in shown)
    unit_s, unit = (60.0, "minutes") if end > MINUTES_FROM_S else (1.0, "seconds")
    states = {state(result, trial) for trial in shown}
    bars = {
        "complete": Look("complete", "s", MUTED, 9.0),
        "pruned": Look("pruned", "s", MUTED, 9.0, hollow=True),
        "diverged": LOOKS["diverged"],
    }
    entries = [bars[name] for name in bars if name in states]
    best = None if nothing(result) else result.best.number
    if best is not None:
        entries.append(LOOKS["best"])
    top = key_height(entries, narrow)
    row_px = min(18.0, max(3.5, 420 / len(shown)))
    height = max(row_px * len(shown), 40.0)
    figure = sheet(width_px(narrow), top + height + 54)
    axes = panel(figure, 46, top, width_px(narrow) - 24, top + height)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(0, (end or 1.0) / unit_s)
    axes.grid(axis="x", color=RULE, lw=0.8)
    for row, trial in enumerate(shown):
        kind = state(result, trial)
        color = BEST_COLOR if trial.number == best else MUTED
        start, stop = trial.started_at / unit_s, trial.ended_at / unit_s
        hollow = kind == "pruned"
        axes.barh(
            row,
            stop - start,
            left=start,
            height=0.7,
            facecolor="none" if hollow else color,
            edgecolor=color,
            linewidth=1.0 if hollow else 0,
        )
        if kind == "diverged":
            mark(axes, [stop], [row], Look("", "x", DEAD_COLOR, min(6.5, row_px), hollow=True))
        if trial.number == best:
            mark(axes, [stop], [row], LOOKS["best"])
    stride = max(1, math.ceil(len(shown) * 16 / height))
    axes.set_yticks(
        range(0, len(shown), stride), [str(each.number) for each in shown[::stride]], fontsize=11
    )
    axes.xaxis.set_major_locator(round_ticks(4 if narrow else 7))
    x_title(axes, f"{unit} since the first trial", height)
    key(figure, entries, narrow)
    return svg(figure)


def curves(result: StudyResult, narrow: bool = False) -> bytes:
    """The metric of every trial by epoch; a pruned one ends where it was stopped."""
    factor = scale(result.metric).factor
    drawn = [trial for trial in result.trials if points_of(trial)]
    best = None if nothing(result) else result.best.number
    kinds = {state(result, trial) for trial in drawn}
    entries = [Look("best", "", BEST_COLOR, dash="-")] if best is not None else []
    if any(result.is_default(trial) for trial in drawn):
        entries.append(Look("default", "", INK, dash="--"))
    entries.append(Look("other trials, the best stand out", "", SHADES[2], dash="-"))
    entries += [LOOKS[name] for name in ("pruned", "diverged") if name in kinds]
    top = key_height(entries, narrow) + 26
    height = 220 if narrow else 290
    figure = sheet(width_px(narrow), top + height + 52)
    axes = panel(figure, 46, top, width_px(narrow) - 16, top + height)
    limits = _curve_limits(result, drawn, factor)
    rank = {trial.number: place for place, trial in enumerate(result.ranked)}
    total = max(1, len(rank))
    for trial in sorted(drawn, key=lambda each: -rank.get(each.number, total)):
        points = points_of(trial)
        stride = max(1, math.ceil(len(points) * len(drawn) / POINTS))
        kept = [*points[:-1:stride], points[-1]]
        place = rank.get(trial.number, total - 1)
        color, wide, dash = SHADES[len(SHADES) - 1 - place * len(SHADES) // total], 1.0, "-"
        if trial.number == best:
            color, wide = BEST_COLOR, 2.8
        elif result.is_default(trial):
            color, wide, dash = INK, 1.8, "--"
        axes.plot(
            [epoch for epoch, _ in kept],
            [value * factor for _, value in kept],
            color=color,
            lw=wide,
            ls=dash,
            alpha=0.8 if wide == 1.0 else 1.0,
            zorder=2 + wide,
        )
        kind = state(result, trial)
        if kind != "complete":
            at = min(max(points[-1][1] * factor, limits[0]), limits[1])
            mark(axes, [points[-1][0]], [at], LOOKS[kind], zorder=6)
    last = max([result.epochs, *(points_of(trial)[-1][0] for trial in drawn)])
    axes.set_xlim(0, max(last, 1))
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(round_ticks(6))
    axes.xaxis.set_major_locator(ticks(6, whole=True))
    axes.grid(axis="y", color=RULE, lw=0.8)
    write(
        axes, 0, 1 + 15 / height, with_unit(result.metric), transform=axes.transAxes, weight="bold"
    )
    x_title(axes, "epoch", height)
    key(figure, entries, narrow)
    return svg(figure)


def points_of(trial: Trial) -> list[tuple[int, float]]:
    """(epoch, value) of a trial's curve, finite ones only."""
    return [(epoch, value) for epoch, value in enumerate(trial.curve) if math.isfinite(value)]


def _curve_limits(result: StudyResult, drawn: list[Trial], factor: float) -> tuple[float, float]:
    """Fitted to complete trials after their first tenth: the steep start would flatten the rest."""
    living = [trial for trial in drawn if state(result, trial) == "complete"] or drawn
    values = sorted(
        value * factor
        for trial in living
        for epoch, value in points_of(trial)
        if epoch >= points_of(trial)[-1][0] / 10
    )
    low, high = values[0], values[-1]
    first, third = values[len(values) // 4], values[3 * len(values) // 4]
    reach = 3 * (third - first)
    if reach > 0 and result.goal == "max":
        low = max(low, first - reach)
    elif reach > 0:
        high = min(high, third + reach)
    room = 0.05 * ((high - low) or abs(high) * 0.1 or 1.0)
    return low - room, high + room
