"""The figures of a study by name, and when each of them can be drawn.

A figure is two functions and a line in `FIGURES`: one draws, the other says why it cannot be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.study import score, space, time
from harness.report.study.found import contrasts, drawn_scores
from harness.report.study.marks import is_choice

if TYPE_CHECKING:
    from harness.study import StudyResult


@dataclass(frozen=True)
class Drawing:
    """How a figure is drawn, and why it is not.

    `draw` takes whether it is for a phone. `absent` is None where the figure can be drawn, else the
    reason, "" where it is none of the reader's concern.
    """

    draw: Callable[[StudyResult, bool], bytes]
    absent: Callable[[StudyResult], str | None]


def _no_trials(result: StudyResult) -> str | None:
    return None if result.trials else ""


def _no_budget(result: StudyResult) -> str | None:
    count = len(drawn_scores(result))
    return None if count > 1 else "fewer than two complete trials that the sampler drew"


def _no_importance(result: StudyResult) -> str | None:
    known = [share for each in result.importances.values() for share in each.values()]
    if any(map(math.isfinite, known)):
        return None
    return "importances need more trials, with scores that differ"


def _no_slices(result: StudyResult) -> str | None:
    return None if result.trials and result.space else ""


def _no_parallel(result: StudyResult) -> str | None:
    return None if result.trials and len(result.space) > 1 else ""


def _no_contour(result: StudyResult) -> str | None:
    if sum(not is_choice(each) for each in result.space.values()) < 2:
        return "fewer than two settings with a range"
    if space.surface_of(result) is None:
        least = space.LEAST_FOR_CONTOUR
        return f"fewer than {least} complete trials that differ in both settings and in score"
    return None


def _no_timeline(result: StudyResult) -> str | None:
    return None if time.timed(result) else "no trial has its times recorded"


def _no_curves(result: StudyResult) -> str | None:
    known = any(len(time.points_of(trial)) > 1 for trial in result.trials)
    return None if known else "no trial has a curve recorded"


def _no_front(result: StudyResult) -> str | None:
    if not result.cost:
        return ""
    return None if result.front else "no complete trial has a cost"


def _no_fresh(result: StudyResult) -> str | None:
    known = [each for each in contrasts(result) if math.isfinite(each.difference)]
    return None if known else ""


FIGURES: dict[str, Drawing] = {
    "fresh-seeds": Drawing(score.fresh_seeds, _no_fresh),
    "front": Drawing(score.front, _no_front),
    "history": Drawing(score.history, _no_trials),
    "budget": Drawing(score.budget_curve, _no_budget),
    "importance": Drawing(score.importance, _no_importance),
    "slice": Drawing(space.slices, _no_slices),
    "contour": Drawing(space.contour, _no_contour),
    "parallel": Drawing(space.parallel, _no_parallel),
    "curves": Drawing(time.curves, _no_curves),
    "timeline": Drawing(time.timeline, _no_timeline),
}
"""In the order of the page."""
