"""Figures of what a search found: history, budget curve, importances, front, fresh seeds.

What comes in: a `StudyResult`, or several for the budget curves of a tuned comparison. What goes
out: SVG bytes for a desk or a phone, the same bytes each time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.report.canvas import (
    BAND,
    INK,
    MARKS,
    MUTED,
    RULE,
    Mark,
    fit_x,
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
from harness.report.study.found import (
    budget,
    contrasts,
    cost_title,
    difference_text,
    winner,
)
from harness.report.study.marks import (
    BEST_COLOR,
    Look,
    default_score,
    dots,
    frame,
    height_of,
    key,
    key_height,
    looks_in,
    mark,
    round_ticks,
    width_px,
)
from harness.report.wording import scale
from harness.study import trial_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.study import StudyResult


def history(result: StudyResult, narrow: bool = False) -> bytes:
    """Every trial's score in order, and the best so far."""
    best = Look("best so far", "", BEST_COLOR, dash="-")
    entries = [*looks_in(result, result.trials), best]
    top, right = key_height(entries, narrow) + 26, width_px(narrow) - 12
    height = 190 if narrow else 230
    figure = sheet(width_px(narrow), top + height + 52)
    axes = panel(figure, 46, top, right, top + height)
    limits = frame(result)
    placed = [(each, float(each.number), height_of(result, each, limits)) for each in result.trials]
    steps = improvements(result)
    if steps:
        last = max(each.number for each in result.trials)
        factor = scale(result.metric).factor
        axes.plot(
            [*(number for number, _ in steps), last],
            [*(score * factor for _, score in steps), steps[-1][1] * factor],
            color=BEST_COLOR,
            lw=2,
            drawstyle="steps-post",
        )
    dots(axes, result, placed)
    _score_axis(axes, result.metric, limits, height)
    fit_x(axes, [each.number for each in result.trials])
    axes.xaxis.set_major_locator(ticks(6, whole=True))
    x_title(axes, "trial", height)
    key(figure, entries, narrow)
    return svg(figure)


def improvements(result: StudyResult) -> list[tuple[int, float]]:
    """(trial, score) of each complete trial that was the best when it ended, in order."""
    sign = 1 if result.goal == "max" else -1
    steps: list[tuple[int, float]] = []
    for trial in result.complete:
        if math.isfinite(trial.score) and (not steps or sign * trial.score > sign * steps[-1][1]):
            steps.append((trial.number, trial.score))
    return steps


def budget_curve(result: StudyResult, narrow: bool = False) -> bytes:
    """Expected best of n trials, and the default's score beside it."""
    return budgets({"": result}, {"": MARKS[0]}, narrow)


