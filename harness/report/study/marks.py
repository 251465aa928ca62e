"""How the trials of a study look: marks by state, the frame of the scores, keys, and axes.

What comes in: a `StudyResult` and axes. What goes out: drawings that mean the same in every figure
of a study. The guarantee: a state is a shape before it is a colour, and a trial outside the frame
is drawn on its edge instead of left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.report.canvas import (
    INK,
    MARKS,
    MUTED,
    NARROW_PX,
    WIDE_PX,
    overlay,
    short,
    ticks,
    write,
)
from harness.report.study.found import default_trial, nothing, state
from harness.report.wording import scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from harness.study import StudyResult, Trial

BEST_COLOR = MARKS[0].color
DEAD_COLOR = MARKS[1].color
KEY_STEP = 22
"""Pixels from one row of a key to the next."""


@dataclass(frozen=True)
class Look:
    """A mark; `hollow` has no filling, `dash` is that of its line where it has one."""

    name: str
    marker: str
    color: str
    size: float = 5.0
    hollow: bool = False
    dash: str = ""


LOOKS = {
    "complete": Look("trial", "o", MUTED),
    "pruned": Look("pruned", "v", MUTED, 6.5, hollow=True),
    "diverged": Look("diverged", "x", DEAD_COLOR, 6.5, hollow=True),
    "default": Look("default", "D", INK, 7.5, hollow=True),
    "best": Look("best", "*", BEST_COLOR, 13.0),
}


def width_px(narrow: bool) -> int:
    """A figure's width for a phone or for a desk."""
    return NARROW_PX if narrow else WIDE_PX


def look_of(result: StudyResult, trial: Trial) -> str:
    """Which of `LOOKS` a trial has."""
    if not nothing(result) and trial.number == result.best.number:
        return "best"
    kind = state(result, trial)
    return "default" if kind == "complete" and result.is_default(trial) else kind


def looks_in(result: StudyResult, trials: Iterable[Trial]) -> list[Look]:
    """The looks that these trials have, for a key."""
    found = {look_of(result, trial) for trial in trials}
    return [look for name, look in LOOKS.items() if name in found]


