"""The HTML report: one file, no JavaScript, nothing loaded from anywhere.

What comes in: a `Summary` and the `ComparisonData` it was made of. What goes out: UTF-8 bytes, the
same each time. Everything a person typed passes through Jinja2's autoescape; the page's own policy
forbids scripts and requests even so.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.report.figures import FIGURES, by_effect
from harness.report.headline import difference_places, size, smallest_text
from harness.report.method import facts, method
from harness.report.tables import (
    Table,
    curve_tables,
    difference_table,
    results_table,
    runs_table,
    value_table,
)
from harness.report.wording import clean, listed, metric_title, number, scale

if TYPE_CHECKING:
    from harness.report.summary import Summary
    from harness.tracking import ComparisonData

SYMBOLS = {
    "better": "\N{CHECK MARK}",
    "worse": "\N{BALLOT X}",
    "equivalent": "\N{ALMOST EQUAL TO}",
    "inconclusive": "?",
}


@dataclass(frozen=True)
class Plate:
    """A figure with the words and numbers that belong to it; `wide` and `narrow` are data URIs."""

    title: str
    lead: str
    wide: str
    narrow: str
    alt: str
    caption: str
    tables: tuple[Table, ...]


def html(summary: Summary, data: ComparisonData) -> bytes:
    """The report as a self-contained HTML page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        # select_autoescape would leave a .j2 template unescaped
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
    )
    template = environment.get_template("report.html.j2")
    return template.render(_view(summary, data)).encode()


def _view(summary: Summary, data: ComparisonData) -> dict[str, Any]:
    name, dataset = clean(summary.experiment), clean(summary.dataset.name)
    stand_in = summary.dataset.stand_in_for
    single = summary.contrasts[0] if len(summary.contrasts) == 1 else None
    shown_stand_in = f" (stand-in for {clean(stand_in)})" if stand_in else ""
    return {
        "title": f"{name} on {dataset}",
        "eyebrow": f"{name} on {dataset}{shown_stand_in}",
        "question": clean(summary.question),
        "partial": f"Partial: {summary.done} of {summary.planned} cells are finished."
        if summary.partial
        else "",
        "verdict": single.verdict if single else None,
        "chips": [] if single else [_chip(summary, each) for each in by_effect(summary)],
        "symbols": SYMBOLS,
        "headline": clean(summary.headline).removeprefix("Inconclusive: ")
        if single
        else clean(summary.headline),
        "condition": clean(summary.condition),
        "next_step": summary.next_step,
        "figures": _plates(summary),
        "results": results_table(summary),
        "notes": _notes(summary),
        "method": [clean(each) for each in method(summary)],
        "caveats": summary.caveats,
        "command": clean(summary.reproduce.command),
        "facts": facts(summary, data),
        "runs": runs_table(summary),
    }


def _chip(summary: Summary, contrast: Any) -> dict[str, str]:
    unit, places = scale(summary.metric), difference_places(summary)
    amount = number(contrast.difference * unit.factor, places, signed=True)
    text = f"{clean(contrast.variant)} {contrast.verdict} {amount} {unit.difference_unit}".rstrip()
    return {"verdict": contrast.verdict, "text": text}


def _plates(summary: Summary) -> list[Plate]:
    plates = []
    if by_effect(summary):
        plates.append(_forest(summary))
    if any(each.n for each in summary.variants):
        plates.append(_strip(summary))
    if summary.curves:
        plates.append(_learning(summary))
    return plates


def _forest(summary: Summary) -> Plate:
    paired = all(each.n for each in summary.contrasts)
    kind = "paired t" if paired else "t (Welch's, unpaired, where no seed is shared)"
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
        **_pictures("forest", summary),
        alt=clean(f"Forest plot of paired differences. {findings}."),
        caption=f"Mark: mean difference. Bar: 95% {kind} interval, not adjusted for the number of "
        f"contrasts. Ticks: one seed each.{band}",
        tables=(difference_table(summary),),
    )


def _strip(summary: Summary) -> Plate:
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
        **_pictures("strip", summary),
        alt=clean(f"Strip plot of {metric_title(summary.metric)} by variant. Means: {means}."),
        caption="One mark per seed; a line joins the results of one seed; the upright bar is the "
        f"mean. Marks that would cover each other are stacked.{level}",
        tables=(value_table(summary),),
    )


def _learning(summary: Summary) -> Plate:
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
        **_pictures("learning", summary),
        alt=clean(f"Learning curves, mean over seeds: {ends}."),
        caption="Thin line: one seed. Thick line: mean. Band: pointwise 95% t interval across "
        "seeds, for one epoch at a time. The steep start may lie outside the frame."
        + (" A cross marks where a run diverged; mean and band leave it out." if died else ""),
        tables=curve_tables(summary),
    )


def _pictures(name: str, summary: Summary) -> dict[str, str]:
    draw = FIGURES[name]
    return {"wide": _uri(draw(summary, False)), "narrow": _uri(draw(summary, True))}


def _uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


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
