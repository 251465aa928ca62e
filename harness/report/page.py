"""The HTML report: one file, no JavaScript, nothing loaded from anywhere.

What comes in: a `Summary` and the `ComparisonData` it was made of. What goes out: UTF-8 bytes, the
same each time. Everything a person typed passes through Jinja2's autoescape; the page's own policy
forbids scripts and requests even so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.report.figures import FIGURES
from harness.report.headline import (
    by_effect,
    claim_words,
    difference_places,
    level_text,
    size,
    smallest_text,
)
from harness.report.learning import POINTS_IN_ALL, learning
from harness.report.markup import Plate, data_uri, fill
from harness.report.method import facts, method
from harness.report.notices import divergence_text, forecast_text, look_text, partial_text
from harness.report.overview import Item, overview, title
from harness.report.tables import (
    curve_tables,
    difference_table,
    results_table,
    runs_table,
    value_table,
)
from harness.report.tuned_figures import TUNING_FIGURES
from harness.report.tuned_page import fairness_section
from harness.report.wording import clean, listed, metric_title, number, scale

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.tracking import ComparisonData

TEMPLATE = "report.html.j2"
LIMIT_BYTES = 1_900_000
"""A page of several experiments gives up detail until it is smaller than this."""


Drawn = dict[tuple[str, bool, int], str]
"""(figure, for a phone, points) -> its data URI."""


@dataclass(frozen=True)
class Detail:
    """How much of the figures a page has: points of thin lines, pictures for a phone, curves."""

    points: int
    narrow: bool = True
    curves: bool = True


def html(summary: Summary, data: ComparisonData) -> bytes:
    """The report as a self-contained HTML page."""
    view = _view(summary, data, Detail(POINTS_IN_ALL), {})
    return fill(TEMPLATE, title=view["title"], reports=[view], contents=[])


def html_list(items: Sequence[Item]) -> bytes:
    """Several reports in one page, under a list of what each found."""
    lines = overview(items)
    whole = {"title": title(items), "contents": lines}
    share = max(POINTS_IN_ALL // max(1, len(items)), 1)
    drawn: list[Drawn] = [{} for _ in items]
    page = b""
    for detail in (
        Detail(share),
        Detail(0),
        Detail(0, narrow=False),
        Detail(0, narrow=False, curves=False),
    ):
        views = [
            _view(summary, data, detail, known) | {"anchor": line.anchor}
            for line, (summary, data), known in zip(lines, items, drawn)
        ]
        page = fill(TEMPLATE, **whole, reports=views)
        if len(page) <= LIMIT_BYTES:
            break
    return page


def _view(summary: Summary, data: ComparisonData, detail: Detail, drawn: Drawn) -> dict[str, Any]:
    name, dataset = clean(summary.experiment), clean(summary.dataset.name)
    stand_in = summary.dataset.stand_in_for
    shown_stand_in = f" (stand-in for {clean(stand_in)})" if stand_in else ""
    return {
        "anchor": "",
        "title": f"{name} on {dataset}",
        "eyebrow": f"{name} on {dataset}{shown_stand_in}",
        "question": clean(summary.question),
        "partial": f"Partial: {clean(partial_text(summary))}." if summary.partial else "",
        "card": _card(summary),
        "next_step": summary.next_step,
        "figures": _plates(summary, detail, drawn),
        "fairness": fairness_section(summary, lambda each: _pictures(each, summary, detail, drawn)),
        "results": results_table(summary),
        "divergence": clean(divergence_text(summary)),
        "notes": _notes(summary),
        "method": [clean(each) for each in method(summary)],
        "caveats": summary.caveats,
        "command": clean(summary.reproduce.command),
        "facts": facts(summary, data),
        "runs": [runs_table(summary)],
    }


def _card(summary: Summary) -> dict[str, Any]:
    """The verdict: its word, what was claimed, and the answer with its number."""
    single = summary.contrasts[0] if len(summary.contrasts) == 1 else None
    claim = summary.claim
    verdict = claim.verdict if claim else single.verdict if single else ""
    words = claim_words(claim) if claim else verdict
    said = clean(summary.headline)
    opening = f"{words.capitalize()}{'.' if claim else ':'} "
    # the word above says it already
    answer = said.removeprefix(opening) if claim or verdict == "inconclusive" else said
    aside = [clean(each) for each in (forecast_text(summary), look_text(summary)) if each]
    return {
        "verdict": verdict,
        "words": words + (", exploratory" if summary.looks and summary.looks.exploratory else ""),
        "chips": [] if single else [_chip(summary, each) for each in by_effect(summary)],
        "hypothesis": clean(claim.hypothesis) if claim else "",
        "answer": answer,
        "condition": " ".join([clean(summary.condition), *aside]),
    }


def _chip(summary: Summary, contrast: Any) -> dict[str, str]:
    unit, places = scale(summary.metric), difference_places(summary)
    amount = number(contrast.difference * unit.factor, places, signed=True)
    text = f"{clean(contrast.variant)} {contrast.verdict} {amount} {unit.difference_unit}".rstrip()
    return {"verdict": contrast.verdict, "text": text}


def _plates(summary: Summary, detail: Detail, drawn: Drawn) -> list[Plate]:
    plates = []
    if by_effect(summary):
        plates.append(_forest(summary, detail, drawn))
    if any(each.n for each in summary.variants):
        plates.append(_strip(summary, detail, drawn))
    if summary.curves and detail.curves:
        plates.append(_learning(summary, detail, drawn))
    return plates


def _forest(summary: Summary, detail: Detail, drawn: Drawn) -> Plate:
    paired = all(each.n for each in summary.contrasts)
    kind = "paired t" if paired else "t (Welch's, unpaired, where no seed is shared)"
    level = level_text(summary.contrasts)
    better = "Higher" if summary.goal == "max" else "Lower"
    band = (
        f" Grey band: plus or minus {smallest_text(summary)}, the smallest effect of interest."
        if summary.smallest_effect
        else ""
    )
    findings = "; ".join(
        f"{each.variant} minus {each.baseline}: {size(summary, each)}, {each.verdict}"
        for each in by_effect(summary)
    )
    return Plate(
        title="How large is the difference?",
        lead=f"Each variant minus {clean(summary.baseline)}, within the same seed. "
        f"{better} is better.",
        **_pictures("forest", summary, detail, drawn),
        alt=clean(f"Forest plot of paired differences. {findings}."),
        caption=f"Mark: mean difference. Bar: {level} {kind} interval, not adjusted for the "
        f"number of contrasts. Ticks: one seed each.{band}",
        tables=(difference_table(summary),),
    )


def _strip(summary: Summary, detail: Detail, drawn: Drawn) -> Plate:
    unit = scale(summary.metric)
    means = listed(
        f"{each.name} {number(each.mean * unit.factor, 2)}{unit.value_unit}"
        for each in summary.variants
        if each.n
    )
    dead = sum(each.diverged for each in summary.variants)
    level = f" A cross is a diverged run, at the level of chance ({dead} in all)." if dead else ""
    return Plate(
        title="Every seed",
        lead="All results behind the means. Parallel lines mean that a seed is easy or hard for "
        "every variant, and that pairing pays.",
        **_pictures("strip", summary, detail, drawn),
        alt=clean(f"Strip plot of {metric_title(summary.metric)} by variant. Means: {means}."),
        caption="One mark per seed; a line joins the results of one seed; the upright bar is the "
        f"mean. Marks that would cover each other are stacked.{level}",
        tables=(value_table(summary),),
    )


def _learning(summary: Summary, detail: Detail, drawn: Drawn) -> Plate:
    ends = "; ".join(
        f"{curve.variant} {metric_title(curve.column)} ends at "
        f"{number(known[-1] * scale(curve.column).factor, 3)}{scale(curve.column).value_unit}"
        for curve in summary.curves
        if (known := [each for each in curve.mean if math.isfinite(each)])
    )
    died = any(curve.died for curve in summary.curves)
    return Plate(
        title="How they learned",
        lead="The validation set is drawn anew for each seed; the test set plays no part here.",
        **_pictures("learning", summary, detail, drawn),
        alt=clean(f"Learning curves, mean over seeds: {ends}."),
        caption=("Thin line: one seed. " if detail.points else "")
        + "Thick line: mean. Band: pointwise 95% t interval across "
        "seeds, for one epoch at a time. The steep start may lie outside the frame."
        + (" A cross marks where a run diverged; mean and band leave it out." if died else ""),
        tables=curve_tables(summary),
    )


def _pictures(name: str, summary: Summary, detail: Detail, drawn: Drawn) -> dict[str, str]:
    """The figure as data URIs; `drawn` keeps them for a page that is made again with less."""
    thinned = name == "learning"
    draw = partial(learning, points=detail.points) if thinned else (FIGURES | TUNING_FIGURES)[name]

    def picture(narrow: bool) -> str:
        key = (name, narrow, detail.points if thinned else 0)
        if key not in drawn:
            drawn[key] = data_uri(draw(summary, narrow))
        return drawn[key]

    return {"wide": picture(False), "narrow": picture(True) if detail.narrow else ""}


def _notes(summary: Summary) -> list[str]:
    said = []
    if len(summary.contrasts) > 1:
        said.append(
            f"p is adjusted for {len(summary.contrasts)} contrasts (Holm); the intervals are not."
        )
    said.append(
        "SD: standard deviation over seeds. g: Hedges' g of the paired differences. "
        "Digits: two significant ones of the standard error."
    )
    return said