def budgets(
    results: Mapping[str, StudyResult], looks: Mapping[str, Mark], narrow: bool = False
) -> bytes:
    """Expected best of n trials for each of several studies of one metric.

    Unbiased and solid up to half of the trials, plug-in and dotted up to all of them.
    """
    metric = next(iter(results.values())).metric
    factor = scale(metric).factor
    several = len(results) > 1
    single = next(iter(results.values()))
    default = math.nan if several else default_score(single) * factor
    entries = [
        Look(short(name) or "expected best", looks[name].marker if several else "",
             looks[name].color, dash="-")
        for name in results
    ]  # fmt: skip
    entries += [Look("plug-in" if several else "plug-in, all trials", "", MUTED, dash=":")]
    if math.isfinite(default):
        entries += [Look("default", "", INK, dash="--")]
    top, right = key_height(entries, narrow) + 26, width_px(narrow) - 12
    height = 190 if narrow else 230
    figure = sheet(width_px(narrow), top + height + 52)
    axes = panel(figure, 46, top, right, top + height)
    drawn, longest = [default] if math.isfinite(default) else [], 1
    for name, result in results.items():
        solid, dotted = ([each * factor for each in curve] for curve in budget(result))
        look = looks[name]
        counts = range(1, len(dotted) + 1)
        axes.plot(counts, dotted, color=look.color, lw=1.6, ls=":")
        every = max(1, len(solid) // 6)
        axes.plot(
            counts[: len(solid)],
            solid,
            color=look.color,
            lw=2.2,
            marker=look.marker if several or len(solid) == 1 else "",
            markevery=every,
            ms=6,
            mew=0,
        )
        drawn += solid + dotted
        longest = max(longest, len(dotted))
    if math.isfinite(default):
        axes.axhline(default, color=INK, lw=1.2, ls="--")
    low, high = (min(drawn), max(drawn)) if drawn else (0.0, 1.0)
    if not several and len(dotted) > 3 and abs(dotted[1] - dotted[0]) > 0.5 * (high - low):
        # one trial at chance makes the first point steep: it would flatten the rest
        low, high = (dotted[1], high) if result.goal == "max" else (low, dotted[1])
        low, high = min(low, default), max(high, default)
    room = 0.08 * ((high - low) or abs(high) * 0.1 or 1.0)
    _score_axis(axes, metric, (low - room, high + room), height, "expected best ")
    axes.set_xlim(0.5, longest + 0.5)
    axes.xaxis.set_major_locator(ticks(6, whole=True))
    x_title(axes, "trials", height)
    key(figure, entries, narrow)
    return svg(figure)


def importance(result: StudyResult, narrow: bool = False) -> bytes:
    """The share of each setting, a bar for each evaluator: the first filled, the second hollow."""
    names = list(dict.fromkeys(name for each in result.importances.values() for name in each))
    first = next(iter(result.importances.values()))
    names.sort(key=lambda name: -first.get(name, 0.0))
    evaluators = list(result.importances)
    row_px = 26 + 17 * len(evaluators)
    entries = [
        Look(evaluator, "s", MARKS[place % len(MARKS)].color, 9.0, hollow=place > 0)
        for place, evaluator in enumerate(evaluators)
    ]
    top = key_height(entries, narrow)
    bottom = top + row_px * len(names)
    figure = sheet(width_px(narrow), bottom + 54)
    axes = panel(figure, 12, top, width_px(narrow) - 44, bottom)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom - top, 0)
    axes.set_yticks([])
    for row, name in enumerate(names):
        y = row_px * row + 11.0
        write(axes, 0, y, short(name, 40), weight="bold")
        for place, evaluator in enumerate(evaluators):
            share = result.importances[evaluator].get(name, math.nan)
            at, color = y + 17 + 17 * place, entries[place].color
            if not math.isfinite(share):
                continue
            axes.barh(
                at,
                share,
                height=11,
                facecolor="none" if place else color,
                edgecolor=color,
                linewidth=1.4,
            )
            write(axes, share + 0.012, at, f"{share:.2f}", fontsize=12)
    axes.xaxis.set_major_locator(ticks(5))
    x_title(axes, "share of importance, each evaluator's sum to 1", bottom - top)
    key(figure, entries, narrow)
    return svg(figure)


def front(result: StudyResult, narrow: bool = False) -> bytes:
    """Score against cost: every trial, and the ones that no other beats in both."""
    factor = scale(result.metric).factor
    best = Look("on the front", "s", BEST_COLOR, 8.5)
    plain = [each for each in looks_in(result, result.trials) if each.name != "best"]
    entries = [best, *plain]
    top, right = key_height(entries, narrow) + 26, width_px(narrow) - 20
    height = 220 if narrow else 290
    figure = sheet(width_px(narrow), top + height + 52)
    axes = panel(figure, 46, top, right, top + height)
    costly = [each for each in result.trials if each.cost is not None and math.isfinite(each.cost)]
    chosen = result.front
    limits = frame(result)
    costs = [float(each.cost or 0) for each in costly]
    logarithmic = bool(costs) and min(costs) > 0 and max(costs) > 12 * min(costs)
    if logarithmic:
        axes.set_xscale("log")
    others = [each for each in costly if each not in chosen]
    dots(axes, result, [(t, float(t.cost or 0), height_of(result, t, limits)) for t in others])
    xs = [float(each.cost or 0) for each in chosen]
    ys = [min(max(each.score * factor, limits[0]), limits[1]) for each in chosen]
    axes.plot(xs, ys, color=BEST_COLOR, lw=1.6, drawstyle="steps-post")
    mark(axes, xs, ys, best, zorder=9)
    below = -13 if result.goal == "max" else 13
    for trial, x, y in zip(chosen, xs, ys):
        axes.annotate(
            trial_name(trial.number),
            (x, y),
            (5, below),
            textcoords="offset points",
            fontsize=11.5,
            color=INK,
            va="center",
            annotation_clip=False,
            parse_math=False,
        )
    _score_axis(axes, result.metric, limits, height)
    _cost_axis(axes, costs, logarithmic, narrow)
    tail = " (log scale)" if logarithmic else ""
    x_title(axes, cost_title(result.cost or "cost") + tail, height)
    key(figure, entries, narrow)
    return svg(figure)


