"""The HTML report of a study: one file, no JavaScript, nothing loaded from anywhere.

What comes in: a `StudyResult`. What goes out: UTF-8 bytes, the same each time. A figure that cannot
be drawn is named with the reason, so that a reader does not look for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.report.markup import Plate, data_uri, fill
from harness.report.study.figures import FIGURES
from harness.report.study.found import (
    LEARNING_SAMPLERS,
    contrasts,
    cost_title,
    drawn_scores,
    importance_note,
    judged,
    pruning_text,
    stopped,
)
from harness.report.study.marks import by_importance, frame, outside
from harness.report.study.score import improvements
from harness.report.study.space import MOST_PANELS, surface_of
from harness.report.study.tables import (
    best_table,
    budget_table,
    curves_table,
    fresh_runs_table,
    fresh_table,
    history_table,
    importance_table,
    runs_table,
    score,
    slice_table,
    timeline_table,
    trials_table,
)
from harness.report.study.time import timed
from harness.report.study.words import Words, words_of
from harness.report.summary import NextStep
from harness.report.tables import Table
from harness.report.wording import clean, listed, metric_title, plural, scale

if TYPE_CHECKING:
    from harness.study import StudyResult


def study_html(result: StudyResult) -> bytes:
    """The report of a study as a self-contained HTML page."""
    said = words_of(result)
    later = fresh_runs_table(result)
    return fill(
        "study.html.j2",
        title=clean(result.question),
        said=said,
        card=_card(said),
        next_step=NextStep(said.advice, said.command) if said.command else None,
        figures=[
            _plate(result, name) for name, each in FIGURES.items() if each.absent(result) is None
        ],
        absent=[
            f"Not drawn: {name}, because {why}."
            for name, each in FIGURES.items()
            if (why := each.absent(result))
        ],
        best=best_table(result) if result.complete else None,
        trials=trials_table(result),
        command=clean(result.command),
        runs=[runs_table(result), *([later] if later else [])],
    )


def _card(said: Words) -> dict[str, Any]:
    return {
        "verdict": said.verdict,
        "words": said.verdict,
        "chips": [],
        "hypothesis": "",
        "answer": said.answer,
        "condition": said.condition,
    }


def _plate(result: StudyResult, name: str) -> Plate:
    draw = FIGURES[name].draw
    title, lead, alt, caption, tables = PLATES[name](result)
    return Plate(
        title=title,
        lead=clean(lead),
        wide=data_uri(draw(result, False)),
        narrow=data_uri(draw(result, True)),
        alt=clean(alt),
        caption=clean(caption),
        tables=tables,
    )


Text = tuple[str, str, str, str, tuple[Table, ...]]
"""Title, lead, alternative text, caption, tables."""


def _fresh(result: StudyResult) -> Text:
    told = "; ".join(judged(result, each, each.variant) for each in contrasts(result))
    band = (
        " Grey band: the smallest effect of interest, either way." if result.smallest_effect else ""
    )
    better = "Higher" if result.goal == "max" else "Lower"
    return (
        "Is the tuned setting better than the default?",
        f"Each candidate minus the default, within the same fresh seed. {better} is better.",
        f"Forest plot of differences from the default on fresh seeds. {told}.",
        "Mark: mean difference. Bar: 95% paired t interval, not adjusted for the number of "
        f"contrasts. Ticks: one seed each.{band}",
        (fresh_table(result),),
    )


def _front(result: StudyResult) -> Text:
    title = cost_title(result.cost or "cost")
    told = "; ".join(
        f"trial {t.number} {score(result, t.score)} at {t.cost:g}" for t in result.front if t.cost
    )
    return (
        f"What does a better score cost in {title}?",
        f"The marks on the line are the {plural(len(result.front), 'trial')} that no other beats "
        "in both.",
        f"Scatter of {metric_title(result.metric)} against {title}. On the front: {told}.",
        "The step line is the best score that could be had at a cost, from the trials made. Marks "
        "on the lower edge lie outside the frame.",
        (trials_table(result, result.front, "The trials on the front"),),
    )


def _history(result: StudyResult) -> Text:
    steps = improvements(result)
    last = f"trial {steps[-1][0]}" if steps else "no trial"
    unit = scale(result.metric).value_unit
    value = f" at {score(result, steps[-1][1])}{unit}" if steps else ""
    hidden = outside(result, frame(result))
    edge = f" {plural(hidden, 'trial')} outside the frame, on its edge." if hidden else ""
    return (
        "How did the search go?",
        f"The best so far was last improved by {last}, of {len(result.trials)}.",
        f"Score of each trial in order; the best is {last}{value}.",
        f"Line: best complete trial so far.{edge}"
        + (" A pruned trial shows its score when it was stopped." if _any_pruned(result) else ""),
        (history_table(result),),
    )


def _budget(result: StudyResult) -> Text:
    count = len(drawn_scores(result))
    learns = (
        f" The sampler ({result.sampler}) learns from earlier trials, so that the curve only "
        "describes this search: it does not say what another one would find."
        if result.sampler in LEARNING_SAMPLERS
        else ""
    )
    return (
        "Was the search long enough?",
        "The best score to expect from fewer trials. Where the curve is flat, more trials would "
        "not have found much.",
        f"Expected best score of 1 to {count} trials, rising towards the best one found.",
        "Solid: unbiased estimate, up to half of the trials. Dotted: plug-in estimate, up to all "
        "of them, biased towards the worse. Nothing is extrapolated. Complete trials only, without "
        f"the default that was put first. It assumes trials drawn independently.{learns}",
        (budget_table({"": result}),),
    )


def _importance(result: StudyResult) -> Text:
    names = list(result.importances)
    first = result.importances[names[0]]
    top = max(first, key=lambda name: first[name]) if first else ""
    told = "; ".join(
        f"{evaluator}: " + ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        for evaluator, shares in result.importances.items()
    )
    return (
        "Which settings mattered?",
        f"{top} most, by {names[0]}."
        + (" Where the two differ, they answer different questions." if names[1:] else ""),
        f"Bars of importance. {told}.",
        " ".join(f"{name}: {note}." for name in names if (note := importance_note(name)))
        + " Shares are of this space: a wider one has others.",
        (importance_table(result),),
    )


def _slice(result: StudyResult) -> Text:
    left = len(result.space) - MOST_PANELS
    more = f" {plural(left, 'setting')} that matter less are in the table." if left > 0 else ""
    return (
        "The score against each setting",
        "Every trial once in each panel, at its value of that setting. The other settings vary "
        "too, so the upper rim matters more than the cloud."
        if result.goal == "max"
        else "Every trial once in each panel, at its value of that setting. The other settings "
        "vary too, so the lower rim matters more than the cloud.",
        f"Scatter plots of {metric_title(result.metric)} against "
        f"{listed(by_importance(result)[:MOST_PANELS])}.",
        "Marks on the edge lie outside the frame; diverged trials count as an untrained model."
        + more,
        (slice_table(result),),
    )


def _contour(result: StudyResult) -> Text:
    surface = surface_of(result)
    names = surface[0] if surface else []
    count = len(surface[1]) if surface else 0
    return (
        "Where is it good?",
        f"The score between the trials, over {listed(names)}; the more a "
        "shade stands out from the page, the higher."
        if result.goal == "max"
        else f"The score between the trials, over {listed(names)}. Low is good.",
        f"Filled contour of {metric_title(result.metric)} over {listed(names)} with "
        f"{plural(count, 'trial')}.",
        f"Linear interpolation between {plural(count, 'complete trial')}; nothing is drawn outside "
        "of them. Other settings vary from point to point. Scores outside the frame of the other "
        "figures count at its edge.",
        (trials_table(result, surface[1] if surface else (), "The trials behind the surface"),),
    )


def _parallel(result: StudyResult) -> Text:
    return (
        "What do good trials share?",
        "Each line is a trial, from setting to setting to its score. Where the lines that "
        "stand out meet, good trials agree.",
        f"Parallel coordinates of {listed([*by_importance(result)[:MOST_PANELS], 'score'])}.",
        "Shade: fifth of the ranking, the best stands out most. The thick line with dots is "
        "the best trial.",
        (best_table(result),) if result.complete else (trials_table(result),),
    )


def _curves(result: StudyResult) -> Text:
    return (
        "How did the trials learn?",
        "The metric by epoch, the mean over a trial's seeds."
        + (" A pruned trial ends where it was stopped." if _any_pruned(result) else ""),
        f"Learning curves of {plural(len(result.trials), 'trial')}.",
        "Thick: the best trial. Dashed: the default. The steep start may lie outside the frame.",
        (curves_table(result),),
    )


def _timeline(result: StudyResult) -> Text:
    seconds = max(trial.ended_at for trial in timed(result))
    saved = f" {text[:1].upper()}{text[1:]}." if (text := pruning_text(result)) else ""
    return (
        "When did each trial run?",
        f"The search took {_duration(seconds)}.{saved} Bars that share start and end were trained "
        "together.",
        f"Timeline of {plural(len(timed(result)), 'trial')} over {_duration(seconds)}.",
        "A row per trial, numbered at the left: filled bars ran to the end, hollow ones were "
        "stopped early, a cross marks divergence, the star is the best trial.",
        (timeline_table(result),),
    )


def _any_pruned(result: StudyResult) -> bool:
    return any(stopped(result, trial) for trial in result.trials)


def _duration(seconds: float) -> str:
    return f"{seconds:.3g} seconds" if seconds < 300 else f"{seconds / 60:.3g} minutes"


PLATES: dict[str, Callable[[StudyResult], Text]] = {
    "fresh-seeds": _fresh,
    "front": _front,
    "history": _history,
    "budget": _budget,
    "importance": _importance,
    "slice": _slice,
    "contour": _contour,
    "parallel": _parallel,
    "curves": _curves,
    "timeline": _timeline,
}
