"""Figures of a tuned comparison: the score against the learning rate, and the budget curves.

What comes in: a `Summary` whose `tuning` has studies. What goes out: SVG bytes for a desk or a
phone, the same bytes each time. A variant looks as it does in every figure of the report.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.report.canvas import (
    HALO,
    INK,
    MUTED,
    RULE,
    Mark,
    marks,
    panel,
    sheet,
    short,
    svg,
    with_unit,
    write,
    x_title,
)
from harness.report.study.found import drawn_scores, state, stopped
from harness.report.study.marks import (
    Look,
    dimension_axis,
    frame,
    height_of,
    key,
    key_height,
    round_ticks,
    share_of,
    width_px,
)
from harness.report.study.score import budgets

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.study import StudyResult, Trial

RATE = "optim.lr"


def studies_with_rate(summary: Summary) -> dict[str, StudyResult]:
    """Variant -> its study, of those that searched the learning rate."""
    found = summary.tuning.studies if summary.tuning else {}
    return {
        each.name: found[each.name]
        for each in summary.variants
        if each.name in found and _rated(found[each.name])
    }


def _rated(study: StudyResult) -> bool:
    return (
        RATE in study.space
        and bool(study.trials)
        and all(isinstance(trial.values.get(RATE), (int, float)) for trial in study.trials)
    )


def studies_with_curve(summary: Summary) -> dict[str, StudyResult]:
    """Variant -> its study, of those with trials enough for a budget curve."""
    found = summary.tuning.studies if summary.tuning else {}
    return {
        each.name: found[each.name]
        for each in summary.variants
        if each.name in found and len(drawn_scores(found[each.name])) > 1
    }


def rates(summary: Summary, narrow: bool = False) -> bytes:
    """Every trial's score against its learning rate; the chosen trials ringed."""
    studies = studies_with_rate(summary)
    looks = marks([each.name for each in summary.variants], summary.baseline)
    first = next(iter(studies.values()))
    axis = _together(studies)
    limits = _limits(studies)
    entries = [Look(short(name), looks[name].marker, looks[name].color, 6.5) for name in studies]
    entries.append(Look("chosen", "o", INK, 12.0, hollow=True))
    trials = [trial for study in studies.values() for trial in study.trials]
    if any(trial.diverged for trial in trials):
        entries.append(Look("diverged", "x", MUTED, 7.0, hollow=True))
    rate = _baseline_rate(summary)
    if len(studies) > 1 and math.isfinite(rate):
        entries.append(Look(f"{short(summary.baseline)}'s rate", "", MUTED, dash="--"))
    top = key_height(entries, narrow) + 26
    height = 230 if narrow else 300
    figure = sheet(width_px(narrow), top + height + 52)
    right = width_px(narrow) - 16
    axes = panel(figure, 46, top, right, top + height)
    if len(studies) > 1 and math.isfinite(rate):
        axes.axvline(share_of(axis, rate), color=MUTED, lw=1.2, ls="--", zorder=1)
    for name, study in studies.items():
        _variant(axes, study, looks[name], axis, limits)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(round_ticks(6))
    axes.grid(axis="y", color=RULE, lw=0.8)
    dimension_axis(axes.xaxis, axis, right - 46)
    write(
        axes, 0, 1 + 15 / height, with_unit(first.metric), transform=axes.transAxes, weight="bold"
    )
    x_title(axes, "learning rate" + (" (log scale)" if axis["log"] else ""), height)
    key(figure, entries, narrow)
    return svg(figure)


def _variant(
    axes: Any,
    study: StudyResult,
    look: Mark,
    axis: dict[str, Any],
    limits: tuple[float, float],
) -> None:
    at = {
        trial.number: (share_of(axis, trial.values.get(RATE)), height_of(study, trial, limits))
        for trial in study.trials
    }
    living = [t for t in study.complete if not t.diverged]
    if len(study.space) == 1:  # else other settings vary from one rate to the next
        ordered = sorted(at[trial.number] for trial in living)
        axes.plot(*zip(*ordered), color=look.color, lw=1.4, ls=look.dash, alpha=0.8, zorder=2)
    chosen = study.ranked[:1]
    for trial in chosen:
        axes.plot(*_point(at[trial.number]), marker="o", ms=19, mew=0, color=HALO, zorder=6)
        axes.plot(*_point(at[trial.number]), marker="o", ms=16, mew=1.8, color=INK,
                  markerfacecolor="none", zorder=7, clip_on=False)  # fmt: skip
    for trial in study.trials:
        axes.plot(*_point(at[trial.number]), ls="", clip_on=False, **_style(study, trial, look),
                  zorder=8 if trial in chosen else 5)  # fmt: skip


def _style(study: StudyResult, trial: Trial, look: Mark) -> dict[str, Any]:
    if state(study, trial) == "diverged":
        return {"marker": "x", "ms": 7, "mew": 1.8, "color": look.color}
    hollow = stopped(study, trial)
    return {
        "marker": look.marker,
        "ms": 6.5,
        "mew": 1.4 if hollow else 0,
        "color": look.color,
        "markerfacecolor": "none" if hollow else look.color,
    }


def _point(at: tuple[float, float]) -> tuple[list[float], list[float]]:
    return [at[0]], [at[1]]


def _together(studies: dict[str, StudyResult]) -> dict[str, Any]:
    """One axis over the ranges of all studies."""
    found = [study.space[RATE] for study in studies.values()]
    values = [
        float(each)
        for of in found
        for each in (of["options"] if of["kind"] == "choice" else (of["low"], of["high"]))
    ]
    log = min(values) > 0 and any(of.get("log") or of["kind"] == "choice" for of in found)
    return {"kind": "float", "low": min(values), "high": max(values), "log": log}


def _limits(studies: dict[str, StudyResult]) -> tuple[float, float]:
    """A frame that holds those of all studies with a trial that lived."""
    frames = [
        frame(study)
        for study in studies.values()
        if any(not trial.diverged for trial in study.complete)
    ] or [frame(study) for study in studies.values()]
    return min(low for low, _ in frames), max(high for _, high in frames)


def _baseline_rate(summary: Summary) -> float:
    chosen = summary.tuning.chosen.get(summary.baseline, {}) if summary.tuning else {}
    rate = chosen.get(RATE)
    return float(rate) if isinstance(rate, (int, float)) else math.nan


def curves(summary: Summary, narrow: bool = False) -> bytes:
    """Expected best of n trials, a curve for each variant."""
    looks = marks([each.name for each in summary.variants], summary.baseline)
    return budgets(studies_with_curve(summary), looks, narrow)


TUNING_FIGURES: dict[str, Callable[[Summary, bool], bytes]] = {
    "rates": rates,
    "budgets": curves,
}