def frame(result: StudyResult, trials: Sequence[Trial] | None = None) -> tuple[float, float]:
    """Limits of the score in shown units: fitted to the better trials, with a little room.

    A few trials at chance would press all the others into one line, so the worse end is that of
    a box plot's whisker over the complete trials.
    """
    factor = scale(result.metric).factor
    shown = result.trials if trials is None else trials
    complete = {trial.number for trial in result.complete}
    living = [t.score for t in shown if t.number in complete and not t.diverged]
    known = sorted(
        factor * each for each in living or [t.score for t in shown] if math.isfinite(each)
    )
    if not known:
        return 0.0, 1.0
    low, high = known[0], known[-1]
    first, third = known[len(known) // 4], known[(3 * len(known)) // 4]
    reach = 1.5 * (third - first)
    if reach > 0 and result.goal == "max":
        low = max(low, first - reach)
    elif reach > 0:
        high = min(high, third + reach)
    room = 0.06 * ((high - low) or abs(high) * 0.1 or 1.0)
    return low - room, high + room


def height_of(result: StudyResult, trial: Trial, limits: tuple[float, float]) -> float:
    """A trial's score in shown units, on the edge of the frame where it lies outside."""
    low, high = limits
    if not math.isfinite(trial.score):
        return low if result.goal == "max" else high
    return min(max(trial.score * scale(result.metric).factor, low), high)


def outside(result: StudyResult, limits: tuple[float, float]) -> int:
    """How many trials are drawn on the edge of the frame."""
    factor, (low, high) = scale(result.metric).factor, limits
    return sum(not low <= trial.score * factor <= high for trial in result.trials)


def round_ticks(count: int) -> MaxNLocator:
    """At most `count` numbers on an axis, in steps of 1, 2 or 5."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(count, steps=[1, 2, 5, 10])


def dots(axes: Axes, result: StudyResult, placed: Sequence[tuple[Trial, float, float]]) -> None:
    """Trials as marks at (x, y); the best one on top."""
    for layer, (name, look) in enumerate(LOOKS.items()):
        at = [(x, y) for trial, x, y in placed if look_of(result, trial) == name]
        if at:
            mark(axes, [x for x, _ in at], [y for _, y in at], look, zorder=4 + layer)


def mark(axes: Axes, xs: Sequence[float], ys: Sequence[float], look: Look, **more: Any) -> None:
    """Marks of one look."""
    options = {"zorder": 5, "clip_on": False, **more}
    axes.plot(
        xs,
        ys,
        ls="",
        marker=look.marker,
        ms=look.size,
        color=look.color,
        markerfacecolor="none" if look.hollow else look.color,
        mew=1.6 if look.hollow else 0,
        **options,
    )


def key_height(entries: Sequence[Look], narrow: bool) -> int:
    """Pixels that a key takes above the axes."""
    return KEY_STEP * len(_rows(entries, narrow)) + 8 if entries else 8


def key(figure: Figure, entries: Sequence[Look], narrow: bool, left: float = 4.0) -> None:
    """What the marks and lines mean, in rows from the top of the figure."""
    axes = overlay(figure)
    for row, shown in enumerate(_rows(entries, narrow, left)):
        y = 12.0 + KEY_STEP * row
        for x, look in shown:
            if look.dash:
                axes.plot([x, x + 24], [y, y], color=look.color, lw=2, ls=look.dash)
            if look.marker:
                mark(axes, [x + (12 if look.dash else 7)], [y], look)
            write(axes, x + (32 if look.dash else 20), y, look.name, fontsize=12, color=MUTED)


def _rows(
    entries: Sequence[Look], narrow: bool, left: float = 4.0
) -> list[list[tuple[float, Look]]]:
    rows: list[list[tuple[float, Look]]] = [[]]
    x = left
    for look in entries:
        wide = 7.0 * len(look.name) + (52 if look.dash else 38)
        if rows[-1] and x + wide > width_px(narrow):
            rows.append([])
            x = left
        rows[-1].append((x, look))
        x += wide
    return rows


def is_choice(dimension: Mapping[str, Any]) -> bool:
    """Whether a dimension is a list of options."""
    return bool(dimension["kind"] == "choice")


def share_of(dimension: Mapping[str, Any], value: Any) -> float:
    """Where a value lies in its dimension, from 0 to 1; NaN where it has no place there."""
    if is_choice(dimension):
        options = list(dimension["options"])
        place = _place(options, value)
        return math.nan if place is None else (place + 0.5) / len(options)
    low, high = float(dimension["low"]), float(dimension["high"])
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return math.nan
    at = float(value)
    if dimension.get("log"):
        if min(at, low) <= 0:
            return math.nan
        at, low, high = math.log(at), math.log(low), math.log(high)
    return min(max((at - low) / (high - low), 0.0), 1.0) if high > low else 0.5


def dimension_ticks(dimension: Mapping[str, Any], px: float) -> list[tuple[float, str]]:
    """(share, text) of the labels on an axis from 0 to 1, as many as `px` has room for."""
    from matplotlib.ticker import LogLocator

    if is_choice(dimension):
        options = dimension["options"]
        length = max(3, int(px / (7.5 * max(1, len(options)))))
        return [
            ((place + 0.5) / len(options), short(_option(option), length))
            for place, option in enumerate(options)
        ]
    low, high = float(dimension["low"]), float(dimension["high"])
    if not high > low:
        return [(0.5, f"{low:g}")]
    room = max(2, int(px / 58))
    values: Sequence[float] = ()
    if dimension.get("log"):
        for subs in ((1.0, 2.0, 5.0), (1.0,)):
            found = LogLocator(base=10, subs=subs, numticks=99).tick_values(low, high)
            values = [float(each) for each in found if low <= each <= high]
            if len(values) <= room:
                break
    elif dimension["kind"] == "int":
        values = ticks(min(room, 6), whole=True).tick_values(low, high)
    else:
        values = round_ticks(min(room, 6)).tick_values(low, high)
    slack = 1e-9 * (high - low)
    inside = [
        float(v) for v in values if low * (1 - 1e-9) - slack <= v <= high * (1 + 1e-9) + slack
    ]
    return [(share_of(dimension, each), f"{each:g}") for each in inside or [low, high]]


def dimension_axis(axis: Axis, dimension: Mapping[str, Any], px: float) -> None:
    """Labels of a dimension on an axis that runs from 0 to 1."""
    found = dimension_ticks(dimension, px)
    axis.set_ticks([at for at, _ in found], [text for _, text in found])


def by_importance(result: StudyResult) -> list[str]:
    """The settings of the space, those that matter most first."""
    shares: dict[str, float] = dict.fromkeys(result.space, 0.0)
    for found in result.importances.values():
        for name, share in found.items():
            if name in shares and math.isfinite(share):
                shares[name] += share
    return sorted(shares, key=lambda name: -shares[name])


def default_score(result: StudyResult) -> float:
    """The default's score in the study; NaN where it was not tried to the end."""
    trial = default_trial(result)
    tried = trial is not None and state(result, trial) == "complete"
    return trial.score if trial is not None and tried else math.nan


def _place(options: Sequence[Any], value: Any) -> int | None:
    """The position of an option; True is not 1 here, and a list is its tuple."""
    wanted = _plain(value)
    return next((place for place, each in enumerate(options) if _plain(each) == wanted), None)


def _plain(value: Any) -> tuple[bool, Any]:
    return isinstance(value, bool), tuple(value) if isinstance(value, list) else value


def _option(option: Any) -> str:
    if isinstance(option, Mapping):
        return str(option.get("kind", option))
    if isinstance(option, list | tuple):
        return "-".join(map(str, option)) or "none"
    return f"{option:g}" if isinstance(option, float) else str(option)