def fresh_seeds(result: StudyResult, narrow: bool = False) -> bytes:
    """Each candidate minus the default on fresh seeds: mean, interval, a tick per seed."""
    unit = scale(result.metric)
    shown = [each for each in contrasts(result) if math.isfinite(each.difference)]
    step, top = (62, 18) if narrow else (46, 10)
    width = width_px(narrow)
    left, right = (4, width - 8) if narrow else (132, 540)
    bottom = top + step * len(shown)
    figure = sheet(width, bottom + 54)
    axes = panel(figure, left, top, right, bottom)
    axes.set_ylim(-len(shown) + 0.5, 0.5)
    axes.set_yticks([])
    delta = (result.smallest_effect or 0) * unit.factor
    ends = [
        value * unit.factor
        for each in shown
        for value in (each.difference, *each.ci, *each.differences)
        if math.isfinite(value)
    ]
    reach = max(map(abs, ends), default=0.0) or 1.0
    fit_x(axes, [0.0, *ends, *((-delta, delta) if delta < 4 * reach else ())])
    ground = [(-row - 0.5, -row + 0.16) for row in range(len(shown))]
    for low, high in ground if narrow else [(-len(shown) + 0.5, 0.5)]:
        axes.fill_between([-delta, delta], low, high, color=BAND, lw=0, zorder=0)
        axes.plot([0, 0], [low, high], color=MUTED, lw=1.2, zorder=1, solid_capstyle="butt")
    beside = axes.get_yaxis_transform()
    chosen = winner(result)
    for row, each in enumerate(shown):
        look = MARKS[0] if chosen and each.variant == chosen.variant else MARKS[(row % 5) + 1]
        forest_row(axes, each, -row, look, unit.factor, 12 / step)
        name = f"{each.variant}, tuned" if look is MARKS[0] else each.variant
        text = difference_text(result, each)
        if narrow:
            write(axes, 0, -row + 0.34, name, transform=beside, weight="bold")
            write(axes, 1, -row + 0.34, text, transform=beside, ha="right", fontsize=12)
        else:
            write(axes, -(left - 4) / (right - left), -row, name, transform=beside, weight="bold")
            far = (width - 4 - left) / (right - left)
            write(axes, far, -row, text, transform=beside, ha="right")
    x_title(axes, f"difference in {with_unit(result.metric, difference=True)}", bottom - top)
    return svg(figure)


def _score_axis(
    axes: Axes, metric: str, limits: tuple[float, float], height: float, before: str = ""
) -> None:
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(round_ticks(6))
    axes.grid(axis="y", color=RULE, lw=0.8)
    write(axes, 0, 1 + 15 / height, f"{before}{with_unit(metric)}", transform=axes.transAxes,
          weight="bold")  # fmt: skip


def _cost_axis(axes: Axes, costs: Sequence[float], logarithmic: bool, narrow: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    if not logarithmic:
        fit_x(axes, costs)
        axes.xaxis.set_major_locator(ticks(4 if narrow else 6))
    else:
        axes.set_xlim(min(costs) / 1.25, max(costs) * 1.25)
        wide = max(costs) > 100 * min(costs)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _compact(value)))


def _compact(value: float) -> str:
    """`12k`, `3.5M`: a cost in an axis label."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
