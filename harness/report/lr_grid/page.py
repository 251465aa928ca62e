"""The HTML report of a grid of learning rates: one file, no JavaScript, nothing loaded.

What comes in: a `Grid`. What goes out: UTF-8 bytes, the same each time. Everything a person typed
passes through Jinja2's autoescape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.report.lr_grid.figures import curves, drawable, paired
from harness.report.lr_grid.found import Allowance, Found, find
from harness.report.lr_grid.tables import (
    contrast_table,
    curve_table,
    run_tables,
    seed_tables,
    variant_table,
)
from harness.report.lr_grid.units import best_text, delta_text, rate_text, size
from harness.report.lr_grid.words import Words, proof, words_of
from harness.report.markup import Plate, data_uri, fill
from harness.report.summary import NextStep
from harness.report.wording import clean, decimals, metric_title, number, scale

if TYPE_CHECKING:
    from harness.lr_grid.record import Grid
    from harness.stats import Contrast

WORDS = {"supported": "allows", "refuted": "does not allow", "inconclusive": "inconclusive"}


def html(grid: Grid) -> bytes:
    """The report as a self-contained HTML page."""
    found = find(grid)
    said = words_of(found)
    stand_in = f" (stand-in for {grid.stand_in_for})" if grid.stand_in_for else ""
    figures = [_curves(found)]
    if drawable(found):
        figures.append(_paired(found))
    return fill(
        "lr_grid.html.j2",
        title=clean(grid.question),
        eyebrow=clean(f"{grid.experiment} on {grid.dataset}{stand_in}, over learning rates"),
        card=_card(found, said),
        next_step=NextStep(*map(clean, said.next_step)) if said.next_step else None,
        figures=figures,
        results=variant_table(found),
        differences=contrast_table(found),
        said=said,
        command=clean(grid.command),
        runs=run_tables(found),
    )


def _card(found: Found, said: Words) -> dict[str, Any]:
    """One claim, its verdict and the answer; of several variants, a chip for each."""
    one = found.allowances[0] if len(found.grid.variants) == 2 and found.allowances else None
    verdict = ""
    if one:
        verdict = one.ruling
    elif len(found.contrasts["best"]) == 1:
        verdict = found.contrasts["best"][0].verdict
    return {
        "verdict": verdict,
        "words": verdict,
        "chips": [] if verdict else [*_chips(found)],
        "hypothesis": _claim(found, one) if one else "",
        "answer": clean(proof(found, one)) if one else said.headline,
        "condition": said.condition,
    }


def _claim(found: Found, one: Allowance) -> str:
    return clean(f"{one.variant} allows a higher learning rate than {found.grid.baseline}")


def _chips(found: Found) -> list[dict[str, str]]:
    chips = [
        {
            "verdict": {"supported": "better", "refuted": "worse"}.get(each.ruling, each.ruling),
            "text": clean(f"{each.variant}: {WORDS[each.ruling]} a higher rate")
            if each.ruling != "inconclusive"
            else clean(f"{each.variant}: higher rate inconclusive"),
        }
        for each in found.allowances
    ]
    return chips + [
        {
            "verdict": each.verdict,
            "text": clean(f"{each.variant} {each.verdict} {_gap(found, each)}"),
        }
        for each in found.contrasts["best"]
    ]


def _gap(found: Found, contrast: Contrast) -> str:
    unit = scale(found.grid.metric)
    places = decimals([contrast.se * unit.factor], contrast.difference * unit.factor)
    amount = number(contrast.difference * unit.factor, places, signed=True)
    return f"{amount} {unit.difference_unit}".rstrip()


def _curves(found: Found) -> Plate:
    metric = metric_title(found.grid.metric)
    better = "Higher" if found.grid.goal == "max" else "Lower"
    unit = scale(found.grid.metric).value_unit
    bests = "; ".join(
        f"{each.name} is best at {rate_text(each.best_rate)} with "
        f"{best_text(found, each.best)}{f' {unit}' if unit else ''}"
        for each in found.variants
    )
    crosses = " A cross is a diverged cell, at the level of chance."
    crosses = crosses if any(each.diverged for each in found.variants) else ""
    if any(each.failed for each in found.variants):
        crosses += (
            " At the bottom: how many seeds diverged, or ended at chance above the best rate."
        )
    return Plate(
        title="How much does the learning rate matter?",
        lead=f"The {metric} of each variant over the learning rate. {better} is better; a wide "
        "usable range forgives a badly chosen rate.",
        **_pictures(curves, found),
        alt=clean(f"Curves of {metric} over the learning rate. {bests}."),
        caption="Line: mean over seeds, with its 95% t interval. Dot: one seed. Ring: the best "
        f"rate. Bar: the rates within {delta_text(found)} of the best, from the mean of the seeds' "
        f"lowest to that of their highest; its mark is the best rate. An arrow: on most seeds the "
        f"highest rate tried is still usable.{crosses}",
        tables=(curve_table(found), *seed_tables(found)),
    )


def _paired(found: Found) -> Plate:
    findings = "; ".join(
        f"{each.variant} {size(found, measure, each)}"
        for measure in ("best", "usable", "width")
        for each in found.contrasts[measure]
    )
    effect = (
        "plus or minus the smallest effect of interest, or a step of the grid"
        if found.grid.smallest_effect
        else "plus or minus a step of the grid"
    )
    return Plate(
        title="How do the variants differ?",
        lead=f"Each variant minus {clean(found.grid.baseline)}, within the same seed: the metric "
        "at the best rate of each, and where its rates end.",
        **_pictures(paired, found),
        alt=clean(f"Forest plot of paired differences. {findings}."),
        caption="Mark: mean difference. Bar: 95% paired t interval, not adjusted for the number of "
        f"contrasts. Ticks: one seed each. Grey band: {effect}.",
        tables=(),
    )


def _pictures(draw: Callable[[Found, bool], bytes], found: Found) -> dict[str, str]:
    return {"wide": data_uri(draw(found, False)), "narrow": data_uri(draw(found, True))}
