"""The part of a page that says how fair the comparison is: sentences, a table, two figures.

What comes in: a `Summary` and a way to get pictures. What goes out: values for the template, none
where nothing was tuned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.markup import Plate
from harness.report.study.found import LEARNING_SAMPLERS
from harness.report.study.tables import budget_table, score, score_title
from harness.report.tables import Table
from harness.report.tuned import fairness, tuning_table
from harness.report.tuned_figures import RATE, studies_with_curve, studies_with_rate
from harness.report.wording import clean, listed, metric_title, plural

if TYPE_CHECKING:
    from harness.report.summary import Summary

Pictures = Callable[[str], dict[str, str]]
"""Name of a figure -> its `wide` and `narrow` data URIs."""


@dataclass(frozen=True)
class Fairness:
    """What the section holds."""

    said: tuple[str, ...]
    table: Table
    plates: tuple[Plate, ...]


def fairness_section(summary: Summary, pictures: Pictures) -> Fairness | None:
    """The section "Was it fair?"; None where the settings are shared and untuned."""
    tuning = summary.tuning
    if tuning is None:
        return None
    plates = []
    if studies_with_rate(summary):
        plates.append(_rates(summary, pictures))
    if studies_with_curve(summary):
        plates.append(_budgets(summary, pictures))
    said = tuple(clean(each) for each in fairness(summary, tuning))
    return Fairness(said, tuning_table(summary, tuning), tuple(plates))


def _rates(summary: Summary, pictures: Pictures) -> Plate:
    studies = studies_with_rate(summary)
    first = next(iter(studies.values()))
    told = "; ".join(
        f"{name} best at {study.best.values[RATE]:.3g}, {score(study, study.best.score)}"
        for name, study in studies.items()
        if study.complete
    )
    line = (
        " A line joins the trials of one variant."
        if all(len(study.space) == 1 for study in studies.values())
        else " Other settings vary from trial to trial, so the upper rim matters more."
        if first.goal == "max"
        else " Other settings vary from trial to trial, so the lower rim matters more."
    )
    return Plate(
        title="How much does the learning rate matter?",
        lead="Every trial at its learning rate. Where the best rates lie apart, one rate for all "
        "would have favoured somebody."
        if len(studies) > 1
        else "Every trial of the one study at its learning rate.",
        **pictures("rates"),
        alt=clean(f"{metric_title(first.metric)} against the learning rate. {told}."),
        caption="One mark per trial, a shape for each variant; the chosen ones are ringed, crosses "
        f"diverged, hollow marks were stopped early.{line} Marks on the edge lie outside the "
        "frame.",
        tables=(_rate_table(summary),),
    )


def _rate_table(summary: Summary) -> Table:
    studies = studies_with_rate(summary)
    first = next(iter(studies.values()))
    rows = [
        (
            clean(name),
            f"t{trial.number}",
            f"{trial.values[RATE]:.3g}",
            score(study, trial.score),
            "diverged" if trial.diverged else "",
        )
        for name, study in studies.items()
        for trial in sorted(study.trials, key=lambda each: float(each.values[RATE]))
    ]
    return Table(
        "Trials by learning rate",
        ("variant", "trial", "learning rate", score_title(first), ""),
        tuple(rows),
        frozenset({0, 1, 4}),
    )


def _budgets(summary: Summary, pictures: Pictures) -> Plate:
    studies = studies_with_curve(summary)
    learns = sorted({study.sampler for study in studies.values()} & LEARNING_SAMPLERS)
    warned = (
        f" The sampler ({listed(learns)}) learns from earlier trials, so that the curves only "
        "describe these searches."
        if learns
        else ""
    )
    counts = ", ".join(
        f"{name} {plural(len(study.complete), 'complete trial')}" for name, study in studies.items()
    )
    return Plate(
        title="Did each variant get trials enough?",
        lead="The best validation score to expect from fewer trials. Where curves cross, the "
        "answer depends on the budget.",
        **pictures("budgets"),
        alt=clean(f"Expected best score by number of trials: {counts}."),
        caption="Solid: unbiased estimate, up to half of the trials. Dotted: plug-in estimate, up "
        "to all of them, biased towards the worse. Nothing is extrapolated. Complete trials "
        f"without the default that was put first. It assumes trials drawn independently.{warned}",
        tables=(budget_table(studies),),
    )
