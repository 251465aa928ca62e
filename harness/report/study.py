"""What a study found: lines for the terminal, and two pictures.

In: a `StudyResult`. Out: the best settings as `--set` arguments, how they compare with the default
within the study, and SVG figures of the search and of which settings mattered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.report.canvas import (
    INK,
    MARKS,
    MUTED,
    RULE,
    fit_x,
    panel,
    sheet,
    svg,
    with_unit,
    write,
    x_title,
)
from harness.report.wording import number, plural, scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.study import StudyResult, Trial

BEST = MARKS[0].color


def lines(result: StudyResult) -> list[str]:
    """The best trial, the default beside it, and what the number is worth."""
    return list(_lines(result))


def _lines(result: StudyResult) -> Iterator[str]:
    drawn, best = result.plan, result.best
    study = drawn.study
    if len([trial for trial in result.trials if trial.diverged]) == len(result.trials):
        yield f"  every one of the {len(result.trials)} trials diverged: nothing to choose from"
        yield "  search lower learning rates: edit the space in the study's file"
        return
    settings = _arguments(best.values)
    yield f"  best     trial {best.number}   {drawn.metric} {_score(drawn.metric, best)}"
    yield f"           {settings}"
    default = next((t for t in result.trials if _is_default(result, t)), None)
    if default is not None and default is not best:
        unit = scale(drawn.metric)
        gain = number((best.score - default.score) * unit.factor, 2, signed=True, minus="-")
        yield (
            f"  default  trial {default.number}   {drawn.metric} {_score(drawn.metric, default)}"
            f"   (best - default {gain} {unit.difference_unit})".rstrip()
        )
    diverged = sum(trial.diverged for trial in result.trials)
    if diverged:
        yield f"  {diverged} of {len(result.trials)} trials diverged and count at chance"
    if result.importances:
        shares = ", ".join(f"{key} {share:.2f}" for key, share in result.importances.items())
        yield f"  matters  {shares}"
        yield "           (importance by PED-ANOVA: what sets the good trials apart)"
    yield f"  The best of {len(result.trials)} on one seed's validation rows flatters itself."
    yield f"  It was tuned for {study.variant}: other variants deserve a study of their own."
    yield "  On fresh seeds:"
    yield f"    harness run {study.experiment} {_fresh_run(result)}"


def _fresh_run(result: StudyResult) -> str:
    """Arguments that train with the best settings, all else as in the study, on other seeds."""
    drawn = result.plan.plan.outline
    settings = {**drawn.settings, **result.best.values}
    seeds = [seed for seed in range(9) if seed != result.plan.study.seed][:8]
    stated = drawn.experiment.base.data.name
    data = "" if drawn.stand_in_for or drawn.entry.name == stated else f"--data {drawn.entry.name} "
    return f"{data}--seeds {','.join(map(str, seeds))} {_arguments(settings)}"


def _arguments(settings: Mapping[str, Any]) -> str:
    return " ".join(f"--set {key}={_value(value)}" for key, value in settings.items())


def write_figures(result: StudyResult, folder: Path) -> list[Path]:
    """`history.svg` and, when there are enough trials, `importance.svg`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"history.svg": _history(result)}
    if result.importances:
        drawn["importance.svg"] = _importance(result)
    paths = []
    for name, picture in drawn.items():
        path = folder / name
        path.write_bytes(svg(picture))
        paths.append(path)
    return paths


def _history(result: StudyResult) -> Figure:
    """Every trial's value, and the best so far."""
    picture = sheet(720, 340)
    axes = panel(picture, 70, 24, 700, 282)
    unit = scale(result.plan.metric)
    pick = max if result.plan.goal == "max" else min
    numbers = [trial.number for trial in result.trials]
    values = [trial.score * unit.factor for trial in result.trials]
    so_far = [pick(values[: index + 1]) for index in range(len(values))]
    axes.plot(numbers, values, "o", color=MUTED, markersize=4.5, markeredgewidth=0)
    axes.plot(numbers, so_far, color=BEST, linewidth=2, drawstyle="steps-post")
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    # a few trials at chance would press all the others into one line
    shown = (
        sorted(values)[len(values) // 10 :]
        if pick is max
        else sorted(values)[: -len(values) // 10 or None]
    )
    low, high = min(shown), max(shown)
    room = 0.12 * (high - low or 1.0)
    axes.set_ylim(low - room, high + 1.5 * room)
    fit_x(axes, numbers)
    hidden = sum(not low - room <= value <= high + 1.5 * room for value in values)
    note = f"{plural(hidden, 'trial')} outside the frame" if hidden else ""
    at = {"transform": axes.transAxes}
    write(axes, 0.0, 1.05, with_unit(result.plan.metric), ha="left", color=MUTED, **at)
    write(axes, 1.0, 1.05, f"best so far: {so_far[-1]:.4g}", ha="right", color=BEST, **at)
    write(axes, 0.5, 1.05, note, ha="center", color=MUTED, fontsize=11.5, **at)
    x_title(axes, "trial", 258)
    return picture


def _importance(result: StudyResult) -> Figure:
    """A bar for each setting."""
    names = list(result.importances)[::-1]
    height = 70 + 34 * len(names)
    picture = sheet(720, height)
    axes = panel(picture, 190, 8, 660, height - 54)
    shares = [result.importances[name] for name in names]
    axes.barh(range(len(names)), shares, color=BEST, height=0.5)
    axes.set_yticks(range(len(names)), names, fontsize=13, color=INK)
    axes.set_xlim(0, 1)
    for position, share in enumerate(shares):
        write(axes, share + 0.012, position, f"{share:.2f}", ha="left")
    x_title(axes, "importance (PED-ANOVA, sums to 1)", height - 62)
    return picture


def _is_default(result: StudyResult, trial: Trial) -> bool:
    return dict(trial.values) == dict(result.plan.default)


def _score(metric: str, trial: Trial) -> str:
    return f"{trial.score:.4f}" if metric.endswith("accuracy") else f"{trial.score:.4g}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
